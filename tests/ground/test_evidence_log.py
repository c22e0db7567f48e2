"""The log keeps what was finished, drops what was cut short, and gives back the very numbers."""

import numpy as np
import pytest

from lmworks.ground.evidence_log import ResumableLog, collect
from lmworks.records import Question


def test_a_line_cut_short_is_dropped(tmp_path):
    log = ResumableLog(tmp_path / "log")
    log.append("a", {"x": 0.1})
    log.append("b", [1, 2])
    whole = (tmp_path / "log").read_bytes()
    for cut in range(1, len(whole)):
        (tmp_path / "log").write_bytes(whole[:cut])
        reopened = ResumableLog(tmp_path / "log")
        assert set(reopened.values) == set(list("ab")[: whole[:cut].count(b"\n")])
        reopened.append("c", None)
        assert "c" in ResumableLog(tmp_path / "log").values


def test_evidence_comes_back_bit_for_bit_and_is_made_once(finder, tmp_path):
    questions = [Question(f"q{n}", f"How long does a cat sleep {n}?", (), "test") for n in range(11)]
    made: list[str] = []

    def make(batch):
        made.extend(question.id for question in batch)
        if len(made) > 9:
            raise KeyboardInterrupt
        return [finder.evidence(question.text) for question in batch]

    with pytest.raises(KeyboardInterrupt):
        collect(tmp_path / "log", questions, make, lambda done, kept: None)
    made.clear()
    told: list[tuple[int, int]] = []
    found = collect(tmp_path / "log", questions, make, lambda done, kept: told.append((done, kept)))
    assert made == ["q8", "q9", "q10"]  # the first batch of eight was kept
    assert told == [(11, 8)]
    for question in questions:
        expected = finder.evidence(question.text)
        assert found[question.id].candidates == expected.candidates
        assert found[question.id].passages == expected.passages
        assert np.array_equal(found[question.id].features, expected.features)
