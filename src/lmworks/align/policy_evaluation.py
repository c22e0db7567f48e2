"""Measurements before and after a policy's run: what is said to held-out prompts, and suites, which show what it
forgot."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from lmworks.align.completions import SampledCompletions
from lmworks.align.config import AlignConfig
from lmworks.align.rollout_loader import RolloutLoader
from lmworks.artefact import StageContext
from lmworks.config import to_mapping
from lmworks.evaluate.suite_comparison import run_suites, suites_section
from lmworks.records import Score, Unscored
from lmworks.report import Section
from lmworks.statistics import mean_score
from lmworks.train.run import Run
from lmworks.train.validation import Validation

COMPLETIONS = 8  # of each held-out prompt
_AGAIN = -1  # of draws: none of training's


def validation_of_rollouts(run: Run, completions: SampledCompletions) -> Callable[[], Validation]:
    """A function that measures what the policy of the run's loader says to these prompts, all at once and with the same
    seeds each time: its `reward`, `pass@1` and `pass@8`, with intervals over prompts."""
    algorithm = replace(completions.config.algorithm, group_size=COMPLETIONS)
    completions = replace(completions, config=replace(completions.config, algorithm=algorithm))
    rank, world_size = run.ranks.rows
    count = len(completions.prompts)
    indices = np.arange(count * rank // world_size, count * (rank + 1) // world_size)
    loader = cast(RolloutLoader, run.loader)
    signature = {"prompts": [prompt.ids for prompt in completions.prompts], "config": to_mapping(completions.config)}

    def validation() -> Validation:
        assert loader.policy is not None
        adapter = loader.policy.refresh(run.position.step)
        draw = completions.draw(indices.tolist(), 0, _AGAIN, loader.policy, adapter)
        right = np.where(np.isfinite(draw.right), draw.right >= 1, np.nan)
        measured = {"reward": draw.rewards, "pass@1": right, f"pass@{COMPLETIONS}": np.fmax.reduce(right, -1)[:, None]}
        scores: dict[str, Score] = {}
        for name, values in measured.items():
            sums = np.zeros((2, count))  # of each prompt, of those of other processes, too
            sums[:, indices] = np.nansum(values, -1), np.isfinite(values).sum(-1)
            total, known = np.reshape(run.ranks.total(sums.ravel().tolist()), (2, count))
            means = (total[known > 0] / known[known > 0]).tolist()
            scores[name] = mean_score(means, {"metric": name, "of": signature}, nothing="no completion has any")
        none = Unscored("completions of the policy's own have rewards, and no loss")
        return Validation({}, {}, none, none, scores)

    return validation


def suite_section(config: AlignConfig, context: StageContext, base: Path) -> tuple[Section, dict[str, Any]]:
    """The suites' scores of the base and of the policy, which the output holds, and their differences item by item;
    these for the manifest."""
    runs = [run_suites(config, context, model, when) for model, when in ((base, "before"), (context.output, "after"))]
    section, differences = suites_section(runs[0], {"policy": runs[1]})
    numbers: dict[str, Any] = {}
    for (_, task, metric), difference in differences.items():
        name = f"{task}_{metric}_difference"
        numbers |= {name: difference.value, f"{name}_interval": list(difference.interval)}
    return section, numbers
