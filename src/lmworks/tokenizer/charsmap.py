"""SentencePiece's table of normalisation (Kudo & Richardson 2018, section 3.2): strings, and what they are replaced by.

At each place of a text the longest key that begins there is replaced; where none does, the character stays. The table
is stored as the length of a trie in bytes (uint32), the trie, and the replacements, each with a zero byte behind it.
The trie is a double array (Aoe 1989) of uint32 units over the keys' UTF-8 bytes: the place of a node, which is its
number xor its offset, xor the next byte is the number of its child, whose label is that byte.
"""

import numpy as np

_MOST_KEYS = 1 << 22  # a damaged trie may have circles; equal branches share their units, so their number is no bound
_AT_ONCE = 1 << 14  # nodes whose children are looked for together


class Charsmap:
    """The table in a `precompiled_charsmap`; ValueError for one that is damaged."""

    def __init__(self, blob: bytes) -> None:
        length = int.from_bytes(blob[:4], "little")
        if len(blob) < 4 + length or length % 4 or not length:
            raise ValueError(f"the normalisation table says that its trie has {length} of its {len(blob)} bytes")
        units = np.frombuffer(blob, np.dtype("<u4"), length // 4, 4)
        self.keys = _entries(units, blob[4 + length :])
        """What each string is replaced by."""
        self._longest = max(map(len, self.keys), default=0)

    def normalise(self, text: str) -> str:
        """The text with the longest key at each place replaced."""
        out, at = [], 0
        while at < len(text):
            for size in range(min(self._longest, len(text) - at), 0, -1):
                if (found := self.keys.get(text[at : at + size])) is not None:
                    break
            else:
                size, found = 1, text[at]
            out.append(found)
            at += size
        return "".join(out)


def _entries(units: np.ndarray, replacements: bytes) -> dict[str, str]:
    """Every key and its replacement, by walking down the trie, all keys of one length at a time."""
    offsets = (units >> 10) << ((units & 0x200) >> 6)
    entries: dict[str, str] = {}
    keys, places = np.zeros((1, 0), np.uint8), offsets[:1]
    while len(keys):
        parents, letters = _children(units, places)
        numbers = places[parents] ^ letters
        keys = np.concatenate([keys[parents], letters[:, None].astype(np.uint8)], axis=1)
        places = numbers ^ offsets[numbers]
        for row in np.flatnonzero(units[numbers] >> 8 & 1):  # whose child without a label holds a value
            value = int(units[places[row]]) & 0x7FFFFFFF if places[row] < len(units) else len(replacements)
            if value >= len(replacements):
                raise ValueError("a replacement of the normalisation table lies outside it")
            end = replacements.find(b"\0", value)
            entries[keys[row].tobytes().decode()] = replacements[value:end].decode()
        if len(entries) + len(keys) > _MOST_KEYS:
            raise ValueError("the trie of the normalisation table has circles")
    return entries


def _children(units: np.ndarray, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The rows of `places` that have children, one for each child, and the children's letters."""
    labels = units & 0x800000FF  # the highest bit marks values, which are nobody's child
    letters = np.arange(1, 256, dtype=np.uint32)
    rows, found = [np.zeros(0, np.int64)], [np.zeros(0, np.uint32)]
    for start in range(0, len(places), _AT_ONCE):
        numbers = places[start : start + _AT_ONCE, None] ^ letters
        inside = np.minimum(numbers, len(units) - 1)
        row, column = np.nonzero((labels[inside] == letters) & (numbers == inside))
        rows.append(row + start)
        found.append(letters[column])
    return np.concatenate(rows), np.concatenate(found)
