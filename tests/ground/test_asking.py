"""Asking the test questions goes on where an interrupted run stopped, and tells what that run had answered."""

from pathlib import Path

import pytest

from lmworks.artefact import StageContext
from lmworks.ground import grounding_evaluation
from lmworks.ground.grounding_evaluation import Row
from lmworks.records import Question


def test_answers_of_an_interrupted_run_are_kept_and_told_apart(monkeypatch, tmp_path: Path) -> None:
    questions = [Question(f"q{n}", f"Question {n}?", (), "test") for n in range(24)]
    asked: list[str] = []

    def ask(question: Question, answerer: object) -> tuple[Row, float]:
        if len(asked) == 10:
            raise KeyboardInterrupt
        asked.append(question.id)
        return Row(question, (), {}, (), 0.5, False, question.text), len(asked) / 2

    monkeypatch.setattr(grounding_evaluation, "ask", ask)
    told: list[tuple[int, int | None, str, int]] = []
    context = StageContext(inputs={}, output=tmp_path, work=tmp_path, progress=lambda *call: told.append(call))
    with pytest.raises(KeyboardInterrupt):
        grounding_evaluation._ask_all(questions, None, context)  # pyright: ignore[reportArgumentType]
    assert told == [(8, 24, "questions answered", 0)]
    told.clear()
    asked[:] = ["more"]
    with pytest.raises(KeyboardInterrupt):
        grounding_evaluation._ask_all(questions, None, context)  # pyright: ignore[reportArgumentType]
    assert asked == ["more", *(f"q{n}" for n in range(10, 19))]
    assert told == [(10, 24, "questions answered", 10), (16, 24, "questions answered", 10)]
    asked.clear()
    rows, seconds = grounding_evaluation._ask_all(questions, None, context)  # pyright: ignore[reportArgumentType]
    assert [row.question for row in rows] == questions and [row.answer for row in rows] == [q.text for q in questions]
    assert len(asked) == 5 and len(seconds) == 24
