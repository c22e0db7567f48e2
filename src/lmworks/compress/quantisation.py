"""Post-training quantisation: from a checkpoint to one whose matrices are on a grid, by any of the methods.

from lmworks.compress import GPTQConfig, QuantiseConfig, quantise
smaller = quantise(lmworks.load("model"), QuantiseConfig(method=GPTQConfig()), texts).checkpoint
lmworks.Engine(smaller)  # runs the integers as they are
save_gguf(smaller, "model.gguf")  # writes them as they are
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from lmworks.compress.block_calibration import InputStatistics, calibrated_blocks, linears, read_calibration
from lmworks.compress.channel_scales import scale_block
from lmworks.compress.config import (
    AWQConfig,
    EmbeddingFormat,
    GPTQConfig,
    GridConfig,
    QuantisationMethod,
    QuantiseConfig,
    QuantisedFileConfig,
    RoundConfig,
    SmoothQuantConfig,
)
from lmworks.compress.gptq import gptq_matrix
from lmworks.compress.survival import Share, base_weights, check_survival, survival
from lmworks.compress.weight_grid import bits_of_levels, fit_grid, round_to_nearest
from lmworks.kernels.weight_formats import Quantised, dequantise
from lmworks.model.checkpoint import Checkpoint
from lmworks.model.quantised_linear import has_adapter
from lmworks.model.tensor_files import QuantisedWeights
from lmworks.model.transformer import Transformer, empty_model
from lmworks.progress import Report, no_report

Grids = Mapping[str, GridConfig | None]  # by the names of linear layers; None: not quantised
_TABLES = ("embedding.tokens.weight", "head.projection.weight")


@dataclass(frozen=True)
class Quantisation:
    """A quantised checkpoint, whose `weights` are `QuantisedWeights`, and what was seen on the way.

    errors  |ΔW x|² / |W x|² of each layer on what the calibration saw; without one, |ΔW|² / |W|².
    inputs  statistics of each layer's inputs, without second moments.
    seen    the calibration text, for a manifest.
    left    the share of a fine-tune that survives in each matrix that it changed, where its base was quantised.
    unmeasured  why that was not measured; "" where it was, or there is nothing to measure.
    """

    checkpoint: Checkpoint
    errors: Mapping[str, float]
    inputs: Mapping[str, InputStatistics] = field(default_factory=dict)
    seen: Mapping[str, Any] = field(default_factory=dict)
    left: Mapping[str, Share] = field(default_factory=dict)
    unmeasured: str = ""


def quantise(
    checkpoint: Checkpoint,
    config: QuantiseConfig,
    texts: Sequence[str | Sequence[int]] = (),
    grids: Grids | None = None,
    progress: Report = no_report,
) -> Quantisation:
    """The checkpoint with its projections rounded by `config.method`, its embedding and head to `embedding_format`.

    texts  to calibrate on, or their ids; `rtn` needs none.
    grids  of each layer, by its name; default: `config.grid` for all.

    ValueError where the weights are quantised already (unless `config.requantise`), an adapter stands next to them, or
    the method needs a text and there is none; and where less than `config.minimum_survival` is left of a fine-tune.
    """
    check_floats(checkpoint, config.requantise)
    (base, unmeasured), left = base_weights(checkpoint), dict[str, Share]()
    method, text = config.method, None
    if not isinstance(method, RoundConfig):
        text = read_calibration(texts, checkpoint.required_tokenizer, config.calibration)
    model, weights = float_copy(checkpoint.model), checkpoint.model.state_dict()
    chosen = dict.fromkeys(linears(model), config.grid) if grids is None else grids
    stored: dict[str, Quantised] = {}
    errors: dict[str, float] = {}
    inputs: dict[str, InputStatistics] = {}

    def measure(name: str, scaled: Tensor, matrix: Quantised, moment: Tensor | None = None) -> None:
        if name in base and (share := survival(base[name], weights[name], scaled, dequantise(matrix), moment)):
            left[name] = share

    def round_all(layers: Mapping[str, nn.Linear], statistics: Mapping[str, InputStatistics]) -> None:
        for name, layer in layers.items():
            if (grid := chosen[name]) is not None:
                seen = statistics.get(name)
                matrix, errors[name] = _round(layer.weight, grid, seen, method)
                measure(f"{name}.weight", layer.weight, matrix, seen and seen.second_moment)
                stored[f"{name}.weight"] = matrix
                layer.weight.copy_(dequantise(matrix))

    if text is None:
        round_all(linears(model), {})
    else:
        for block in calibrated_blocks(model, text):
            statistics = block.statistics()
            inputs |= {name: replace(activation, second_moment=None) for name, activation in statistics.items()}
            if isinstance(method, AWQConfig | SmoothQuantConfig):
                scale_block(block, statistics, chosen, method)
            round_all(block.linears(), statistics)
            progress(block.number + 1, len(model.config.stacks[-1].blocks), "blocks")
    smaller = quantised_checkpoint(checkpoint, stored, model.state_dict(), config.embedding_format)
    assert isinstance(smaller.weights, QuantisedWeights)
    for name, matrix in smaller.weights.quantised.items():
        if name in _TABLES:
            measure(name, weights[name], matrix)
    check_survival(left, checkpoint, config.minimum_survival)
    return Quantisation(smaller, errors, inputs, {} if text is None else text.seen(), left, unmeasured)


def quantised_checkpoint(
    checkpoint: Checkpoint, matrices: Mapping[str, Quantised], floats: Mapping[str, Tensor], embedding: EmbeddingFormat
) -> Checkpoint:
    """The checkpoint with these matrices; everything else is of `floats`: vectors in float32, tables in the format
    `embedding`, other matrices in bfloat16."""
    table_grid, stored = GridConfig(8 if embedding == "int8" else 4), dict[str, Tensor | Quantised]()
    for name, tensor in floats.items():
        if name in matrices:
            stored[name] = matrices[name]
        elif name in _TABLES and embedding != "bfloat16":
            stored[name] = round_to_nearest(tensor.detach(), table_grid)
        else:
            stored[name] = tensor.detach().float() if tensor.ndim == 1 else tensor.detach().bfloat16()
    weights = QuantisedWeights({**stored, **matrices})
    return replace(checkpoint, weights=weights, dtype=torch.float32, device="cpu")


def planned(checkpoint: Checkpoint, config: QuantisedFileConfig, grids: Grids | None = None) -> Checkpoint:
    """The checkpoint that `quantise` makes, whichever method rounds, as far as its bytes go: the weights have no
    values."""
    model = empty_model(checkpoint.config)
    chosen = {name: config.grid if grids is None else grids[name] for name in linears(model)}
    matrices = {
        f"{name}.weight": round_to_nearest(layer.weight.detach(), grid)
        for name, layer in linears(model).items()
        if (grid := chosen[name]) is not None
    }
    return quantised_checkpoint(checkpoint, matrices, model.state_dict(), config.embedding_format)


def _round(
    weight: Tensor, grid: GridConfig, statistics: InputStatistics | None, method: QuantisationMethod
) -> tuple[Quantised, float]:
    """The matrix, and the relative error of its outputs; without statistics, as of an expert that no token went to, by
    rtn, and the error of the weights."""
    if statistics is None or statistics.second_moment is None:
        matrix = round_to_nearest(weight, grid)
        return matrix, _share((dequantise(matrix) - weight).square(), weight.square())
    moment = statistics.second_moment
    searched = isinstance(method, GPTQConfig | AWQConfig)
    levels = fit_grid(weight, grid, statistics.mean_square if searched else None)
    q = gptq_matrix(weight, moment, levels, method) if isinstance(method, GPTQConfig) else levels.nearest(weight)
    change = levels.levels(q) - weight
    return levels.quantised(q), _share((change @ moment) * change, (weight @ moment) * weight)


def _share(part: Tensor, whole: Tensor) -> float:
    return float(part.sum()) / max(float(whole.sum()), 1e-30)


def check_floats(checkpoint: Checkpoint, requantise: bool | None = None) -> None:
    """ValueError for weights that are quantised already, and for an adapter next to them; `requantise` is None where it
    is no setting."""
    blocks = getattr(checkpoint.weights, "blocks", None)  # of a GGUF file, whose library takes long to import
    kinds = {block[0] for name in checkpoint.weights if (block := blocks(name))} if blocks else set[str]()
    if isinstance(checkpoint.weights, QuantisedWeights):
        kinds = {value.format for value in checkpoint.weights.quantised.values()}
    elif not kinds and requantise is False:
        bits = [bits_of_levels(layer.weight) for layer in linears(checkpoint.model).values()]
        kinds = {f"{max(bits)} bits"} if bits and all(bits) else kinds
    if kinds and not requantise:
        instead = "let it teach a new student, by distillation with parameters=NUMBER"
        instead = instead if requantise is None else "set requantise=true"
        raise ValueError(
            f"the weights of {checkpoint.source} are quantised already ({', '.join(sorted(kinds))}), and changing them "
            f"adds to what they lost: take the floating-point model that they were made of, or {instead}"
        )
    if not kinds and has_adapter(checkpoint.model):
        raise ValueError(f"{checkpoint.source} has an adapter next to its weights: merge it first")


def float_copy(model: Transformer) -> Transformer:
    """The model with weights of its own, in float32, that need no gradient."""
    return copy.deepcopy(model).float().requires_grad_(False)
