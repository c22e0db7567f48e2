"""Settings that do not go together: one error before any work, which names what to change."""

import json

import pytest

from kit.tables import for_each
from lmworks.align.config import OfflineConfig
from lmworks.align.online_config import OnlineConfig
from lmworks.align.stage_online import check, micro_batch_of
from lmworks.config import from_mapping

TWO = {"parallel": {"data": 2}}
FULL = {"method": {"kind": "full"}}
REMOTE = {"remote": {"url": "http://localhost:1", "model": "m"}}
SENT = {"remote": {**REMOTE["remote"], "adapters": "shared"}}
CAPPED = {"algorithm": {"importance_cap": 2.0}}
PAIRS = {"algorithm": {"kind": "online_dpo"}}
BOTH, ONLINE = (OfflineConfig, OnlineConfig), (OnlineConfig,)


@for_each(
    ("kinds", "settings", "remedy"),
    [
        (BOTH, {"train": TWO}, "method.kind=full"),
        (BOTH, {**FULL, "train": {"parallel": {"data": 2, "zero": 2}}}, "zero 0 or 1"),
        (BOTH, {**FULL, "train": {"parallel": {"tensor": 2}}}, "data alone"),
        (BOTH, {**FULL, "train": TWO, "minutes": 1}, "set steps"),
        ((OfflineConfig,), {**FULL, "train": TWO, "batch": 1}, "raise batch"),
        ((OfflineConfig,), {"algorithm": {"kind": "simpo"}, "early_stopping": {"action": "lower"}}, "leave them out"),
        (ONLINE, {"train": {"precision": "float16"}}, "bfloat16 or float32"),
        (ONLINE, {**FULL, "train": TWO, "prompts": 1}, "raise prompts"),
        (ONLINE, {**FULL, "train": TWO, **PAIRS}, "one process"),
        (ONLINE, {"replay": ["x"], **PAIRS}, "no replay"),
        (ONLINE, {**REMOTE, **PAIRS}, "its own engine"),
        (ONLINE, REMOTE, "importance_cap=2"),
        (ONLINE, {**REMOTE, **CAPPED, "temperature": 0.5}, "temperature"),
        (ONLINE, {**SENT, **CAPPED, **FULL}, "method.kind=lora"),
        (ONLINE, {"algorithm": {"num_generations": 4}}, 'did you mean "group_size"'),
        (ONLINE, {"num_generations": 4}, 'did you mean "algorithm.group_size"'),
        ((OfflineConfig,), {"algorithm": {"kind": "simpo", "loss": "ipo"}}, 'did you mean "kind=dpo"'),
        (ONLINE, {**FULL, "train": TWO, "replay": ["x"], "replay_rows": 1}, "replay_rows"),
        (ONLINE, {"algorithm": {"name": "rloo", "num_iterations": 2}}, "algorithm.num_iterations=1"),
    ],
)
def test_what_does_not_go_together_is_refused_by_the_config(kinds, settings, remedy):
    for kind in kinds:
        with pytest.raises(ValueError, match=remedy):
            from_mapping(kind, {"rows": ["x"], **settings})


@for_each(
    ("row", "settings", "remedy"),
    [
        ({"completion": "a", "rating": 1}, {**REMOTE, **CAPPED}, "leave out environment, remote"),
        ({"completion": "a", "rating": 1}, PAIRS, "grpo and ppo"),
        ({"answer": "a"}, {"environment": "calculator", **REMOTE, **CAPPED}, "no remote"),
        ({"answer": "a"}, {"environment": "calculator", "temperature": 0.5}, "temperature 1"),
    ],
)
def test_what_does_not_go_with_the_rows_or_the_environment_is_refused_before_a_model_is_read(
    row, settings, remedy, tmp_path
):
    (tmp_path / "rows.jsonl").write_text(json.dumps({"prompt": "p", **row}))
    with pytest.raises(ValueError, match=remedy):
        check(from_mapping(OnlineConfig, {"rows": ["rows.jsonl"], **settings}), tmp_path)


def test_a_completion_has_half_of_a_short_length():
    found = [from_mapping(OnlineConfig, {"rows": ["x"], **given}) for given in ({}, {"length": 64})]
    assert [each.max_completion_length for each in found] == [256, 32]


def test_a_forward_has_no_more_rollouts_than_are_faster_and_whole_groups_of_them():
    """Of 2,048 tokens on a processor."""

    def found(length, **settings):
        return micro_batch_of(from_mapping(OnlineConfig, {"rows": ["x"], **settings}), [length] * 9)

    assert [found(length) for length in (64, 100, 320, 9999)] == [32, 16, 6, 1]
    assert found(64, **PAIRS) == 16 and found(64, train={"micro_batch": 5}) == 5
