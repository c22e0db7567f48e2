"""Speed of the engine, measured as it is used: prompts in, tokens out, through `Engine.submit` and `step`.

Every weight format is measured in a process of its own, so that its memory and its start are its own as well. Choosing
tokens and scheduling are part of what is timed; guessing ahead is not used, because what it gains depends on the text.
"""

import multiprocessing
import os
import random
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from lmworks.adapt.adapted_checkpoint import load
from lmworks.generate.engine import Engine
from lmworks.generate.protocol import Request, SamplingParameters
from lmworks.generate.request_state import RequestState
from lmworks.generate.roofline import Limits, measure_limits
from lmworks.generate.runner_choice import WeightFormat
from lmworks.kernels import library
from lmworks.model.config import ModelConfig
from lmworks.model.model_costs import count_parameters, flops_per_token

_SHORT_PROMPT = 16  # tokens, of the request whose first token ends the start


@dataclass(frozen=True, slots=True)
class Workload:
    """`sequences` prompts of `prompt` tokens enter together, and each is continued by `new` tokens."""

    prompt: int
    sequences: int
    new: int

    def __post_init__(self) -> None:
        if self.prompt < 1 or self.sequences < 1 or self.new < 2:
            raise ValueError(
                f"a workload needs a prompt, a sequence, and 2 new tokens (the first ends the prefill); got {self}"
            )

    @property
    def length(self) -> int:
        """Tokens of one sequence at its end."""
        return self.prompt + self.new


@dataclass(frozen=True, slots=True)
class Speed:
    """Tokens per second, of all sequences together.

    prefill   of the prompts, until every sequence has its first new token.
    decode    new tokens after that.
    """

    prefill: float
    decode: float


@dataclass(frozen=True, slots=True)
class Settings:
    """The benchmark: a model as `load` takes it, the workloads, how often, on how many threads."""

    model: str
    workloads: tuple[Workload, ...]
    rounds: int
    threads: int


@dataclass(frozen=True, slots=True)
class FormatReport:
    """One weight format. `speeds` has for each workload one entry per round.

    first_token   seconds from the start of the process to the first token of a short prompt.
    sizes         bytes by what they are for: weights, cache.
    resident      bytes that the process holds beyond what it held when the engine was imported; `peak`: at most.
    operations    per token of each workload: (prefill, decode).
    read_bytes    of weights, for each token of one sequence.
    """

    weights: WeightFormat
    first_token: float
    sizes: Mapping[str, int]
    resident: int
    peak: int
    operations: tuple[tuple[int, int], ...]
    read_bytes: float
    speeds: tuple[tuple[Speed, ...], ...]


@dataclass(frozen=True, slots=True)
class Spread:
    """Least, median and most of repeated measurements."""

    least: float
    median: float
    most: float


def spread(values: Sequence[float]) -> Spread:
    """ValueError for no values."""
    return Spread(min(values), statistics.median(values), max(values))


# ---------------------------------------------------------------------------------------------------------------------
# One engine


def prompts(workload: Workload, vocabulary: int, round_: int) -> list[tuple[int, ...]]:
    """Token ids, redrawn for each round and sequence: a prompt that was seen before would not be computed again."""
    return [
        tuple(random.Random(f"{round_}, {sequence}, {workload}").choices(range(vocabulary), k=workload.prompt))
        for sequence in range(workload.sequences)
    ]


def run_workload(engine: Engine, prompts: Sequence[Sequence[int]], new: int, speculate: bool = False) -> Speed:
    """Submit all prompts at once and generate `new` tokens for each, greedily. The engine must be idle."""
    sampling = SamplingParameters(max_tokens=new, ignore_eos=True, speculate=speculate)
    began = time.perf_counter()
    lives = [engine.submit(Request(tuple(prompt), sampling=sampling)) for prompt in prompts]
    _step_until(engine, lives, lambda live: bool(live.ids))
    entered, early = time.perf_counter(), sum(len(live.ids) for live in lives)
    _step_until(engine, lives, lambda live: live.done)
    ended = time.perf_counter()
    return Speed(
        prefill=sum(len(prompt) for prompt in prompts) / (entered - began),
        decode=(len(lives) * new - early) / (ended - entered),
    )


def _step_until(engine: Engine, lives: Sequence[RequestState], reached: Callable[[RequestState], bool]) -> None:
    while not all(reached(live) for live in lives):
        engine.step()
        for live in lives:
            if live.error is not None:
                raise live.error


# ---------------------------------------------------------------------------------------------------------------------
# Against the limits


def operations_per_token(config: ModelConfig, workload: Workload) -> tuple[int, int]:
    """Operations of matrix products: for a token of the prompt, at the mean context, and for a new one.

    The head is left out of the first: it is computed for the last token of the prompt only.
    """
    body = flops_per_token(config, workload.prompt // 2) - 2 * config.embedding.vocabulary * config.embedding.width
    return body, flops_per_token(config, workload.prompt + workload.new // 2)


def read_bytes_per_token(config: ModelConfig, weight_bytes: int) -> float:
    """Bytes of weights that one sequence's token multiplies with: neither a table that is only looked up nor idle
    experts. The values of all parts are taken to be equally large."""
    return weight_bytes * flops_per_token(config, 0) / 2 / count_parameters(config)


def share_read(rate: float, read_bytes: float, sequences: int, limits: Limits) -> float:
    """The part of the memory bandwidth that `rate` tokens per second take; sequences share each reading."""
    return rate / sequences * read_bytes / limits.bandwidth


def share_multiplied(rate: float, operations: int, limits: Limits) -> float:
    """The part of the peak of multiplying that `rate` tokens per second take."""
    return rate * operations / limits.operations


# ---------------------------------------------------------------------------------------------------------------------
# Processes


def limits_in_a_process(threads: int) -> Limits:
    """`measure_limits` on so many threads."""
    with _fresh_process() as process:
        return process.submit(_measure_limits, threads).result()


def report_in_a_process(settings: Settings, weights: WeightFormat) -> FormatReport:
    """Everything about one weight format. Raises what the engine raises for a format or model that it cannot run."""
    with _fresh_process() as process:
        return process.submit(measure_format, settings, weights, time.monotonic()).result()


def measure_format(settings: Settings, weights: WeightFormat, started: float) -> FormatReport:
    """In this process, which began at `started` (`time.monotonic`, which all processes of a machine share)."""
    use_threads(settings.threads)
    imported = _status("VmRSS")
    checkpoint = load(settings.model)
    engine = Engine(
        checkpoint,
        slots=max(workload.sequences for workload in settings.workloads),
        context_length=max(workload.length for workload in settings.workloads),
        weights=weights,
    )
    config = checkpoint.config
    vocabulary = config.embedding.vocabulary
    short = Workload(_SHORT_PROMPT, sequences=1, new=2)
    engine.generate([Request(prompts(short, vocabulary, 0)[0], sampling=SamplingParameters(max_tokens=1))])
    first_token = time.monotonic() - started
    rounds = list(_rounds(engine, settings, vocabulary))
    sizes = engine.batcher.runner.sizes
    return FormatReport(
        weights=weights,
        first_token=first_token,
        sizes=dict(sizes),
        resident=_status("VmRSS") - imported,
        peak=_status("VmHWM") - imported,
        operations=tuple(operations_per_token(config, workload) for workload in settings.workloads),
        read_bytes=read_bytes_per_token(config, sizes["weights"]),
        speeds=tuple(zip(*rounds, strict=True)),
    )


def _rounds(engine: Engine, settings: Settings, vocabulary: int) -> Iterator[list[Speed]]:
    """The speeds of all workloads, round by round; one round more runs first, to warm up."""
    for round_ in range(settings.rounds + 1):
        speeds = [
            run_workload(engine, prompts(workload, vocabulary, round_), workload.new) for workload in settings.workloads
        ]
        if round_:
            yield speeds


def use_threads(count: int) -> None:
    """Compute on `count` threads; where the system can, on so many processors only."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:count])
    torch.set_num_threads(count)
    library.set_threads(count)


def _status(field: Literal["VmRSS", "VmHWM"]) -> int:
    """Bytes of this process that are in RAM, or were at most; 0 where the system does not say."""
    path = Path("/proc/self/status")  # of Linux
    lines = path.read_text().splitlines() if path.exists() else []
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:")), 0)


def _fresh_process() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))


def _measure_limits(threads: int) -> Limits:
    use_threads(threads)
    return measure_limits()
