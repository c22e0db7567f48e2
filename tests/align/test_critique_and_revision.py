"""Critique and revision by a scripted model: who reads what, which principle is drawn, what is left out."""

from types import SimpleNamespace

import pytest

from lmworks.align.config import CritiqueConfig
from lmworks.align.critique_and_revision import CONVERSATIONS, PREFERENCES, PRINCIPLES, critique_and_revision, revised
from lmworks.artefact import StageContext
from lmworks.data.training_rows import read_preference_rows, write_preference_rows
from lmworks.records import Message, Preference, PromptCompletion, Provenance

CONFIG = CritiqueConfig(("prompts.jsonl",))


class Scripted:
    """Says which step it is, and keeps what it was asked."""

    def __init__(self, cut: str = "") -> None:
        self.asked: list[tuple[Message, ...]] = []
        self.cut, self.calls = cut, 0

    def generate(self, requests):
        step = ["answer", "critique", "revision"][self.calls % 3]
        self.calls += 1
        self.asked += [request.messages for request in requests]
        said = [f"{step} to {request.messages[0].content}" for request in requests]
        return [SimpleNamespace(text=one, finish_reason="length" if one == self.cut else "stop") for one in said]


def test_an_answer_is_criticised_by_a_principle_that_the_seed_draws_and_revised():
    prompts = [(f"q{n}", Provenance("s")) for n in range(60)]
    engine = Scripted("answer to q1")
    rows = revised(engine, prompts, CONFIG, PRINCIPLES)  # type: ignore[arg-type]
    assert (rows[0].answer, rows[0].critique, rows[0].revision) == ("answer to q0", "critique to q0", "revision to q0")
    assert [row.left_out for row in rows[:3]] == ["", "an answer or revision that is cut off", ""]
    last = engine.asked[-60]  # the revision of q0 is asked for
    assert [message.role for message in last] == ["user", "assistant"] * 2 + ["user"]
    assert last[1].content == "answer to q0" and str(rows[0].provenance.rubric) in last[2].content
    drawn = [row.provenance.rubric for row in rows]
    assert set(drawn) == set(PRINCIPLES)
    again = revised(Scripted(), prompts, CONFIG, PRINCIPLES)  # type: ignore[arg-type]
    assert [row.provenance.rubric for row in again] == drawn


def test_the_stage_writes_rows_that_training_reads_and_goes_on_where_it_was_killed(tmp_path, monkeypatch):
    write_preference_rows(tmp_path / "prompts.jsonl", [PromptCompletion(f"q{n}", "") for n in range(40)])
    engine = Scripted("revision to q3")
    chat = SimpleNamespace(render=lambda messages: SimpleNamespace(ids=[0] * 9))
    checkpoint = SimpleNamespace(fingerprint="f" * 64, config=SimpleNamespace(context_length=2048), chat=chat)
    monkeypatch.setattr("lmworks.adapt.adapter.load", lambda name: checkpoint)
    monkeypatch.setattr("lmworks.generate.engine.Engine", lambda checkpoint: engine)
    for folder in ("work", "out", "again"):
        (tmp_path / folder).mkdir()
    context = StageContext({}, tmp_path / "out", tmp_path / "work", models={"base": "me"}, base=tmp_path)
    result = critique_and_revision(CONFIG, context)
    assert result.metrics == {"rows": 39, "left_out": 1} and engine.calls == 6
    pairs = [row for row in read_preference_rows([tmp_path / "out" / PREFERENCES]) if isinstance(row, Preference)]
    single = read_preference_rows([tmp_path / "out" / CONVERSATIONS], [PromptCompletion])
    assert [row.chosen for row in pairs] == [row.completion for row in single]  # type: ignore[union-attr]
    assert pairs[0].rejected == "answer to q0" and pairs[0].provenance.judge == "me ffffffffffff"
    critique_and_revision(
        CONFIG, StageContext({}, tmp_path / "again", tmp_path / "work", models={"base": "me"}, base=tmp_path)
    )
    assert (
        engine.calls == 6
        and (tmp_path / "again" / PREFERENCES).read_bytes() == (tmp_path / "out" / PREFERENCES).read_bytes()
    )
    (tmp_path / "none.txt").write_text("\n")
    with pytest.raises(ValueError, match="no principle"):
        critique_and_revision(CritiqueConfig(("prompts.jsonl",), principles="none.txt"), context)  # type: ignore[arg-type]
