"""Candidate sentences: what can be cited of the passages that were found, as Spans of their documents."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lmworks.ground.answer_shape import asks_what
from lmworks.records import Span
from lmworks.retrieve.index import IndexedChunk
from lmworks.retrieve.search import WHOLE_NAME
from lmworks.retrieve.text_block import UNITS, Kind

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

    A shorter unit answers nothing ("Note:"), nor does one that only asks the question.

    Where the question asks what a name is that it writes as code, the candidates are the first ones of the chunks that
    define it: what others say of it in passing does not say what it is.
    """
    defining = [asks_what(question) and scored.get("named", 0.0) == WHOLE_NAME for scored in scores]
    found: dict[Span, Candidate] = {}
    for number, passage in enumerate(passages):
        if any(defining) and not defining[number]:
            continue
        heading = " > ".join(passage.heading_path[-HEADINGS:])
        for start, end, kind in passage.units[: OPENING if any(defining) else None]:
            span = Span(passage.span.document, start, end)
            text = passage.text[start - passage.span.start : end - passage.span.start]
            citable = kind != "instruction" and end - start >= minimum_characters
            if citable and span not in found and not only_asks(text, kind, question):
                found[span] = Candidate(text, span, number, passage.uri, heading, kind)
    return list(found.values())


def only_asks(text: str, kind: Kind, question: str) -> bool:
    """Whether a unit is nothing but the question, or code that asks it; a paragraph may answer what it asks."""
    text, question = (" ".join(each.lower().split()) for each in (text, question))
    if kind in UNITS:
        return question.endswith("?") and question in text
    return not re.search(r"\w", text.replace(question, ""))
