"""Measurements before and after a policy's run: the loss of held-out rows, and suites, which show what it forgot."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from lmworks.align.config import AlignConfig
from lmworks.align.kto import KTO, with_baseline
from lmworks.artefact import StageContext
from lmworks.data.token_groups import TokenGroups
from lmworks.evaluate.config import SuiteConfig
from lmworks.evaluate.suite_comparison import run_suites, suites_section
from lmworks.report import Section
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


def suite_section(config: AlignConfig, context: StageContext, base: Path) -> tuple[Section, dict[str, Any]]:
    """The suites' scores of the base and of the policy, which the output holds, and their differences item by item;
    these for the manifest."""
    runs = [
        run_suites(suite_config(config), context, model, when)
        for model, when in ((base, "before"), (context.output, "after"))
    ]
    section, differences = suites_section(runs[0], {"policy": runs[1]})
    numbers: dict[str, Any] = {}
    for (_, task, metric), difference in differences.items():
        name = f"{task}_{metric}_difference"
        numbers |= {name: difference.value, f"{name}_interval": list(difference.interval)}
    return section, numbers
