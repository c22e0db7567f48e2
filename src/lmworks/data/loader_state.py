"""Where a loader stands, as it is saved: the next step, and what the stream that it belongs to is made of."""

from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

from lmworks.data.config import PackingMode
from lmworks.data.mixing import LARGEST


@dataclass(frozen=True, slots=True)
class SourceState:
    """A source in a stream; `tokens` is `TokenDataset.fingerprint`."""

    name: str
    tokens: str
    weight: float | None
    max_epochs: float | None


@dataclass(frozen=True, slots=True)
class Stream:
    """What decides which batches there are and in which order, but for the number of steps.

    World size, rank, threads and folders are no part of it.
    """

    length: int
    batch: int
    mode: PackingMode
    document_mask: bool
    temperature: float
    seed: int
    sources: tuple[SourceState, ...]


@dataclass(frozen=True, slots=True)
class LoaderState:
    """`step` is the next to be given out; `horizons` are those of `DrawPlan`. ValueError for what cannot be."""

    step: int
    horizons: tuple[int, ...]
    stream: Stream

    def __post_init__(self) -> None:
        if self.step < 0:
            raise ValueError(f"step must not be negative, got {self.step}")
        if not self.horizons or not all(0 <= a < b <= LARGEST for a, b in pairwise((0, *self.horizons))):
            raise ValueError(f"horizons must ascend from 1 to at most {LARGEST}, got {list(self.horizons)}")


def differences(was: Stream, now: Stream) -> list[str]:
    """What differs between two streams, in words; empty where they are one."""
    before, after = _flat(was), _flat(now)
    found = [
        f"{name} was {_short(before.get(name))}, is {_short(after.get(name))}"
        for name in dict.fromkeys([*before, *after])
        if before.get(name) != after.get(name) or (name in before) != (name in after)
    ]
    if not found and was != now:
        found = ["the sources stand in another order"]
    return found


def _flat(stream: Stream) -> dict[str, Any]:
    values = asdict(stream)
    sources = values.pop("sources")
    for source in sources:
        name = source.pop("name")
        values |= {f"sources.{name}": source.pop("tokens")}
        values |= {f"sources.{name}, {setting}": value for setting, value in source.items()}
    return values


def _short(value: Any) -> str:
    text = str(value)
    return f"{text[:12]}…" if len(text) > 40 else text
