"""A run on several processes is the run of one: losses, gradients and weights, in every layout."""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kit.tables import for_each
from lmworks.data.loader import Loader
from lmworks.train.config import TrainConfig
from lmworks.train.gradient_accumulation import compute_gradients
from lmworks.train.loop import train
from lmworks.train.objectives.causal import CausalLanguageModel
from lmworks.train.optimizer_config import AdamW, Lion, Muon
from lmworks.train.parallel.config import ParallelConfig
from lmworks.train.parallel.ranks import join
from lmworks.train.run import Run
from lmworks.train.run_log import read_log
from lmworks.train.validation import validate
from ranks import on_ranks
from slow_cases import slow
from training_cases import loader_config, new_checkpoint, write_text_dataset

ALONE = ParallelConfig()
LAYOUTS = {
    "data": ParallelConfig(data=2),
    "zero 1": ParallelConfig(data=2, zero=1),
    "zero 2": ParallelConfig(data=2, zero=2),
    "zero 3": ParallelConfig(data=2, zero=3),
    "tensor": ParallelConfig(tensor=2),
    "sequence": ParallelConfig(tensor=2, sequence_parallel=True),
    "context": ParallelConfig(context=2),
    "pipeline": ParallelConfig(pipeline=2),
    "context, zero 1": ParallelConfig(context=2, zero=1),
    "data of 4": ParallelConfig(data=4),
    "zero 1 of 4": ParallelConfig(data=4, zero=1),
    "zero 3 of 4": ParallelConfig(data=4, zero=3),
    "data, tensor": ParallelConfig(data=2, tensor=2, sequence_parallel=True),
    "zero 1, tensor": ParallelConfig(data=2, zero=1, tensor=2),
    "zero 3, tensor": ParallelConfig(data=2, zero=3, tensor=2),
    "zero 2, pipeline": ParallelConfig(data=2, zero=2, pipeline=2),
    "zero 1, pipeline": ParallelConfig(data=2, zero=1, pipeline=2),
    "zero 3, context": ParallelConfig(data=2, zero=3, context=2),
    "tensor, pipeline": ParallelConfig(tensor=2, pipeline=2, schedule="gpipe"),
    "context, tensor": ParallelConfig(context=2, tensor=2, sequence_parallel=True),
}
QUICK = {
    "sequence",
    "context",
    "zero 1, pipeline",
    "zero 3, tensor",
}  # one of each kind
# Batches of 6: of four processes two have a sequence more than the others.
CASES: dict[str, dict[str, Any]] = {
    "micro-batches": {"micro_batch": 1},
    "whole": {},
    "bfloat16": {"precision": "bfloat16", "micro_batch": 2},
    "muon": {"optimizer": Muon(rate=3e-3)},
    "lion": {"optimizer": Lion(rate=3e-4), "recompute": "blocks", "average": 0.5},
}
# Relative lengths of differences: of gradients of the first step, and of what four steps make of them. A gradient of
# the size of its rounding moves its weight by a whole step of Adam's, and turns Lion's. Muon's products, and the parts
# of a low-precision run, have the 8 bits of bfloat16.
TOLERANCES = {"bfloat16": (1e-2, 3e-2), "muon": (1e-5, 5e-3), "lion": (1e-5, 1e-3)}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return write_text_dataset(tmp_path_factory.mktemp("text") / "tokens")


def run_of(
    dataset: Path, folder: Path, parallel: ParallelConfig, steps: int = 4, family: str = "llama", **settings: Any
) -> Run:
    defaults = {"log": 1, "validate": None, "optimizer": AdamW(rate=3e-3)}
    config = TrainConfig(**(defaults | settings), parallel=parallel)
    ranks = join(parallel)
    loader = Loader(loader_config(dataset, steps=steps, batch=6), *ranks.rows)
    return Run(new_checkpoint(family), CausalLanguageModel(), loader, config, folder, ranks=ranks)


def first_and_last(dataset: Path, folder: Path, parallel: ParallelConfig, case: str) -> dict[str, Any]:
    """The gradients of the first step, whole, and the weights, losses and position after four."""
    run = run_of(dataset, folder, parallel, **CASES[case])
    got = compute_gradients(
        run.model,
        run.weights,
        run.objective,
        run.examples(run.loader.batch(0), 0),
        run.config.micro_batch,
        1.0,
        run.device,
    )
    gradients = run.weights.whole(dict(run.weights.gradients()))
    position = train(run)
    held_out = run.loader.batch(0) if parallel.data == 1 else Loader(run.loader.config).batch(0)
    validation = validate(run.model, run.objective, [held_out], 2, device=run.device, loss_sums=run.loss_sums)
    steps = (
        [(line["loss"], line["gradient_norm"]) for line in read_log(folder / "log.jsonl")] if run.ranks.first else []
    )
    weights = run.finished().weights
    arrays = ({name: tensor.numpy() for name, tensor in each.items()} for each in (gradients, weights))
    return {
        "norm": got.norm,
        "gradients": next(arrays),
        "weights": next(arrays),
        "steps": steps,
        "position": position,
        "validation": validation.total.value,
    }


@pytest.fixture(scope="module")
def alone(dataset, tmp_path_factory):
    """case → what one process gives."""
    return cache(lambda case: first_and_last(dataset, tmp_path_factory.mktemp("alone"), ALONE, case))


FIRST, *OTHERS = CASES


@pytest.mark.parametrize("case", [FIRST, *slow(*OTHERS)])
@pytest.mark.parametrize(
    "layout", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in LAYOUTS]
)
def test_a_layout_gives_what_one_process_gives(layout, case, alone, dataset, tmp_path):
    """Up to the rounding of sums in another order: of float32, or of the bfloat16 that parts are computed in."""
    parallel = LAYOUTS[layout]
    expected = alone(case)
    got = on_ranks(parallel.devices, first_and_last, dataset, tmp_path / "run", parallel, case)[0]
    first, later = TOLERANCES.get(case, (1e-5, 1e-4))
    assert got["position"] == expected["position"]
    assert got["validation"] == pytest.approx(expected["validation"], rel=later)
    np.testing.assert_allclose(got["steps"], expected["steps"], rtol=later)
    for kind, most in (("gradients", first), ("weights", later)):
        assert got[kind].keys() == expected[kind].keys()
        for name, values in expected[kind].items():
            assert np.linalg.norm(got[kind][name] - values) <= most * np.linalg.norm(values), (kind, name)


def losses_of(dataset: Path, folder: Path, parallel: ParallelConfig, family: str, compiled: bool) -> list[float]:
    run = run_of(dataset, folder, parallel, 3, family, compile=compiled, recompute="blocks" if compiled else "nothing")
    train(run)
    return [line["loss"] for line in read_log(folder / "log.jsonl")] if run.ranks.first else []


@pytest.mark.slow
@for_each("family", ["llama", "gpt2"])
def test_compiled_blocks_send_in_one_order(family, dataset, tmp_path):
    """Also where a bias is added once for all devices, and where blocks are recomputed."""
    alone = losses_of(dataset, tmp_path / "alone", ALONE, family, compiled=False)
    layout = LAYOUTS["tensor"]
    divided = on_ranks(2, losses_of, dataset, tmp_path / "divided", layout, family, True)[0]
    np.testing.assert_allclose(divided, alone, rtol=1e-4)
