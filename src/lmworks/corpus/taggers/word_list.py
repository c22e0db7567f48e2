"""Words of a list of the user's, found in texts: which places, and what share of the words. No list is shipped.

All entries become one pattern, a tree of their characters, so that the time does not grow with the list. Upper and
lower case are the same (Unicode's case folding). An entry is found as a word of its own: no letter, digit or underscore
may stand before or behind it, unless the two are of scripts that write no spaces between words.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TypeAlias

import numpy as np

from lmworks.corpus.attributes import Attributes, TaggedSpan
from lmworks.corpus.taggers.tagger import Tagger, Text

# Thai, Lao, Myanmar, Khmer, Han, Hiragana, Katakana: letters of which a word may begin and end anywhere.
_UNSPACED = r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_JOINED = rf"[^\W{_UNSPACED}]"  # a letter or digit that belongs to the word of its neighbour
_JOINED_CHARACTER = re.compile(_JOINED)
_END = ""  # of an entry, in the tree

Tree: TypeAlias = dict[str, "Tree"]


def word_list(name: str, entries: Iterable[str]) -> Tagger:
    """A tagger of a list that is called so, such as "unwanted". ValueError for an entry of spaces and signs alone, and
    for none at all."""
    emits = {
        f"score.{name}_share": f"of all words, those on the list {name}",
        f"span.{name}": f"a word on the list {name}",
    }
    return Tagger(name, partial(_tag, name, compile_words(entries)), emits)


def read_word_list(path: Path) -> Tagger:
    """The list in a file, called like it: a word or several (with spaces) a line, in UTF-8; blank lines do not count.
    ValueError where the file is none."""
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 ({error.reason} at byte {error.start})") from error
    if not (entries := [line.strip() for line in lines if line.strip()]):
        raise ValueError(f"{path} holds no word: write one a line")
    return word_list(path.stem, entries)


def _tag(name: str, pattern: re.Pattern[str], text: Text) -> Attributes:
    """The share is absent where there are no words."""
    places = list(find_words(pattern, text.text))
    spans = tuple(TaggedSpan(name, start, end) for start, end in places)
    if not text.word_spans:
        return Attributes({}, spans)
    starts, ends = np.array(text.word_spans).T
    is_found = np.zeros(len(starts), bool)
    for start, end in places:
        is_found[np.searchsorted(ends, start, "right") : np.searchsorted(starts, end)] = True
    return Attributes({f"{name}_share": float(is_found.mean())}, spans)


def compile_words(entries: Iterable[str]) -> re.Pattern[str]:
    """One pattern that finds the entries in casefolded text, the longest where several begin; spaces within an entry
    stand for any."""
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
    behind = {first: rf"(?<!{_JOINED}{re.escape(first)})" if _JOINED_CHARACTER.match(first) else "" for first in tree}
    return re.compile(
        "|".join(re.escape(each) + behind[each] + _rest(node, each) for each, node in sorted(tree.items()))
    )


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


def _rest(node: Tree, last: str) -> str:
    """What may follow `last`; longer entries come first. Chains of characters are walked without recursion, so that the
    depth is that of the branches."""
    chain = ""
    while len(node) == 1 and _END not in node:
        ((last, node),) = node.items()
        chain += _literal(last)
    border = rf"(?!{_JOINED})" if _JOINED_CHARACTER.match(last) else ""
    branches = [_literal(each) + _rest(inner, each) for each, inner in sorted(node.items()) if each != _END]
    if not branches:
        return chain + border
    return f"{chain}(?:{'|'.join([*branches, border] if _END in node else branches)})"


def _literal(character: str) -> str:
    return r"\s+" if character == " " else re.escape(character)
