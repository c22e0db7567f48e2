"""Byte-pair encoding (Sennrich et al. 2016, section 3.2): join the neighbours whose merge was learnt first, again and
again.

Looking through all neighbours for every merge takes n² steps. A heap of the pairs that can be merged takes n log n: a
merge makes two new pairs and leaves entries behind that are no pairs any more, which are recognised when they come up.
"""

from collections.abc import Callable, Mapping
from functools import lru_cache
from heapq import heapify, heappop, heappush
from itertools import pairwise
from typing import Any

_GONE = -1  # in the place of a symbol that has been joined to the one before it


def read_bpe(model: Mapping[str, Any]) -> Callable[[str], tuple[int, ...]]:
    """The ids of a word, by the vocabulary and the merges in `tokenizer.json`."""
    for name in ("dropout", "continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(name):
            raise ValueError(f"BPE with {name} is not written down here")
    vocabulary: dict[str, int] = model["vocab"]
    pairs = [tuple(merge.split(" ")) if isinstance(merge, str) else tuple(merge) for merge in model["merges"]]
    ranks = {(vocabulary[left], vocabulary[right]): rank for rank, (left, right) in enumerate(pairs)}
    joined = [vocabulary[left + right] for left, right in pairs]
    whole = vocabulary if model.get("ignore_merges") else {}

    @lru_cache(maxsize=1 << 16)
    def encode(word: str) -> tuple[int, ...]:
        if word in whole:
            return (whole[word],)
        return tuple(merge(spell(word, model), ranks, joined))

    return encode


def spell(word: str, model: Mapping[str, Any]) -> list[int]:
    """The symbols to begin with: characters; the bytes of those that have no token; else the unknown token, or nothing.

    With `fuse_unk`, neighbours that are unknown are one unknown token.
    """
    vocabulary, unknown = model["vocab"], model["vocab"].get(model.get("unk_token"))
    ids: list[int] = []
    before = False  # whether the character before was unknown
    for character in word:
        if (token := vocabulary.get(character)) is not None:
            ids.append(token)
            before = False
            continue
        bytes_ = [vocabulary.get(f"<0x{byte:02X}>") for byte in character.encode()]
        if model.get("byte_fallback") and None not in bytes_:
            ids += bytes_
            before = False
        elif unknown is not None and not (before and model.get("fuse_unk")):
            ids.append(unknown)
            before = True
    return ids


def merge(ids: list[int], ranks: Mapping[tuple[int, int], int], joined: list[int]) -> list[int]:
    """`ids` after all merges; `ranks` is the place of a pair in the list of merges, `joined` what each makes."""
    ids = list(ids)
    left, right = list(range(-1, len(ids) - 1)), list(range(1, len(ids) + 1))  # of the neighbours that are not gone
    waiting = [(ranks[pair], at) for at, pair in enumerate(pairwise(ids)) if pair in ranks]
    heapify(waiting)
    while waiting:
        rank, at = heappop(waiting)
        behind = right[at]
        if ids[at] == _GONE or behind == len(ids) or ranks.get((ids[at], ids[behind])) != rank:
            continue
        ids[at], ids[behind] = joined[rank], _GONE
        right[at] = after = right[behind]
        if after < len(ids):
            left[after] = at
            if (found := ranks.get((ids[at], ids[after]))) is not None:
                heappush(waiting, (found, at))
        before = left[at]
        if before >= 0 and (found := ranks.get((ids[before], ids[at]))) is not None:
            heappush(waiting, (found, before))
    return [token for token in ids if token != _GONE]
