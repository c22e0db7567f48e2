"""`lmworks align`: rows of preferences to a folder that is loaded and served; what is refused before it begins."""

import json
import re

import pytest

import lmworks
from command_line import refused, run
from lmworks.artefact import read_manifest
from lmworks.train.run_log import LOG, read_log

WORDS = ("dog", "cat", "sun", "red", "leave", "tree", "ship", "moon", "bread", "glass", "paper", "stone")
SETTINGS = ("--set", "epochs=4", "--set", "rate=0.01", "--set", "length=128")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("align")
    kinds = {
        "pairs": [{"prompt": word, "chosen": "aye", "rejected": "nay"} for word in WORDS],
        "labels": [{"prompt": w, "completion": "aye" if n % 2 else "nay", "label": n % 2} for n, w in enumerate(WORDS)],
    }
    for name, rows in kinds.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_minutes_decide_and_the_folder_is_a_model_that_prefers_as_it_was_taught(folder, tiny_folder):
    settings = (*SETTINGS, "--set", 'suites=["social-bias"]')
    said = run("align", tiny_folder, "--data", "pairs.jsonl", *settings, "--minutes", 1, "--out", "polite", cwd=folder)
    assert "measured with some steps of this run" in said and "--adapter polite=polite" in said
    numbers = read_manifest(folder / "polite").metrics
    assert numbers["held_out_accuracy"] == 1 and numbers["held_out"] >= 2
    assert next(line for line in read_log(folder / "polite" / LOG) if line["kind"] == "validation")["accuracy"] == 0.5
    page = (folder / "polite" / "report.html").read_text()
    assert "the model before" in page and "<svg" in page
    low, high = numbers["social-bias_stereotype_difference_interval"]
    assert low <= numbers["social-bias_stereotype_difference"] <= high and "Paired by item" in said
    assert lmworks.load(folder / "polite").chat_template == lmworks.load(tiny_folder).chat_template
    again = run("align", tiny_folder, "--data", "pairs.jsonl", *settings, "--minutes", 1, "--out", "polite", cwd=folder)
    assert "Report: polite/report.html" in again


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "rows"), {"simpo": "pairs", "orpo": "pairs", "kto": "labels", "reward": "labels"}.items()
)
def test_every_method_makes_a_folder_that_is_loaded(method, rows, folder, tiny_folder):
    more = ("--method", method, *SETTINGS, "--out", method)
    said = run("align", tiny_folder, "--data", f"{rows}.jsonl", *more, cwd=folder)
    assert ("--set reward=reward" if method == "reward" else f"--adapter {method}={method}") in said
    lmworks.load(folder / method)


@pytest.mark.slow
def test_an_online_run_measures_what_is_held_out_before_and_after(folder, tiny_folder):
    rows = [{"prompt": word, "answer": "aye", "verifier": "verbatim"} for word in WORDS]
    (folder / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    pairs = ("--data", "pairs.jsonl", "--method", "reward", *SETTINGS, "--out", "judge")
    run("align", tiny_folder, *pairs, cwd=folder)
    short = ("steps=2", "max_completion_length=8", "length=64", "rewards.length=1")
    asked = ("rewards.reward-model=0.5", 'reward_models=["judge"]')
    more = [part for setting in (*short, *asked) for part in ("--set", setting)]
    run("align", tiny_folder, "--data", "prompts.jsonl", "--method", "grpo", *more, "--out", "online", cwd=folder)
    lines = [json.loads(line) for line in (folder / "online" / "log.jsonl").read_text().splitlines()]
    assert all("reward/reward-model" in line for line in lines if line["kind"] == "step")
    validations = [line for line in lines if line["kind"] == "validation"]
    assert [line["step"] for line in validations] == [0, 2]
    numbers = read_manifest(folder / "online").metrics
    for name in ("reward", "pass@1", "pass@8"):
        assert numbers[f"held_out_{name}"] == validations[-1][name]
    assert numbers["held_out"] == 2 and 0 < numbers["rollout_share"] < 1
    assert [line["step"] for line in lines if line["kind"] == "sample"] == [0, 0, 2, 2]


def test_a_run_that_early_stopping_stops_leaves_its_report_and_weights_and_makes_no_folder(folder, tiny_folder):
    early_stopping = ("--set", "early_stopping.log_ratio_chosen=1", "--set", "early_stopping.patience=2")
    asked = ("align", tiny_folder, "--data", "pairs.jsonl", *SETTINGS, *early_stopping, "--out", "stopped")
    said = refused(*asked, cwd=folder)
    assert "stopped after step 2: log_ratio_chosen is" in said and not (folder / "stopped").exists()
    kept = (folder / re.search(r"Report: (\S+)/report\.html", said)[1]).resolve()
    assert "stopped after step 2: log_ratio_chosen is" in (kept / "report.html").read_text()
    lines = read_log(kept / LOG)
    assert [line["step"] for line in lines if line["kind"] == "step"] == [1, 2]
    assert [line["step"] for line in lines if line["kind"] == "validation"] == [0, 2]
    assert lmworks.load(kept).chat_template == lmworks.load(tiny_folder).chat_template
    assert refused(*asked, cwd=folder).splitlines()[-1] == said.splitlines()[-1]
