"""`lmworks.align`: a model and rows that say what is preferred to a better policy or a reward model."""

import os
from pathlib import Path
from typing import Literal

from lmworks.commands.outcome import MINUTES, Data, Outcome, Settings, Source, data_paths, make_folder

Method = Literal["dpo", "simpo", "orpo", "kto", "reward", "grpo", "ppo", "online_dpo"]
METHOD: Method = "dpo"


def align(
    model: Source,
    data: Data,
    method: Method = METHOD,
    minutes: float = MINUTES,
    out: Source | None = None,
    settings: Settings = (),
) -> Outcome:
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

    In Python, `data` may be the rows themselves, and the rest is as `lmworks.finetune` takes it. Of the method
    "reward", the `model` of what is returned scores completions.
    ConfigError for a wrong setting, ValueError for wrong rows, FileExistsError where `out` is of something else.
    """
    from lmworks.config import assigned
    from lmworks.recipe import Recipe, check_stage

    base, files = os.fspath(model), data_paths(data)
    table = {"base": base, "rows": files, "algorithm": {"kind": method}, "minutes": minutes}
    use = "align.online" if method in ("grpo", "ppo", "online_dpo") else "align.offline"
    stage = check_stage("aligned", use, assigned(settings, table), inputs=[], roles={})
    description = f"{base}, aligned by {method} on {', '.join(files)}"
    recipe = Recipe(name="align", description=description, stages=(stage,), base=Path.cwd())
    return make_folder(recipe, Path(out or f"{Path(files[0]).stem}-{method}"))
