"""What a policy's rollouts were worth over its steps, as the report shows it."""

import json

import numpy as np
import pytest

from lmworks.align.rollout_report import rollouts_section


def test_means_over_the_steps_and_drawings_of_reward_passes_divergence_and_entropy(tmp_path):
    generator, names = np.random.default_rng(0), ("reward", "pass@1", "pass@4", "kl", "entropy")
    values = {name: generator.random(23) for name in names}
    lines = [{"kind": "step", "step": n + 1, "loss": 0.0, **{k: v[n] for k, v in values.items()}} for n in range(23)]
    measured = {"reward": 0.5, "reward_interval": [0.25, 0.75]}
    lines = [{"kind": "validation", "step": 0, **measured}, *lines, {"kind": "validation", "step": 23, **measured}]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    section = rollouts_section(tmp_path / "log.jsonl")
    assert not section.alarms
    (table,) = section.tables
    spans = [range(*map(int, head.split("-"))) for head in table.columns[1:-1]]
    assert [n for span in spans for n in (*span, span.stop)] == list(range(1, 24))
    for name, *means, _ in table.rows:
        expected = [values[name][span.start - 1 : span.stop].mean() for span in spans]
        assert means == pytest.approx(expected)
    assert [row[0] for row in table.rows] == list(names)
    drawn = [figure.caption.partition(":")[0] for figure in section.figures]
    assert drawn == ["reward", "pass@1 and pass@4", "kl", "entropy"] and "held-out" in section.figures[0].svg


def test_a_run_whose_completions_were_all_cut_off_is_an_alarm(tmp_path):
    lines = [{"kind": "step", "step": n, "reward": 0.0, "truncated": 1.0} for n in (1, 2)]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    assert rollouts_section(tmp_path / "log.jsonl").alarms
