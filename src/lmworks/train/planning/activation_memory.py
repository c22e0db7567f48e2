"""Bytes that the forward keeps for the backward, per token and part of a block: what autograd saves of our modules.

For a pre-norm block of width h with a plain feed-forward of 4 h and 16-bit numbers this is 32 h bytes a token: the
34 h of Korthikanti et al. 2022, section 4.1, without their two dropout masks, and without their 5 · heads · length,
since scaled dot-product attention keeps no scores (Dao et al. 2022).

Tensor parallelism divides what lies between a block's norms, sequence parallelism the norms and residuals as well
(Korthikanti et al. 2022, section 4.2), but for what the projections read and what is to be summed: gathered for the
forward, it is kept whole, where they keep a part and gather again. With context parallelism attention keeps the keys
and values of the whole sequence. Free of torch.
"""

from lmworks.model import config as configs
from lmworks.train.config import Recompute
from lmworks.train.planning.layout import Layout, Norms, Numbers
from lmworks.train.planning.parameter_shards import split

_STATISTIC = 4  # bytes of a mean, a scale, a log-sum-exp: float32 whatever the model's numbers
_INDEX = 8  # bytes of an int64


def block_activations(
    block: configs.Block,
    width: int,
    layout: Layout,
    numbers: Numbers,
    norms: Norms = "fused",
    recompute: Recompute | None = None,
) -> dict[str, float]:
    """Bytes for each token of a micro-batch on one device, by part; `recompute` is the layout's if not given.

    Experts are taken to be used evenly. Not counted: n × n biases of ALiBi, T5, Shaw and Transformer-XL, and dense
    masks; `memory.expected_memory` says so in its notes.
    """
    kept = layout.recompute if recompute is None else recompute
    outside = layout.tensor if layout.sequence_parallel else 1  # what divides norms and residuals
    value = numbers.activations
    if kept == "blocks":
        return {"block inputs": width * value / outside}
    if kept == "selective":
        return _matmuls(block, width, layout, value, outside)
    read = (3 if block.cross is not None else 2) * width * value  # by the projections, on every device whole
    parts = {
        "norms": _norms(block, width, value, norms) / outside + read,
        "attention": _attention(block.attention, layout, value, norms),
    }
    if block.cross is not None:
        parts["cross-attention"] = _attention(block.cross, layout, value, norms)
    parts["feed-forward"] = _feed_forward(block.feed_forward, width, layout, value)
    return parts


def _matmuls(block: configs.Block, width: int, layout: Layout, value: int, outside: int) -> dict[str, float]:
    """The block's input, the outputs of all its matrix products, and attention with its log-sum-exp."""
    attentions = [attention for attention in (block.attention, block.cross) if attention is not None]
    network = block.feed_forward
    if isinstance(network, configs.FeedForward):
        runs = [(network, 1)]
    else:
        shared = [(network.shared, 1)] if network.shared is not None else []
        runs = [(network.expert, network.top_k), *shared]
    inner = sum(times * split(each.hidden, layout.tensor) * (2 if each.gated else 1) for each, times in runs)
    return {
        "block inputs": width * value / outside,
        "attention": sum(_core(attention, layout, value) + width * value for attention in attentions),
        "feed-forward": inner * value + sum(times for _, times in runs) * width * value,
    }


def _norms(block: configs.Block, width: int, value: int, norms: Norms) -> float:
    """Inputs of the norms and their statistics."""
    inputs = 3 if block.cross is not None else 2
    if block.norm_at == "sandwich":
        inputs *= 2  # what the second norms give is added, and not kept
    total = inputs * kept_by_norm(block.norm, width, value, norms)
    if block.norm_at == "parallel":  # both norms read one input
        total -= width * (value if block.norm.kind == "layer" or norms == "fused" else 4)
    return total


def kept_by_norm(norm: configs.Norm, width: int, value: int, norms: Norms) -> float:
    """Values that a norm keeps of each row besides its output."""
    if norm.kind == "layer":
        return width * value + 2 * _STATISTIC
    if norms == "composed":
        return width * 2 * max(value, 4) + _STATISTIC  # the input and the normalised one, in float32
    return width * (max(value, 4) if norm.offset else value) + _STATISTIC


def _core(attention: configs.Attention, layout: Layout, value: int) -> float:
    """Queries, keys, values, what attention gives, and the log-sum-exp of each head."""
    heads, kv_heads = attention.heads // layout.tensor, split(attention.kv_heads, layout.tensor)
    return (2 * heads + 2 * kv_heads) * attention.head_dim * value + heads * _STATISTIC


def _attention(attention: configs.Attention, layout: Layout, value: int, norms: Norms) -> float:
    heads, kv_heads = attention.heads // layout.tensor, split(attention.kv_heads, layout.tensor)
    total = _core(attention, layout, value)
    total += 2 * kv_heads * attention.head_dim * value * (layout.context - 1)
    if attention.qk_norm is not None:
        total += (heads + kv_heads) * kept_by_norm(attention.qk_norm, attention.head_dim, value, norms)
    if attention.softcap is not None or attention.sinks:  # computed plainly: the scores are kept
        scores = (value if attention.softcap is not None else 0) + max(value, 4) + (value if value < 4 else 0)
        total += heads * layout.length * scores
        repeated = (heads - kv_heads) * layout.context
        total += 2 * repeated * attention.head_dim * value - heads * _STATISTIC  # of keys and values
    return total


def _feed_forward(
    network: configs.FeedForward | configs.MixtureOfExperts, width: int, layout: Layout, value: int
) -> float:
    if isinstance(network, configs.FeedForward):
        return _inner(network, layout) * value
    top_k = network.top_k
    copies = 2 * width * value  # the tokens sent to an expert, and its output, which the weights multiply
    routing = 4 * network.experts + top_k * (3 * 4 + 3 * _INDEX)  # probabilities, weights, choices and their orders
    routing += width * 4 if value < 4 else 0  # the router's input in float32
    total = top_k * (_inner(network.expert, layout) * value + copies) + routing
    return total if network.shared is None else total + _inner(network.shared, layout) * value


def _inner(network: configs.FeedForward, layout: Layout) -> int:
    """Values of the hidden width. An activation keeps its input, but ReLU and tanh their output, which is also what the
    next product keeps."""
    hidden = split(network.hidden, layout.tensor)
    by_output = network.activation in ("relu", "tanh")
    plain = 1 if by_output else 2
    return hidden * (plain + 2 if network.gated else plain)
