"""Rows made of an index: their answers stand where they are said to, and only what is found again is kept."""

import json

import numpy as np
import pytest

from kit.tables import for_each
from lmworks.ground.config import AnswerConfig
from lmworks.ground.corpus_rows import corpus_rows
from lmworks.ground.grounded_answer import open_finder
from lmworks.train.objectives.cross_encoder_objective import Ranking, Reading, read_rows
from lmworks.workspace import artefact_of, read_current


class Words:
    """A reranker that counts the words that both texts have, `sign` times."""

    def __init__(self, sign: int) -> None:
        self.sign = sign

    def relevance(self, question: str, passages) -> np.ndarray:
        asked = set(question.lower().strip("?").split())
        return self.sign * np.array([len(asked & set(one.lower().split())) for one in passages], float)


@pytest.fixture(scope="module")
def finder(built_workspace):
    current = read_current(built_workspace)
    index = artefact_of(built_workspace, current, "retrieve.index")
    with open_finder(index, current.models, AnswerConfig(), ()).index as opened:
        yield open_finder(opened.folder, current.models, AnswerConfig(), ())


def asked(sentences) -> list[str]:
    return [f"Is it so that {' '.join(sentence.split()[:6])}?" for sentence in sentences]


@for_each("task", ["reader", "reranker"])
def test_questions_lead_back_to_their_passages(finder, task, tmp_path):
    finder.heads = {"reranker": Words(1)}
    made, left_out = corpus_rows(finder, task, asked)
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, made)))
    for row in (rows := read_rows([tmp_path / "rows.jsonl"], task)):
        if isinstance(row, Reading) and row.answers:
            assert asked([row.context[slice(*row.answers[0])]]) == [row.question]
        elif isinstance(row, Ranking) and row.anchor.startswith("Is it so"):
            assert not any(row.anchor[14:-1] in " ".join(one.split()) for one in row.negatives)
            assert row.anchor[14:-1] in " ".join(row.positive.split())
    assert len(rows) > 4 and any(row.anchor.startswith("What does") for row in rows if isinstance(row, Ranking)) == (
        task == "reranker"
    )
    finder.heads = {"reranker": Words(-1)}  # which finds another passage likelier
    none, left_out = corpus_rows(finder, task, asked)
    assert len(none) < len(made) / 4 and left_out["another passage is found before its own"] > len(made) / 2


def test_a_verifier_is_not_taught_by_passages(finder):
    with pytest.raises(ValueError, match="labelled rows"):
        corpus_rows(finder, "verifier")
