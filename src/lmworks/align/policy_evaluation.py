"""Measurements before and after a policy's run: the loss of held-out rows, and suites, which show what it forgot."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from lmworks.align.config import AlignConfig
from lmworks.align.kto import KTO, with_baseline
from lmworks.artefact import StageContext
from lmworks.data.token_groups import TokenGroups
from lmworks.evaluate import suite
from lmworks.evaluate.comparison import compare_runs
from lmworks.evaluate.config import SuiteConfig
from lmworks.evaluate.results import SCORES, read_scores
from lmworks.records import Scored
from lmworks.report import Section, Table
from lmworks.statistics import sign
from lmworks.train.objectives.objective import Objective
from lmworks.train.run import Run
from lmworks.train.validation import Validation, validate

_AT_A_TIME = 16  # rows


def validation_on(run: Run, objective: Objective[Any], groups: TokenGroups) -> Callable[[], Validation]:
    """A function that measures the objective's losses of these rows under the run's model."""
    batches = groups.batches(_AT_A_TIME)
    signature = sign({"model": run.checkpoint.config, "data": groups.digest, "precision": run.config.precision})

    def validation() -> Validation:
        shown = with_baseline(run.model, batches) if isinstance(objective, KTO) else batches
        return validate(run.model, objective, shown, 1, None, run.device, signature)

    return validation


def suite_config(config: AlignConfig) -> SuiteConfig:
    return SuiteConfig(config.suites, config.suite_data, config.suite_limit, seed=config.seed)


def run_suites(config: AlignConfig, context: StageContext, model: Path, when: str) -> Path:
    """A folder with what a model answered to the config's suites, kept in the work folder; errors as of
    `suite.evaluate`."""
    folder = context.work / f"suites-{when}"
    if not (folder / SCORES).exists():
        folder.mkdir(parents=True, exist_ok=True)
        inner = replace(context, inputs={}, output=folder, work=folder, models={"model": str(model)})
        suite.evaluate(suite_config(config), inner)
    return folder


def suite_section(config: AlignConfig, context: StageContext, base: Path) -> tuple[Section, dict[str, Any]]:
    """The suites' scores of the base and of the policy, which the output holds, and their differences item by item;
    these for the manifest."""
    before, after = run_suites(config, context, base, "before"), run_suites(config, context, context.output, "after")
    (old, new), rows, numbers = map(read_scores, (before, after)), [], dict[str, Any]()
    for one in compare_runs(after, before):
        scores = (str(scores[one.task][one.metric].score) for scores in (old, new))
        rows.append((one.task, one.metric, *scores, str(one.difference), one.verdict))
        if isinstance(one.difference, Scored):
            name = f"{one.task}_{one.metric}_difference"
            numbers |= {name: one.difference.value, f"{name}_interval": list(one.difference.interval)}
    table = Table(("task", "metric", "before", "after", "difference", "policy"), tuple(rows), "With 95 % intervals")
    return Section("Suites", "Paired by item; verdicts after Holm's correction.", (table,)), numbers
