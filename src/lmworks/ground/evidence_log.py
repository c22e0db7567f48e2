"""Evidence on disk, one line a question, so that an interrupted stage goes on after the last question it finished."""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lmworks.config import from_mapping, to_mapping
from lmworks.ground.candidate_sentences import Candidate
from lmworks.ground.grounded_answer import Evidence
from lmworks.records import Question, Retrieved

BATCH = 8  # questions between two writes


class ResumableLog:
    """Appends JSON values under an id; a line that a kill cut short is dropped when the log is opened again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.values: dict[str, Any] = {}
        if path.exists():
            whole = path.read_bytes().rpartition(b"\n")[0]
            path.write_bytes(whole + b"\n" if whole else b"")
            for line in whole.splitlines():
                row = json.loads(line)
                self.values[row["id"]] = row["value"]

    def append(self, identifier: str, value: Any) -> None:
        # what is kept is what a reader of the line would get, so that a resumed run works on the same numbers
        line = json.dumps({"id": identifier, "value": to_mapping(value)}, ensure_ascii=False)
        self.values[identifier] = json.loads(line)["value"]
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(line + "\n")
            stream.flush()
            os.fsync(stream.fileno())


def evidence_to_json(evidence: Evidence) -> dict[str, Any]:
    return {
        "question": evidence.question,
        "passages": to_mapping(evidence.passages),
        "candidates": to_mapping(evidence.candidates),
        "features": evidence.features.tolist(),
    }


def evidence_from_json(value: dict[str, Any]) -> Evidence:
    candidates = tuple(from_mapping(Candidate, one) for one in value["candidates"])
    return Evidence(
        question=value["question"],
        passages=tuple(from_mapping(Retrieved, one) for one in value["passages"]),
        candidates=candidates,
        features=np.asarray(value["features"], dtype=np.float64).reshape(len(candidates), -1),
    )


def collect(
    path: Path,
    questions: Sequence[Question],
    make: Callable[[Sequence[Question]], Sequence[Evidence]],
    progress: Callable[[int, int], None],
) -> dict[str, Evidence]:
    """Evidence for every question by id, made in batches where the log does not hold it yet."""
    log = ResumableLog(path)
    kept = len(log.values)
    for batch in _batches([question for question in questions if question.id not in log.values]):
        for question, evidence in zip(batch, make(batch), strict=True):
            log.append(question.id, evidence_to_json(evidence))
        progress(len(log.values), kept)
    return {question.id: evidence_from_json(log.values[question.id]) for question in questions}


def _batches(questions: Sequence[Question]) -> Iterator[Sequence[Question]]:
    for start in range(0, len(questions), BATCH):
        yield questions[start : start + BATCH]
