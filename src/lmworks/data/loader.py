"""Batches in an order that is arithmetic: what a step shows depends on the settings and the step's number alone.

    step → source and index in it (`mixture.py`) → epoch and place → sequence (`shuffle.py`)
         → segments of documents (`best_fit_packing.py`) → tokens (`token_dataset.py`)

Each arrow can be taken for any step without those before. So a run that continues at step s needs to know nothing but s
and how long it was planned to be, and rank r of W makes the rows from r·batch // W to (r + 1)·batch // W of the one
global batch, however many processes or threads there are.
"""

import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from lmworks.data.batches import Batch, make_batch
from lmworks.data.best_fit_packing import plan_sequences
from lmworks.data.config import LoaderConfig
from lmworks.data.mixture import DrawPlan
from lmworks.data.shuffle import in_epochs
from lmworks.data.token_dataset import TokenDataset
from lmworks.report import Section, Table

_STREAM = ("length", "batch", "mode", "document_mask", "temperature", "seed")


class Loader(AbstractContextManager["Loader"]):
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
    stall_seconds           how long `next` waited for a batch, in all; `stall_share`: of the time since the first

    `state` is what `state()` gave, in whatever world: the run continues with the next step. It may ask for more steps
    than before, which come after those that were planned, or for fewer; ValueError where anything else differs that
    shapes the stream.
    """

    metrics: Mapping[str, float] = MappingProxyType({})

    def __init__(
        self,
        config: LoaderConfig,
        rank: int = 0,
        world_size: int = 1,
        state: Mapping[str, Any] | None = None,
        base: Path = Path(),
    ) -> None:
        if not 0 <= rank < world_size:
            raise ValueError(f"rank {rank} is outside a world of {world_size}")
        self.config, self.rank, self.world_size = config, rank, world_size
        self.names = list(config.sources)
        self.datasets = [TokenDataset(base / source.folder) for source in config.sources.values()]
        for name, dataset in zip(self.names, self.datasets, strict=True):
            if not dataset.tokens:
                raise ValueError(f"the documents of {name} ({dataset.folder}) hold no token: leave the source out")
            if dataset.index.vocabulary != self.datasets[0].index.vocabulary:
                raise ValueError(
                    f"the ids of {name} ({dataset.folder}) are of another vocabulary than those of {self.names[0]}: "
                    "tokenize both with one tokenizer"
                )
        self.plans = [plan_sequences(d.lengths, config.length, config.mode, config.seed) for d in self.datasets]
        self.step = 0
        self.stall_seconds = 0.0
        self._first: float | None = None
        self._ahead: deque[Future[Batch]] = deque()
        self._threads: ThreadPoolExecutor | None = None
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
        sequences = np.empty_like(index)
        for source in np.unique(sources).tolist():
            size, here = self.plans[source].sequences, sources == source
            sequences[here] = in_epochs(index[here], size, self.config.seed, self.names[source])
        return make_batch(self.datasets, self.plans, sources, sequences, self.config.document_mask)

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        started = time.perf_counter()
        if self._threads is None:
            self._first = started
            self._threads = ThreadPoolExecutor(self.config.workers, thread_name_prefix="loader")
        while len(self._ahead) < self.config.ahead and self.step + len(self._ahead) < self.steps:
            self._ahead.append(self._threads.submit(self.batch, self.step + len(self._ahead)))
        if not self._ahead:
            raise StopIteration
        batch = self._ahead[0].result()  # which stays the next one where this is interrupted
        self._ahead.popleft()
        self.step += 1
        self.stall_seconds += time.perf_counter() - started
        return batch

    @property
    def stall_share(self) -> float:
        return 0.0 if self._first is None else self.stall_seconds / max(time.perf_counter() - self._first, 1e-9)

    def close(self) -> None:
        """End the threads; batches made ahead are dropped."""
        self._drop_ahead()
        if self._threads is not None:
            self._threads.shutdown()

    def _drop_ahead(self) -> None:
        for future in self._ahead:
            future.cancel()
        self._ahead.clear()

    def __exit__(self, *error: object) -> None:
        self.close()

    # -----------------------------------------------------------------------------------------------------------------
    # State

    def state(self) -> dict[str, Any]:
        """Where the run stands, as JSON: the next step, the horizons of `DrawPlan`, and what decides which batches
        there are. World size, rank, threads and folders are no part of it."""
        return {"step": self.step, "horizons": list(self.draws.horizons), "stream": self._stream()}

    def restore(self, state: Mapping[str, Any]) -> int:
        """Go on where a state was saved, as with `state` at the beginning; returns the next step. ValueErrors as there,
        which leave the loader where it was."""
        saved = state["stream"]
        found = [f"{name} was {saved[name]}, is {now}" for name, now in self._stream().items() if saved[name] != now]
        if found:
            raise ValueError(f"the saved position is one in another stream of batches: {'; '.join(found)}")
        draws = self._planned(state["horizons"])
        if state["step"] > draws.steps:
            raise ValueError(f"the saved position is step {state['step']} of a run of {draws.steps}")
        self._drop_ahead()
        self.draws, self.step = draws, state["step"]
        return self.step

    def _stream(self) -> dict[str, Any]:
        sources = [
            {"name": name, "tokens": dataset.fingerprint, "weight": source.weight, "max_epochs": source.max_epochs}
            for (name, source), dataset in zip(self.config.sources.items(), self.datasets, strict=True)
        ]
        return {name: getattr(self.config, name) for name in _STREAM} | {"sources": sources}

    def _planned(self, horizons: Sequence[int] = ()) -> DrawPlan:
        draws = DrawPlan(self.config, [plan.sequences for plan in self.plans], horizons)
        if draws.smallest < self.world_size:
            raise ValueError(
                f"a step of {draws.smallest} sequences leaves ranks of {self.world_size} without any: use fewer ranks, "
                "a larger batch, or set steps where it is the last"
            )
        return draws


def describe_loader(loader: Loader) -> Section:
    """Two tables with a row for each source: what it holds (`split`: documents that lie in more than one sequence;
    sequences of an epoch; the percentage of their places that is padding), and what the run shows of it (`drawn`:
    sequences; their percentage of all; epochs)."""
    held, shown = [], []
    for name, dataset, plan, quota in zip(
        loader.names, loader.datasets, loader.plans, loader.draws.quotas, strict=True
    ):
        padding = 100 * plan.padding / (plan.sequences * plan.length)
        held.append((name, dataset.documents, dataset.tokens, plan.split_documents, plan.sequences, padding))
        shown.append((name, quota, 100 * quota / sum(loader.draws.quotas), quota / plan.sequences))
    config = loader.config
    text = f"{loader.steps:,} steps of {config.batch} sequences of {config.length} tokens, mode {config.mode}."
    columns = ("source", "documents", "tokens", "split", "sequences", "padding %")
    tables = (
        Table(columns, tuple(held), "What the sources hold"),
        Table(("source", "drawn", "share %", "epochs"), tuple(shown), "What the run shows"),
    )
    return Section("Batches", text, tables)
