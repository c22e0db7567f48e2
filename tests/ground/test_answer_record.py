"""An answer survives the way into the log and back, whatever it holds."""

from dataclasses import replace

import numpy as np
import pytest

from kit.tables import for_each
from lmworks.ground.answer_record import to_answer, to_interaction
from lmworks.ground.phase_timer import Phases
from lmworks.records import Answer, Retrieved, Span, Verdict

SPAN = Span("d" * 64, 42, 48)
PASSAGES = tuple(
    Retrieved(f"c{i}", Span("d" * 64, 10 * i, 10 * i + 9), "a.md", "text", {"dense": 0.5}) for i in range(5)
)


def verdict(outcome) -> Verdict:
    return Verdict("quoted", "quoted", SPAN, "a.md", 0.8, None, outcome)


@pytest.fixture
def answer() -> Answer:
    return Answer(
        id="0123456789abcdef",
        question="What?",
        text="quoted [1]",
        citations=(verdict("cited"),),
        confidence=0.7,
        abstained=False,
        nearest=(PASSAGES[4], *PASSAGES[:2]),  # first the one that holds what was chosen
        verdicts=(verdict("cited"), verdict("repeated")),
        lineage={"index": "a" * 64},
        timings={"search": 0.5, "total": 0.5},
    )


@for_each("abstained", [False, True])
def test_there_and_back(answer, abstained):
    if abstained:
        answer = replace(answer, abstained=True, citations=())
    vector = np.array([0.6, 0.8], dtype=np.float32)
    named = {"route": "assistant", "count_tokens": len, "index": "i"}
    interaction = to_interaction(answer, PASSAGES, vector, time=1.5, **named)
    assert to_answer(interaction) == answer
    assert interaction.retrieved == PASSAGES
    assert interaction.query_embedding == tuple(vector.tolist())
    assert (interaction.time, interaction.index) == (1.5, "i")
    assert interaction.citations == answer.citations


def test_an_answer_alone_belongs_to_no_conversation(answer):
    interaction = to_interaction(answer, (), None, time=0.0, route="assistant", count_tokens=len)
    assert interaction.conversation == "" and interaction.query_embedding == ()


def test_phases_follow_each_other_without_a_gap():
    heard: list[str] = []
    phases = Phases(heard.append, queued=2.0)
    for name in ("search", "measure", "search"):
        phases.begin(name)
    seconds = phases.end()
    assert heard == ["search", "measure", "search"]
    assert list(seconds) == ["queued", "search", "measure", "total"]
    assert seconds["queued"] == 2.0
    assert seconds["total"] == sum(value for name, value in seconds.items() if name != "total")
