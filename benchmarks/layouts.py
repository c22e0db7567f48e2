"""Does a step on several processes give what one gives, and does each hold and send what the plan says?

    .venv/bin/python benchmarks/layouts.py [--json]

One optimizer step of a small model in float32 on 1, 2 and 4 processes of this machine, joined by gloo, in every layout
of `train.parallel`: how far the loss is from one process's, and a gradient relative to its length at most; and on the
first process the bytes of weights, gradients and optimizer, and those sent, measured / planned by `planning.memory` and
`planning.communication`. Weights are counted between steps, where ZeRO 2 has let go of what it gathers. The plan takes
experts to be used evenly, which a few random tokens do not. These are no times: they are the same on any machine.
"""

import argparse
import json
import os
import socket
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as processes

sys.path.append(str(Path(__file__).parents[1] / "tests"))

from communication_volume import CommunicationCounter, held_bytes  # pyright: ignore[reportMissingImports]
from lmworks.data.batches import Batch
from lmworks.model.initialisation import initialise
from lmworks.model.presets import llama, mixtral
from lmworks.model.transformer import Transformer
from lmworks.train.config import TrainConfig
from lmworks.train.gradient_accumulation import compute_gradients
from lmworks.train.master_weights import Weights
from lmworks.train.objectives.causal import CausalLanguageModel
from lmworks.train.optimizer_config import AdamW
from lmworks.train.parallel.config import ParallelConfig
from lmworks.train.parallel.context_parallel import shard_sequence
from lmworks.train.parallel.parallelize import parallelize
from lmworks.train.parallel.ranks import ALONE, join
from lmworks.train.planning.communication import communication_bytes
from lmworks.train.planning.layout import NUMBERS, Layout
from lmworks.train.planning.memory import expected_memory

ROWS, LENGTH, PARTS = 16, 64, 2
LLAMA = llama(vocabulary=256, width=64, layers=4, heads=4, kv_heads=4, hidden=128, context_length=LENGTH)
MIXTRAL = mixtral(256, 64, 4, 4, 4, 128, LENGTH, experts=4)
LAYOUTS = {
    1: [{}],
    2: [
        {"data": 2},
        *({"data": 2, "zero": zero} for zero in (1, 2, 3)),
        {"tensor": 2},
        {"tensor": 2, "sequence_parallel": True},
        {"context": 2},
        {"pipeline": 2},
        {"pipeline": 2, "chunks": 2},
        {"data": 2, "expert": 2},
    ],
    4: [
        *({"data": 4, "zero": zero} for zero in (0, 1, 2, 3)),
        {"data": 2, "zero": 3, "tensor": 2},
        {"data": 2, "zero": 1, "pipeline": 2},
        {"context": 2, "tensor": 2, "sequence_parallel": True},
        {"data": 2, "context": 2, "zero": 2},
        {"tensor": 2, "pipeline": 2, "schedule": "gpipe"},
        {"data": 4, "expert": 2, "zero": 1},
        {"data": 4, "expert": 2, "zero": 3},
    ],
}  # fmt: skip


@dataclass
class Row:
    """Of one layout, on the first process; bytes as (measured, planned)."""

    layout: str
    processes: int
    loss_difference: float
    gradient_difference: float
    weights: tuple[float, float]
    gradients: tuple[float, float]
    optimizer: tuple[float, float]
    sent: tuple[float, float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    rows = measured()
    print(json.dumps([asdict(row) for row in rows]) if options.json else "\n".join(table(rows)))


def measured(layouts: dict[int, list[dict[str, Any]]] | None = None) -> list[Row]:
    with tempfile.TemporaryDirectory() as name:
        for size, settings in (layouts or LAYOUTS).items():
            processes.spawn(_rank, (size, _free_port(), settings, name), size)  # type: ignore[no-untyped-call]
        found = [json.loads(path.read_text()) for path in sorted(Path(name).glob("*.json"))]
    return [Row(**row) for rows in found for row in rows]


def _rank(rank: int, size: int, port: int, settings: list[dict[str, Any]], folder: str) -> None:
    torch.set_num_threads(1)
    if size > 1:
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "RANK": str(rank), "WORLD_SIZE": str(size)}
        dist.init_process_group("gloo")
    rows = [row(ParallelConfig(**each)) for each in settings]
    if rank == 0:
        (Path(folder) / f"{size}.json").write_text(json.dumps([asdict(each) for each in rows]))
    if size > 1:
        dist.barrier()
        dist.destroy_process_group()


def row(parallel: ParallelConfig) -> Row:
    """All processes of the layout call it."""
    config = MIXTRAL if parallel.expert > 1 else LLAMA
    loss, gradients, held, sent = step(config, parallel)
    expected, of_one, _, _ = step(config, ParallelConfig(), alone=True)
    differences = [float((gradients[name] - of_one[name]).norm() / of_one[name].norm()) for name in gradients]
    sequences = ROWS // parallel.data // PARTS
    layout = Layout(**asdict(parallel), sequences=sequences, micro_batches=PARTS, length=LENGTH)
    planned = expected_memory(config, layout, NUMBERS["float32"], rank=0).parts
    bytes_sent = sum(communication_bytes(config, layout, NUMBERS["float32"], 0).values())
    of_parts = {name: (float(held[name]), float(planned[name])) for name in ("weights", "gradients", "optimizer")}
    chosen = {name: value for name, value in asdict(parallel).items() if value != getattr(ParallelConfig(), name)}
    told = ", ".join(name if value is True else f"{name} {value}" for name, value in chosen.items())
    difference = abs(loss - expected)
    return Row(told or "one process", parallel.devices, difference, max(differences, default=0.0), **of_parts,
               sent=(sent, bytes_sent))  # fmt: skip


def step(config: Any, parallel: ParallelConfig, alone: bool = False) -> tuple[float, Any, dict[str, int], float]:
    """The loss, the whole gradients, the bytes held and sent of one step, by all processes or by each one `alone`."""
    ranks = ALONE if alone else join(parallel)
    settings = TrainConfig(optimizer=AdamW(), parallel=parallel)
    model = parallelize(initialise(Transformer(config), 0).train(), settings, ranks)
    weights, objective = Weights(model, settings.optimizer, "float32", ranks), CausalLanguageModel()
    examples = _rows(ranks.rows)
    if parallel.context > 1:
        examples = shard_sequence(examples, ranks.along("context"))
    held: dict[str, int] = {}
    summing = weights.sum_over_ranks

    def measure_and_sum() -> None:
        held.update(held_bytes(weights))  # when all gradients are there
        summing()

    weights.sum_over_ranks = measure_and_sum  # type: ignore[method-assign]
    with CommunicationCounter() as sent:
        got = compute_gradients(model, weights, objective, examples, len(examples) // PARTS)
        gradients = dict(weights.gradients())
        whole = {name: gradient.clone() for name, gradient in gradients.items()}
        weights.update(1.0)
    whole = weights.whole(whole)
    return got.loss, whole, {**held, "optimizer": held_bytes(weights)["optimizer"]}, sent.total


def _rows(share: tuple[int, int]) -> Batch:
    """This replica's of one batch of random tokens."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(256, (ROWS, LENGTH + 1), generator=generator)
    whole, places = torch.zeros(ROWS, LENGTH, dtype=torch.int64), torch.arange(LENGTH).expand(ROWS, -1)
    numbers = torch.arange(ROWS)
    batch = Batch(ids[:, :-1], places, whole, ids[:, 1:], whole == 0, numbers, numbers)
    rank, count = share
    return batch[slice(ROWS * rank // count, ROWS * (rank + 1) // count)]


def table(rows: list[Row]) -> list[str]:
    names = ("weights", "gradients", "optimizer", "sent")
    lines = [f"{'layout':<38}{'loss':>7}{'gradient':>10}" + "".join(f"{name:>24}" for name in names)]
    for each in rows:
        pairs = (f"{done:,.0f} / {planned:,.0f}" for done, planned in (getattr(each, name) for name in names))
        differences = f"{each.loss_difference:>7.0e}{each.gradient_difference:>10.0e}"
        lines.append(f"{each.layout:<38}{differences}" + "".join(f"{pair:>24}" for pair in pairs))
    return lines


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


if __name__ == "__main__":
    main()
