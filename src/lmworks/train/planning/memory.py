"""Memory of one device in training, by part, for any layout: weights, gradients, optimizer, activations, logits.

States follow Rajbhandari et al. 2020, section 5, activations Korthikanti et al. 2022, section 4, both on the real
shapes of a config. Free of torch.
"""

from collections import defaultdict
from dataclasses import dataclass, field

from lmworks.model import config as configs
from lmworks.train.config import Recompute
from lmworks.train.planning.device_share import DeviceShare, device_share
from lmworks.train.planning.layout import NUMBERS, OPTIMIZERS, Layout, Norms, Numbers, pieces_in_flight

# Bytes of each logit at the peak of a loss of whole logits, in float32: its log-probability, which is kept, and during
# the backward the gradients of that and of itself. The logits are gone by then, unless somebody holds on to them.
_LOSS_BYTES = 12
_PROJECTED_LOGITS = 2**22  # that exist at a time where they are projected in parts (`losses.LOGITS_AT_A_TIME`)
_STATISTIC = 4  # bytes of a mean, a scale, a log-sum-exp: float32 whatever the model's numbers
_INDEX = 8  # bytes of an int64
NOT_COUNTED = "not counted: the context of the device, buffers of collectives, workspaces, fragmentation"


@dataclass(frozen=True)
class Memory:
    """Bytes of one device by part. `rank` is its place in the pipeline; `notes` say what is not counted."""

    parts: dict[str, float]
    rank: int
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
    memories = []
    for number in range(layout.pipeline) if rank is None else [rank]:
        share = device_share(config, layout, number)
        parts = _states(share, numbers, OPTIMIZERS[optimizer]) | _Activations(share, numbers.activations, norms).parts()
        memories.append(Memory({name: size for name, size in parts.items() if size}, number, _notes(config)))
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


def _states(share: DeviceShare, numbers: Numbers, state_values: int) -> dict[str, float]:
    """An expert is on fewer devices than a dense weight, and divided among fewer."""
    layout = share.layout
    sharded = share.dense / layout.shards + share.experts / (layout.shards // layout.expert)
    whole, zero = float(share.parameters), layout.zero
    per_optimizer = numbers.master + state_values * numbers.state
    parts = {
        "weights": numbers.weights * (sharded if zero >= 3 else whole),
        "gradients": numbers.gradients * (sharded if zero >= 2 else whole),
        "optimizer": per_optimizer * (sharded if zero >= 1 else whole),
    }
    if zero >= 3 and layout.shards > 1:  # this block and the next, which is fetched meanwhile, and the two ends
        parts["gathered weights"] = numbers.weights * (2 * share.largest_block + share.ends)
    if zero >= 2 and layout.shards > 1:  # of one block, before they are summed and divided
        parts["gradients of a block"] = numbers.gradients * share.largest_block
    return parts


@dataclass(frozen=True)
class _Activations:
    """Bytes that autograd saves of our modules on one device, whose activations have `value` bytes each: of each token
    of a micro-batch, where no total is said.

    For a pre-norm block of width h with a plain feed-forward of 4 h and 16-bit numbers this is 32 h bytes a token: the
    34 h of Korthikanti et al. 2022, section 4.1, without their two dropout masks, and without their 5 · heads · length,
    since scaled dot-product attention keeps no scores (Dao et al. 2022).

    Tensor parallelism divides what lies between a block's norms, sequence parallelism the norms and residuals as well
    (Korthikanti et al. 2022, section 4.2), but for what the projections read and what is to be summed: gathered for the
    forward, it is kept whole, where they keep a part and gather again. With context parallelism attention keeps the
    keys and values of the whole sequence. Experts are taken to be used evenly. Not counted: see `_notes`.
    """

    share: DeviceShare
    value: int
    norms: Norms

    @property
    def layout(self) -> Layout:
        return self.share.layout

    @property
    def width(self) -> int:
        return self.share.config.embedding.width

    @property
    def hidden(self) -> int:
        """Bytes of a token's hidden state."""
        return self.width * self.value

    @property
    def outside(self) -> int:
        """Among how many devices norms and residuals are divided."""
        return self.layout.tensor if self.layout.sequence_parallel else 1

    def parts(self) -> dict[str, float]:
        """Bytes of the device by part, at the peak."""
        share, layout, tokens = self.share, self.layout, self.layout.tokens_per_device
        in_flight, head = pieces_in_flight(layout, share.rank), share.config.head
        parts: defaultdict[str, float] = defaultdict(float)
        recomputed = passing = 0.0
        further = [head.block] * head.depth if share.last and isinstance(head, configs.MultiTokenHead) else []
        for block in (*share.blocks, *further):
            kept = self._block(block, layout.recompute)
            for part, size in kept.items():
                parts[f"activations: {part}"] += size * tokens * in_flight
            # Gradients of the hidden states and of the inner ones of the feed-forward exist at a time.
            network = block.feed_forward
            dense = isinstance(network, configs.FeedForward)
            inner = network.hidden if dense else network.top_k * network.expert.hidden
            passing = max(passing, (self.width + inner) * self.value * tokens)
            if layout.recompute != "nothing":
                whole = sum(self._block(block, "nothing").values())
                recomputed = max(recomputed, (whole - sum(kept.values())) * tokens)
        if share.last:
            if isinstance(head, configs.MultiTokenHead):
                # Of the steps ahead, outside of their blocks: inputs of two norms, their outputs side by side, and the
                # final norm's. The first input is the output of a final norm, and counted there.
                same = head.norm.kind == "layer" or self.norms == "fused" or self.value == 4
                kept_of_token = 3 * self._norm(head.norm, self.width) + (2 if same else 3) * self.hidden
                parts["activations: further tokens"] = head.depth * kept_of_token / self.outside * tokens
            # Its input and its output, which the head keeps; without a norm, it keeps the last block's.
            norms = [stack.final_norm for stack in share.config.stacks]
            kept_of_token = sum(self.hidden + (self._norm(norm, self.width) if norm else 0) for norm in norms)
            parts["activations: final norm"] = kept_of_token / self.outside * tokens
            if isinstance(head, configs.VocabularyHead):
                parts["loss"] = self._loss(1 + len(further))
        # A block runs backward when what the loss took is free again.
        parts["working block"] = max(recomputed + passing - parts.get("loss", 0.0), 0.0)
        return parts

    def _block(self, block: configs.Block, recompute: Recompute) -> dict[str, float]:
        """Bytes that a block keeps, by part."""
        attentions = {"attention": block.attention, "cross-attention": block.cross}
        attentions = {name: attention for name, attention in attentions.items() if attention is not None}
        if recompute == "blocks":
            return {"block inputs": self.hidden / self.outside}
        if recompute == "selective":  # its input, the outputs of all its matrix products, and attention
            return {
                "block inputs": self.hidden / self.outside,
                "attention": sum(self._core(attention) + self.hidden for attention in attentions.values()),
                "feed-forward": self._products(block.feed_forward),
            }
        read = (1 + len(attentions)) * self.hidden  # by the projections, on every device whole
        return {
            "norms": self._norms(block) / self.outside + read,
            **{name: self._attention(attention) for name, attention in attentions.items()},
            "feed-forward": self._feed_forward(block.feed_forward),
        }

    def _norms(self, block: configs.Block) -> float:
        """Inputs of the norms and their statistics."""
        inputs = 3 if block.cross is not None else 2
        if block.norm_at == "sandwich":
            inputs *= 2  # what the second norms give is added, and not kept
        total = inputs * self._norm(block.norm, self.width)
        if block.norm_at == "parallel":  # both norms read one input
            total -= self.width * (self.value if block.norm.kind == "layer" or self.norms == "fused" else 4)
        return total

    def _norm(self, norm: configs.Norm, width: int) -> float:
        """Bytes that a norm keeps of each row besides its output."""
        if norm.kind == "layer":
            return width * self.value + 2 * _STATISTIC
        if self.norms == "composed":
            return width * 2 * max(self.value, 4) + _STATISTIC  # the input and the normalised one, in float32
        return width * (max(self.value, 4) if norm.offset else self.value) + _STATISTIC

    def _core(self, attention: configs.Attention) -> float:
        """Queries, keys, values, what attention gives, and the log-sum-exp of each head."""
        values = 2 * (attention.heads + attention.kv_heads) * attention.head_dim
        return values * self.value + attention.heads * _STATISTIC

    def _attention(self, attention: configs.Attention) -> float:
        heads, kv_heads, head_dim = attention.heads, attention.kv_heads, attention.head_dim
        context, value = self.layout.context, self.value
        total = self._core(attention) + 2 * kv_heads * head_dim * value * (context - 1)
        if attention.qk_norm is not None:
            total += (heads + kv_heads) * self._norm(attention.qk_norm, head_dim)
        if attention.softcap is not None or attention.sinks:  # computed plainly: the scores are kept
            scores = (value if attention.softcap is not None else 0) + max(value, 4) + (value if value < 4 else 0)
            total += heads * self.layout.length * scores
            repeated = (heads - kv_heads) * context
            total += 2 * repeated * head_dim * value - heads * _STATISTIC  # of keys and values
        return total

    def _feed_forward(self, network: configs.FeedForward | configs.MixtureOfExperts) -> float:
        """An activation keeps its input, but ReLU and tanh their output, which is also what the next product keeps."""
        if isinstance(network, configs.FeedForward):
            kept = 1 if network.activation in ("relu", "tanh") else 2
            return network.hidden * (kept + 2 if network.gated else kept) * self.value
        copies = 2 * self.hidden  # the tokens sent to an expert, and its output, which the weights multiply
        # Probabilities, weights, choices and their orders; and the router's input in float32.
        routing = 4 * network.experts + network.top_k * (3 * 4 + 3 * _INDEX) + (self.width * 4 if self.value < 4 else 0)
        shared = self._feed_forward(network.shared) if network.shared is not None else 0
        return network.top_k * (self._feed_forward(network.expert) + copies) + routing + shared

    def _products(self, network: configs.FeedForward | configs.MixtureOfExperts) -> float:
        """The outputs of the matrix products of a feed-forward."""
        if isinstance(network, configs.FeedForward):
            return network.hidden * (2 if network.gated else 1) * self.value + self.hidden
        shared = self._products(network.shared) if network.shared is not None else 0
        return network.top_k * self._products(network.expert) + shared

    def _loss(self, losses: int) -> float:
        """Bytes of the logits of so many losses, and of what these take.

        Projected in parts: while a part of the last loss's logits exists, in float32 and, where that is another, in the
        model's numbers, with the gradients of features and projection; or later, while these gradients are scaled, the
        projection's in float32. Other losses have theirs meanwhile."""
        tokens, vocabulary, value = self.layout.tokens_per_device, self.share.config.embedding.vocabulary, self.value
        if self.layout.logits == "whole":
            return losses * tokens * vocabulary * float(_LOSS_BYTES)
        logits = min(tokens * vocabulary, _PROJECTED_LOGITS) * (4 + (value if value < 4 else 0))
        projection, features = vocabulary * self.width, tokens * self.hidden
        nbytes = projection * 4 + features
        return float((losses - 1) * nbytes + max(logits + projection * (4 + value) + features, 2 * nbytes))


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
