"""The verb `align`: a model and rows that say what is preferred to a better policy or a reward model."""

import shlex
from typing import Annotated

import typer

from lmworks.cli.options import BaseArgument, RowsOption, SettingsOption, TunedOption, settings_help
from lmworks.cli.tuned_folder import print_made, ways_to_use
from lmworks.commands import align as commands
from lmworks.commands.align import METHOD, Method
from lmworks.commands.outcome import MINUTES


def align(
    model: BaseArgument,
    data: RowsOption,
    method: Annotated[Method, typer.Option(help="How to learn; the rows that each takes are above.")] = METHOD,
    minutes: Annotated[
        float, typer.Option(help="How long the run may take here, without what is measured before and after it.")
    ] = MINUTES,
    out: TunedOption = None,
    overrides: SettingsOption = None,
) -> None:
    """Align a model with preferences, labels or rewards: DPO, KTO, GRPO and others, in minutes.

    `dpo`, and without a reference `simpo` and `orpo`: pairs, `{"prompt": "...", "chosen": "...", "rejected": "..."}`.
    `kto`: `{"prompt": "...", "completion": "...", "label": true}`, thumbs up or down. `reward`, a model that scores
    completions: either of these, or `rating` in place of `label`, or `completions` and `labels`, a solution in steps
    with a verdict on each. A prompt may be a list of messages. A tenth of the rows is held out to measure
    the result.

    `grpo`, `ppo` and `online_dpo` sample completions and learn from their rewards: `{"prompt": "...", "answer":
    "..."}`, with `--set rewards.final-answer=1` or another metric of `lmworks eval metrics`, weighted; or from rated
    completions, `{"prompt": "...", "completion": "...", "rating": 0.5}`.

    Rows seen, batch, steps and rate follow from the method, the rows and the minutes; each is printed with its reason.
    You can stop it: the same command resumes.

    The folder holds an adapter (PEFT's files; with `--set method.kind=full` a whole model), its tokenizer,
    `report.html` with the curve (where the model samples: reward, passes, divergence and entropy over the steps), what
    was measured before and after, answers before and after, `log.jsonl` with every step, and `manifest.json`.
    `--set 'suites=["safety"]'` asks base and policy a suite of `lmworks eval`: what was forgotten, item by item.

    Example: `lmworks align smollm2-135m-instruct --data pairs.jsonl --method dpo --minutes 10 --out polite`, then
    `lmworks serve --model smollm2-135m-instruct --adapter polite=polite`
    """
    made = commands.align(model, data, method, minutes, out, settings=overrides or [])
    if method != "reward":
        print_made("align", made, *ways_to_use(model, made.folder))
        return
    print_made(
        "align",
        made,
        f"  lmworks eval run MODEL --suite TASK.toml --data FOLDER --set reward={shlex.quote(str(made.folder))}",
        '      score answers by it, in a task with metrics = ["reward-model"]',
        f"  RewardModel(lmworks.load({str(made.folder)!r})).score([(prompt, completion)])",
        "      in Python, of lmworks.generate",
    )


def settings() -> str:
    """The settings that `--set` takes, for the help of the verb."""
    from lmworks.align.config import OfflineConfig

    lead = (
        "What `--set` takes, with the defaults of `--method dpo` (the other methods' are listed by `lmworks stage "
        "align.offline --help` and `lmworks stage align.online --help`), such as `family=chatml` for a model without a "
        "chat template:"
    )
    return settings_help(lead, OfflineConfig, OfflineConfig(rows=("DATA",)))
