"""SentencePiece's normalisation of a text (Kudo & Richardson 2018, section 3.2), as steps of the `tokenizers` library.

First a table replaces strings (`Charsmap`), then spaces are squeezed, one is put before the text,
and all of them become the letter ▁.

The library's `Precompiled` applies the same table to what it takes for one letter, a base with its accents, and there
by the *shortest* key, which loses accents: "e", circumflex, acute becomes "ê". So letters are composed first (the
tables' strings of several characters are what Unicode calls NFKC), and then every character stands alone while the
table is applied. A difference is left where one accent follows another: NFKC puts them into the canonical order and
composes across them, SentencePiece leaves them as they are. Text in Unicode's normal form C or KC has no such place,
and other text few (the character U+0344 is two accents by itself). And a text of which nothing is left gets no space
behind it (`suffix`).
"""

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np
from tokenizers import Regex, normalizers

from lmworks.tokenizer.pre_tokenizer import SPACE

_MOST_KEYS = 1 << 22  # a damaged trie may have circles; equal branches share their units, so their number is no bound
_LONGEST_KEY = 1 << 10  # bytes
_APART = "\ufff0"  # a code point without meaning that ends a letter; a text's own would be lost
# Not where a text begins: there the library (0.23) loses count when it inserts something.
_BORDERS = r"(?<=[\s\S])(?=[^\x00-\x7f])|(?<=[^\x00-\x7f])(?=[\s\S])|(?<=\r)(?=\n)"
_HELD = [chr(code) for code in range(0xFDD0, 0xFDF0)]  # code points that never are characters
_NEWER = 0.01  # of a table's strings may hold characters that are newer than the library


@dataclass(frozen=True, slots=True)
class Normalisation:
    """A model's NormalizerSpec.

    table     precompiled_charsmap; empty for `identity`
    prefix    add_dummy_prefix: a space before the text
    squeeze   remove_extra_whitespaces: none at either end, and one in a row
    escape    escape_whitespaces: ▁ stands for a space
    suffix    treat_whitespace_as_suffix: the added space stands behind the text
    """

    table: bytes = b""
    prefix: bool = True
    squeeze: bool = True
    escape: bool = True
    suffix: bool = False


def normaliser(
    rules: Normalisation, symbols: Sequence[str] = (), whole: Sequence[str] = ()
) -> normalizers.Normalizer | None:
    """The steps of `rules`; None where nothing is to be done.

    `symbols` are user-defined: text that stays as it is. Those in `whole` are looked for in the normalised text, and
    are their own normalised form. ValueError names a table or a symbol that these steps cannot follow.
    """
    space = SPACE if rules.escape else " "
    before, behind = rules.prefix and not rules.suffix, rules.prefix and rules.suffix
    if behind and whole:
        raise ValueError("treat_whitespace_as_suffix with user-defined symbols is not supported for BPE")
    steps: list[normalizers.Normalizer] = []
    if before and not rules.squeeze:
        steps.append(normalizers.Prepend(" " if rules.table else space))
    if rules.table:
        table, replacing = _read_charsmap(rules.table)
        if changed := [symbol for symbol in symbols if table.normalise(symbol) != symbol]:
            raise ValueError(f"the user-defined symbol {changed[0]!r} is changed by the normalisation: not supported")
        steps += replacing
    if rules.squeeze:
        steps += [normalizers.Replace(Regex(r"\A +"), ""), normalizers.Replace(Regex(" {2,}"), " ")]
        steps += [normalizers.Prepend(" ")] if before else []
    if rules.escape:
        steps.append(normalizers.Replace(" ", SPACE))
    if rules.squeeze:
        steps.append(normalizers.Replace(Regex(rf"{space}+\z"), ""))
    if behind:
        steps.append(normalizers.Replace(Regex(r"(?<=[\s\S])\z"), space))
    if before and whole:
        names = "|".join(re.escape(name) for name in whole)
        steps.append(normalizers.Replace(Regex(rf"\A{space}(?=(?:{names})\z)"), ""))
    return normalizers.Sequence(steps) if steps else None


@lru_cache(maxsize=2)  # most models have one of two published tables
def _read_charsmap(blob: bytes) -> tuple["Charsmap", list[normalizers.Normalizer]]:
    """The table, and the steps that do what it says; ValueError for one that no steps can follow."""
    table = Charsmap(blob)
    apart = normalizers.Replace(Regex(_BORDERS), _APART)
    alone = [apart, normalizers.Precompiled(blob), normalizers.Replace(_APART, "")]
    strings = [key for key in table.keys if len(key) > 1]
    if not strings:
        return table, alone
    composed = _each(normalizers.NFKC(), strings)
    wrong = [
        key for key, normalised in zip(strings, composed, strict=True) if _letters(table, normalised) != table.keys[key]
    ]
    held = [c for c, normalised in _changed_by_nfkc().items() if _letters(table, normalised) != table.keys.get(c, c)]
    if len(wrong) > _NEWER * len(strings) or len(held) > len(_HELD):
        example = (wrong or held)[0]
        raise ValueError(
            f"the normalisation replaces strings of several characters otherwise than NFKC does, {example!r} by "
            f"{table.normalise(example)!r}: not supported"
        )
    pairs = list(zip(held, _HELD, strict=False))
    hide = [normalizers.Replace(character, mark) for character, mark in pairs]
    show = [normalizers.Replace(mark, table.keys.get(character, character)) for character, mark in pairs]
    return table, [*hide, normalizers.NFKC(), *alone, *show]


@cache
def _changed_by_nfkc() -> dict[str, str]:
    characters = [chr(code) for code in range(1, 0x110000) if not 0xD800 <= code < 0xE000]
    both = zip(characters, _each(normalizers.NFKC(), characters), strict=True)
    return {character: normalised for character, normalised in both if normalised != character}


def _letters(table: "Charsmap", text: str) -> str:
    return "".join(table.keys.get(letter, letter) for letter in text)


def _each(step: normalizers.Normalizer, texts: Sequence[str]) -> list[str]:
    """Every text normalised, in one call."""
    return step.normalize_str("\0".join(texts)).split("\0")


# ---------------------------------------------------------------------------------------------------------------------
# The table


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
                if (replacement := self.keys.get(text[at : at + size])) is not None:
                    break
            else:
                size, replacement = 1, text[at]
            out.append(replacement)
            at += size
        return "".join(out)


def _entries(units: np.ndarray, replacements: bytes) -> dict[str, str]:
    """Every key and its replacement, by walking down the trie, a double array (Aoe 1989): the child of a node by a
    letter lies at the node's base XOR the letter."""
    bases = np.arange(len(units)) ^ ((units >> 10) << ((units & 0x200) >> 6))
    labels = units & 0x800000FF  # the highest bit marks values, which are nobody's child
    children: defaultdict[int, list[tuple[int, int]]] = defaultdict(list)  # of a base: letters and places of units
    for index in np.flatnonzero((labels > 0) & (labels < 256)).tolist():
        children[index ^ int(labels[index])].append((int(labels[index]), index))
    entries: dict[str, str] = {}
    nodes = [(b"", int(bases[0]))]
    while nodes:
        key, base = nodes.pop()
        for letter, index in children.get(base, ()):
            spelled, below = key + bytes([letter]), int(bases[index])
            nodes.append((spelled, below))
            if units[index] >> 8 & 1:  # its child without a label holds a value
                value = int(units[below]) & 0x7FFFFFFF if below < len(units) else len(replacements)
                if value >= len(replacements):
                    raise ValueError("a replacement of the normalisation table lies outside it")
                entries[spelled.decode()] = replacements[value : replacements.find(b"\0", value)].decode()
        if len(key) > _LONGEST_KEY or len(entries) + len(nodes) > _MOST_KEYS:
            raise ValueError("the trie of the normalisation table has circles")
    return entries
