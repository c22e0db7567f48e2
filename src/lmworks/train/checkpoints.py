"""Checkpoints of a run: each a Hugging Face folder with `train_state/` in it, whole or not there at all.

checkpoints/step-00000250/
    config.json, model.safetensors (the float32 masters), tokenizer.json, ...
    train_state/state.json          where the run stands
    train_state/optimizers.safetensors
    train_state/average.safetensors   where the run averages its weights

Where it is not weights of the base that are trained, but those of an adapter, `train_state/trained.safetensors` holds
these, and there is no Hugging Face folder around it: the base is not written again.

Of several processes each writes the parts that it owns, optimizers-00003-of-00008.safetensors, on a disk that all see;
the first one writes the rest and gives the whole its name. Any other number of processes continues from it.
"""

import json
import os
import re
import shutil
import tempfile
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

from torch import Tensor

from lmworks.artefact import publish, write_json
from lmworks.model.checkpoint import Checkpoint, load
from lmworks.model.tensor_files import LazyTensors, open_safetensors, write_tensor_file
from lmworks.train.parallel.ranks import ALONE, Ranks
from lmworks.train.parallel.tensor_slice import Pieces, Shard, read_shards, shard_name, write_shard

STATE = "train_state"
OPTIMIZERS, AVERAGE, TRAINED = "optimizers", "average", "trained.safetensors"
_POLL = 0.02  # seconds between two looks at what the other processes wrote


Part = TypeVar("Part", Shard, Mapping[str, Pieces])


@dataclass(frozen=True, slots=True, eq=False)
class RunState(Generic[Part]):
    """The state of a run, as one process puts it into a checkpoint (`Shard`), or to be read from there part by part.

    weights     those that are trained, whole, by our names; to be written on the CPU, nobody else's, of the first
                process alone
    optimizers  their state, `average` the averaged weights: to be written what this process owns of them
    state       numbers, the same on all
    """

    weights: Mapping[str, Tensor]
    optimizers: Part
    average: Part
    state: Mapping[str, Any]


class Checkpoints:
    """The checkpoints of one run, written one at a time, next to the training if `background` is set. The last `keep`
    stay.

    An error of a write is raised by the next `save`, or by `close`: a run whose checkpoints are lost must not go on as
    if they were there. All processes of a run make the same calls, but for the reading ones.
    """

    def __init__(self, folder: Path, keep: int, background: bool, ranks: Ranks = ALONE) -> None:
        self.folder, self.keep, self.background, self.ranks = folder, keep, background, ranks
        self._ended = threading.Event()
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._writing: Future[None] | None = None

    def clear(self) -> None:
        """Remove what a write left that was killed. Nobody else may write here meanwhile."""
        if self.ranks.first:
            for leftover in self.folder.glob(".step-*"):
                shutil.rmtree(leftover)
        self.ranks.wait()

    def steps(self) -> list[int]:
        """The steps of the checkpoints there are, ascending."""
        names = (re.fullmatch(r"step-(\d+)", path.name) for path in self.folder.glob("step-*"))
        return sorted(int(match[1]) for match in names if match)

    def path(self, step: int) -> Path:
        return self.folder / f"step-{step:08d}"

    def save(self, step: int, checkpoint: Checkpoint, saved: RunState[Shard]) -> None:
        """`checkpoint` is what the run began with, whose weights take the place of those that are not in `saved`. What
        `saved` holds of optimizers and average is copied."""
        self.wait()
        if self.path(step).exists():
            return
        copy = replace(saved, optimizers=_copied(saved.optimizers), average=_copied(saved.average))
        self._writing = self._writer.submit(self._write, step, checkpoint, copy)
        if not self.background:
            self.wait()

    def wait(self) -> None:
        """Until what is being written is on the disk."""
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def close(self) -> None:
        """Ends what is being written; but nobody waits any longer for other processes, which may have failed."""
        self._ended.set()
        try:
            self.wait()
        finally:
            self._writer.shutdown()

    def read(self, step: int) -> RunState[Mapping[str, Pieces]]:
        """ValueError for a folder without a run's state, or a damaged one."""
        self.wait()
        folder = self.path(step)
        try:
            state = json.loads((folder / STATE / "state.json").read_text("utf-8"))
            if not list((folder / STATE).glob(f"{OPTIMIZERS}*")):  # of one without a state the file is there, too
                raise ValueError(f"{folder / STATE} holds no {OPTIMIZERS}")
            optimizers, average = (read_shards(folder / STATE, name) for name in (OPTIMIZERS, AVERAGE))
        except (OSError, ValueError) as error:
            raise ValueError(f"{folder} cannot be resumed from: {error}") from error
        trained = folder / STATE / TRAINED
        weights = LazyTensors(open_safetensors(trained)) if trained.exists() else load(folder, dtype="stored").weights
        return RunState(weights, optimizers, average, state)

    def _write(self, step: int, checkpoint: Checkpoint, saved: RunState[Shard]) -> None:
        unfinished = self.folder / f".step-{step:08d}.parts"
        # The files of this process, the optimizers' last: where it is, the others are.
        unfinished.mkdir(parents=True, exist_ok=True)
        shards = {AVERAGE: saved.average} if saved.average.tensors else {}
        for name, shard in (shards | {OPTIMIZERS: saved.optimizers}).items():
            file = shard_name(name, self.ranks.rank, self.ranks.size)
            temporary = unfinished / f".{file}"
            write_shard(temporary, shard)
            with temporary.open("rb") as stream:
                os.fsync(stream.fileno())
            temporary.rename(unfinished / file)
        if not self.ranks.first:
            self._until(lambda: self.path(step).exists())
            return
        with tempfile.TemporaryDirectory(prefix=f".step-{step:08d}.", dir=self.folder) as private:
            whole = Path(private) / "whole"
            if saved.weights.keys() <= checkpoint.weights.keys():
                weights = {**checkpoint.weights, **saved.weights}
                replace(checkpoint, weights=weights, dtype=None, device="cpu").save(whole)
            else:
                whole.mkdir()
                write_tensor_file(dict(saved.weights), unfinished / TRAINED, None)
            write_json(unfinished / "state.json", saved.state)
            if not self._until(lambda: len(list(unfinished.glob(f"{OPTIMIZERS}*"))) == self.ranks.size):
                return
            unfinished.rename(whole / STATE)
            publish(whole, self.path(step))
        for old in self.steps()[: -self.keep]:
            shutil.rmtree(self.path(old))

    def _until(self, there: Callable[[], bool]) -> bool:
        """Whether something came to be there before the run ended."""
        while not there():
            if self._ended.wait(_POLL):
                return there()
        return True


def _copied(shard: Shard) -> Shard:
    copies = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in shard.tensors.items()}
    return shard._replace(tensors=copies)
