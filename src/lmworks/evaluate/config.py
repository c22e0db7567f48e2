"""Config of the stage `evaluate.suite`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, slots=True)
class SuiteConfig:
    """Tasks, data, limits, and how the model is held.

    suite           names of built-in tasks and suites, or paths of TOML files.
    data            folder of the tasks' files.
    limit           rows of each task, in turns from its files; 0: all.
    shots           solved rows before each prompt, instead of what the tasks say.
    seed            of shots that are drawn at random.
    weights         how the model's weights are held, as `Engine` takes it; "float32" for parity with other tools.
    context_length  tokens of a prompt and its generation; 0: what the engine takes by default.
    slots           generations at a time.
    allow_code      run what a model wrote, for the tasks that check it so.
    critique        append the criticism (`critique.py`): calibration, diversity, retrieval, exactness, consistency and
                    bias, on the generations of the suite that have contexts or several references.
    """

    suite: tuple[str, ...]
    data: Path
    limit: int = 0
    shots: int | None = None
    seed: int = 0
    weights: Literal["auto", "float32", "bfloat16", "int8", "int4"] = "auto"
    context_length: int = 0
    slots: int = 16
    allow_code: bool = False
    critique: bool = False
