"""What is tagged in a text before anything is decided: scores, spans and labels, none of them a verdict.

A tagger is a pure function of a `Text` that says what it emits. It sets no threshold: see `attributes.py`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from lmworks.corpus.attributes import Attributes
from lmworks.corpus.documents import Kind
from lmworks.corpus.taggers.words import prose, token_spans, tokens, words_among


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
        """What of it is prose; itself where all is."""
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
