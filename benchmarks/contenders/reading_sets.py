"""Reading sets in SQuAD's format as documents and questions, and questions of a built workspace."""

import gzip
import hashlib
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from cross_encoder_data import articles

from lmworks.evaluate.question_set import read_questions
from lmworks.ground.question_generation import AUTOMATIC
from lmworks.records import Document, Question, Span

HIDDEN = 0.2  # share of the paragraphs that are hidden in a set without unanswerable questions
SHARED = 0.2  # from this share of questions that several articles have, each is asked within its article
ANSWERABLE, ON_TOPIC, FOREIGN = "answerable", "on topic", "foreign"


@dataclass(frozen=True)
class ReadingSet:
    """Documents, the answerable questions and those on topic without an answer; `scoped`: asked within an article.

    `index` is that of a built workspace, whose documents are not read here.
    """

    name: str
    documents: tuple[Document, ...]
    questions: tuple[Question, ...]
    scoped: bool = False
    index: Path | None = None


def read_workspace(path: Path) -> ReadingSet:
    """The newest index of a workspace and its gold questions, those with hidden answers among them."""
    index, questions = (
        max((path / "stages" / stage).glob("[!.]*"), key=lambda folder: folder.stat().st_mtime)
        for stage in ("index", "questions")
    )
    asked = [one for one in read_questions(questions) if one.kind not in AUTOMATIC]
    kinds = tuple(replace(one, kind=ANSWERABLE if one.answerable else ON_TOPIC) for one in asked)
    return ReadingSet(path.name, (), kinds, index=index)


def held_out_paragraphs(data: Path) -> frozenset[str]:
    """The paragraphs of articles that no reader, reranker or verifier learned from (`cross_encoder_data.py`)."""
    return frozenset(one["context"] for _, test, parts in articles(data) if test for one in parts)


def read_set(path: Path, paragraphs: int, seed: int, only: frozenset[str] | None = None) -> ReadingSet:
    """At most about `paragraphs` paragraphs of a set, of those in `only`, chosen by article and the same number from
    each file."""
    files = [path] if path.is_file() else sorted([*path.glob("*.json"), *path.glob("*.json.gz")])
    if not files:
        raise SystemExit(f"{path} holds no .json or .json.gz in SQuAD's format")
    chooser = random.Random(seed)
    chosen: list[tuple[str, list[Any]]] = []
    for file in files:
        data = json.loads((gzip.open if file.suffix == ".gz" else open)(file, "rb").read())["data"]
        if len(data) == 1:
            data = [{"title": "", "paragraphs": [one]} for one in data[0]["paragraphs"]]
        chooser.shuffle(data)
        left = paragraphs // len(files)
        for article in data:
            parts = [part for part in article["paragraphs"] if only is None or part["context"] in only]
            if left > 0 and parts:
                chosen.append((article.get("title", "").replace("_", " "), parts))
                left -= len(parts)
    asked = [qa for _, parts in chosen for part in parts for qa in part["qas"]]
    hidden = 0.0 if any(qa.get("is_impossible") for qa in asked) else HIDDEN
    documents: dict[str, Document] = {}
    merged: dict[tuple[str, str], list[Span]] = {}
    for number, (title, parts) in enumerate(chosen):
        kept = [part for part in parts if chooser.random() >= hidden]
        text = "\n\n".join(part["context"] for part in kept)
        source = hashlib.sha256(text.encode()).hexdigest()
        document = Document(text, f"{number:04}", "text/plain", "text", "1", source, title)
        if text:
            documents.setdefault(document.hash, document)
        starts = dict(zip(map(id, kept), np.cumsum([0, *(len(part["context"]) + 2 for part in kept)]), strict=False))
        for part in parts:
            for qa in part["qas"]:
                spans = merged.setdefault((document.hash, " ".join(qa["question"].split())), [])
                if id(part) in starts and not qa.get("is_impossible"):
                    spans += gold_spans(qa, document, int(starts[id(part)]))
    texts = [text for _, text in merged]
    scoped = 1 - len(set(texts)) / len(texts) > SHARED
    questions = [
        Question(
            f"{path.name}-{number}", text, tuple(sorted(set(spans))), "test", ANSWERABLE if spans else ON_TOPIC,
            tuple(sorted(documents.keys() - {owner})) if scoped else (),
        )
        for number, ((owner, text), spans) in enumerate(merged.items())
        if owner in documents or not scoped
    ]  # fmt: skip
    return ReadingSet(path.name, tuple(documents.values()), tuple(questions), scoped)


def gold_spans(qa: Mapping[str, Any], document: Document, offset: int) -> list[Span]:
    """The answers as spans; ValueError where one does not stand at its place."""
    spans = [
        Span(document.hash, offset + one["answer_start"], offset + one["answer_start"] + len(one["text"]))
        for one in qa["answers"]
    ]
    for span, one in zip(spans, qa["answers"], strict=True):
        if document.quote(span) != one["text"]:
            raise ValueError(f"{qa['id']}: {one['text']!r} does not stand at {one['answer_start']}")
    return spans


def sample(sets: Sequence[ReadingSet], number: int, count: int, seed: int) -> list[Question]:
    """`count` answerable questions of a set, half as many on topic and foreign; the halves are the splits."""
    own, other = sets[number], sets[(number + 1) % len(sets)]
    chooser = random.Random(seed)
    chosen: list[Question] = []
    for kind, wanted in ((ANSWERABLE, count), (ON_TOPIC, count // 2)):
        pool = [question for question in own.questions if question.kind == kind]
        chosen += chooser.sample(pool, min(wanted, len(pool)))
    if other is not own:
        every = [document.hash for document in own.documents]
        for question in chooser.sample(other.questions, min(count // 2, len(other.questions))):
            asked = chooser.choice(every) if own.scoped else ""
            scope = tuple(one for one in every if one != asked) if own.scoped else ()
            chosen.append(replace(question, gold=(), kind=FOREIGN, excluded=scope))
    chooser.shuffle(chosen)
    return [replace(one, split="calibration" if place % 2 else "test") for place, one in enumerate(chosen)]
