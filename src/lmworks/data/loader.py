"""Batches in an order that is arithmetic: what a step shows depends on the settings and the step's number alone.

    step → draws step·batch … → source and index in it (`mixing.py`) → epoch and place → sequence (`order.py`)
         → segments of documents (`packing.py`) → tokens (`token_dataset.py`)

Each arrow can be taken for any step without taking it for those before. So a run that goes on at step s needs to be
told nothing but s, and it does not matter how many processes or threads there are: rank r of W makes the rows from
r·batch // W to (r + 1)·batch // W of the one global batch.
"""

import time
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lmworks.config import to_mapping
from lmworks.data.batching import Batch, make_batch
from lmworks.data.config import LoaderConfig
from lmworks.data.mixing import Mixture, quotas, temperature_weights
from lmworks.data.order import Permutation
from lmworks.data.packing import plan_sequences
from lmworks.data.token_dataset import TokenDataset

STREAM_SETTINGS = ("length", "batch", "steps", "mode", "document_mask", "temperature", "seed")


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
    mixture                 the quotas, and the order in which sources are drawn
    steps                   of the run
    step                    the next to be given out
    stall_seconds           how long `next` waited for a batch, in all
    seconds                 since the first `next`; `stall_share` is the part of it that was waiting

    ValueError for sources of different vocabularies, caps that allow fewer sequences than the run asks for, a state of
    another stream (naming what differs), a rank outside the world, a global batch smaller than it.
    """

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
        if config.batch < world_size:
            raise ValueError(f"a batch of {config.batch} sequences leaves ranks of {world_size} without any")
        self.config, self.rank, self.world_size = config, rank, world_size
        self.names = list(config.sources)
        self.datasets = [TokenDataset(base / source.folder) for source in config.sources.values()]
        _one_vocabulary(self.names, self.datasets)
        self.plans = [plan_sequences(d.lengths, config.length, config.mode, config.seed) for d in self.datasets]
        self.mixture = _mixture(config, [plan.sequences for plan in self.plans])
        self.steps = -(-self.mixture.total // config.batch)
        self.step = 0 if state is None else self._step_of(state)
        self.stall_seconds = 0.0
        self._first: float | None = None
        self._threads = ThreadPoolExecutor(config.workers, thread_name_prefix="loader")
        self._ahead: deque[Future[Batch]] = deque()

    # -----------------------------------------------------------------------------------------------------------------
    # Batches

    def batch(self, step: int) -> Batch:
        """This rank's rows of any step: the same whenever and by whichever thread it is asked for."""
        if not 0 <= step < self.steps:
            raise IndexError(f"step {step} of a run of {self.steps}")
        first = step * self.config.batch
        rows = min(self.config.batch, self.mixture.total - first)
        lower, upper = (first + rows * rank // self.world_size for rank in (self.rank, self.rank + 1))
        sources, sequences = self.sequences_of(np.arange(lower, upper))
        return make_batch(self.datasets, self.plans, sources, sequences, self.config.document_mask)

    def sequences_of(self, draws: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Draws of the run (n,) → their sources and the sequences of those sources' plans, both (n,) int64."""
        sources, index = self.mixture.draw(draws)
        sizes = np.array([plan.sequences for plan in self.plans])[sources]
        epochs, places = np.divmod(index, sizes)
        sequences = np.empty_like(places)
        for source, epoch in set(zip(sources.tolist(), epochs.tolist(), strict=True)):
            here = (sources == source) & (epochs == epoch)
            key = f"{self.config.seed} {epoch} {self.names[source]}"
            sequences[here] = Permutation(self.plans[source].sequences, key)(places[here])
        return sources, sequences

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        started = time.perf_counter()
        if self._first is None:
            self._first = started
        while len(self._ahead) < self.config.ahead and self.step + len(self._ahead) < self.steps:
            self._ahead.append(self._threads.submit(self.batch, self.step + len(self._ahead)))
        if not self._ahead:
            raise StopIteration
        try:
            batch = self._ahead[0].result()
        except BaseException:
            for future in self._ahead:  # whoever goes on gets this step again, not the next one
                future.cancel()
            self._ahead.clear()
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
        for future in self._ahead:
            future.cancel()
        self._ahead.clear()
        self.step = step

    def close(self) -> None:
        """End the threads; batches made ahead are dropped."""
        self._threads.shutdown(wait=True, cancel_futures=True)
        self._ahead.clear()

    def __enter__(self) -> "Loader":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    # -----------------------------------------------------------------------------------------------------------------
    # State

    def state(self) -> dict[str, Any]:
        """Where the run stands, as JSON: the next step, and what the stream it belongs to is made of.

        World size, rank, workers and folders are no part of it.
        """
        stream = {name: value for name, value in to_mapping(self.config).items() if name in STREAM_SETTINGS}
        for name, dataset in zip(self.names, self.datasets, strict=True):
            source = self.config.sources[name]
            stream[f"sources.{name}"] = dataset.fingerprint
            stream[f"sources.{name}.weight"] = source.weight
            stream[f"sources.{name}.max_epochs"] = source.max_epochs
        return {"step": self.step, "stream": stream}

    def _step_of(self, state: Mapping[str, Any]) -> int:
        self.step = 0
        was, now = dict(state["stream"]), self.state()["stream"]
        differing = [
            f"{name} was {_short(was.get(name))}, is {_short(now.get(name))}"
            for name in dict.fromkeys([*was, *now])
            if name not in was or name not in now or was[name] != now[name]
        ]
        if list(was) != list(now) and not differing:
            differing = ["the sources stand in another order"]
        if differing:
            raise ValueError(f"the saved position is one in another stream of batches: {'; '.join(differing)}")
        if not 0 <= state["step"] <= self.steps:
            raise ValueError(f"the saved position is step {state['step']} of a run of {self.steps}")
        return int(state["step"])


def _mixture(config: LoaderConfig, sizes: list[int]) -> Mixture:
    """Quotas of the whole run from the sizes of the sources in sequences."""
    sources = list(config.sources.values())
    weights = [source.weight for source in sources if source.weight is not None]
    caps = [
        None if source.max_epochs is None else int(round(source.max_epochs * size, 6))  # 0.29 · 100 is 29
        for source, size in zip(sources, sizes, strict=True)
    ]
    total = sum(sizes) if config.steps is None else config.steps * config.batch
    return Mixture(quotas(weights or temperature_weights(sizes, config.temperature), caps, total))


def _one_vocabulary(names: list[str], datasets: list[TokenDataset]) -> None:
    for name, dataset in zip(names, datasets, strict=True):
        if dataset.index.vocabulary != datasets[0].index.vocabulary:
            raise ValueError(
                f"the ids of {name} ({dataset.folder}) are of another vocabulary than those of {names[0]} "
                f"({datasets[0].folder}): tokenize both with one tokenizer"
            )


def _short(value: Any) -> str:
    text = str(value)
    return f"{text[:12]}…" if len(text) > 40 else text
