"""Memory of one device in training, by part, for any layout: weights, gradients, optimizer, activations, logits.

States follow Rajbhandari et al. 2020, section 5, activations Korthikanti et al. 2022, section 4, both on the real
shapes of a config. Free of torch.
"""

from dataclasses import dataclass, field

from lmworks.model import config as configs
from lmworks.train.planning.activation_memory import block_activations, kept_by_norm
from lmworks.train.planning.layout import (
    NUMBERS,
    OPTIMIZERS,
    Layout,
    Norms,
    Numbers,
    pieces_in_flight,
    stage_blocks,
)
from lmworks.train.planning.parameter_shards import Held, parameters_held, split

# Bytes of each logit at the peak of a loss of whole logits, in float32: its log-probability, which is kept, and during
# the backward the gradients of that and of itself. The logits are gone by then, unless somebody holds on to them.
_LOSS_BYTES = 12
_PROJECTED_LOGITS = 2**22  # that exist at a time where they are projected in parts (`losses.LOGITS_AT_A_TIME`)
NOT_COUNTED = "not counted: the context of the device, buffers of collectives, workspaces, fragmentation"


@dataclass(frozen=True)
class Memory:
    """Bytes of one device by part. `rank` is its place in the pipeline; `notes` say what is not counted."""

    parts: dict[str, float]
    rank: int
    held: Held
    notes: tuple[str, ...] = field(default=(NOT_COUNTED,))

    @property
    def total(self) -> float:
        return sum(self.parts.values())

    @property
    def states(self) -> float:
        """Weights, gradients and optimizer: what remains between steps."""
        return sum(self.parts[name] for name in ("weights", "gradients", "optimizer"))


def expected_memory(
    config: configs.ModelConfig,
    layout: Layout,
    numbers: Numbers = NUMBERS["mixed"],
    optimizer: str = "adamw",
    norms: Norms = "fused",
    rank: int | None = None,
) -> Memory:
    """Bytes of the device `rank` of the pipeline, by default of the fullest, at the peak of a step.

    The peak is the beginning of the last backward: all activations are there, and the gradients too if there were
    micro-batches before. With one micro-batch gradients grow while activations go, and the sum is a bound from above.
    LookupError for an unknown optimizer; ValueError for a layout that does not fit the model.
    """
    if optimizer not in OPTIMIZERS:
        raise LookupError(f"there is no optimizer {optimizer!r} in the plan; choose one of {', '.join(OPTIMIZERS)}")
    ranks = range(layout.pipeline) if rank is None else [rank]
    memories = [_of_rank(config, layout, numbers, OPTIMIZERS[optimizer], norms, each) for each in ranks]
    return max(memories, key=lambda memory: memory.total)


def adapter_memory(
    config: configs.ModelConfig, layout: Layout, weights: float, trained: int, numbers: Numbers, norms: Norms
) -> dict[str, float]:
    """Bytes by part of one device that trains an adapter of so many parameters next to frozen `weights`. Activations
    are those of full training, of which less is kept where nothing before a layer is trained."""
    whole, logits = expected_memory(config, layout, numbers, norms=norms), layout.tokens_per_device
    parts = {name: size for name, size in whole.parts.items() if name.startswith(("activations", "working"))}
    return parts | {
        "weights": weights,
        "adapter and optimizer": float(trained) * (16 + numbers.master),
        "loss": float(min(logits * config.embedding.vocabulary, _PROJECTED_LOGITS) * (4 + numbers.activations)),
    }


def _of_rank(
    config: configs.ModelConfig, layout: Layout, numbers: Numbers, state_values: int, norms: Norms, rank: int
) -> Memory:
    held = parameters_held(config, layout, rank)
    parts = _states(held, layout, numbers, state_values)
    parts |= _activations(config, layout, numbers, norms, rank)
    return Memory({name: size for name, size in parts.items() if size}, rank, held, _notes(config))


def _states(held: Held, layout: Layout, numbers: Numbers, state_values: int) -> dict[str, float]:
    """An expert is on fewer devices than a dense weight, and divided among fewer."""
    sharded = held.dense / layout.shards + held.experts / (layout.shards // layout.expert)
    whole, zero = float(held.total), layout.zero
    per_optimizer = numbers.master + state_values * numbers.state
    parts = {
        "weights": numbers.weights * (sharded if zero >= 3 else whole),
        "gradients": numbers.gradients * (sharded if zero >= 2 else whole),
        "optimizer": per_optimizer * (sharded if zero >= 1 else whole),
    }
    if zero >= 3 and layout.shards > 1:  # this block and the next, which is fetched meanwhile, and the two ends
        parts["gathered weights"] = numbers.weights * (2 * held.largest_block + held.ends)
    if zero >= 2 and layout.shards > 1:  # of one block, before they are summed and divided
        parts["gradients of a block"] = numbers.gradients * held.largest_block
    return parts


def _activations(
    config: configs.ModelConfig, layout: Layout, numbers: Numbers, norms: Norms, rank: int
) -> dict[str, float]:
    width, tokens, in_flight = config.embedding.width, layout.tokens_per_device, pieces_in_flight(layout, rank)
    parts: dict[str, float] = {}
    recomputed = passing = 0.0
    last = rank == layout.pipeline - 1
    further = config.head if last and isinstance(config.head, configs.MultiTokenHead) else None
    for block in (*stage_blocks(config, layout, rank), *([further.block] * further.depth if further else ())):
        kept = block_activations(block, width, layout, numbers, norms)
        for part, size in kept.items():
            name = f"activations: {part}"
            parts[name] = parts.get(name, 0.0) + size * tokens * in_flight
        passing = max(passing, _passing(block, width, layout, numbers.activations) * tokens)
        if layout.recompute != "nothing":
            whole = sum(block_activations(block, width, layout, numbers, norms, "nothing").values())
            recomputed = max(recomputed, (whole - sum(kept.values())) * tokens)
    if further is not None:
        parts["activations: further tokens"] = _joining(further, width, layout, numbers.activations, norms) * tokens
    if last:
        parts |= _head(config, layout, numbers, norms)
    # A block runs backward when what the loss took is free again.
    parts["working block"] = max(recomputed + passing - parts.get("loss", 0.0), 0.0)
    return parts


def _passing(block: configs.Block, width: int, layout: Layout, value: int) -> float:
    """Gradients that exist at a time while the backward goes through a block: of the hidden states and of the inner
    ones of the feed-forward; bytes for each token."""
    network = block.feed_forward
    dense = isinstance(network, configs.FeedForward)
    inner = network.hidden if dense else network.top_k * network.expert.hidden
    return (width + split(inner, layout.tensor)) * value


def _joining(head: configs.MultiTokenHead, width: int, layout: Layout, value: int, norms: Norms) -> float:
    """Bytes that the steps ahead keep of each token outside of their blocks: inputs of two norms, their outputs side by
    side, and the final norm's. The first input is the output of a final norm, and counted there."""
    outside = layout.tensor if layout.sequence_parallel else 1
    kept = kept_by_norm(head.norm, width, value, norms)
    shared = width * value if head.norm.kind == "layer" or norms == "fused" or value == 4 else 0
    return head.depth * (3 * kept - shared + 3 * width * value) / outside


def _head(config: configs.ModelConfig, layout: Layout, numbers: Numbers, norms: Norms) -> dict[str, float]:
    """The final norms, of as many tokens as the batch has, and a language model's logits with what its loss takes."""
    width, value, tokens = config.embedding.width, numbers.activations, layout.tokens_per_device
    outside = layout.tensor if layout.sequence_parallel else 1
    final = sum(_final_norm(stack, width, value, norms) for stack in config.stacks) / outside
    parts = {"activations: final norm": final * tokens}
    if not isinstance(config.head, configs.VocabularyHead):
        return parts
    vocabulary = split(config.embedding.vocabulary, layout.tensor)
    losses = 1 + config.head.depth if isinstance(config.head, configs.MultiTokenHead) else 1
    if layout.logits == "whole":
        return parts | {"loss": losses * tokens * vocabulary * float(_LOSS_BYTES)}
    return parts | {"loss": _projected_loss(tokens, width, vocabulary, value, losses)}


def _projected_loss(tokens: int, width: int, vocabulary: int, value: int, losses: int) -> float:
    """While a part of the last loss's logits exists, in float32 and, where that is another, in the model's numbers,
    with the gradients of features and projection; or later, while these gradients are scaled, the projection's in
    float32. Other losses have theirs meanwhile."""
    logits = min(tokens * vocabulary, _PROJECTED_LOGITS) * (4 + (value if value < 4 else 0))
    projection, features = vocabulary * width, tokens * width * value
    kept = projection * 4 + features
    return float((losses - 1) * kept + max(logits + projection * (4 + value) + features, 2 * kept))


def _final_norm(stack: configs.Stack, width: int, value: int, norms: Norms) -> float:
    """Bytes a token: what it keeps, and its output, which the head keeps. Without one, the head keeps the last block's
    output."""
    return width * value + (kept_by_norm(stack.final_norm, width, value, norms) if stack.final_norm else 0)


def _notes(config: configs.ModelConfig) -> tuple[str, ...]:
    notes = [NOT_COUNTED]
    biased = configs.Alibi | configs.RelativeBias | configs.Shaw | configs.TransformerXL
    blocks = [block for stack in config.stacks for block in stack.blocks]
    shared = any(stack.relative_bias is not None for stack in config.stacks)
    if shared or any(isinstance(block.attention.position, biased) for block in blocks):
        notes.append("not counted: the biases of distances, length × length for each head")
    if any(block.attention.pattern is not None for block in blocks):
        notes.append("not counted: dense masks of sparse layers, where no block mask stands for them")
    return tuple(notes)
