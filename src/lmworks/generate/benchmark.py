"""Speed of the engine, measured as it is used (prompts in, tokens out, through `Engine.submit` and `step`), and the
limits of the machine.

Every weight format is measured in a process of its own, so that its memory and its start are its own as well. Choosing
tokens and scheduling are part of what is timed; guessing ahead is not used, because what it gains depends on the text.

Generating one token reads every weight once, so reading memory bounds it; a long prompt uses each weight many times, so
multiplying bounds it (the roofline model: Williams et al. 2009, section 3).
"""

import multiprocessing
import os
import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal, TypeVar

import torch

from lmworks.adapt.adapter import load
from lmworks.generate.engine import Engine
from lmworks.generate.protocol import Request, SamplingParameters
from lmworks.generate.runner_choice import WeightFormat
from lmworks.kernels import library
from lmworks.kernels.library import Library
from lmworks.kernels.program import large_pages
from lmworks.kernels.weight_formats import FORMATS
from lmworks.model.config import ModelConfig
from lmworks.model.model_costs import count_parameters, flops_per_token

T = TypeVar("T")

_SHORT_PROMPT = 16  # tokens, of the request whose first token ends the start
_SECONDS = 0.5  # of each measurement of a limit: long enough to meet a moment in which nothing else runs
_LEAST_PASSES = 5
_READ_BYTES = 2**28  # unless the cache is larger still


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
    """The benchmark: a model as `load` takes it, the workloads, how often, on how many threads, on which device."""

    model: str
    workloads: tuple[Workload, ...]
    rounds: int
    threads: int
    device: str = "cpu"


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
    requests = [engine.submit(Request(tuple(prompt), sampling=sampling)) for prompt in prompts]

    def run_until(tokens: int) -> float:
        while any(len(request.ids) < tokens for request in requests):
            engine.step()
            for request in requests:
                if request.error is not None:
                    raise request.error
        return time.perf_counter()

    entered = run_until(1)
    early = sum(len(request.ids) for request in requests)
    ended = run_until(new)
    return Speed(
        prefill=sum(len(prompt) for prompt in prompts) / (entered - began),
        decode=(len(requests) * new - early) / (ended - entered),
    )


# ---------------------------------------------------------------------------------------------------------------------
# The limits of the machine


@dataclass(frozen=True, slots=True)
class Limits:
    """The fastest of several passes.

    bandwidth     bytes of memory read per second.
    operations    per second of products, a multiplication and an addition being two, of the numbers that are multiplied
                  fastest here, nearly everywhere 8-bit integers.
    method        with what, in words.
    """

    bandwidth: float
    operations: float
    method: str

    def higher(self, other: "Limits") -> "Limits":
        """The higher ones of two measurements: what else ran meanwhile can only have lowered them."""
        faster = max(self, other, key=lambda limits: limits.operations)
        return replace(faster, bandwidth=max(self.bandwidth, other.bandwidth))


def measure_limits(kernels: Library | None = None) -> Limits | None:
    """Some seconds of work on the threads that the kernels have; whatever else runs on the machine makes the limits
    look lower than they are. None where no kernels are compiled. `kernels` are a library other than the default."""
    kernels = kernels or library.load()
    if kernels is None:
        return None
    try:
        cache = os.sysconf("SC_LEVEL3_CACHE_SIZE")  # bytes; of glibc
    except (AttributeError, ValueError, OSError):
        cache = 0
    size = max(_READ_BYTES, 4 * cache)  # so that next to nothing is found in the cache again
    numbers = large_pages(size).view(torch.int32).fill_(1)  # pages never written are all one page of zeros
    reading, _ = _fastest(partial(library.read_numbers, numbers, kernels))
    rates = {}
    for format_ in FORMATS:
        seconds, count = _fastest(partial(library.multiply_ones, format_, kernels))
        rates[format_] = 2 * count / seconds
    fastest = max(rates, key=rates.__getitem__)
    method = (
        f"the {kernels.name} kernels on {kernels.threads} thread{'' if kernels.threads == 1 else 's'}: reading "
        f"{size // 2**20:,} MiB, and products with {fastest} weights"
    )
    return Limits(size / reading, rates[fastest], method)


def _fastest(work: Callable[[], T]) -> tuple[float, T]:
    """Seconds of the fastest pass, and what `work` returns. The first pass, which also starts threads and touches
    memory, does not count."""
    result = work()
    seconds: list[float] = []
    while sum(seconds) < _SECONDS or len(seconds) < _LEAST_PASSES:
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return min(seconds), result


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


def in_a_process(threads: int, function: Callable[..., T], *arguments: object) -> T:
    """The function, called on so many threads in a process of its own."""
    fresh = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=fresh, initializer=use_threads, initargs=(threads,)) as process:
        return process.submit(function, *arguments).result()


def measure_format(settings: Settings, weights: WeightFormat, started: float) -> FormatReport:
    """Everything about one weight format, in this process, which began at `started` (`time.monotonic`, which all
    processes of a machine share). Raises what the engine raises for a format or model that it cannot run."""
    imported = _status("VmRSS")
    checkpoint = load(settings.model)
    slots = max(workload.sequences for workload in settings.workloads)
    length = max(workload.length for workload in settings.workloads)
    engine = Engine(checkpoint, slots, length, weights, device=settings.device)
    config = checkpoint.config
    vocabulary = config.embedding.vocabulary
    short = Workload(_SHORT_PROMPT, sequences=1, new=2)
    engine.generate([Request(prompts(short, vocabulary, 0)[0], sampling=SamplingParameters(max_tokens=1))])
    first_token = time.monotonic() - started
    rounds = [
        [run_workload(engine, prompts(workload, vocabulary, round_), workload.new) for workload in settings.workloads]
        for round_ in range(settings.rounds + 1)
    ]
    sizes = engine.batcher.runner.sizes
    return FormatReport(
        weights=weights,
        first_token=first_token,
        sizes=dict(sizes),
        resident=_status("VmRSS") - imported,
        peak=_status("VmHWM") - imported,
        operations=tuple(operations_per_token(config, workload) for workload in settings.workloads),
        read_bytes=read_bytes_per_token(config, sizes["weights"]),
        speeds=tuple(zip(*rounds[1:], strict=True)),  # the first one warms up
    )


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
