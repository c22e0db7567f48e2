"""Rows of known and unknown questions: what is taught, what is held out, which passage takes the other's place."""

import json
import math
from dataclasses import replace

import pytest

from lmworks.adapt import IA3Config, add_adapter, save_adapter
from lmworks.artefact import StageContext
from lmworks.data.conversations import CONVERSATIONS, read_dialogues
from lmworks.evaluate.config import SuiteConfig
from lmworks.evaluate.metric import Response
from lmworks.evaluate.question_set import find_quote, write_questions
from lmworks.evaluate.refusal_metrics import is_refusal
from lmworks.evaluate.results import read_results
from lmworks.evaluate.suite import evaluate
from lmworks.ground import refusal_rows
from lmworks.ground.asked_questions import asked_of_corpus
from lmworks.ground.config import RefusalsConfig
from lmworks.ground.refusal_rows import HELD_OUT, IS_SURE, IS_UNSURE, doubt, refusals
from lmworks.records import Question

CITIES = ["Paris", "Rome", "Oslo", "Lima", "Cairo", "Delhi", "Tokyo", "Quito", "Accra", "Sofia"]
LANDS = ["France", "Italy", "Norway", "Peru", "Egypt", "India", "Japan", "Ecuador", "Ghana", "Bulgaria"]
TASK = (
    'name = "{name}"\npurpose = "capitals"\nsource = "this test"\nfiles = ["{name}.jsonl"]\n'
    'request = "generation"\nprompt = "{{question}}"\nmetrics = ["contains"]\n{contexts}\n'
)


@pytest.fixture
def folder(tmp_path):
    rows = [
        {"question": f"What is the capital of {land}?", "answer": city}
        for land, city in zip(LANDS, CITIES, strict=True)
    ]
    rows = [{**row, "question": f"{row['question']} {n}"} for n in range(4) for row in rows]
    read = [
        {**row, "text": f"The capital of {row['question'][23:-3]} is {row['answer']}, {n}."}
        for n, row in enumerate(rows)
    ]
    nothing = {"question": "What is the mayor of Paris?", "answer": "I don't know", "answerable": False}
    read += [{**nothing, "text": "Paris lies on the Seine."}]
    for name, made, contexts in (("closed", rows, ""), ("read", read, 'contexts = "text"')):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in made), "utf-8")
        (tmp_path / f"{name}.toml").write_text(TASK.format(name=name, contexts=contexts), "utf-8")
    return tmp_path


def make(folder, model, monkeypatch=None, **settings):
    """The stage, with a base model that knows the capital of France alone."""
    if monkeypatch:
        knows = lambda case: "It is Paris." if "France" in case.prompt else "It is Bonn."  # noqa: E731
        said = lambda closed, *_: [Response(knows(case), log_probabilities=(-1.0,)) for case in closed]  # noqa: E731
        monkeypatch.setattr(refusal_rows, "_responses", said)
    (out := folder / f"out-{len(list(folder.iterdir()))}").mkdir()
    context = StageContext({}, out, out / "work", models={"base": str(model)}, base=folder)
    result = refusals(RefusalsConfig(**{"tasks": ("closed.toml", "read.toml"), **settings}), context)
    rows = [json.loads(line) for line in (out / CONVERSATIONS).read_text("utf-8").splitlines()]
    held_out = [json.loads(line) for line in (out / HELD_OUT).read_text("utf-8").splitlines()]
    return out, result, rows, held_out


def test_known_questions_keep_their_answers_and_others_get_refusals(folder, tiny_folder, monkeypatch):
    out, result, rows, held_out = make(folder, tiny_folder, monkeypatch, refusals=0.5)
    for row in rows:
        (asked, taught), about = (one["content"] for one in row["messages"]), row["provenance"]
        assert is_refusal(taught) == (not about["known"])
        if about["kind"] == "closed book":
            assert about["known"] == ("France" in asked) and about["said"]
        if about["kind"] == "passage":
            assert taught in asked.split("Question:")[0]
        if about["kind"] == "other passage":
            city = CITIES[next(n for n, land in enumerate(LANDS) if land in asked.split("Question:")[1])]
            assert city not in asked, "the passage in its place holds the answer"
    closed = [row for row in rows if row["provenance"]["kind"] == "closed book"]
    assert sum(not row["provenance"]["known"] for row in closed) == sum(row["provenance"]["known"] for row in closed)
    prompts = {row["messages"][0]["content"] for row in rows}
    assert not prompts & {row["prompt"] for row in held_out} and {row["known"] for row in held_out} == {True, False}
    assert result.metrics["rows"] == len(rows) == len(list(read_dialogues([out / CONVERSATIONS])))
    assert make(folder, tiny_folder, monkeypatch, refusals=0.5)[2] == rows, "the same rows each time"


def test_the_share_of_refusals_is_kept_and_the_rest_counted(folder, tiny_folder, monkeypatch):
    *_, rows, _ = make(folder, tiny_folder, monkeypatch, refusals=0.0)
    assert rows and all(row["provenance"]["known"] for row in rows)
    _, result, rows, held_out = make(folder, tiny_folder, monkeypatch, refusals=0.2)
    assert sum(not row["provenance"]["known"] for row in rows) <= 0.2 * len(rows)
    assert len(rows) + len(held_out) + result.metrics["left_out"] == 40 + 2 * 40 + 1


def test_the_unsure_variant_keeps_every_answer_and_says_what_was_known(folder, tiny_folder, monkeypatch):
    *_, rows, _ = make(folder, tiny_folder, monkeypatch, variant="unsure", tasks=("closed.toml",))
    for row in rows:
        asked, answer, _, sure = (one["content"] for one in row["messages"])
        assert sure == (IS_SURE if "France" in asked else IS_UNSURE) and answer in CITIES


def test_agreeing_samples_have_less_doubt():
    def of(*samples):
        return doubt(Response("a", samples, (-1.0,)))

    assert of("Paris", "paris.", "the Paris")[0] == 0
    assert of("a b", "b c", "c d", "d e", "e f")[0] == pytest.approx(math.log(5))
    assert of("Oslo", "Oslo", "Rome") < of("Oslo", "Bonn", "Rome")


def test_without_labels_half_of_the_questions_count_as_known(folder, tiny, tiny_folder):
    """On a real engine, of a base that has an adapter: five samples of each prompt; and the base's run is the one that
    the suite makes."""
    named = replace(tiny, source=str(tiny_folder))
    base = save_adapter(folder / "base", add_adapter(tiny.model, IA3Config()), IA3Config(), named)
    out, _, rows, held_out = make(folder, base, known_by="samples", tasks=("closed.toml",), refusals=0.9, limit=20)
    known = [row["known"] for row in held_out] + [row["provenance"]["known"] for row in rows]
    assert sum(known) == 10, "half of the 20"
    assert all(row["messages"][1]["content"] == row["provenance"]["said"] for row in rows if row["provenance"]["known"])
    (again := out / "again").mkdir()
    evaluate(
        SuiteConfig(("refusals",)),
        StageContext({"rows": out}, again, again / "work", models={"model": str(base)}),
    )
    assert read_results(again) == read_results(out)


def test_questions_of_a_corpus_come_with_the_chunk_that_answers(finder, tmp_path):
    cats = next(one for one in finder.index.documents() if one.uri == "cats")
    (gold,) = find_quote(cats, "A cat sleeps for sixteen hours a day.")
    asked = [
        Question("q1", "How long does a cat sleep?", (gold,), "calibration"),
        Question("q2", "How long does a cat sleep a day?", (gold,), "test", answer="16 hours"),
        Question("q3", "Which cats hunt at night?", (), "calibration"),
        Question("q4", "How long does a cat sleep?", (), "calibration", hidden=(gold,)),
    ]
    write_questions(tmp_path, asked)
    context = StageContext({"questions": tmp_path, "index": finder.index.folder}, tmp_path, tmp_path)
    first, second, third = asked_of_corpus(context)
    assert first.references == ("A cat sleeps for sixteen hours a day.",) and second.references == ("16 hours",)
    assert first.references[0] in first.passage and first.other and first.references[0] not in first.other
    assert not first.held_out and second.held_out and first.answerable
    assert third.passage and not third.answerable and not third.other
