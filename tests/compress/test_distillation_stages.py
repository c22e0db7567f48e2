"""Stages of distillation and pruning as a recipe runs them: documents to a student's folder."""

import json
import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import lmworks
from lmworks.artefact import read_manifest
from lmworks.build import run_alone
from lmworks.corpus.documents import DocumentStore
from lmworks.train.run_log import LOG, read_log
from training_cases import new_checkpoint

WORDS = ["the", "cat", "dog", "sees", "hears", "a", "small", "red", "house", "and", "then", "sleeps"]
SMALL = ["length=32", "steps=12", "batch=8", "train.precision=float32", "train.log=1"]


def run(use: str, out: Path, inputs: list[Path], settings: list[str], models: tuple[str, ...] = ()) -> Path:
    run_alone(use, out, inputs, list(models), settings)
    return out


@pytest.fixture(scope="module")
def workspace(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("compress")
    generator = random.Random(0)
    (folder / "texts").mkdir()
    for number in range(60):
        sentences = (" ".join(generator.choices(WORDS, k=generator.randint(4, 9))) + "." for _ in range(12))
        (folder / "texts" / f"{number}.txt").write_text("\n".join(sentences))
    run("corpus.read", folder / "documents", [], [f'sources=["{folder}/texts"]'])
    run("tokenizer.bpe", folder / "vocabulary", [folder / "documents"], ["vocabulary_size=300"])
    inputs = [folder / "documents", folder / "vocabulary"]
    settings = ["held_out=0.2", 'end="none"']
    run("data.tokenize", folder / "tokens", inputs, settings)
    run("data.tokenize", folder / "held", inputs, [*settings, "part=held_out"])
    target = ["parameters=120000", "tokens=30000", "length=32", "train.precision=float32", "train.validate=50"]
    run("train.pretrain", folder / "model", [folder / "tokens", folder / "held", folder / "vocabulary"], target)
    return folder


@pytest.fixture(scope="module")
def teacher(workspace):
    return (f"teacher={workspace / 'model'}",)


def test_a_student_of_half_the_layers_beside_its_teacher(workspace, teacher):
    inputs = [workspace / "tokens", workspace / "held"]
    made = run("compress.distil", workspace / "half", inputs, [*SMALL, "layers=1"], teacher)
    student, whole = lmworks.load(made), lmworks.load(workspace / "model")
    assert len(student.config.decoder.blocks) == 1 < len(whole.config.decoder.blocks)
    curve = [line["loss"] for line in read_log(made / LOG) if line["kind"] == "validation"]
    assert curve[-1] < curve[0]
    assert read_manifest(made).metrics["validation_loss"] == pytest.approx(curve[-1])
    # What is validated is the text's own next token, and not what is minimised.
    last = [line for line in read_log(made / LOG) if line["kind"] == "step"][-1]
    assert last["loss"] == pytest.approx((last["next_token"] + last["divergence"]) / 2, rel=1e-5)


@pytest.mark.slow
def test_stored_columns_train_the_same_student_as_the_model_does(workspace, teacher):
    """Those of the whole vocabulary, from the same begin: up to the rounding of log-probabilities."""
    inputs = [workspace / "tokens", workspace / "held", workspace / "model"]
    columns = run("compress.teacher", workspace / "columns", inputs[:1], ["k=400", "length=32"], teacher)
    live = run("compress.distil", workspace / "live", inputs, SMALL, teacher)
    stored = run("compress.distil", workspace / "stored", [*inputs, columns], SMALL)
    for name, weight in lmworks.load(live).model.state_dict().items():
        torch.testing.assert_close(lmworks.load(stored).model.state_dict()[name], weight, rtol=1e-3, atol=1e-4)


def test_texts_of_the_teacher_are_documents_for_any_tokenizer(workspace, teacher):
    settings = ["prompt=4", "completion=12", "most=10"]
    made = run("compress.sequences", workspace / "written", [workspace / "documents"], settings, teacher)
    given = {document.uri: document for document in DocumentStore(workspace / "documents")}
    texts = list(DocumentStore(made))
    tokenizer = lmworks.load(workspace / "model").required_tokenizer
    assert 0 < len(texts) <= 10
    for document in texts:
        beginning = tokenizer.decode(tokenizer.encode(given[document.uri].text)[:4])
        assert document.text.startswith(beginning) and len(document.text) > len(beginning)
    run("data.tokenize", workspace / "again", [made, workspace / "vocabulary"], ['end="none"'])


def test_answers_of_the_teacher_are_conversations(tmp_path):
    template = "{% for message in messages %}{{ message.content }}{% endfor %}"
    replace(new_checkpoint(), chat_template=template).save(tmp_path / "teacher")
    (tmp_path / "rows.jsonl").write_text(json.dumps({"prompt": "who?", "completion": "nobody"}) + "\n")
    settings = [f'rows=["{tmp_path}/rows.jsonl"]', "completion=8", "temperature=1.0"]
    made = run("compress.sequences", tmp_path / "written", [], settings, (f"teacher={tmp_path / 'teacher'}",))
    (row,) = [json.loads(line) for line in (made / "conversations.jsonl").read_text().splitlines()]
    assert row["prompt"] == "who?" and row["completion"] not in ("", "nobody")


def test_pruning_and_recovery(workspace, teacher):
    settings = ["method.kind=structured", "method.neurons=0.5", "method.layers=1", "calibration.length=32"]
    pruned = run("compress.prune", workspace / "pruned", [workspace / "model", workspace / "documents"], settings)
    before, after = (lmworks.load(workspace / name).config.decoder.blocks for name in ("model", "pruned"))
    assert len(after) == len(before) - 1 and after[0].feed_forward.hidden <= before[0].feed_forward.hidden // 2 + 16
    assert read_manifest(pruned).metrics["calibration"]["documents"]
    inputs = [workspace / "tokens", workspace / "held", pruned]
    recovered = run("compress.distil", workspace / "recovered", inputs, SMALL, teacher)
    by_lora = ["method.kind=lora", "merge=true", "rate=0.01"]
    merged = run("compress.distil", workspace / "merged", inputs, [*SMALL, *by_lora], teacher)
    for made in (recovered, merged):
        curve = [line["loss"] for line in read_log(made / LOG) if line["kind"] == "validation"]
        assert curve[-1] < curve[0] and lmworks.load(made).config == lmworks.load(pruned).config


def test_what_does_not_go_together_is_refused(workspace, teacher, tmp_path):
    new_checkpoint().save(tmp_path / "bytes")
    inputs = [workspace / "tokens", workspace / "model"]
    with pytest.raises(ValueError, match=r"another vocabulary .* compress.sequences"):
        run("compress.distil", tmp_path / "one", inputs, SMALL, (f"teacher={tmp_path / 'bytes'}",))
    with pytest.raises(ValueError, match="there is no teacher"):
        run("compress.distil", tmp_path / "two", inputs, SMALL)
    with pytest.raises(ValueError, match="no calibration text"):
        run("compress.prune", tmp_path / "three", [workspace / "model"], ["method.kind=wanda"])
