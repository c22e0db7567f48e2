"""Planted flaws are found where they stand, a file without any has no finding, and length is measured right."""

import json
from pathlib import Path

import numpy as np
import pytest

from command_line import lmworks
from kit.tables import for_each
from lmworks.align.row_lint import ADVICE, LONGER, held_out_items, length_scores, lint_rows
from lmworks.data.training_rows import read_preference_rows
from lmworks.records import Preference, Scored
from slow_cases import slow

SOUND = [
    {"prompt": f"Why {n}?", "chosen": f"{n} b c", "rejected": f"{n} y z", "annotator": "ann"} for n in range(20)
]  # of one length
LABELS = [{"prompt": f"Why {n}?", "completion": f"{n} b", "label": n % 2 == 0, "annotator": "a"} for n in range(20)]


def written(path: Path, rows) -> Path:
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows), "utf-8")
    return path


def found(tmp_path: Path, rows, held_out=()) -> dict[str, tuple[str, ...]]:
    findings = lint_rows(written(tmp_path / "rows.jsonl", rows), held_out).findings
    assert {one.kind for one in findings} <= ADVICE.keys()
    return {one.kind: one.items for one in findings}


@for_each("rows", [SOUND, LABELS])
def test_sound_rows_have_no_finding(tmp_path, rows):
    assert found(tmp_path, rows) == {}


PLANTED = [
    ("no row", {"prompt": "Why?", "chosen": 1, "rejected": "x"}, ("line 21",)),
    ("no row", "{", ("line 21",)),
    ("several kinds", LABELS[0], ()),
    ("equal answers", {**SOUND[0], "rejected": "0 b c"}, ("line 21",)),
    ("nearly equal answers", {**SOUND[0], "rejected": " 0 B\nc"}, ("line 21",)),
    ("empty answer", {**SOUND[0], "rejected": ""}, ("line 21",)),
    ("duplicate", {**SOUND[3], "chosen": "3  B c"}, ("line 4", "line 21")),
    ("conflict", {**SOUND[3], "chosen": "3 y z", "rejected": "3 b c", "annotator": "ben"}, ("line 4", "line 21")),
    ("no provenance", {"prompt": "Who?", "chosen": "x", "rejected": "y"}, ("line 21",)),
]


@for_each(("kind", "row", "where"), PLANTED)
def test_a_planted_flaw_is_found_where_it_stands_and_training_refuses_what_is_said_to(tmp_path, kind, row, where):
    rows = [*SOUND, row]
    assert found(tmp_path, rows) == {kind: where}
    path = tmp_path / "rows.jsonl"
    try:
        read_preference_rows([path], [Preference])
    except ValueError:
        assert lint_rows(path).refused
    else:
        assert not lint_rows(path).refused


def test_another_annotators_same_verdict_is_no_duplicate(tmp_path):
    assert found(tmp_path, [*SOUND, {**SOUND[3], "annotator": "ben"}]) == {}


def test_labels_of_one_class_and_both_labels_of_one_completion(tmp_path):
    assert "one class" in found(tmp_path, [row for row in LABELS if row["label"]])
    assert found(tmp_path, [*LABELS, {**LABELS[3], "label": True}]) == {"conflict": ("line 4", "line 21")}


def test_held_out_prompts_among_the_rows_are_found_short_and_long(tmp_path):
    long = "how many of the seventeen boxes that came by ship on monday were still wet when they were opened"
    wet = {"prompt": f"Please say {long}, I ask you.", "chosen": "x", "rejected": "y", "annotator": "a"}
    test = written(tmp_path / "test.jsonl", [{"prompt": "why  4?"}, {"prompt": f"{long}?"}, {"prompt": "Who else?"}])
    findings = lint_rows(written(tmp_path / "rows.jsonl", [*SOUND, wet]), held_out_items(test)).findings
    assert [(one.kind, one.items) for one in findings] == [("leaked", ("line 5",)), ("leaked", ("line 21",))]


@pytest.mark.parametrize("share", [0.7, *slow(0.2, 0.5)])
def test_the_share_of_longer_answers_lies_in_its_interval_for_a_share_that_is_known(share):
    inside = 0
    for seed in range(40):
        draw = np.random.default_rng(seed)
        pairs = [(("x " * int(a), "x")[:: 1 if longer else -1]) for a, longer in
                 zip(draw.integers(2, 9, 200), draw.random(200) < share, strict=True)]  # fmt: skip
        scores = length_scores([Preference(str(n), chosen, rejected) for n, (chosen, rejected) in enumerate(pairs)])
        score = scores[LONGER]
        assert isinstance(score, Scored)
        inside += score.interval[0] <= share <= score.interval[1]
    assert inside >= 34  # of 40, at 95 %


def test_labels_that_go_by_length_are_told_from_labels_that_do_not(tmp_path):
    draw = np.random.default_rng(0)
    words = draw.integers(1, 60, 200)
    rows = [{"prompt": str(n), "completion": "x " * int(w), "annotator": "a"} for n, w in enumerate(words)]
    of_length = [{**row, "label": bool(w <= 20)} for row, w in zip(rows, words, strict=True)]
    at_random = [{**row, "label": bool(draw.random() < 0.5)} for row in rows]
    assert "length bias" in found(tmp_path, of_length) and found(tmp_path, at_random) == {}


def test_rows_that_are_wrong_alike_are_one_finding(tmp_path):
    rows = [{"prompt": row["prompt"], "choosen": "a", "rejected": "b"} for row in SOUND]
    (finding,) = lint_rows(written(tmp_path / "rows.jsonl", rows)).findings
    assert finding.items == tuple(f"line {n}" for n in range(1, 21))


def test_longer_words_are_a_length_that_is_found_too(tmp_path):
    assert "length bias" in found(tmp_path, [{**row, "rejected": f"{row['rejected']}{'z' * 9}"} for row in SOUND])


def test_the_verb_fails_on_what_training_refuses_alone(tmp_path):
    biased = [{**row, "chosen": f"{row['chosen']} and more"} for row in SOUND]
    allowed = lmworks("rows", "lint", str(written(tmp_path / "a.jsonl", biased)), "--out", str(tmp_path / "a.html"))
    assert allowed.returncode == 0 and "length bias" in allowed.stdout and (tmp_path / "a.html").exists()
    refused = lmworks("rows", "lint", str(written(tmp_path / "b.jsonl", [{**SOUND[0], "rejected": "0 b c"}])))
    assert refused.returncode == 1 and "equal answers" in refused.stdout
