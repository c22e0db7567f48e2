"""Rows of pairs to a head: what is learned, that it can be stopped, what is refused, and when it takes over."""

import json
import shutil
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

from byte_tokenizer import byte_tokenizer
from command_line import lmworks, refused, run
from kit.tables import for_each
from lmworks.adapt.adapter import load
from lmworks.artefact import CURRENT, read_json, read_manifest, write_json
from lmworks.build import build, run_alone
from lmworks.data.group_loader import GroupLoader
from lmworks.data.training_rows import split_rows
from lmworks.generate.cross_encoder import CrossEncoder
from lmworks.model.checkpoint import assemble
from lmworks.model.download import digest_of_model
from lmworks.model.initialisation import PUBLISHED, initialise
from lmworks.model.presets import bert
from lmworks.model.transformer import Transformer
from lmworks.recipe import load as load_recipe
from lmworks.train.objectives.cross_encoder_objective import group_of, read_rows
from lmworks.train.stage_cross_encoder import LEAST_HELD_OUT
from slow_cases import slow

SETTINGS = ["batch=32", "epochs=5", "length=48", "rate=0.004", "held_out=0.1", "train.checkpoint.steps=20"]
CHANCE = {"reader": 2 * np.log(20), "reranker": np.log(2), "verifier": np.log(3)}  # nats


def a_row(task: str, generator) -> dict:
    """The answer to a letter is the same one in capitals; what has none answers nothing and contradicts."""
    letters = generator.permutation(list("abcdefgh")).tolist()
    asked, answered = letters[0], generator.random() < 0.6
    question, words = f"{asked} {''.join(generator.choice(list('stuvw'), 4))}", [letter * 3 for letter in letters[1:5]]
    right, wrong = (" ".join([*words[:2], one, *words[2:]]) for one in (asked.upper(), "z"))
    if task == "reranker":
        return {"anchor": question, "positive": right, "negatives": [wrong]}
    context = right if answered else wrong
    if task == "verifier":
        return {"premise": context, "hypothesis": question, "label": "entailment" if answered else "neutral"}
    spans = {"text": [asked.upper()] * answered, "answer_start": [8] * answered}
    return {"question": question, "context": context, "answers": spans}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("heads")
    config = bert(258, 32, 1, 2, 64, 48)
    weights = initialise(Transformer(config), 0, scheme=PUBLISHED["bert"]).state_dict()
    assemble(config, weights, byte_tokenizer({"cls_token": "[CLS]", "sep_token": "[SEP]"})).save(folder / "base")
    for task in ("reader", "reranker", "verifier"):
        generator = np.random.default_rng(0)
        rows = [json.dumps(a_row(task, generator)) for _ in range(1200)]
        (folder / f"{task}.jsonl").write_text("\n".join(rows))
    return folder


def test_of_few_rows_enough_are_held_out_to_score(folder):
    rows = read_rows([folder / "reader.jsonl"], "reader")[:24] * 2
    kept, held_out = split_rows(rows, 0.05, group_of, LEAST_HELD_OUT)
    texts = [{group_of(row) for row in side} for side in (kept, held_out)]
    assert len(kept) + len(held_out) == 48 and not texts[0] & texts[1] and len(texts[1]) >= 4
    assert split_rows(rows, 0.0, group_of, LEAST_HELD_OUT) == (rows, [])


class Killed(BaseException):
    pass


def taught(folder: Path, task: str, out: str, *more: str, method: str = "full") -> Path:
    settings = [f"task={task}", f'rows=["{folder}/{task}.jsonl"]', f"base={folder}/base", f"method.kind={method}"]
    run_alone("train.cross_encoder", folder / out, [], [], [*settings, *SETTINGS, *more])
    return folder / out


def train(folder: Path, *more: object) -> str:
    command = ["train", "reranker", "--rows", "reranker.jsonl", "--base", "base", "--set", "method.kind=full"]
    settings = [part for one in SETTINGS for part in ("--set", one)]
    return run(*command, *settings, "--out", "reranker", *more, cwd=folder)


@pytest.fixture(scope="module")
def unscored(folder) -> Path:
    """A reranker as `lmworks train` leaves it when it is killed after the training."""
    killed = mock.patch("lmworks.evaluate.cross_encoder_scores.evaluate_head", side_effect=Killed)
    with killed, pytest.raises(Killed):
        train(folder)
    return folder / "reranker"


@pytest.mark.parametrize("task", ["reader", "reranker", *slow("verifier")])
def test_a_head_learns_what_its_rows_say(folder, unscored, task):
    made = unscored if task == "reranker" else taught(folder, task, task)
    head, metrics = CrossEncoder(load(made)), read_manifest(made).metrics
    assert metrics["validation_loss"] < 0.3 * CHANCE[task]
    passages = ["bbb ccc A ddd eee", "bbb ccc z ddd eee"]
    if task == "reader":
        found = head.read("a stuv", passages)
        assert passages[0][found[0].start : found[0].end] == "A" and found[0].log_odds > 0 > found[1].log_odds
    elif task == "reranker":
        assert head.relevance("a stuv", passages)[0] > 0 > head.relevance("a stuv", passages)[1]
    else:
        assert head.entailment([(one, "a stuv") for one in passages]).argmax(1).tolist() == [0, 1]
    card = read_json(made / "card.json")
    assert card["task"] == task and card["command"].startswith("lmworks stage train.cross_encoder --set ")


def test_a_stopped_run_ends_bit_by_bit_as_one_that_was_not(folder):
    def die(loader, following=GroupLoader.__next__):
        if loader.step == 28:
            raise Killed
        return following(loader)

    with mock.patch.object(GroupLoader, "__next__", die), pytest.raises(Killed):
        taught(folder, "verifier", "stopped", "epochs=1", method="lora")
    stopped, one = (taught(folder, "verifier", name, "epochs=1", method="lora") for name in ("stopped", "one"))
    assert read_manifest(stopped).content_hash == read_manifest(one).content_hash


def reading(answer: str) -> dict:
    return {"question": "a", "context": "b", "answers": {"text": [answer], "answer_start": [0]}}


BAD = {
    "span": ("reader", reading("c"), "line 1: .*stand at 0"),
    "class": ("reader", reading("b"), "more than one kind"),
    "label": ("verifier", {"premise": "a", "hypothesis": "b", "label": "yes"}, "line 1: label is one of entailment"),
    "negatives": ("reranker", {"anchor": "a", "positive": "b"}, "no row has negatives"),
    "positives": ("reranker", {"anchor": "a", "positive": "b", "negatives": ["b"]}, "line 1: positives"),
    "shape": ("verifier", {"anchor": "a", "positive": "b"}, "line 1: a row needs premise, hypothesis, label"),
}


@for_each("case", BAD)
def test_rows_that_teach_nothing_are_refused_with_their_line(folder, tmp_path, case):
    task, row, told = BAD[case]
    (tmp_path / "rows.jsonl").write_text(json.dumps(row))
    settings = [f"task={task}", f'rows=["{tmp_path}/rows.jsonl"]', "base=all-minilm-l6-v2"]
    loaded = mock.patch("lmworks.train.stage_cross_encoder.load_base", side_effect=AssertionError)
    with loaded, pytest.raises(ValueError, match=told):
        run_alone("train.cross_encoder", tmp_path / "out", [], [], settings)


def test_a_better_head_takes_over_and_what_depends_on_it_is_made_again(
    folder, unscored, built_workspace, workspace_copy
):
    def head_of(outcome) -> str:
        digest_of_model.cache_clear()  # of another process
        models = [f"models.reranker={workspace_copy}/models/reranker"]
        outcomes = build(load_recipe(built_workspace.parent / "recipe.toml", models), workspace_copy)
        assert {one.name: one.cached for one in outcomes if one.name in ("index", "calibration")} == outcome
        return next(one.manifest.models["reranker"] for one in outcomes if one.name == "calibration")

    rows = map(json.loads, (folder / "reranker.jsonl").read_text().splitlines())
    wrong = [{**row, "positive": row["negatives"][0], "negatives": [row["positive"]]} for row in rows]
    (folder / "wrong.jsonl").write_text("\n".join(map(json.dumps, wrong)))
    weak = taught(folder, "wrong", "weak", "task=reranker", "epochs=1")
    current = read_json(workspace_copy / CURRENT)
    in_use = {"models": {**current["models"], "reranker": str(weak)}, "names": {**current["names"], "reranker": "weak"}}
    write_json(workspace_copy / CURRENT, {**current, **in_use})
    trained = read_manifest(unscored)
    told = train(folder, "--promote", workspace_copy)
    assert f"--set models.reranker={workspace_copy}/models/reranker" in told
    card = read_json(workspace_copy / "models" / "reranker" / "card.json")
    assert card["held_out"]["held out"]["mrr"]["interval"][0] > 0.9
    first = head_of({"index": True, "calibration": False})
    assert "Saved but not promoted: mrr less that of" in train(folder, "--promote", workspace_copy)
    assert read_manifest(unscored) == trained  # the same command goes on; another has no place there
    assert "exists already" in refused("train", "reranker", "--rows", "reranker.jsonl", "--out", "reranker", cwd=folder)
    assert head_of({"index": True, "calibration": True}) == first
    shutil.rmtree(workspace_copy / "models" / "reranker")
    shutil.copytree(weak, workspace_copy / "models" / "reranker")
    assert head_of({"index": True, "calibration": False}) != first


def test_train_alone_teaches_and_needs_rows(folder):
    taught_by = lmworks("train").stdout
    assert '"answer_start"' in taught_by and "lmworks train reranker --rows" in taught_by
    assert "--corpus WORKSPACE" in refused("train", "reader", cwd=folder)
