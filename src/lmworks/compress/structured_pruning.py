"""Structured pruning: heads, groups of keys and values, neurons and layers are taken out, and a plain smaller model
stays.

A head gives what its columns of the output projection read, a neuron what its column of the down projection reads:
importance is measured there, and a part whose columns are zeroed is as good as taken out.
"""

import copy
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from lmworks.compress.block_calibration import CalibrationText, blocks_of, check_length, decoder_of, recorded
from lmworks.compress.config import StructuredPruning
from lmworks.model import config as configs
from lmworks.model.checkpoint import Checkpoint
from lmworks.model.families import OWN
from lmworks.model.huggingface import write_config
from lmworks.model.stack import Block
from lmworks.model.transformer import Transformer
from lmworks.progress import Report, no_report
from lmworks.train.objectives.objective import predict_tokens

MULTIPLE = 32  # of neurons: the engine packs so many columns together
_TOGETHER = 1024  # tokens in a forward, of which all layers are held

Scores = Mapping[str, Tensor]  # "heads", "neurons", "layers" → (layers, units) float64, those that are asked for
Kept = Mapping[str, Tensor]  # "heads", "groups", "neurons" → the numbers of those of a layer that stay, in order


def prune_structure(
    checkpoint: Checkpoint,
    config: StructuredPruning,
    text: CalibrationText | None = None,
    progress: Report = no_report,
) -> Checkpoint:
    """The checkpoint without the parts that matter least on a text, which `magnitude` does not need. ValueError for
    parts that this model cannot lose."""
    check_structure(checkpoint.config, config)
    model = copy.deepcopy(checkpoint.model).float().requires_grad_()
    blocks, ids = blocks_of(model), torch.zeros(0, 2, dtype=torch.int64)
    if text is not None:
        check_length(model, text)
        ids = text.ids
    scores = importance(model, config, ids, progress)
    layers = list(range(len(blocks)))
    if config.layers:
        layers = _highest(scores["layers"][:, 0], len(blocks) - config.layers).tolist()
    chosen = [kept_parts(blocks[n], config, {kind: of[n] for kind, of in scores.items()}) for n in layers]
    pruned = keep_parts(keep_layers(checkpoint, layers), chosen)
    if write_config(pruned.config)["model_type"] == OWN.model_type != write_config(checkpoint.config)["model_type"]:
        raise ValueError("no family of transformers has heads of this width in so few: take out neurons or layers only")
    return pruned


def check_structure(model: configs.ModelConfig, config: StructuredPruning) -> None:
    """ValueError for parts that a model of this config cannot lose."""
    blocks = decoder_of(model).blocks
    if config.layers >= len(blocks):
        raise ValueError(f"the model has {len(blocks)} layers, and cannot lose {config.layers}: take out fewer")
    for block in blocks:
        position = block.attention.position
        if config.neurons and not isinstance(block.feed_forward, configs.FeedForward):
            raise ValueError(
                "neurons are of a dense feed-forward, and this model has experts: take out layers or heads"
            )
        if (config.heads or config.kv_groups) and not isinstance(position, configs.Rope | None):
            raise ValueError(f"each head has its own {position.kind}: take out neurons or layers only")


# ---------------------------------------------------------------------------------------------------------------------
# Importance


def importance(model: Transformer, config: StructuredPruning, ids: Tensor, progress: Report = no_report) -> Scores:
    """Scores by the config's criteria, summed over the sequences of `ids`, which `magnitude` does not read."""
    measured = {kind: criterion for kind, criterion in config.criteria.items() if criterion != "magnitude"}
    by_weights = config.criteria.keys() - measured.keys()
    scores_by_kind = {
        kind: torch.stack([_magnitudes(kind, block) for block in blocks_of(model)]) for kind in by_weights
    }
    rows = max(_TOGETHER // ids.shape[1], 1)
    for start in range(0, len(ids) if measured else 0, rows):
        for name, scores in _measure(model, measured, ids[start : start + rows].to(model.tokens.device)).items():
            scores_by_kind[name] = scores_by_kind.get(name, 0.0) + scores
        progress(min(start + rows, len(ids)), len(ids), "sequences to measure importance")
    return scores_by_kind


def _measure(model: Transformer, criteria: Mapping[str, str], ids: Tensor) -> dict[str, Tensor]:
    """Sums over some sequences."""
    gradient, blocks = "taylor" in criteria.values(), blocks_of(model)
    # The modules that read the values of a kind's units, or are the units.
    output_names = {"layers": "", "heads": "attention.output", "neurons": "feed_forward.down"}
    of_kinds = {kind: [block.get_submodule(output_names[kind]) for block in blocks] for kind in criteria}
    modules = [module for modules_of_kind in of_kinds.values() for module in modules_of_kind]
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

    def scores(module: nn.Module, criterion: str, units: int) -> Tensor:
        if criterion == "block_influence":
            return (1 - F.cosine_similarity(read[module].double(), given[module].double(), dim=-1)).sum()[None]
        output = (given[module] - read[module] if isinstance(module, Block) else read[module]).detach().double()
        if criterion == "taylor":  # |dL / dξ| of a factor ξ = 1 of what the part adds, sequence by sequence
            return (output * slopes[module]).sum(1).unflatten(-1, (units, -1)).sum(-1).abs().sum(0)
        return output.square().sum((0, 1)).unflatten(-1, (units, -1)).sum(-1)

    scores_of = {}
    for kind, modules_of_kind in of_kinds.items():
        units = {"heads": blocks[0].attention.config.heads, "layers": 1}.get(kind) or read[modules_of_kind[0]].shape[-1]
        scores_of[kind] = torch.stack([scores(module, criteria[kind], units).detach() for module in modules_of_kind])
    return scores_of


@torch.no_grad()
def _magnitudes(kind: str, block: Block) -> Tensor:
    """Squares of the weights of each unit, (units,); those of a key and a value are their heads'."""
    squares = {name: weight.double().square() for name, weight in block.named_parameters()}
    if kind == "layers":
        return torch.stack([values.sum() for values in squares.values()]).sum()[None]
    if kind == "neurons":
        read = [
            squares[name].sum(1) for matrix in ("gate", "up") if (name := f"feed_forward.{matrix}.weight") in squares
        ]
        return torch.stack([*read, squares["feed_forward.down.weight"].sum(0)]).sum(0)
    config = block.attention.config
    groups = squares["attention.query.weight"].sum(1) + squares["attention.output.weight"].sum(0)
    shared = (squares["attention.key.weight"] + squares["attention.value.weight"]).sum(1)
    groups, shared = (values.unflatten(0, (-1, config.head_dim)).sum(1) for values in (groups, shared))
    repeats = config.heads // config.kv_heads
    return groups + (shared / repeats).repeat_interleave(repeats)


# ---------------------------------------------------------------------------------------------------------------------
# What stays


def kept_parts(block: Block, config: StructuredPruning, scores: Scores) -> Kept:
    """The parts of a layer that stay, by its own `scores` (units,): as many as in every other layer."""
    attention = block.attention.config
    heads = torch.arange(attention.heads).view(attention.kv_heads, -1)  # (groups, heads of each)
    kept, grouped = {"groups": torch.arange(attention.kv_heads)}, heads.shape[1] > 1
    if share := max(config.kv_groups, 0.0 if grouped else config.heads):
        kept["groups"] = _highest(scores["heads"].view(heads.shape).sum(1), _count(attention.kv_heads, share))
    if config.heads and grouped:
        best = [_highest(row, _count(len(row), config.heads)) for row in scores["heads"].view(heads.shape)]
        heads = heads.gather(1, torch.stack(best))
    if config.neurons:
        kept["neurons"] = _highest(scores["neurons"], _count(len(scores["neurons"]), config.neurons, MULTIPLE))
    return {**kept, "heads": heads[kept["groups"]].flatten()}


def _count(units: int, share: float, multiple: int = 1) -> int:
    """How many stay."""
    return min(max(round(units * (1 - share) / multiple), 1) * multiple, units)


def _highest(scores: Tensor, count: int) -> Tensor:
    """The numbers of the highest scores, in order; of equal ones the first."""
    return scores.argsort(descending=True, stable=True)[:count].sort().values


def keep_layers(checkpoint: Checkpoint, layers: Sequence[int]) -> Checkpoint:
    """The decoder with these of its layers, in order, and all other weights. ValueError for a model without one."""
    decoder = decoder_of(checkpoint.config)
    config = replace(checkpoint.config, decoder=replace(decoder, blocks=tuple(decoder.blocks[n] for n in layers)))
    numbers, weights = {str(old): str(new) for new, old in enumerate(layers)}, {}
    for name, weight in checkpoint.model.state_dict().items():
        match = re.fullmatch(r"decoder\.blocks\.(\d+)\.(.+)", name)
        if match is None:
            weights[name] = weight
        elif match[1] in numbers:
            weights[f"decoder.blocks.{numbers[match[1]]}.{match[2]}"] = weight
    # `published`, what config.json says besides, may be of the layers that are gone.
    return replace(checkpoint, config=config, weights=weights, published=None)


def keep_parts(checkpoint: Checkpoint, kept: Sequence[Kept]) -> Checkpoint:
    """The checkpoint with these parts of its layers alone."""
    decoder = decoder_of(checkpoint.config)
    weights, blocks = dict(checkpoint.model.state_dict()), []
    for number, (block, units) in enumerate(zip(decoder.blocks, kept, strict=True)):
        attention, feed_forward = block.attention, block.feed_forward
        columns = torch.arange(attention.head_dim)
        rows, shared = ((units[kind][:, None] * len(columns) + columns).flatten() for kind in ("heads", "groups"))
        stays = {f"attention.{name}": (0, shared) for name in ("key", "value")}
        stays |= {"attention.query": (0, rows), "attention.output": (1, rows)}
        attention = replace(attention, heads=len(units["heads"]), kv_heads=len(units["groups"]))
        if "neurons" in units and isinstance(feed_forward, configs.FeedForward):
            feed_forward = replace(feed_forward, hidden=len(units["neurons"]))
            stays |= {
                f"feed_forward.{name}": (int(name == "down"), units["neurons"]) for name in ("gate", "up", "down")
            }
        cuts = {f"{name}.weight": cut for name, cut in stays.items()} | {"attention.sinks": (0, units["heads"])}
        cuts |= {f"{name}.bias": cut for name, cut in stays.items() if cut[0] == 0}
        for name, (dimension, index) in cuts.items():
            if (full := f"decoder.blocks.{number}.{name}") in weights:
                weights[full] = weights[full].index_select(dimension, index.to(weights[full].device))
        blocks.append(replace(block, attention=attention, feed_forward=feed_forward))
    config = replace(checkpoint.config, decoder=replace(decoder, blocks=tuple(blocks)))
    return replace(checkpoint, config=config, weights=weights, published=None)
