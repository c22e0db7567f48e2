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
    """Align a model with what rows prefer, as the command `lmworks align` does; the same call resumes after an
    interruption.

    `data` are rows of the method, such as `{"prompt": "...", "chosen": "...", "rejected": "..."}`, or paths of files
    with them; the rest is as `lmworks.finetune` takes it. Of the method "reward", the `model` of what is returned
    scores completions.

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
