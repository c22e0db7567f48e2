"""Checkpoints of several processes: what one layout wrote, any other goes on from."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from lmworks.data.loader import Loader
from lmworks.model.checkpoint import load
from lmworks.train.checkpoints import STATE
from lmworks.train.config import CheckpointConfig, Precision, TrainConfig
from lmworks.train.loop import train
from lmworks.train.objectives.causal import CausalLanguageModel
from lmworks.train.optimizer_config import AdamW
from lmworks.train.parallel.config import ParallelConfig
from lmworks.train.parallel.ddp_zero1 import share
from lmworks.train.parallel.ranks import join
from lmworks.train.parallel.tensor_slice import Shard, TensorSlice, read_shards, shard_name, write_shard
from lmworks.train.run import Run
from ranks import on_ranks
from slow_cases import slow
from training_cases import loader_config, new_checkpoint, write_text_dataset

STEPS = 8


class EndedError(Exception):
    """As a kill that all processes see."""


class Ending(CausalLanguageModel):
    """Raises at a batch."""

    def __init__(self, at: int) -> None:
        super().__init__()
        object.__setattr__(self, "at", at)

    def examples(self, batch, seed):
        if seed == self.at:
            raise EndedError
        return batch


def go_on(dataset: Path, folder: Path, parallel: ParallelConfig, until: int, precision: Precision) -> dict[str, Any]:
    """Trains from the last checkpoint there is up to step `until`; the weights, on the first process."""
    checkpoint = CheckpointConfig(steps=2)
    config = TrainConfig(AdamW(rate=3e-3), validate=None, average=0.5, checkpoint=checkpoint, parallel=parallel,
                         precision=precision)  # fmt: skip
    ranks = join(parallel)
    loader = Loader(loader_config(dataset, steps=STEPS), *ranks.rows)
    run = Run(new_checkpoint(), Ending(until), loader, config, folder, ranks=ranks)
    try:
        train(run)
    except EndedError:
        return {}
    return {name: weight.numpy() for name, weight in run.finished().weights.items()}


def on(parallel: ParallelConfig, dataset: Path, folder: Path, until: int, precision: Precision) -> dict[str, Any]:
    arguments = (dataset, folder, parallel, until, precision)
    return go_on(*arguments) if parallel.devices == 1 else on_ranks(parallel.devices, go_on, *arguments)[0]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return write_text_dataset(tmp_path_factory.mktemp("text") / "tokens")


ROUTES = {
    "from two to one": (ParallelConfig(data=2, zero=3), ParallelConfig(data=2, zero=1), ParallelConfig()),
    "from four to one": (ParallelConfig(data=4, zero=3), ParallelConfig(data=2, zero=1), ParallelConfig()),
    "from one to four": (ParallelConfig(), ParallelConfig(data=2, zero=2), ParallelConfig(data=4, zero=1)),
}


@pytest.mark.parametrize("route", ["from two to one", *slow("from four to one", "from one to four")])
def test_a_run_goes_on_in_another_layout(route, dataset, tmp_path):
    whole = on(ParallelConfig(), dataset, tmp_path / "undisturbed", STEPS, "float32")
    weights: dict[str, Any] = {}
    for layout, until in zip(ROUTES[route], (3, 5, STEPS), strict=True):
        weights = on(layout, dataset, tmp_path / "moved", until, "float32")
    assert weights.keys() == whole.keys()
    for name, weight in whole.items():
        assert np.linalg.norm(weights[name] - weight) <= 1e-5 * np.linalg.norm(weight), name


@pytest.mark.parametrize("zero", [*slow(1), 3])
def test_in_the_same_layout_not_a_bit_differs(zero, dataset, tmp_path):
    layout = ParallelConfig(data=2, zero=zero)
    whole = on(layout, dataset, tmp_path / "undisturbed", STEPS, "bfloat16")
    on(layout, dataset, tmp_path / "stopped", 5, "bfloat16")
    again = on(layout, dataset, tmp_path / "stopped", STEPS, "bfloat16")
    assert all(np.array_equal(again[name], weight) for name, weight in whole.items())
    last = tmp_path / "stopped" / "checkpoints" / f"step-{STEPS:08d}"
    assert load(last).weights.keys() == whole.keys()  # a Hugging Face folder as ever
    files = sorted(path.name for path in (last / STATE).iterdir())
    assert files == [
        *(shard_name(name, rank, 2) for name in ("average", "optimizers") for rank in range(2)),
        "state.json",
    ]
    held = [sum(t.numel() for t in load_file(last / STATE / shard_name("optimizers", r, 2)).values()) for r in range(2)]
    assert abs(held[0] - held[1]) < 0.1 * held[0]  # each writes a half


@given(st.integers(1, 9), st.integers(1, 5), st.integers(1, 5), st.integers(1, 5))
def test_parts_that_some_wrote_others_read(rows, columns, writers, readers):
    whole = torch.arange(rows * columns).view(rows, columns)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for rank in range(writers):
            first, count = share(rows, writers, rank)
            part = TensorSlice((rows, columns), (first, 0), (count, columns))
            tensors = {"a": whole[part.slices].contiguous()} if count else {}
            write_shard(folder / shard_name("x", rank, writers), Shard(tensors, {"a": part} if count else {}))
        pieces = read_shards(folder, "x")["a"]
        assert tuple(pieces.shape) == (rows, columns)
        for rank in range(readers):
            first, count = share(columns, readers, rank)
            place = (slice(0, rows), slice(first, first + count))
            assert torch.equal(pieces[place], whole[place])


def test_a_file_that_is_missing_is_named(tmp_path):
    part = TensorSlice((2,), (0,), (1,))
    write_shard(tmp_path / shard_name("x", 0, 2), Shard({"a": torch.zeros(1)}, {"a": part}))
    with pytest.raises(ValueError, match="1 of the 2 files of x"):
        read_shards(tmp_path, "x")
    write_shard(tmp_path / shard_name("x", 1, 2), Shard({}, {}))
    with pytest.raises(ValueError, match="the parts of a are not those of the whole"):
        read_shards(tmp_path, "x")
