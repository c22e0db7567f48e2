"""A trace of real requests, made to fit a model and a machine: when each arrives, and how long its texts are."""

import csv
import gzip
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path


@dataclass(frozen=True)
class Arrival:
    """seconds: after the first request; prompt, new: tokens."""

    seconds: float
    prompt: int
    new: int


def read_trace(path: Path, count: int) -> list[Arrival]:
    """The first requests of a trace of Azure's inference service: TIMESTAMP, ContextTokens, GeneratedTokens.

    Patel et al. 2024, "Splitwise: efficient generative LLM inference using phase splitting", section 3.
    """
    stored = path.read_bytes()
    lines = (gzip.decompress(stored) if path.suffix == ".gz" else stored).decode().splitlines()
    rows = list(csv.DictReader(lines[: count + 1]))  # and the head
    times = [datetime.fromisoformat(row["TIMESTAMP"][:26]) for row in rows]  # microseconds: it has a digit more
    return [
        Arrival((time - times[0]).total_seconds(), int(row["ContextTokens"]), int(row["GeneratedTokens"]))
        for time, row in zip(times, rows, strict=True)
    ]


def capped(arrival: Arrival, context: int, most_new: int) -> Arrival:
    """At least one token each: `most_new` cuts the completion, and what it leaves of the context cuts the prompt."""
    if not 0 < most_new < context:
        raise ValueError(f"most_new must lie between 0 and the context of {context} tokens, got {most_new}")
    new = max(1, min(arrival.new, most_new))
    return replace(arrival, prompt=max(1, min(arrival.prompt, context - new)), new=new)


def at_rate(arrivals: Sequence[Arrival], rate: float) -> list[Arrival]:
    """The same pattern of bursts and pauses, stretched so that on average `rate` requests arrive in a second."""
    last = arrivals[-1].seconds
    if len(arrivals) < 2 or last == 0:
        raise ValueError("a rate needs two requests that do not arrive at the same time")
    stretch = (len(arrivals) - 1) / rate / last
    return [replace(arrival, seconds=arrival.seconds * stretch) for arrival in arrivals]


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that at least `percent` of all do not exceed (the nearest rank); ValueError for none."""
    if not values or not 0 < percent <= 100:
        raise ValueError(f"a percentile needs values and lies in (0, 100], got {len(values)} values and {percent}")
    rank = -(-len(values) * percent // 100)
    return sorted(values)[int(rank) - 1]
