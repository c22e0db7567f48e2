"""Words of a list of the user's, found in texts: which places, and what share of the words. No list is shipped.

An entry is found where its tokens (`words.py`), parted at hyphens and apostrophes, stand one behind another, whatever
space is between them. Upper and lower case are the same (Unicode's case folding), and the time does not grow with the
list.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from lmworks.corpus.attributes import Attributes, TaggedSpan
from lmworks.corpus.taggers.tagger import Tagger, Text
from lmworks.corpus.taggers.words import token_spans

_PIECE = re.compile(r"[^'’\-\u2010\u2011]+|['’\-\u2010\u2011]+")


@dataclass(frozen=True, slots=True)
class Entries:
    """Entries as pieces of tokens, and the numbers of pieces, large ones first, of those that begin with a piece."""

    pieces: frozenset[tuple[str, ...]]
    lengths: Mapping[str, Sequence[int]]

    def places(self, found: Sequence[str]) -> Iterator[tuple[int, int]]:
        """The places of entries among pieces: half-open ranges, the longest entry at each, none of which overlap."""
        at = 0
        while at < len(found):
            lengths = self.lengths.get(found[at], ())
            end = next((at + n for n in lengths if (*found[at : at + n],) in self.pieces and at + n <= len(found)), at)
            if end > at:
                yield at, end
            at = max(end, at + 1)


def word_list(name: str, entries: Iterable[str]) -> Tagger:
    """A tagger of a list that is called so, such as "unwanted". ValueError for an entry of spaces and signs alone, and
    for none at all."""
    pieces: set[tuple[str, ...]] = set()
    lengths: dict[str, set[int]] = {}
    for entry in entries:
        if not any(map(str.isalnum, entry)):
            raise ValueError(f"{entry!r} is no word: a word has a letter or a digit")
        found = tuple(entry[start:end].casefold() for start, end, _ in _pieces(entry, token_spans(entry)))
        pieces.add(found)
        lengths.setdefault(found[0], set()).add(len(found))
    if not pieces:
        raise ValueError("a list needs a word")
    compiled = Entries(frozenset(pieces), {first: sorted(each, reverse=True) for first, each in lengths.items()})
    emits = {
        f"score.{name}_share": f"of all words, those on the list {name}",
        f"span.{name}": f"a word on the list {name}",
    }
    return Tagger(name, partial(_tag, name, compiled), emits)


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


def _tag(name: str, entries: Entries, text: Text) -> Attributes:
    """The share is absent where there are no words."""
    pieces = list(_pieces(text.text, text.token_spans))
    places = list(entries.places([text.text[start:end].casefold() for start, end, _ in pieces]))
    spans = tuple(TaggedSpan(name, pieces[first][0], pieces[last - 1][1]) for first, last in places)
    words = {n for n, (start, end) in enumerate(text.token_spans) if end - start > 1 or text.text[start].isalnum()}
    found = {number for first, last in places for *_, number in pieces[first:last]}
    return Attributes({f"{name}_share": len(found & words) / len(words)} if words else {}, spans)


def _pieces(text: str, found: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int, int]]:
    """Start and end of each piece, and the number of its token."""
    for number, span in enumerate(found):
        for match in _PIECE.finditer(text, *span):
            yield *match.span(), number
