"""Words of a list of the user's, found in texts: which places, and what share of the words. No list is shipped.

All entries become one pattern, a tree of their characters, so that the time does not grow with the list. Upper and
lower case are the same (Unicode's case folding). An entry is found as a word of its own: no letter, digit or underscore
may stand before or behind it, unless the two are of scripts that write no spaces between words.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np

from lmworks.corpus.attributes import Attributes, TaggedSpan
from lmworks.corpus.taggers.tagger import Text

# Thai, Lao, Myanmar, Khmer, Han, Hiragana, Katakana: letters of which a word may begin and end anywhere.
_UNSPACED = r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_JOINED = rf"[^\W{_UNSPACED}]"  # a letter or digit that belongs to the word of its neighbour
_JOINED_CHARACTER = re.compile(_JOINED)
_END = ""  # of an entry, in the tree

Tree: TypeAlias = dict[str, "Tree"]


@dataclass(frozen=True, slots=True)
class WordList:
    """An annotator: a measure `NAME_share` of all words, and a mark `NAME` on each place.

    name     What the list is called, such as "unwanted".
    pattern  Of `compile_words`.
    """

    name: str
    pattern: re.Pattern[str]

    def __call__(self, text: Text) -> Attributes:
        """The measure is absent where there are no words."""
        places = list(find_words(self.pattern, text.text))
        marks = tuple(TaggedSpan(self.name, start, end) for start, end in places)
        if not text.word_spans:
            return Attributes({}, marks)
        starts, ends = np.array(text.word_spans).T
        is_found = np.zeros(len(starts), bool)
        for start, end in places:
            is_found[np.searchsorted(ends, start, "right") : np.searchsorted(starts, end)] = True
        return Attributes({f"{self.name}_share": float(is_found.mean())}, marks)


def read_word_list(name: str, path: Path) -> WordList:
    """A list in a file: a word or several (with spaces) a line, in UTF-8; blank lines do not count.

    ValueError where the file has no entry, or one of spaces and signs alone.
    """
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 ({error.reason} at byte {error.start})") from error
    entries = [line.strip() for line in lines if line.strip()]
    if not entries:
        raise ValueError(f"{path} holds no word: write one a line")
    return WordList(name, compile_words(entries))


def compile_words(entries: Iterable[str]) -> re.Pattern[str]:
    """One pattern that finds the entries in casefolded text, the longest where several begin; spaces within an entry
    stand for any. ValueError for an entry without a letter or digit, and for none at all."""
    tree: Tree = {}
    for entry in entries:
        folded = " ".join(entry.casefold().split())
        if not any(map(str.isalnum, folded)):
            raise ValueError(f"{entry!r} is no word: a word has a letter or a digit")
        node = tree
        for character in folded:
            node = node.setdefault(character, {})
        node[_END] = {}
    if not tree:
        raise ValueError("a list of words needs a word")
    # A look behind comes after the first character: so a pattern begins with characters, which `re` looks for fast.
    return re.compile("|".join(_beginning(first, node) for first, node in sorted(tree.items())))


def find_words(pattern: re.Pattern[str], text: str) -> Iterator[tuple[int, int]]:
    """Where the entries stand in a text of any case: half-open ranges, none of which overlap."""
    folded = text.casefold()
    places = None  # in the text, of each character of `folded`, where a letter became two or three, such as ß
    if len(folded) != len(text):
        places = [place for place, character in enumerate(text) for _ in character.casefold()]
    for match in pattern.finditer(folded):
        start, end = match.span()
        if end < len(folded) and unicodedata.category(folded[end])[0] == "M":
            continue  # a vowel sign or an accent goes on with the last letter
        yield (start, end) if places is None else (places[start], places[end - 1] + 1)


def _beginning(first: str, node: Tree) -> str:
    behind = rf"(?<!{_JOINED}{re.escape(first)})" if _is_joined(first) else ""
    return re.escape(first) + behind + _rest(node, first)


def _rest(node: Tree, last: str) -> str:
    """What may follow `last`; longer entries come first. Chains of characters are walked without recursion, so that the
    depth is that of the branches."""
    chain: list[str] = []
    while len(node) == 1 and _END not in node:
        ((last, node),) = node.items()
        chain.append(_literal(last))
    border = rf"(?!{_JOINED})" if _is_joined(last) else ""
    branches = [_literal(each) + _rest(inner, each) for each, inner in sorted(node.items()) if each != _END]
    if not branches:
        return "".join(chain) + border
    if _END in node:
        branches.append(border)
    return f"{''.join(chain)}(?:{'|'.join(branches)})"


def _literal(character: str) -> str:
    return r"\s+" if character == " " else re.escape(character)


def _is_joined(character: str) -> bool:
    return _JOINED_CHARACTER.match(character) is not None
