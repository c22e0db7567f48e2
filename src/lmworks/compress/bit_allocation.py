"""Mixed precision: how many bits each matrix gets, so that a file keeps to a budget and the loss suffers least.

The sensitivity of a matrix is measured: the loss of the calibration text when this matrix alone is rounded. The
sensitivities of all matrices are added, which holds as long as each is small (Dong et al. 2019, "HAWQ", assume the
same), and what is best under the budget is a knapsack with a choice of one format for each, solved exactly on a scale
of `_STEPS` steps.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch

from lmworks.compress.block_calibration import CalibratedBlock, CalibrationText, calibrated_blocks
from lmworks.compress.config import GridConfig
from lmworks.compress.weight_grid import round_to_nearest
from lmworks.kernels.weight_formats import dequantise
from lmworks.model.quantised_weights import stored_bytes
from lmworks.model.transformer import Transformer
from lmworks.progress import Report, no_report
from lmworks.train.objectives.objective import predict_tokens

_STEPS = 20_000  # that a budget is divided into
_SEQUENCES = 8  # of the calibration text that each loss is measured on


@dataclass(frozen=True)
class Choice:
    """The formats that some matrices, which the engine joins, may have together: for each grid (None: bfloat16) its
    bytes and what it adds to the loss, in nats a token."""

    names: tuple[str, ...]
    grids: tuple[GridConfig | None, ...]
    nbytes: tuple[int, ...]
    harm: tuple[float, ...]


def measure_choices(
    model: Transformer, text: CalibrationText, grids: Sequence[GridConfig | None], progress: Report = no_report
) -> list[Choice]:
    """A choice for each group of the model's projections, float32; the model is as before afterwards."""
    text = replace(text, ids=text.ids[:_SEQUENCES])
    stack = model.decoder
    if stack is None or model.encoder is not None:
        raise ValueError("bits are allotted by the loss of a language model, a decoder: leave the budget out")
    found, base, loss = list[Choice](), None, _loss_from(model, text)
    for block in calibrated_blocks(model, text):
        base = loss(block) if base is None else base
        for names in _joined(block):
            harm, nbytes = [], []
            for grid in grids:
                with _rounded(block, names, grid) as size:
                    nbytes.append(size)
                    harm.append(0.0 if grid is None else max(loss(block) - base, 0.0))
            found.append(Choice(names, tuple(grids), tuple(nbytes), tuple(harm)))
        progress(block.number + 1, len(stack.blocks), "blocks, rounded matrix by matrix")
    return found


@torch.no_grad()
def _loss_from(model: Transformer, text: CalibrationText) -> Callable[[CalibratedBlock], float]:
    """A function from a block, with what comes into it, to the loss of the text in nats a token."""
    stack, length = model.decoder, text.ids.shape[1]
    assert stack is not None
    positions = torch.arange(length)[None]
    contexts = stack.layer_contexts(model.embedding(text.ids[:1], positions), positions)

    @torch.no_grad()
    def loss(block: CalibratedBlock) -> float:
        total, count = 0.0, 0
        for ids, hidden in zip(text.ids.split(text.batch), block.hidden, strict=True):
            for other, context in list(zip(stack.blocks, contexts, strict=True))[block.number :]:
                hidden = other(hidden, context)
            last = hidden if stack.norm is None else stack.norm(hidden)
            found = predict_tokens(model, last[:, :-1], ids[:, 1:], torch.ones_like(ids[:, 1:], dtype=torch.bool))
            total, count = total + float(found.sum), count + found.count
        return total / count

    return loss


def _joined(block: CalibratedBlock) -> list[tuple[str, ...]]:
    """The names of the block's layers, those together that the engine, or a file, has as one matrix."""
    groups: dict[str, list[str]] = {}
    for name in block.linears():
        part = name.rpartition(".")[2]
        joint = {"query": "qkv", "key": "qkv", "value": "qkv", "gate": "gate_up", "up": "gate_up"}.get(part, part)
        groups.setdefault(joint, []).append(name)
    return [tuple(names) for names in groups.values()]


@contextmanager
def _rounded(block: CalibratedBlock, names: tuple[str, ...], grid: GridConfig | None) -> Iterator[int]:
    """The block with these layers rounded to the nearest level, for a while; yields their bytes."""
    kept = {name: block.linears()[name].weight.data for name in names}
    size = 0
    for name, weight in kept.items():
        matrix = weight.bfloat16() if grid is None else round_to_nearest(weight, grid)
        size += stored_bytes(matrix)
        if not isinstance(matrix, torch.Tensor):
            block.linears()[name].weight.data = dequantise(matrix)
    try:
        yield size
    finally:
        for name, weight in kept.items():
            block.linears()[name].weight.data = weight


def allot(choices: Sequence[Choice], budget: int) -> dict[str, GridConfig | None]:
    """The grid of each matrix, by the name of its layer, such that the bytes are at most `budget` and the harm is
    least. ValueError for a budget below the smallest formats."""
    least = sum(min(choice.nbytes) for choice in choices)
    if least > budget:
        raise ValueError(
            f"the matrices take {least:,} bytes in the smallest formats, more than the {budget:,} there are"
        )
    step = max((budget - least) // _STEPS, 1)  # of the bytes beyond the smallest formats
    best, picked, costs = np.zeros((budget - least) // step + 1), [], []
    for choice in choices:
        steps = [-(-(size - min(choice.nbytes)) // step) for size in choice.nbytes]  # rounded up: it never exceeds
        offers = np.full((len(steps), len(best)), np.inf)
        for number, (cost, harm) in enumerate(zip(steps, choice.harm, strict=True)):
            offers[number, cost:] = best[: max(len(best) - cost, 0)] + harm
        picked.append(offers.argmin(0))
        costs.append(steps)
        best = offers.min(0)
    place, grids = len(best) - 1, dict[str, GridConfig | None]()
    for choice, numbers, steps in zip(reversed(choices), reversed(picked), reversed(costs), strict=True):
        number = int(numbers[place])
        grids |= dict.fromkeys(choice.names, choice.grids[number])
        place -= steps[number]
    return grids
