"""A text as taggers see it, and what a tagger is: a pure function of it, without a threshold."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from lmworks.corpus.attributes import Attributes, Kind
from lmworks.corpus.taggers.words import sentence_count, tokens, word_spans, words_among


@dataclass(frozen=True)
class Text:
    """A text as taggers see it; what several of them need is worked out once.

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
