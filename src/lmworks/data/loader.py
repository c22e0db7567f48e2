"""Batches in an order that is arithmetic: what a step shows depends on the settings and the step's number alone.

    step → source and index in it (`mixture.py`) → epoch and place → sequence (`shuffle.py`)
         → segments of documents (`packing.py`) → tokens (`token_dataset.py`)

Each arrow can be taken for any step without taking it for those before. So a run that goes on at step s needs to be
told nothing but s and how long it was planned to be, and it does not matter how many processes or threads there are:
rank r of W makes the rows from r·batch // W to (r + 1)·batch // W of the one global batch.
"""

import os
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from lmworks.config import from_mapping, to_mapping
from lmworks.data.batches import Batch, make_batch
from lmworks.data.best_fit_packing import plan_sequences
from lmworks.data.config import LARGEST, LoaderConfig, PackingMode
from lmworks.data.mixture import DrawPlan
from lmworks.data.shuffle import Permutation
from lmworks.data.token_dataset import TokenDataset
from lmworks.report import Section, Table


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


class Loader:
    """Iterates over the batches of a run, from `state` on, as rank `rank` of `world_size`.

        with Loader(config) as loader:
            for batch in loader:
                ...
                state = loader.state()

    `config.workers` threads make batches ahead. A batch of rank r holds the rows of its part of the global batch, which
    differ by one where the world size does not divide it; divide the loss by the count over all ranks. The last step
    of a run without `steps` may be smaller.

    names, datasets, plans  of the sources, in the order of the config
    draws                   the quotas, and the order in which sources are drawn
    steps                   of the run
    step                    the next to be given out
    stall_seconds           how long `next` waited for a batch, in all
    seconds                 since the first `next`; `stall_share` is the part of it that was waiting

    `state` is what `state()` gave, in whatever world: the run goes on with the next step. It may ask for more steps
    than before, which come after those that were planned, or for fewer; all else that shapes the stream must be as it
    was. Forked or sent to another process, the loader goes on there from where it stands here.

    ValueError for a source without a token, sources of different vocabularies, caps that allow fewer sequences than the
    run asks for, a rank outside the world, a step with fewer sequences than ranks, a state that is damaged or of
    another stream (naming what is wrong); FileNotFoundError and ShardError as `TokenDataset`.
    """

    metrics: Mapping[str, float] = MappingProxyType({})
    brakes = None

    def __init__(
        self,
        config: LoaderConfig,
        rank: int = 0,
        world_size: int = 1,
        state: Mapping[str, Any] | None = None,
        base: Path = Path(),
    ) -> None:
        if not (isinstance(rank, int) and isinstance(world_size, int) and 0 <= rank < world_size):
            raise ValueError(f"rank {rank!r} is outside a world of {world_size!r}")
        self.config, self.rank, self.world_size, self.base = config, rank, world_size, base
        self.names = list(config.sources)
        self.datasets = [TokenDataset(base / source.folder) for source in config.sources.values()]
        _can_be_mixed(self.names, self.datasets)
        self.plans = [plan_sequences(d.lengths, config.length, config.mode, config.seed) for d in self.datasets]
        self.step = 0
        self.stall_seconds = 0.0
        self._first: float | None = None
        self._ahead: deque[Future[Batch]] = deque()
        self._threads: ThreadPoolExecutor | None = None
        self._process = os.getpid()
        self._closed = False
        if state is None:
            self.draws = self._planned()
        else:
            self.restore(state)

    @property
    def steps(self) -> int:
        return self.draws.steps

    # -----------------------------------------------------------------------------------------------------------------
    # Batches

    def batch(self, step: int) -> Batch:
        """This rank's rows of any step: the same whenever and by whichever thread it is asked for.

        IndexError for a step outside the run.
        """
        rows = self.draws.rows(step)
        lower, upper = (rows * rank // self.world_size for rank in (self.rank, self.rank + 1))
        sources, index = self.draws.draw(step, lower, upper)
        epochs, places = np.divmod(index, np.array([plan.sequences for plan in self.plans])[sources])
        sequences = np.empty_like(places)
        for source, epoch in set(zip(sources.tolist(), epochs.tolist(), strict=True)):
            here = (sources == source) & (epochs == epoch)
            key = f"{self.config.seed} {epoch} {self.names[source]}"
            sequences[here] = Permutation(self.plans[source].sequences, key)(places[here])
        return make_batch(self.datasets, self.plans, sources, sequences, self.config.document_mask)

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        if self._closed:
            raise ValueError("the loader is closed and gives no more batches; make another from its state()")
        started = time.perf_counter()
        if self._first is None:
            self._first = started
        if self._threads is None or self._process != os.getpid():  # a fork copies no threads: what they owe never comes
            self._ahead.clear()
            self._process = os.getpid()
            self._threads = ThreadPoolExecutor(self.config.workers, thread_name_prefix="loader")
        while len(self._ahead) < self.config.ahead and self.step + len(self._ahead) < self.steps:
            self._ahead.append(self._threads.submit(self.batch, self.step + len(self._ahead)))
        if not self._ahead:
            raise StopIteration
        try:
            batch = self._ahead[0].result()
        except BaseException:
            self._drop_ahead()  # whoever goes on gets this step again, not the next one
            raise
        self._ahead.popleft()
        self.step += 1
        self.stall_seconds += time.perf_counter() - started
        return batch

    @property
    def seconds(self) -> float:
        return 0.0 if self._first is None else time.perf_counter() - self._first

    @property
    def stall_share(self) -> float:
        return self.stall_seconds / max(self.seconds, 1e-9)

    def seek(self, step: int) -> None:
        """Give out step `step` next, whatever came before; IndexError for one outside the run."""
        if not 0 <= step <= self.steps:
            raise IndexError(f"step {step} of a run of {self.steps}")
        self._drop_ahead()
        self.step = step

    def close(self) -> None:
        """End the threads; batches made ahead are dropped."""
        self._closed = True
        if self._threads is not None and self._process == os.getpid():
            self._threads.shutdown(wait=True, cancel_futures=True)
        self._drop_ahead()

    def _drop_ahead(self) -> None:
        for future in self._ahead:
            future.cancel()
        self._ahead.clear()

    def __enter__(self) -> "Loader":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    # -----------------------------------------------------------------------------------------------------------------
    # State

    def state(self) -> dict[str, Any]:
        """Where the run stands, as JSON: `LoaderState`."""
        return to_mapping(LoaderState(self.step, self.draws.horizons, self._stream()))

    def restore(self, state: Mapping[str, Any]) -> int:
        """Go on where a state was saved, as with `state` at the beginning; returns the next step. ValueErrors as there,
        which leave the loader where it was."""
        saved = from_mapping(LoaderState, state, ["state"])
        if found := _differences(saved.stream, self._stream()):
            raise ValueError(f"the saved position is one in another stream of batches: {'; '.join(found)}")
        draws = self._planned(saved.horizons)
        if saved.step > draws.steps:
            raise ValueError(f"the saved position is step {saved.step} of a run of {draws.steps}")
        self.draws = draws
        self.seek(saved.step)
        return saved.step

    def __reduce__(self) -> tuple[Any, ...]:
        """To another process goes what makes the same loader there, at the same step."""
        return Loader, (self.config, self.rank, self.world_size, self.state(), self.base)

    def _stream(self) -> Stream:
        sources = tuple(
            SourceState(name, dataset.fingerprint, source.weight, source.max_epochs)
            for (name, source), dataset in zip(self.config.sources.items(), self.datasets, strict=True)
        )
        settings = {name: getattr(self.config, name) for name in Stream.__slots__ if name != "sources"}
        return Stream(**settings, sources=sources)

    def _planned(self, horizons: Sequence[int] = ()) -> DrawPlan:
        draws = DrawPlan(self.config, [plan.sequences for plan in self.plans], horizons)
        if self.config.batch < self.world_size:
            raise ValueError(f"a batch of {self.config.batch} sequences leaves ranks of {self.world_size} without any")
        for step in draws.small_steps:
            if draws.rows(step) < self.world_size:
                raise ValueError(
                    f"step {step} holds the last {draws.rows(step)} sequences, and so leaves ranks of "
                    f"{self.world_size} without any: set steps to at most {step}, or use fewer ranks"
                )
        return draws


def _differences(was: Stream, now: Stream) -> list[str]:
    """What differs between two streams, in words; empty where they are one."""
    before, after = _flat(was), _flat(now)
    names = dict.fromkeys([*before, *after])
    found = [
        f"{name} was {before.get(name)}, is {after.get(name)}"
        for name in names
        if before.get(name, ...) != after.get(name, ...)
    ]
    return found or ["the sources stand in another order"] * (was != now)


def _flat(stream: Stream) -> dict[str, Any]:
    values = {name: value for name, value in asdict(stream).items() if name != "sources"}
    for source in stream.sources:
        values[f"sources.{source.name}"] = f"{source.tokens[:12]}…"
        values[f"sources.{source.name}, weight"] = source.weight
        values[f"sources.{source.name}, max_epochs"] = source.max_epochs
    return values


def _can_be_mixed(names: list[str], datasets: list[TokenDataset]) -> None:
    for name, dataset in zip(names, datasets, strict=True):
        if not dataset.tokens:
            raise ValueError(
                f"the {dataset.documents:,} documents of {name} ({dataset.folder}) are all empty: leave the source out"
            )
        if dataset.index.vocabulary != datasets[0].index.vocabulary:
            raise ValueError(
                f"the ids of {name} ({dataset.folder}) are of another vocabulary than those of {names[0]} "
                f"({datasets[0].folder}): tokenize both with one tokenizer"
            )


def describe_loader(loader: Loader) -> Section:
    """Two tables with a row for each source, computed from the plans and the quotas of the run.

    What a source holds: documents; tokens; `lost`, tokens that no sequence holds: 0; `split`, documents that lie in
    more than one sequence; sequences of an epoch; the percentage of their places that is padding.

    What the run shows of it: `drawn`, sequences in the run (0 is worth a look); their percentage of all; epochs;
    `repeated`, sequences that the run showed before.
    """
    config, draws = loader.config, loader.draws
    held, shown, total = [], [], sum(draws.quotas)
    for name, dataset, plan, quota in zip(loader.names, loader.datasets, loader.plans, draws.quotas, strict=True):
        padding, lost = 100 * plan.padding / (plan.sequences * plan.length), dataset.tokens - plan.tokens
        held.append((name, dataset.documents, dataset.tokens, lost, plan.split_documents, plan.sequences, padding))
        repeated = max(0, quota - plan.sequences)
        shown.append((name, quota, 100 * quota / total, quota / plan.sequences, repeated))
    text = f"{loader.steps:,} steps of {config.batch} sequences of {config.length} tokens, mode {config.mode}."
    columns = ("source", "documents", "tokens", "lost", "split", "sequences", "padding %")
    run = ("source", "drawn", "share %", "epochs", "repeated")
    tables = Table(columns, tuple(held), "What the sources hold"), Table(run, tuple(shown), "What the run shows")
    return Section("Batches", text, tables)
