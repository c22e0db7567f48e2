"""Candidate sentences: what can be cited of the passages that were found, as Spans of their documents."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lmworks.ground.answer_shape import asks_what
from lmworks.records import Span
from lmworks.retrieve.index import IndexedChunk
from lmworks.retrieve.search import WHOLE_NAME
from lmworks.retrieve.text_block import Kind

OPENING = 3  # units of a chunk that say what it defines, its signature among them
HEADINGS = 2  # the innermost headings tell what a sentence is about; the outer ones repeat across a document


@dataclass(frozen=True, slots=True)
class Candidate:
    """A sentence that may answer, and where its evidence stands.

    `text` is exactly the document's text at `evidence`. `passage` is the place of its passage among those retrieved,
    `kind` that of its block.
    """

    text: str
    evidence: Span
    passage: int
    uri: str
    heading: str
    kind: Kind = "paragraph"

    @property
    def in_context(self) -> str:
        """The sentence under its headings, as the encoder and the word counts read it."""
        return f"{self.heading}: {self.text}" if self.heading else self.text


def candidate_sentences(
    question: str, passages: Sequence[IndexedChunk], scores: Sequence[Mapping[str, float]], minimum_characters: int
) -> list[Candidate]:
    """All candidates, in the order of the passages and of their texts.

    A shorter unit answers nothing ("Note:"), nor does one that says the question itself.

    Where the question asks what a name is that it writes as code, the candidates are the first ones of the chunks that
    define it: what others say of it in passing does not say what it is.
    """
    defining = [asks_what(question) and scored.get("named", 0.0) == WHOLE_NAME for scored in scores]
    asked = " ".join(question.lower().split()) or "\0"
    found: dict[Span, Candidate] = {}
    for number, passage in enumerate(passages):
        if any(defining) and not defining[number]:
            continue
        heading = " > ".join(passage.heading_path[-HEADINGS:])
        for start, end, kind in passage.units[: OPENING if any(defining) else None]:
            span = Span(passage.span.document, start, end)
            text = passage.text[start - passage.span.start : end - passage.span.start]
            if end - start >= minimum_characters and span not in found and asked not in " ".join(text.lower().split()):
                found[span] = Candidate(text, span, number, passage.uri, heading, kind)
    return list(found.values())
