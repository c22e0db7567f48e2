"""A training run that lasts as long as it may: its steps are counted from a measurement, so that its schedule, too, has
come down when the minutes are over."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from statistics import fmean, median
from typing import Any

from lmworks.data import Batch, Loader, LoaderConfig
from lmworks.model.checkpoint import Checkpoint, assemble
from lmworks.model.config import ModelConfig
from lmworks.model.initialisation import Scheme, initialise
from lmworks.model.transformer import Transformer
from lmworks.records import Scored
from lmworks.tokenizer.tokenizer import Tokenizer
from lmworks.train import CheckpointConfig, Run, TrainConfig, train, validate
from lmworks.train.objectives.objective import Objective
from lmworks.train.run_log import LOG, read_log
from lmworks.train.validation import Validation

TRIAL_STEPS = 12
SPARE = 0.97  # of the time: a machine is never as even as its measurement
WARMUP = 0.02  # of the steps


@dataclass(frozen=True)
class Experiment:
    """What is trained on what; `loader` leaves its steps out, and `held_out` is validated on whole.

    minutes      from the first step to the last validation, with the compilation of the blocks in it
    validations  on the way, the last one at the end
    """

    model: ModelConfig
    scheme: Scheme
    tokenizer: Tokenizer
    objective: Objective
    loader: LoaderConfig
    held_out: Sequence[Batch]
    train: TrainConfig
    minutes: float
    validations: int = 6
    seed: int = 0


@dataclass(frozen=True)
class Outcome:
    """curve    a row for each validation: seconds, step, mean training nats since the row before, validation nats
    seconds  of the run; `trial_seconds` went before it, to measure
    """

    checkpoint: Checkpoint
    curve: list[dict[str, float]]
    steps: int
    tokens: int
    seconds: float
    trial_seconds: float


def run_for(experiment: Experiment, folder: Path, tell: Callable[[str], None] = print) -> Outcome:
    """Measures some steps of the run in `folder`/trial, then takes as many in `folder`/run as the minutes allow."""
    began = time.perf_counter()
    for name in ("compiling", "trial"):  # what the first one compiles is kept for the others
        first, each, validation = _measured(experiment, folder / name)
    trial_seconds = time.perf_counter() - began
    left = SPARE * 60 * experiment.minutes - first - (experiment.validations + 1) * validation
    steps = max(int(left / each), experiment.validations)
    tell(f"first step {first:.1f} s, later ones {each * 1e3:.0f} ms, a validation {validation:.1f} s: {steps:,} steps")
    with Loader(replace(experiment.loader, steps=steps)) as loader:
        every = -(-steps // experiment.validations)
        run = _run(experiment, loader, folder / "run", validate=every, log=max(every // 20, 1))
        curve: list[dict[str, float]] = []
        began = time.perf_counter()

        def validated() -> Validation:
            found = validate(run.model, run.objective, experiment.held_out, experiment.train.micro_batch)
            assert isinstance(found.total, Scored), found.total
            lines = [line for line in read_log(folder / "run" / LOG) if line["kind"] == "step"]
            since = curve[-1]["step"] if curve else 0
            losses = [line["loss"] for line in lines if line["step"] > since]
            row = {"seconds": time.perf_counter() - began, "step": run.position.step}
            curve.append(row | {"training": fmean(losses), "validation": found.total.value})
            tell("  ".join(f"{name} {value:,.3f}".removesuffix(".000") for name, value in curve[-1].items()))
            return found

        run.validate = validated
        position = train(run)
        return Outcome(
            run.finished(), curve, position.step, position.tokens, time.perf_counter() - began, trial_seconds
        )


def _measured(experiment: Experiment, folder: Path) -> tuple[float, float, float]:
    """Seconds of the first step, of each later one, and of a validation."""
    ends: list[float] = []
    with Loader(replace(experiment.loader, steps=TRIAL_STEPS)) as loader:
        run = _run(experiment, loader, folder, validate=None, log=TRIAL_STEPS)
        run.progress = lambda *_, **__: ends.append(time.perf_counter())
        began = time.perf_counter()
        train(run)
        some = experiment.held_out[: max(len(experiment.held_out) // 10, 1)]
        validate(
            run.model, run.objective, some[:1], experiment.train.micro_batch
        )  # compiles, where anything is compiled
        validating = time.perf_counter()
        validate(run.model, run.objective, some, experiment.train.micro_batch)
        validation = (time.perf_counter() - validating) * len(experiment.held_out) / len(some)
    later = [stop - start for start, stop in pairwise(ends[1:])]
    return ends[0] - began, median(later), validation


def _run(experiment: Experiment, loader: Loader, folder: Path, **settings: Any) -> Run:
    model = initialise(Transformer(experiment.model), experiment.seed, scheme=experiment.scheme)
    checkpoint = assemble(experiment.model, model.state_dict(), experiment.tokenizer)
    warmup = min(max(round(WARMUP * loader.steps), 10), loader.steps // 2)
    config = replace(
        experiment.train,
        schedule=replace(experiment.train.schedule, warmup=warmup),
        checkpoint=CheckpointConfig(minutes=None),  # at the end alone
        **settings,
    )
    return Run(checkpoint, experiment.objective, loader, config, folder, seed=experiment.seed)
