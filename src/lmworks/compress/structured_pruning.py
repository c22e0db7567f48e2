"""Structured pruning: heads, groups of keys and values, neurons and layers are taken out, and a plain smaller model
stays.

What a head gives is what its columns of the output projection read; what a neuron gives, what its column of the down
projection reads. So importance is measured on these inputs alone, and a part whose columns are zeroed is as good as
taken out.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from lmworks.compress.block_calibration import CalibrationText, check_length
from lmworks.compress.matched_layers import blocks_of, recorded
from lmworks.compress.pruning_config import StructuredPruning
from lmworks.compress.student import keep_layers
from lmworks.model import config as configs
from lmworks.model.checkpoint import Checkpoint
from lmworks.model.families import OWN
from lmworks.model.feed_forward import FeedForward
from lmworks.model.huggingface import write_config
from lmworks.model.stack import Block
from lmworks.model.transformer import Transformer
from lmworks.progress import Report, no_report
from lmworks.train.objectives.objective import predict_tokens

MULTIPLE = 32  # of neurons: the engine packs so many columns together
_TOGETHER = 1024  # tokens in a forward, of which all layers are held

Scores = Mapping[str, Tensor]  # "heads", "neurons", "layers" → (layers, units) float64, those that are asked for


def prune_structure(
    checkpoint: Checkpoint,
    config: StructuredPruning,
    text: CalibrationText | None = None,
    progress: Report = no_report,
) -> Checkpoint:
    """The checkpoint without the parts that matter least on a text, which `magnitude` does not need. ValueError for
    parts that this model cannot lose, or more layers than there are to lose."""
    model = copy.deepcopy(checkpoint.model).float().requires_grad_()
    blocks, ids = blocks_of(model), torch.zeros(0, 2, dtype=torch.int64)
    if text is not None:
        check_length(model, text)
        ids = text.ids
    if config.layers >= len(blocks):
        raise ValueError(f"the model has {len(blocks)} layers, and cannot lose {config.layers}: take out fewer")
    for block in blocks:
        _check(block, config)
    scores = importance(model, config, ids, progress)
    layers = list(range(len(blocks)))
    if config.layers:
        layers = _highest(scores["layers"][:, 0], len(blocks) - config.layers).tolist()
    chosen = [kept_parts(blocks[n], config, {kind: of[n] for kind, of in scores.items()}) for n in layers]
    pruned = keep_parts(keep_layers(checkpoint, layers), chosen)
    if write_config(pruned.config)["model_type"] == OWN.model_type != write_config(checkpoint.config)["model_type"]:
        raise ValueError("no family of transformers has heads of this width in so few: take out neurons or layers only")
    return pruned


def _check(block: Block, config: StructuredPruning) -> None:
    if config.neurons and not hasattr(block.feed_forward, "down"):
        raise ValueError("neurons are of a dense feed-forward, and this model has experts: take out layers or heads")
    position = block.attention.config.position
    if (config.heads or config.kv_groups) and not isinstance(position, configs.Rope | None):
        raise ValueError(f"each head has its own {position.kind}: take out neurons or layers only")


# ---------------------------------------------------------------------------------------------------------------------
# Importance


class _Kind(NamedTuple):
    """Modules, one a layer; how many of the values that each part gives are a unit's; and the criterion."""

    modules: Sequence[nn.Module]
    size: int
    criterion: str


def importance(model: Transformer, config: StructuredPruning, ids: Tensor, progress: Report = no_report) -> Scores:
    """Scores by the config's criteria, summed over the sequences of `ids`, which `magnitude` does not read."""
    blocks = blocks_of(model)
    kinds: dict[str, _Kind] = {}
    if config.heads or config.kv_groups:
        size = blocks[0].attention.config.head_dim
        kinds["heads"] = _Kind([block.attention.output for block in blocks], size, config.criterion)
    if config.neurons:
        kinds["neurons"] = _Kind([block.feed_forward.down for block in blocks], 1, config.criterion)  # type: ignore[misc]
    if config.layers:
        kinds["layers"] = _Kind(blocks, model.config.embedding.width, config.layer_criterion)
    found = {
        name: torch.stack([_magnitudes(name, block) for block in blocks])
        for name, kind in kinds.items()
        if kind.criterion == "magnitude"
    }
    measured = {name: kind for name, kind in kinds.items() if kind.criterion != "magnitude"}
    rows = max(_TOGETHER // ids.shape[1], 1)
    for start in range(0, len(ids) if measured else 0, rows):
        for name, scores in _measure(model, measured, ids[start : start + rows].to(model.tokens.device)).items():
            found[name] = found.get(name, 0.0) + scores
        progress(min(start + rows, len(ids)), len(ids), "sequences to measure importance")
    return found


def _measure(model: Transformer, kinds: Mapping[str, _Kind], ids: Tensor) -> dict[str, Tensor]:
    """Sums over some sequences."""
    gradient = any(kind.criterion == "taylor" for kind in kinds.values())
    modules = [module for kind in kinds.values() for module in kind.modules]
    with torch.inference_mode(False), torch.set_grad_enabled(gradient), recorded(modules) as calls:
        hidden = model.hidden(ids)
    read = {module: calls[module][0][0] for module in modules}
    # What the loss is differentiated by: what a projection reads, what a block gives.
    given = {module: calls[module][1] if isinstance(module, Block) else read[module] for module in modules}
    slopes: dict[nn.Module, Tensor] = {}
    if gradient:
        everywhere = torch.ones_like(ids[:, 1:], dtype=torch.bool)
        loss = predict_tokens(model, hidden[:, :-1], ids[:, 1:], everywhere).sum
        slopes = dict(zip(modules, torch.autograd.grad(loss, list(given.values())), strict=True))

    def scores(module: nn.Module, kind: _Kind) -> Tensor:
        if kind.criterion == "block_influence":
            return (1 - F.cosine_similarity(read[module].double(), given[module].double(), dim=-1)).sum()[None]
        own = (given[module] - read[module] if isinstance(module, Block) else read[module]).detach().double()
        if kind.criterion == "taylor":  # |dL / dξ| of a factor ξ = 1 of what the part adds, sequence by sequence
            return (own * slopes[module]).sum(1).unflatten(-1, (-1, kind.size)).sum(-1).abs().sum(0)
        return own.square().sum((0, 1)).unflatten(-1, (-1, kind.size)).sum(-1)

    return {
        name: torch.stack([scores(module, kind).detach() for module in kind.modules]) for name, kind in kinds.items()
    }


@torch.no_grad()
def _magnitudes(kind: str, block: Block) -> Tensor:
    """Squares of the weights of each unit, (units,); those of a key and a value are their heads'."""
    if kind == "layers":
        return sum((weight.double().square().sum() for weight in block.parameters()), torch.zeros(1))
    if kind == "neurons":
        network = block.feed_forward
        assert isinstance(network, FeedForward)
        parts = [part for part in (network.gate, network.up) if part is not None]
        squares = [part.weight.double().square().sum(1) for part in parts]
        return torch.stack([*squares, network.down.weight.double().square().sum(0)]).sum(0)
    attention, config = block.attention, block.attention.config
    own = attention.query.weight.double().square().sum(1) + attention.output.weight.double().square().sum(0)
    shared = (attention.key.weight.double().square() + attention.value.weight.double().square()).sum(1)
    own, shared = (each.unflatten(0, (-1, config.head_dim)).sum(1) for each in (own, shared))
    repeats = config.heads // config.kv_heads
    return own + (shared / repeats).repeat_interleave(repeats)


# ---------------------------------------------------------------------------------------------------------------------
# What stays


@dataclass(frozen=True, slots=True)
class Kept:
    """The numbers of the heads, groups and neurons of a layer that stay, in order."""

    heads: Tensor
    groups: Tensor
    neurons: Tensor | None


def kept_parts(block: Block, config: StructuredPruning, scores: Scores) -> Kept:
    """The parts of a layer that stay, by its own `scores` (units,): as many as in every other layer."""
    attention = block.attention.config
    heads = torch.arange(attention.heads).view(attention.kv_heads, -1)  # (groups, heads of each)
    groups, neurons = torch.arange(attention.kv_heads), None
    if hasattr(block.feed_forward, "down"):
        neurons = torch.arange(block.feed_forward.down.in_features)  # type: ignore[union-attr]
    grouped = heads.shape[1] > 1
    if share := max(config.kv_groups, 0.0 if grouped else config.heads):
        groups = _highest(scores["heads"].view(heads.shape).sum(1), _count(len(groups), share))
    if config.heads and grouped:
        best = [_highest(row, _count(len(row), config.heads)) for row in scores["heads"].view(heads.shape)]
        heads = heads.gather(1, torch.stack(best))
    if config.neurons and neurons is not None:
        neurons = _highest(scores["neurons"], _count(len(neurons), config.neurons, MULTIPLE))
    return Kept(heads[groups].flatten(), groups, neurons)


def _count(units: int, share: float, multiple: int = 1) -> int:
    """How many stay."""
    return min(max(round(units * (1 - share) / multiple), 1) * multiple, units)


def _highest(scores: Tensor, count: int) -> Tensor:
    """The numbers of the highest scores, in order; of equal ones the first."""
    return scores.argsort(descending=True, stable=True)[:count].sort().values


def keep_parts(checkpoint: Checkpoint, kept: Sequence[Kept]) -> Checkpoint:
    """The checkpoint with these parts of its layers alone."""
    decoder = checkpoint.config.decoder
    assert decoder is not None
    weights, blocks = dict(checkpoint.model.state_dict()), []
    for number, (block, own) in enumerate(zip(decoder.blocks, kept, strict=True)):
        attention, feed_forward = block.attention, block.feed_forward
        rows, shared = (_values(numbers, attention.head_dim) for numbers in (own.heads, own.groups))
        attention = replace(attention, heads=len(own.heads), kv_heads=len(own.groups))
        stays = {"query": (0, rows), "key": (0, shared), "value": (0, shared), "output": (1, rows)}
        stays = {f"attention.{name}": each for name, each in stays.items()}
        if own.neurons is not None and isinstance(feed_forward, configs.FeedForward):
            feed_forward = replace(feed_forward, hidden=len(own.neurons))
            neurons = {"gate": (0, own.neurons), "up": (0, own.neurons), "down": (1, own.neurons)}
            stays |= {f"feed_forward.{name}": each for name, each in neurons.items()}
        cuts = {f"{name}.weight": each for name, each in stays.items()} | {"attention.sinks": (0, own.heads)}
        cuts |= {f"{name}.bias": each for name, each in stays.items() if each[0] == 0}
        for name, (dimension, index) in cuts.items():
            if (full := f"decoder.blocks.{number}.{name}") in weights:
                weights[full] = weights[full].index_select(dimension, index.to(weights[full].device))
        blocks.append(replace(block, attention=attention, feed_forward=feed_forward))
    config = replace(checkpoint.config, decoder=replace(decoder, blocks=tuple(blocks)))
    return replace(checkpoint, config=config, weights=weights, published=None)


def _values(units: Tensor, size: int) -> Tensor:
    """The numbers of the values of units of this size."""
    return (units[:, None] * size + torch.arange(size)).flatten()
