"""`lmworks judge`: an artefact that a gate reads, verdicts as JSON lines, and refusals before a model is loaded."""

import json
from unittest import mock

import pytest

from command_line import lmworks, refused, run
from kit.tables import for_each
from lmworks.artefact import read_json, read_manifest, verify
from lmworks.evaluate.judge import JUDGE, calibrated, rubric
from lmworks.model.checkpoint import load

ROWS = [{"response": f"Reply {i}!", "label": i % 2 == 0, "prompt": f"q{i}"} for i in range(12)]
ROWS[0]["id"] = "first"


def test_a_calibration_is_an_artefact_that_names_its_model_and_rubric(tiny_folder, tmp_path):
    rows, by = tmp_path / "rows.jsonl", tmp_path / "polite.toml"
    rows.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    by.write_text('name = "polite"\nprompt = "{response}?"\nverdicts = { yes = 1, no = 0 }\n')
    out, model = tmp_path / "judge", load(tiny_folder).fingerprint
    shown = run("judge", "calibrate", rows, "--rubric", by, "--model", tiny_folder, "--out", out)
    assert "Cohen's kappa" in shown and "12 clusters" in shown and tiny_folder.name in shown and model[:12] in shown
    assert (out / "report.html").is_file()
    verify(out, read_manifest(out))
    found = read_json(out / JUDGE)
    assert (found["model"], found["rubric"], found["n"]) == (model, rubric(by).hash, 12)
    with pytest.raises(ValueError, match="no better"):  # random weights
        calibrated(out, rubric(by), load(tiny_folder))
    scored = lmworks("judge", "score", rows, "--rubric", by, "--model", tiny_folder)
    lines = [json.loads(line) for line in scored.stdout.splitlines()]
    assert [line["id"] for line in lines] == ["first", *range(2, 13)] and "calibrate" in scored.stderr
    for line in lines:
        assert line["probabilities"].keys() == {"yes", "no"} and "consistent" not in line
        assert line["probabilities"][line["verdict"]] == line["confidence"] == max(line["probabilities"].values())
    trusted = ["--rubric", by, "--model", tiny_folder, "--calibration", out]
    assert "no better" in refused("judge", "score", rows, *trusted)


@for_each("verb", ["calibrate", "score"])
def test_rows_and_rubrics_are_refused_before_a_model_is_loaded(tiny_folder, tmp_path, verb):
    rows, rest = tmp_path / "rows.jsonl", ["--model", tiny_folder]
    rest += ["--out", tmp_path / "judge"] if verb == "calibrate" else []
    rows.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    with mock.patch("lmworks.model.checkpoint.load", side_effect=AssertionError("loaded")):
        assert "row 1 has no text context" in refused("judge", verb, rows, "--rubric", "faithfulness", *rest)
        assert "truthfulness" in refused("judge", verb, rows, "--rubric", "truthfullness", *rest)
