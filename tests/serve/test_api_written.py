"""Answers from documents that a language model writes, through the server, the log, the pages and the command line."""

import re

import pytest
from typer.testing import CliRunner

from lmworks.cli.main import app
from lmworks.generate.remote_engine import RemoteError
from lmworks.ground.config import WritingConfig
from lmworks.ground.phase_timer import Phases
from lmworks.ground.written_answer import Engines, Source, open_writer
from lmworks.records import Interaction, Retrieved, Span, Verdict
from lmworks.serve.config import ServeConfig
from lmworks.serve.service import Service
from written_cases import Scripted, answering, entails, scripted_writer

QUESTION = "By when must I report a lost laptop?"
SAID = "A lost laptop is reported within one hour. [1]\nAt any time of the day. [2]"
ANSWERS = (
    "A lost laptop is reported within one hour [1]\nIt is reported to the police [1]",
    "At any time of the day [1]",
)


@pytest.fixture
def written(workspace_copy, serve):
    service = Service(workspace_copy, ServeConfig(drain_seconds=5.0))
    service.load()
    assert not service.grounding.writes  # its model is too small
    assert list(service.grounding.grounded.system.answerer.finder.engines.values()) == [service.models.language("tiny")]
    with serve(service) as running:
        yield running


def ask(running, *texts, **options):
    running.service.grounding.grounded.system.answerer.writer = scripted_writer(Scripted(*texts))
    messages = [{"role": "user", "content": QUESTION}]
    return running.client().chat.completions.create(model="assistant", messages=messages, **options)


def test_each_statement_is_streamed_after_its_verdict_and_logged(written):
    chunks = list(ask(written, *ANSWERS, stream=True))
    events = [chunk.lmworks["progress"] if "progress" in (getattr(chunk, "lmworks", None) or {}) else
              chunk.choices[0].delta.content for chunk in chunks[:-1]]  # fmt: skip
    assert "".join(text for chunk in chunks for text in [chunk.choices[0].delta.content or ""]) == SAID
    first = events.index(SAID.split("\n")[0])
    assert events[first - 1] == "verify" and events[first + 1] == "write"
    own = chunks[-1].lmworks
    assert [one["verdict"] for one in own["verdicts"][:3]] == ["cited", "unsupported", "cited"]
    assert [one["support"] for one in own["citations"]] == [pytest.approx(0.93, abs=0.03), 1.0] and not own["abstained"]
    assert {"write", "verify"} <= own["timings"].keys()
    turn = written.http().get(f"/chat/turn/{own['interaction']}").text
    assert "<s>It is reported to the police.</s>" in turn and "support 0.9" in turn
    assert "reported to the security desk within one hour" in turn  # the evidence, not the statement, as the source
    assert "It is reported to the police." in written.http().get(f"/log/{own['interaction']}").text


def test_what_no_passage_supports_is_not_said(written):
    answer = ask(written, "It is reported to the police [1]", "Call the police [1]")
    assert answer.lmworks["abstained"] and "I don't know" in answer.choices[0].message.content
    assert "police" not in answer.choices[0].message.content and answer.lmworks["nearest"]
    assert "<s>Call the police.</s>" in written.http().get(f"/chat/turn/{answer.lmworks['interaction']}").text


def test_quotes_answer_where_the_writer_fails(written, caplog):
    """Before its first statement; after it, what was said stands."""
    lost = RemoteError("http://writer.test cannot be reached")
    for count, texts in enumerate([(lost,), (ANSWERS[0], lost)], start=1):
        answer = ask(written, *texts)
        own, evidence = answer.lmworks, [one["text"] for one in answer.lmworks["citations"]]
        assert not own["abstained"] and own["failure"] == "RemoteError" and len(evidence) == 1
        assert ("A lost laptop is reported within one hour." in evidence) == (count == 2)
        assert evidence[0] in answer.choices[0].message.content
        assert "the writer failed" in written.http().get(f"/chat/turn/{own['interaction']}").text
        assert sum("writer.test cannot be reached" in message for message in caplog.messages) == count
        assert f'writer_failures_total{{model_name="assistant"}} {count}.0' in written.http().get("/metrics").text


def test_the_command_line_prints_statements_with_their_support(workspace_copy, monkeypatch):
    monkeypatch.setattr("lmworks.system.open_writer", lambda *_: scripted_writer(Scripted(*ANSWERS)))
    result = CliRunner().invoke(app, ["ask", QUESTION, "--workspace", str(workspace_copy)])
    assert result.exit_code == 0, result.output
    assert result.output.count("A lost laptop is reported within one hour. [1]") == 1
    assert "support 0.9" in result.output and "removed, unsupported: It is reported to the police." in result.output


def test_an_endpoint_writes_under_the_strictest_constraint_that_it_takes(roomy, monkeypatch):
    """The endpoint is a server of lmworks with a random model: its lines have the form, or are cut off and removed."""
    monkeypatch.setattr("lmworks.ground.written_answer.load", lambda source: source)
    monkeypatch.setattr(entails, "relevance", answering, raising=False)  # one model does both here
    monkeypatch.setattr("lmworks.ground.written_answer.CrossEncoder", lambda checkpoint: entails)
    source = Source(Retrieved("1", Span("a" * 64, 0, 11), "a.md", "Cats sleep.", {}), "", 1.0)
    seen: list[Interaction] = []
    judged: list[Verdict] = []
    with roomy() as running:
        running.service.observers.append(seen.append)
        for extensions in ((), ("structured_outputs",)):
            config = WritingConfig("always", 2, 1, 24, 1.0, f"{running.url}/v1", "tiny", "", extensions)
            writer = open_writer(config, {"verifier": ""}, Engines())
            verdicts, failure = writer.write("Do cats sleep?", [source], Phases())
            judged += verdicts
            assert not failure
    assert judged and "cited" not in {verdict.verdict for verdict in judged}
    constraints = [one.parameters["constraint"] for one in seen]
    free = [one for one in constraints if one is None]
    assert free and constraints[: len(free)] == free  # what does not take one is asked without
    pattern = constraints[len(free)]["pattern"]
    for text in ("Cats sleep [1]", "Cats sleep. [1] [1].\nThey do [1]", "I don't know."):
        assert re.fullmatch(pattern, text)
    for text in ("Cats sleep", "Cats sleep [2]", 'It "sleeps" [1]', "A [1]\nB [1]\nC [1]", "I don't know. [1]\n"):
        assert not re.fullmatch(pattern, text)
