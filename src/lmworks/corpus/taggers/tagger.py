"""The type of a tagger: a function of a text that gives scores, spans and labels, none of them a verdict.

A tagger is a pure function of a `Text` that says what it emits. It sets no threshold: see `attributes.py`.
"""

import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from runpy import run_path
from typing import Any, Protocol, TypeVar

from lmworks.corpus.attributes import Attributes
from lmworks.corpus.documents import Kind
from lmworks.corpus.taggers.words import prose, token_spans, tokens, words_among


@dataclass(frozen=True)
class Text:
    """A text as taggers see it; what several of them need is worked out once.

    kind      The sort of source that it is from.
    language  ISO 639-1, or "" where it is unknown.
    pages     Where the printed pages of a book stand, whose repair takes out what shows them; () where it does not say.
    """

    text: str
    kind: Kind = "text"
    language: str = ""
    uri: str = ""
    pages: tuple[tuple[int, int], ...] = ()

    @cached_property
    def lines(self) -> list[str]:
        """Between newlines, which they do not hold."""
        return self.text.split("\n")

    @cached_property
    def tokens(self) -> list[str]:
        """Words and, each for itself, all other characters that are no space."""
        return tokens(self.text)

    @cached_property
    def words(self) -> list[str]:
        return words_among(self.tokens)

    @cached_property
    def token_spans(self) -> list[tuple[int, int]]:
        return token_spans(self.text)

    @cached_property
    def prose(self) -> "Text":
        """The part of it that is prose; itself where all is."""
        found = prose(self.text)
        return self if found is None else replace(self, text=found)


@dataclass(frozen=True, slots=True)
class Tagger:
    """A tagger by its name.

    tag    What it finds in a text. What does not apply to the text is absent.
    emits  All that it may give, `score.NAME`, `label.NAME` or `span.RULE` (a glob where there are many), with a line on
           each.
    """

    name: str
    tag: Callable[[Text], Attributes]
    emits: Mapping[str, str]


@cache
def emitted() -> Mapping[str, Mapping[str, str]]:
    """Tagger → the scores, labels and spans that it emits, of those that come with lmworks, with a line on each;
    classifiers and word lists of the user's own add theirs."""
    return tomllib.loads(Path(__file__).with_name("emitted.toml").read_text("utf-8"))


def built_in(name: str, tag: Callable[[Text], Attributes]) -> Tagger:
    """A tagger that comes with lmworks."""
    return Tagger(name, tag, emitted()[name])


def read_taggers(path: Path) -> list[Tagger]:
    """The taggers that a Python file defines. ValueError where it defines none, or cannot be run."""
    try:
        found = [each for each in run_path(str(path)).values() if isinstance(each, Tagger)]
    except Exception as error:  # whatever its author did
        raise ValueError(f"{path} cannot be run: {type(error).__name__}: {error}") from error
    if not found:
        raise ValueError(f'{path} defines no tagger: give it one, such as MINE = Tagger("mine", function, emits)')
    return found


class Range(Protocol):
    """A half-open range of a text."""

    @property
    def start(self) -> int: ...
    @property
    def end(self) -> int: ...


R = TypeVar("R", bound=Range)


def without_overlaps(found: Iterable[R], precedence: Callable[[R], Any]) -> list[R]:
    """The ranges in the order of the text, of those that overlap the one of the lowest precedence; empty ones go."""
    ordered = sorted(found, key=precedence)
    taken = bytearray(max((each.end for each in ordered), default=0))
    kept: list[R] = []
    for each in ordered:
        if each.start < each.end and taken.find(1, each.start, each.end) < 0:
            taken[each.start : each.end] = b"\1" * (each.end - each.start)
            kept.append(each)
    return sorted(kept, key=lambda each: each.start)
