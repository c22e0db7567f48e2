"""Mixed precision: how many bits each matrix gets, so that a file keeps to a budget and the loss suffers least.

A matrix's sensitivity is the loss of the calibration text when it alone is rounded. Sensitivities are added, which
holds as long as each is small (Dong et al. 2019, "HAWQ"); the knapsack is solved as an integer program.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from lmworks.compress.block_calibration import CalibratedBlock, CalibrationText, calibrated_blocks
from lmworks.compress.config import GridConfig
from lmworks.compress.weight_grid import round_to_nearest
from lmworks.kernels.weight_formats import dequantise
from lmworks.model.tensor_files import stored_bytes
from lmworks.model.transformer import Transformer
from lmworks.progress import Report, no_report
from lmworks.train.objectives.objective import predict_tokens

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
    """A choice for each group of the model's projections, float32; the model is as before afterwards. ValueError for a
    model that is not a decoder."""
    text = replace(text, ids=text.ids[:_SEQUENCES])
    if model.decoder is None or model.encoder is not None:
        raise ValueError("bits are allotted by the loss of a language model, a decoder: leave the budget out")
    choices, base = list[Choice](), None
    for block in calibrated_blocks(model, text):
        base = _loss(model, block, text) if base is None else base
        for names in _joined(block):
            weights = {name: block.linears()[name].weight for name in names}
            floats, harm, nbytes = {name: weight.data for name, weight in weights.items()}, [], []
            for grid in grids:
                if grid is None:
                    nbytes.append(sum(stored_bytes(weight.bfloat16()) for weight in floats.values()))
                    harm.append(0.0)
                    continue
                rounded = {name: round_to_nearest(weight, grid) for name, weight in floats.items()}
                for name, matrix in rounded.items():
                    weights[name].data = dequantise(matrix)
                nbytes.append(sum(map(stored_bytes, rounded.values())))
                harm.append(max(_loss(model, block, text) - base, 0.0))
            for name, weight in floats.items():
                weights[name].data = weight
            choices.append(Choice(names, tuple(grids), tuple(nbytes), tuple(harm)))
        progress(block.number + 1, len(model.decoder.blocks), "blocks, rounded matrix by matrix")
    return choices


@torch.no_grad()
def _loss(model: Transformer, block: CalibratedBlock, text: CalibrationText) -> float:
    """Nats a token of the text, from what comes into this block on."""
    assert model.decoder is not None
    total, count = 0.0, 0
    for ids, hidden in zip(text.ids.split(text.batch), block.hidden, strict=True):
        for other, context in block.rest:
            hidden = other(hidden, context)
        last = hidden if model.decoder.norm is None else model.decoder.norm(hidden)
        loss = predict_tokens(model, last[:, :-1], ids[:, 1:], torch.ones_like(ids[:, 1:], dtype=torch.bool))
        total, count = total + float(loss.sum), count + loss.count
    return total / count


def _joined(block: CalibratedBlock) -> list[tuple[str, ...]]:
    """The names of the block's layers, those together that the engine, or a file, has as one matrix."""
    groups: dict[str, list[str]] = {}
    for name in block.linears():
        suffix = name.rpartition(".")[2]
        joint = {"query": "qkv", "key": "qkv", "value": "qkv", "gate": "gate_up", "up": "gate_up"}.get(suffix, suffix)
        groups.setdefault(joint, []).append(name)
    return [tuple(names) for names in groups.values()]


def allot(choices: Sequence[Choice], budget: int) -> dict[str, GridConfig | None]:
    """The grid of each matrix, by the name of its layer, such that the bytes are at most `budget`, which the smallest
    formats keep to, and the harm is least."""
    from scipy.optimize import LinearConstraint, milp
    from scipy.sparse import block_diag

    nbytes, harm = (np.concatenate([getattr(choice, name) for choice in choices]) for name in ("nbytes", "harm"))
    one_each = LinearConstraint(block_diag([np.ones((1, len(choice.grids))) for choice in choices]), 1, 1)
    # In units of the greatest harm, which the solver's tolerances are small next to.
    cost = harm / max(harm.max(), 1e-30)
    solution = milp(
        cost, integrality=1, bounds=(0, 1), constraints=[LinearConstraint(nbytes[None], ub=budget), one_each]
    )
    ends = np.cumsum([len(choice.grids) for choice in choices])[:-1]
    picked = [choice.grids[chosen.argmax()] for choice, chosen in zip(choices, np.split(solution.x, ends), strict=True)]
    return {name: grid for choice, grid in zip(choices, picked, strict=True) for name in choice.names}
