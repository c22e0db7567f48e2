"""Candidate sentences: what can be cited of the passages that were found, as Spans of their documents."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lmworks.records import Span
from lmworks.retrieve.index import IndexedChunk
from lmworks.retrieve.named import WHOLE_NAME
from lmworks.retrieve.text_block import UNITS, Kind

OPENING = 3  # units of a chunk that say what it defines, its signature among them
HEADINGS = 2  # the innermost headings tell what a sentence is about; the outer ones repeat across a document
_PRONOUN = re.compile(
    r"\W*(?:it|its|he|his|she|her|hers|they|them|their|this|that|these|those|such|both|there)\b", re.IGNORECASE
)
_HOW = re.compile(
    r"\bhow (?:do|does|can|could|should|would|to|is|are)\b|\b(?:example|snippet|syntax|code|signature)\b"
    r"|^(?:show|write)\b",
    re.IGNORECASE,
)
_WHAT = re.compile(r"\W*(?:what(?:'s| is| are| does| do)|define|explain|meaning of|purpose of)\b", re.IGNORECASE)
LOOK_BACK = 2  # sentences at most that are cited for the sake of a subject


@dataclass(frozen=True, slots=True)
class Candidate:
    """A sentence that may answer, and where its evidence stands.

    `text` is exactly the document's text at `evidence`. `passage` is the index of its passage among those retrieved,
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
    candidates: dict[Span, Candidate] = {}
    for number, passage in enumerate(passages):
        if any(defining) and not defining[number]:
            continue
        heading = " > ".join(passage.heading_path[-HEADINGS:])
        for start, end, kind in passage.units[: OPENING if any(defining) else None]:
            span = Span(passage.span.document, start, end)
            text = passage.text[start - passage.span.start : end - passage.span.start]
            citable = kind != "instruction" and end - start >= minimum_characters
            if citable and span not in candidates and not only_asks(text, kind, question):
                candidates[span] = Candidate(text, span, number, passage.uri, heading, kind)
    return list(candidates.values())


def only_asks(text: str, kind: Kind, question: str) -> bool:
    """Whether a unit is nothing but the question, or code that asks it; a paragraph may answer what it asks."""
    text, question = (" ".join(string.lower().split()) for string in (text, question))
    if kind in UNITS:
        return question.endswith("?") and question in text
    return not re.search(r"\w", text.replace(question, ""))


# ---------------------------------------------------------------------------------------------------------------------
# The shape of a question and of what answers it: a sentence that begins with "It" is cited with the one before it,
# which names what it is about; a question that asks how gets the code that follows, or the signature that stands above


def lacks_subject(text: str) -> bool:
    """Whether a sentence begins with a pronoun, and so says nothing by itself about what it is about."""
    return bool(_PRONOUN.match(text))


def asks_how(question: str) -> bool:
    """Whether a question asks for a way to do something, which code shows best."""
    return bool(_HOW.search(question))


def asks_what(question: str) -> bool:
    """Whether a question asks what something is or does, which its definition says."""
    return bool(_WHAT.match(question))


def with_subject(candidates: Sequence[Candidate], index: int) -> int:
    """The index of the first of the neighbouring sentences that are read together with the one at `index`."""
    first = index
    while first > 0 and index - first < LOOK_BACK and lacks_subject(candidates[first].text):
        before, this = candidates[first - 1], candidates[first]
        if before.passage != this.passage or before.kind != this.kind:
            break
        if this.evidence.start - before.evidence.end > 1:  # a blank line, or something that is no candidate
            break
        first -= 1
    return first if not lacks_subject(candidates[first].text) else index


def opening_of(candidates: Sequence[Candidate], index: int) -> int:
    """The index of the first sentence of the same passage, which says what the passage is about."""
    same = (number for number, candidate in enumerate(candidates) if candidate.passage == candidates[index].passage)
    return next((number for number in same if candidates[number].kind not in UNITS), index)


def example_for(candidates: Sequence[Candidate], chosen: Sequence[int]) -> list[int]:
    """The index of the code that shows what the first chosen sentence says: the next code of its passage, or else the
    signature of it; empty where there is neither, or where code was chosen."""
    if not chosen or any(candidates[index].kind in UNITS for index in chosen):
        return []
    passage = candidates[chosen[0]].passage
    of_passage = [index for index, candidate in enumerate(candidates) if candidate.passage == passage]
    after = [index for index in of_passage if index > chosen[0] and candidates[index].kind == "code"]
    above = [index for index in of_passage if index < chosen[0] and candidates[index].kind == "heading"]
    return after[:1] or above[-1:]
