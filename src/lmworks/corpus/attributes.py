"""What is known of a text before anything is decided: measures, marked ranges and labels, none of them a verdict.

An annotator is a pure function of a `Text`. It sets no threshold: `cleaning/` compares what annotators found with the
thresholds of a policy, so that another threshold needs no other look at the text (dolma's taggers, Soldaini et al.
2024, section 3).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, get_args

from lmworks.corpus.taggers.words import sentence_count, tokens, word_spans, words_among
from lmworks.records import Document

Kind = Literal["web", "manual", "book", "code", "mail", "chat", "text"]


@dataclass(frozen=True, slots=True, order=True)
class TaggedSpan:
    """A half-open range `[start, end)` of code points that a rule found, and how sure it is, from 0 to 1."""

    rule: str
    start: int
    end: int
    score: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.start <= self.end:
            raise ValueError(f"a mark needs 0 <= start <= end, got [{self.start}, {self.end}) of {self.rule}")


@dataclass(frozen=True, slots=True)
class Attributes:
    """What annotators found in one text. A measure that does not apply to it is absent, never 0 or NaN."""

    measures: Mapping[str, float] = field(default_factory=dict)
    marks: tuple[TaggedSpan, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Text:
    """A text as annotators see it; what several of them need is worked out once.

    kind      What sort of source it is from.
    language  ISO 639-1, or "" where it is unknown.
    """

    text: str
    kind: Kind = "text"
    language: str = ""
    uri: str = ""

    @cached_property
    def lines(self) -> list[str]:
        """Between newlines, which they do not hold."""
        return self.text.split("\n")

    @cached_property
    def word_spans(self) -> list[tuple[int, int]]:
        return word_spans(self.text)

    @cached_property
    def words(self) -> list[str]:
        return words_among(self.tokens)

    @cached_property
    def tokens(self) -> list[str]:
        """Words and, each for itself, all other characters that are no space."""
        return tokens(self.text)

    @cached_property
    def sentences(self) -> int:
        return sentence_count(self.text)


Annotator = Callable[[Text], Attributes]


def kind_of(document: Document) -> Kind:
    """What sort of source a document is from; "text" where nobody said."""
    return document.kind if document.kind in get_args(Kind) else "text"  # type: ignore[return-value]
