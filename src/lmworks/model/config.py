"""The shape of a model as data: small nested frozen dataclasses, free of torch.

An architecture is a value, not a class: `presets.py` builds one per family, and no forward reads a family name. The
tree of configs has the shape of the tree of modules, so per-layer variety is just another tuple of blocks.
"""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Norm:
    """`layer`: by mean and variance, with bias (Ba et al. 2016). `rms`: by root mean square (Zhang & Sennrich 2019)."""

    kind: Literal["layer", "rms"]
    eps: float


@dataclass(frozen=True)
class Rope:
    """Rotary position embedding of the whole head (Su et al. 2021); `theta` is the base of its wavelengths."""

    theta: float


@dataclass(frozen=True)
class Attention:
    """Scaled dot-product attention (Vaswani et al. 2017, section 3.2), with grouped keys and values (Ainslie et al.
    2023).

    Every group of `heads / kv_heads` query heads shares one key head and one value head. `scale` multiplies the scores;
    None is `head_dim ** -0.5`. `qk_norm` normalises each query and key head before the rotation (Henry et al. 2020).
    """

    heads: int
    kv_heads: int
    head_dim: int
    bias: bool = False
    scale: float | None = None
    rope: Rope | None = None
    qk_norm: Norm | None = None

    def __post_init__(self) -> None:
        if self.heads % self.kv_heads:
            raise ValueError(f"{self.heads} query heads cannot share {self.kv_heads} key heads evenly")
        if self.rope is not None and self.head_dim % 2:
            raise ValueError(f"a rotary embedding rotates pairs, so head_dim must be even, got {self.head_dim}")


@dataclass(frozen=True)
class FeedForward:
    """`down(activation(up(x)))`, or `down(activation(gate(x)) * up(x))` when gated (Shazeer 2020)."""

    hidden: int
    activation: Literal["silu", "gelu", "gelu_tanh", "relu"]
    gated: bool = False
    bias: bool = False


@dataclass(frozen=True)
class Block:
    """One layer. `pre`: `x + f(norm(x))`. `post`: `norm(x + f(x))` (Xiong et al. 2020 compare them)."""

    attention: Attention
    feed_forward: FeedForward
    norm: Norm
    norm_at: Literal["pre", "post"]


@dataclass(frozen=True)
class Stack:
    """Blocks in order. `causal`: a position attends only to itself and what came before."""

    blocks: tuple[Block, ...]
    causal: bool
    final_norm: Norm | None = None


@dataclass(frozen=True)
class Learned:
    """A table with one learned vector for each of `length` absolute positions."""

    length: int


@dataclass(frozen=True)
class Embedding:
    """Token vectors, plus learned position vectors and token-type (segment) vectors if there are any, then `norm`."""

    vocabulary: int
    width: int
    positions: Learned | None = None
    token_types: int = 0
    norm: Norm | None = None


@dataclass(frozen=True)
class LanguageModelHead:
    """Logits over the vocabulary; `tied`: the projection is the token embedding itself (Press & Wolf 2017)."""

    tied: bool


@dataclass(frozen=True)
class PoolHead:
    """One vector per text (Reimers & Gurevych 2019, section 3): the mean of its tokens, or its first one (`cls`)."""

    pooling: Literal["mean", "cls"] = "mean"
    normalize: bool = True


@dataclass(frozen=True)
class ModelConfig:
    """A whole model. `context_length` is the number of positions it was trained for; no `head` gives hidden states."""

    embedding: Embedding
    encoder: Stack | None
    decoder: Stack | None
    head: LanguageModelHead | PoolHead | None
    context_length: int

    def __post_init__(self) -> None:
        if self.encoder is None and self.decoder is None:
            raise ValueError("a model needs an encoder or a decoder")
        if self.encoder is not None and self.encoder.causal:
            raise ValueError("an encoder attends in both directions: build its Stack with causal=False")
        if self.decoder is not None and not self.decoder.causal:
            raise ValueError("a decoder attends to the past only: build its Stack with causal=True")
        learned = self.embedding.positions
        if learned is not None and self.context_length > learned.length:
            raise ValueError(f"context_length {self.context_length} exceeds the {learned.length} learned positions")


def count_parameters(config: ModelConfig) -> int:
    """Number of trainable values of `Transformer(config)`, from the config alone; a tied head counts once."""
    width, embedding = config.embedding.width, config.embedding
    rows = embedding.vocabulary + embedding.token_types + (embedding.positions.length if embedding.positions else 0)
    total = rows * width + _norm_parameters(embedding.norm, width)
    for stack in (config.encoder, config.decoder):
        if stack is not None:
            total += sum(_block_parameters(block, width) for block in stack.blocks)
            total += _norm_parameters(stack.final_norm, width)
    if isinstance(config.head, LanguageModelHead) and not config.head.tied:
        total += embedding.vocabulary * width
    return total


def kv_bytes_per_token(config: ModelConfig, bytes_per_value: int) -> int:
    """Bytes of keys and values that the decoder keeps for each token of context; 2 bytes per value for bfloat16."""
    if config.decoder is None:
        raise ValueError("only a decoder keeps keys and values")
    return sum(2 * b.attention.kv_heads * b.attention.head_dim for b in config.decoder.blocks) * bytes_per_value


def _norm_parameters(norm: Norm | None, width: int) -> int:
    if norm is None:
        return 0
    return {"layer": 2, "rms": 1}[norm.kind] * width


def _block_parameters(block: Block, width: int) -> int:
    attention, feed_forward = block.attention, block.feed_forward
    query, keys = attention.heads * attention.head_dim, attention.kv_heads * attention.head_dim
    total = 2 * width * (query + keys) + 2 * _norm_parameters(attention.qk_norm, attention.head_dim)
    total += (query + 2 * keys + width) * attention.bias
    up = (1 + feed_forward.gated) * feed_forward.hidden
    total += width * (up + feed_forward.hidden) + (up + width) * feed_forward.bias
    return total + 2 * _norm_parameters(block.norm, width)
