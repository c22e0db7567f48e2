"""`lmworks.evaluate`: a model or a system on the tasks of a suite."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lmworks.commands.outcome import WORKSPACES, Outcome, Settings, Source, data_paths, plain_console

RUNS = WORKSPACES / "runs"


def evaluate(
    model: Source,
    suite: Source | Sequence[Source],
    data: Source,
    limit: int = 0,
    shots: int | None = None,
    out: Source | None = None,
    skip_missing: bool = False,
    allow_code: bool = False,
    critique: bool = False,
    settings: Settings = (),
) -> Outcome:
    """Score a model, or a whole system, on a suite; the run keeps every item.

    Rows are checked before weights are loaded. Safe to stop: the same command continues from there. A run holds
    `items.jsonl`, `scores.json` and `report.html`.

    Example: `lmworks eval smollm2-135m-instruct --suite mmlu --data data --limit 570`

    In Python, `settings` are such as `{"weights": "float32"}`.
    ConfigError for a wrong setting, FileNotFoundError for files that are missing, FileExistsError for `out`.
    """
    from lmworks.build import run_alone, stage_sections
    from lmworks.config import assigned
    from lmworks.generate.remote_engine import is_address

    asked, suites, number = os.fspath(model), data_paths(suite), 1
    name = "-".join([Path(asked.rpartition("#")[2]).name, *(Path(path).stem for path in suites)])
    while out is None and (RUNS / f"{name}-{number}").exists():
        number += 1
    table: dict[str, Any] = {"suite": suites, "data": os.fspath(data), "limit": limit, "skip_missing": skip_missing}
    table |= {"shots": shots, "allow_code": allow_code, "critique": critique}
    table |= {"endpoint": asked} if is_address(asked) else {}
    models = [] if is_address(asked) else [f"model={asked}"]
    folder = Path(out or RUNS / f"{name}-{number}")
    made = run_alone("evaluate.suite", folder, [], models, assigned(settings, table), plain_console())
    return Outcome(made.folder, asked, stage_sections(made))
