"""The stage `ground.questions`: gold questions resolved to spans, and questions made from any corpus without a person.

An automatic question asks what a document says under one of its headings; the section is the gold span. An unanswerable
one asks the same of a document that is then hidden from the search ("removed source").

Both leak, and the report says so: the words of the heading stand in the chunk that answers, so finding it is easier
than for a person's question; and another document may well answer what the hidden one would have.
"""

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from lmworks.artefact import StageContext, StageResult
from lmworks.config import named_file
from lmworks.corpus.documents import DOCUMENTS, open_documents
from lmworks.evaluate.question_set import read_gold, resolve_gold, write_questions
from lmworks.ground.config import QuestionsConfig
from lmworks.records import Document, Question, RejectedRecord, Span
from lmworks.report import Section, Table
from lmworks.retrieve.document_structure import Section as TextSection
from lmworks.retrieve.document_structure import parse

AUTOMATIC = ("heading", "removed source")  # the kinds of automatic questions
HIDDEN = "hidden section"  # the kind of a gold question that is asked again with the places hidden that answer it
MINIMUM_PROSE = 200  # characters: a shorter section hardly says anything
LEAK = (
    "Automatic questions repeat the words of a heading, which stand in the passage that answers: finding it is easier "
    "than for a person's question. A question from a removed source may still be answered by another document, which "
    "then counts as a wrong answer."
)


def make_questions(config: QuestionsConfig, context: StageContext) -> StageResult:
    """Write `questions.jsonl` (`records.Question`), gold questions first; none at all is allowed, and shown."""
    documents = list(open_documents(context.input(DOCUMENTS)))
    gold, left_out = _gold(config, context.base, documents)
    automatic = make_automatic(documents, config.automatic, config.seed, context.progress)
    ids = {question.id for question in automatic}
    reserved = [question.id for question in gold if question.kind in AUTOMATIC or question.id in ids]
    if reserved:
        raise ValueError(
            f"gold questions {', '.join(reserved)} have the kind or id of an automatic question; rename them"
        )
    twins = unanswerable_twins(gold)
    write_questions(context.output, [*gold, *twins, *automatic])
    metrics = {"gold": len(gold), "automatic": len(automatic), "left_out": sum(item.count for item in left_out)}
    return StageResult(metrics=metrics, sections=(_section(gold, twins, automatic, left_out),))


def unanswerable_twins(questions: list[Question]) -> list[Question]:
    """Every second answerable question of each split again, with the chunks hidden that answer it and the rest of their
    documents kept: what is found then is on the topic, and answers nothing."""
    chosen = [
        question
        for split in ("calibration", "test")
        for question in [candidate for candidate in questions if candidate.answerable and candidate.split == split][::2]
    ]
    return [replace(q, id=f"{q.id}-hidden", gold=(), kind=HIDDEN, hidden=q.gold) for q in chosen]


def _gold(
    config: QuestionsConfig, base: Path, documents: list[Document]
) -> tuple[list[Question], list[RejectedRecord]]:
    by_uri: dict[str, list[Document]] = {}
    for document in documents:
        by_uri.setdefault(document.uri, []).append(document)
    asked = read_gold(*(named_file(str(path), base, "gold") for path in config.gold))
    resolved, left_out = resolve_gold(asked, lambda uri: by_uri.get(uri, []))
    if left_out and not any(question.answerable for question in resolved):
        why = f"none of their quotes stands in the documents: all {len(asked)} are taken to be about others"
        return [], [RejectedRecord(", ".join(path.name for path in config.gold), why, len(asked))]
    return resolved, left_out


def make_automatic(documents: list[Document], count: int, seed: int, progress=lambda *_: None) -> list[Question]:
    """`count` questions at most from headings, drawn with `seed`, and half as many again from removed sources.

    No two questions have the same words. Every second question of a kind belongs to the calibration split.
    """
    asked: dict[str, tuple[Document, Span]] = {}
    ambiguous: set[str] = set()
    for done, document in enumerate(documents, start=1):
        for text, span in _headings(document):
            if text in asked:
                ambiguous.add(text)  # two places answer it: neither is the gold one
            asked[text] = (document, span)
        progress(done, len(documents), "documents")
    texts = sorted(set(asked) - ambiguous)
    random.Random(seed).shuffle(texts)
    count = min(count, len(texts) * 2 // 3)  # a small corpus, too, gets unanswerable ones
    from_headings, removed = texts[:count], texts[count : count + count // 2]
    questions: list[Question] = []
    for kind, chosen in zip(AUTOMATIC, (from_headings, removed), strict=True):
        for number, text in enumerate(chosen):
            document, span = asked[text]
            hidden = kind == AUTOMATIC[1]
            questions.append(
                Question(
                    id=f"{'removed' if hidden else 'heading'}-{number}",
                    text=text,
                    gold=() if hidden else (span,),
                    split="calibration" if number % 2 == 0 else "test",
                    kind=kind,
                    excluded=(document.hash,) if hidden else (),
                )
            )
    return questions


def _headings(document: Document) -> Iterator[tuple[str, Span]]:
    """Each telling heading of a document as a question, and the section below it."""
    for section in parse(document):
        blocks = [block for block in section.blocks if block.kind not in ("heading", "metadata")]
        prose = sum(block.end - block.start for block in blocks if block.kind in ("paragraph", "list"))
        if not blocks or not section.heading_path or prose < MINIMUM_PROSE:
            continue
        heading = section.heading_path[-1]
        named = heading.startswith(("module ", "class ")) or "(" in heading
        if document.extractor == "python-docstrings" and not named:  # "Examples" names no code: it asks nothing
            continue
        span = Span(document.hash, blocks[0].start, blocks[-1].end)
        yield _question(document, section), span


def _question(document: Document, section: TextSection) -> str:
    heading = section.heading_path[-1]
    if document.extractor == "python-docstrings":
        return f"What does {heading.split('(')[0].removeprefix('module ').removeprefix('class ')} do?"
    title = section.heading_path[0]
    return f"What does {title} say about {heading}?" if title != heading else f"What is said about {heading}?"


def _section(
    gold: list[Question], twins: list[Question], automatic: list[Question], left_out: list[RejectedRecord]
) -> Section:
    def count(questions: list[Question], split: str, answerable: bool) -> int:
        return sum(q.split == split and q.answerable == answerable for q in questions)

    rows = tuple(
        (name, *(count(questions, split, flag) for split in ("calibration", "test") for flag in (True, False)))
        for name, questions in (
            ("gold", gold),
            ("gold, their answers hidden", twins),
            ("automatic", automatic),
        )
    )
    columns = ("questions", "calibration", "unanswerable", "test", "unanswerable ")
    tables = [Table(columns, rows)]
    if left_out:
        tables.append(Table(("left out", "reason"), tuple((item.uri, item.reason) for item in left_out)))
    text = LEAK if automatic else ""
    if not gold and not automatic:
        text = (
            "There are no questions: no section of the documents has a heading and at least "
            f"{MINIMUM_PROSE} characters of prose to make one from, and there is no gold question about "
            "them (questions.gold). Nothing can be calibrated or evaluated on these documents."
        )
    return Section("Questions", text, tuple(tables))
