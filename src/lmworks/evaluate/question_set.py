"""Question sets on disk: gold questions with quotes, and questions with resolved spans.

A gold file is JSON lines, one question each, written by people against documents they can name:

    {"id": "q1", "question": "...", "split": "test", "kind": "...", "answerable": true,
     "gold": [{"uri": "topics:with", "quote": "words that stand in the document"}]}

Quotes rather than offsets, because a quote survives an edit elsewhere in the document and can be checked by reading.
Any one of several gold quotes answers the question; an unanswerable one has none. `logged_items` makes such rows of
what people asked in production.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from lmworks.artefact import read_rows, write_rows
from lmworks.records import Document, Interaction, Question, RejectedRecord, Span, question_of

QUESTIONS = "questions.jsonl"


@dataclass(frozen=True, slots=True)
class GoldQuote:
    uri: str
    quote: str


@dataclass(frozen=True, slots=True)
class GoldQuestion:
    """One line of a gold file; `answer` is one in a few words, `why` says of an unanswerable question why it is one.
    Nothing reads `notes`."""

    id: str
    question: str
    split: Literal["calibration", "test"]
    answerable: bool
    gold: tuple[GoldQuote, ...] = ()
    kind: str = ""
    why: str = ""
    answer: str = ""
    notes: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.answerable != bool(self.gold):
            raise ValueError(f"{self.id}: answerable is {self.answerable}, but there are {len(self.gold)} gold quotes")


def read_gold(*paths: Path) -> list[GoldQuestion]:
    """Raises ConfigError with the line of a question that is malformed, and ValueError for an id that occurs twice."""
    questions = [question for path in paths for question in read_rows(GoldQuestion, path)]
    repeated = [name for name, count in Counter(question.id for question in questions).items() if count > 1]
    if repeated:
        raise ValueError(f"{', '.join(map(str, paths))}: ids occur twice: {', '.join(sorted(repeated))}")
    return questions


def resolve_gold(
    questions: Sequence[GoldQuestion], document_of: Callable[[str], Sequence[Document]]
) -> tuple[list[Question], list[RejectedRecord]]:
    """Find the quotes in the documents (`document_of` a uri); white space is compared as equal.

    An answerable question none of whose quotes is found cannot be scored: it is left out, with the reason.
    """
    resolved: list[Question] = []
    left_out: list[RejectedRecord] = []
    for gold in questions:
        found = [
            span for one in gold.gold for document in document_of(one.uri) for span in find_quote(document, one.quote)
        ]
        if gold.answerable and not found:
            left_out.append(RejectedRecord(gold.id, "none of its gold quotes stands in the documents"))
            continue
        resolved.append(Question(gold.id, gold.question, tuple(found), gold.split, gold.kind, answer=gold.answer))
    return resolved, left_out


def find_quote(document: Document, quote: str) -> list[Span]:
    """Every place where the words of a quote stand, whatever white space is between them."""
    pattern = r"\s+".join(map(re.escape, quote.split()))
    return [Span(document.hash, *match.span()) for match in re.finditer(pattern, document.text)] if pattern else []


def write_questions(folder: Path, questions: Iterable[Question]) -> None:
    write_rows(folder / QUESTIONS, questions)


def read_questions(folder: Path) -> list[Question]:
    return read_rows(Question, folder / QUESTIONS)


def thumb_of(interaction: Interaction) -> str:
    """The last thumb that a person gave: "up", "down" or ""."""
    return next((one.value or "" for one in reversed(interaction.feedback) if one.kind == "thumbs"), "")


def logged_items(interactions: Iterable[Interaction]) -> tuple[list[GoldQuestion], list[dict[str, Any]]]:
    """Gold questions (split "test", kind "logged"), and rows for a person to complete, each question once.

    A question whose answer got a thumb up and cites its evidence is a gold question: its quotes are what was cited. Any
    other one is a row without `answerable` and `gold`, which is refused until a person fills them in; what the system
    said stands in its `notes`.
    """
    gold: dict[str, GoldQuestion] = {}
    waiting: dict[str, dict[str, Any]] = {}
    for interaction in interactions:
        question = question_of(interaction.messages).strip()
        cited = [verdict for verdict in interaction.verdicts if verdict.verdict == "cited"]
        if not question or interaction.error:
            continue
        if thumb_of(interaction) == "up" and cited:
            quotes = tuple(GoldQuote(verdict.uri, verdict.text) for verdict in cited)
            gold[question] = GoldQuestion(interaction.id, question, "test", True, quotes, kind="logged")
        else:
            reasons = [one.text for one in interaction.feedback if one.text]
            waiting[question] = {
                "id": interaction.id, "question": question, "split": "test", "kind": "logged", "answerable": None,
                "gold": [], "notes": {
                    "response": interaction.response, "thumb": thumb_of(interaction), "reasons": reasons,
                    "cited": [{"uri": verdict.uri, "quote": verdict.text} for verdict in cited],
                },
            }  # fmt: skip
    return list(gold.values()), [row for question, row in waiting.items() if question not in gold]
