"""Checkpoints of a run: each a Hugging Face folder with `train_state/` in it, whole or not there at all.

checkpoints/step-00000250/
    config.json, model.safetensors (the float32 masters), tokenizer.json, ...
    train_state/state.json          where the run stands
    train_state/optimizers.safetensors
    train_state/average.safetensors   where the run averages its weights
"""

import json
import re
import shutil
import tempfile
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from lmworks.artefact import publish, write_json
from lmworks.model.checkpoint import Checkpoint, load

STATE = "train_state"


@dataclass(frozen=True, slots=True, eq=False)
class Saved:
    """What a checkpoint of a run holds: all weights by our names, optimizer state, averaged weights, and numbers."""

    weights: Mapping[str, Tensor]
    optimizers: Mapping[str, Tensor]
    average: Mapping[str, Tensor]
    state: Mapping[str, Any]


class Checkpoints:
    """The checkpoints of one run, written one at a time, beside the training if `background` is set.

    An error of a write is raised by the next `save`, or by `close`: a run whose checkpoints are lost must not go on as
    if they were there.
    """

    def __init__(self, folder: Path, keep: int, background: bool) -> None:
        self.folder, self.keep, self.background = folder, keep, background
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._writing: Future[None] | None = None

    def clear(self) -> None:
        """Remove what a write left that was killed. Nobody else may write here meanwhile."""
        for leftover in self.folder.glob(".step-*"):
            shutil.rmtree(leftover)

    def steps(self) -> list[int]:
        """The steps of the checkpoints there are, ascending."""
        found = (re.fullmatch(r"step-(\d+)", path.name) for path in self.folder.glob("step-*"))
        return sorted(int(match[1]) for match in found if match)

    def path(self, step: int) -> Path:
        return self.folder / f"step-{step:08d}"

    def save(self, step: int, checkpoint: Checkpoint, saved: Saved) -> None:
        """`checkpoint` is what the run began with; its weights are replaced by those of `saved`, which are copied."""
        self.wait()
        if self.path(step).exists():
            return
        copy = Saved(_copied(saved.weights), _copied(saved.optimizers), _copied(saved.average), dict(saved.state))
        self._writing = self._writer.submit(self._write, step, checkpoint, copy)
        if not self.background:
            self.wait()

    def wait(self) -> None:
        """Until what is being written is on the disk."""
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def close(self) -> None:
        try:
            self.wait()
        finally:
            self._writer.shutdown()

    def read(self, step: int) -> Saved:
        """ValueError for a folder without a run's state, or a damaged one."""
        self.wait()
        folder = self.path(step)
        try:
            state = json.loads((folder / STATE / "state.json").read_text("utf-8"))
            optimizers = load_file(folder / STATE / "optimizers.safetensors")
            average = folder / STATE / "average.safetensors"
            averaged = load_file(average) if average.exists() else {}
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            raise ValueError(f"{folder} cannot be gone on from: {error}") from error
        return Saved(load(folder, dtype="stored").weights, optimizers, averaged, state)

    def _write(self, step: int, checkpoint: Checkpoint, saved: Saved) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".step-{step:08d}.", dir=self.folder) as private:
            whole = replace(checkpoint, weights=saved.weights, dtype=None, device="cpu").save(Path(private) / "whole")
            (whole / STATE).mkdir()
            save_file(dict(saved.optimizers), whole / STATE / "optimizers.safetensors")
            if saved.average:
                save_file(dict(saved.average), whole / STATE / "average.safetensors")
            write_json(whole / STATE / "state.json", saved.state)
            publish(whole, self.path(step))
        for old in self.steps()[: -self.keep]:
            shutil.rmtree(self.path(old))


def _copied(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}
