"""Candidate sentences: every sentence of the passages that were found, as Spans of their documents."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import zip_longest
from typing import Literal

from lmworks.records import Document, Retrieved, Span
from lmworks.retrieve.document_structure import Section, parse
from lmworks.retrieve.sentence_splitter import evidence_units

HEADINGS = 2  # the innermost headings tell what a sentence is about; the outer ones repeat across a document


@dataclass(frozen=True, slots=True)
class Candidate:
    """A sentence that may answer, and where its evidence stands.

    `text` is the sentence; for a quoted one it is exactly the document's text at `evidence`. `passage` is the place of
    its passage among those retrieved. `support` is None for a quoted sentence: copying is proven by comparing.
    """

    text: str
    origin: Literal["quoted", "generated"]
    evidence: Span
    passage: int
    uri: str
    heading: str
    support: float | None = None

    @property
    def in_context(self) -> str:
        """The sentence under its headings, as the encoder and the word counts read it."""
        return f"{self.heading}: {self.text}" if self.heading else self.text


class Sentences:
    """Cuts passages into candidate sentences; keeps the structure of the documents it has seen last."""

    def __init__(self, document_of: Callable[[str], Document], minimum_characters: int) -> None:
        self.minimum_characters = minimum_characters
        self._structure = lru_cache(maxsize=256)(lambda digest: _structured(document_of(digest)))

    def of(self, passages: Sequence[Retrieved]) -> list[Candidate]:
        """All candidates, in the order of the passages; a sentence that two passages share comes once."""
        found: dict[Span, Candidate] = {}
        for number, passage in enumerate(passages):
            document, sections = self._structure(passage.span.document)
            for section in sections:
                heading = " > ".join(section.heading_path[-HEADINGS:])
                for span in _whole(document, _units(document, section, passage.span)):
                    if span.end - span.start >= self.minimum_characters and span not in found:
                        text = document.quote(span)
                        found[span] = Candidate(text, "quoted", span, number, passage.uri, heading)
        return list(found.values())


def _whole(document: Document, units: Sequence[Span]) -> list[Span]:
    """The units, each that leads to the next one ("as follows:") extended by it: alone it would say nothing."""
    return [
        Span(span.document, span.start, following.end) if following and document.text[span.end - 1] == ":" else span
        for span, following in zip_longest(units, units[1:])
    ]


def _structured(document: Document) -> tuple[Document, list[Section]]:
    return document, parse(document)


def _units(document: Document, section: Section, span: Span) -> list[Span]:
    """The citable units of a section inside a span. A heading names its text and answers nothing by itself."""
    blocks = tuple(
        block
        for block in section.blocks
        if block.kind not in ("heading", "metadata") and block.end > span.start and block.start < span.end
    )
    return evidence_units(document, span, [replace(section, blocks=blocks)]) if blocks else []
