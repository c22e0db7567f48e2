"""The shape of a model as data: small nested frozen dataclasses, free of torch.

An architecture is a value, not a class: `presets/` builds one per family, and no forward reads a family name. The
tree of configs has the shape of the tree of modules, so per-layer variety is just another tuple of blocks. A part that
comes in several kinds is a union of dataclasses, told apart by their constant `kind`.
"""

from dataclasses import dataclass
from typing import Literal

from lmworks.model.position_config import (  # noqa: F401 - the scalings are handed out with the rest
    Alibi,
    Learned,
    LinearScaling,
    Llama3Scaling,
    RelativeBias,
    Rope,
    Shaw,
    Sinusoidal,
    TransformerXL,
    YarnScaling,
)


def _positive(**sizes: float | None) -> None:
    for name, size in sizes.items():
        if size is not None and size <= 0:
            raise ValueError(f"{name} must be above 0, got {size}")


Activation = Literal["silu", "gelu", "gelu_tanh", "relu", "relu2", "tanh"]


@dataclass(frozen=True)
class Norm:
    """`layer`: by mean and variance, with bias (Ba et al. 2016). `rms`: by root mean square (Zhang & Sennrich 2019).

    `offset` is added to the stored weight: 1 in Gemma, whose weights are kept as their distance from one.
    """

    kind: Literal["layer", "rms"]
    eps: float
    offset: float = 0.0

    def __post_init__(self) -> None:
        if self.kind == "layer" and self.offset:
            raise ValueError("only an rms norm has an offset")


# ---------------------------------------------------------------------------------------------------------------------
# Attention


@dataclass(frozen=True)
class Window:
    """A position sees the `size` nearest ones that the stack lets it see, itself included (Beltagy et al. 2020)."""

    size: int
    kind: Literal["window"] = "window"

    def __post_init__(self) -> None:
        _sees_itself(self.size)


@dataclass(frozen=True)
class Banded:
    """Blocks of `block` positions; a position sees its own block and the `bands - 1` before it, and, in an encoder,
    after it: the locally banded pattern that alternates with dense attention in GPT-3 (Child et al. 2019)."""

    block: int
    bands: int
    kind: Literal["banded"] = "banded"

    def __post_init__(self) -> None:
        _sees_itself(min(self.block, self.bands))


@dataclass(frozen=True)
class WindowAndGlobal:
    """A window, and the first `global_tokens` positions, which see and are seen by all (Longformer, Beltagy et al.
    2020; BigBird, Zaheer et al. 2020)."""

    size: int
    global_tokens: int
    kind: Literal["window_and_global"] = "window_and_global"

    def __post_init__(self) -> None:
        _sees_itself(self.size)


def _sees_itself(size: int) -> None:
    if size < 1:
        raise ValueError(f"a position sees at least itself: a pattern's sizes are 1 or more, got {size}")


Pattern = Window | Banded | WindowAndGlobal


@dataclass(frozen=True)
class Attention:
    """Scaled dot-product attention (Vaswani et al. 2017, section 3.2), with grouped keys and values (Ainslie et al.
    2023).

    Every group of `heads / kv_heads` query heads shares one key head and one value head: `kv_heads == heads` is
    multi-head, 1 is multi-query attention.

    bias         of the query, key and value projections; `output_bias` of the output projection, None: like `bias`.
    scale        multiplies the scores; None is `head_dim ** -0.5`.
    position     how the scores learn of positions.
    qk_norm      normalises each query and key head before the rotation (Henry et al. 2020).
    pattern      sparse attention; None sees everything that the stack allows.
    softcap      scores become `softcap * tanh(scores / softcap)` (Bello et al. 2016; Gemma 2).
    sinks        a learned logit per head that takes part in the softmax and has no value (Xiao et al. 2024).
    """

    heads: int
    kv_heads: int
    head_dim: int
    bias: bool = False
    output_bias: bool | None = None
    scale: float | None = None
    position: Rope | Alibi | RelativeBias | Shaw | TransformerXL | None = None
    qk_norm: Norm | None = None
    pattern: Pattern | None = None
    softcap: float | None = None
    sinks: bool = False

    def __post_init__(self) -> None:
        _positive(head_dim=self.head_dim, softcap=self.softcap)
        if min(self.heads, self.kv_heads) < 1 or self.heads % self.kv_heads:
            raise ValueError(f"{self.heads} query heads cannot share {self.kv_heads} key heads evenly")
        if isinstance(self.position, Rope) and int(self.head_dim * self.position.fraction) % 2:
            raise ValueError(
                f"a rotary embedding rotates pairs: {self.position.fraction} of head_dim {self.head_dim} is odd"
            )

    @property
    def rope(self) -> Rope | None:
        return self.position if isinstance(self.position, Rope) else None

    @property
    def has_output_bias(self) -> bool:
        return self.bias if self.output_bias is None else self.output_bias


# ---------------------------------------------------------------------------------------------------------------------
# Feed-forward


@dataclass(frozen=True)
class FeedForward:
    """`down(activation(up(x)))`, or `down(activation(gate(x)) * up(x))` when gated (Shazeer 2020)."""

    hidden: int
    activation: Activation
    gated: bool = False
    bias: bool = False
    kind: Literal["dense"] = "dense"

    def __post_init__(self) -> None:
        _positive(hidden=self.hidden)


@dataclass(frozen=True)
class MixtureOfExperts:
    """Each token runs through the `top_k` of `experts` that a linear router prefers (Shazeer et al. 2017).

    The outputs are added with the router's softmax as weights: `normalise` makes the chosen ones sum to one (GShard,
    Mixtral), without it the weight is the plain probability (Switch).

    shared             an expert that every token runs through besides (DeepSeekMoE, Dai et al. 2024).
    capacity           each expert takes at most so many tokens of one sequence, the earliest ones; the rest pass by on
                       the residual connection (Fedus et al. 2022, section 2.2). None drops none.
    capacity_factor    the same as a share: `ceil(capacity_factor * top_k * length / experts)` tokens.
    """

    expert: FeedForward
    experts: int
    top_k: int
    normalise: bool = True
    shared: FeedForward | None = None
    capacity: int | None = None
    capacity_factor: float | None = None
    kind: Literal["mixture_of_experts"] = "mixture_of_experts"

    def __post_init__(self) -> None:
        if not 1 <= self.top_k <= self.experts:
            raise ValueError(f"top_k must lie between 1 and the {self.experts} experts, got {self.top_k}")
        if self.capacity is not None and self.capacity_factor is not None:
            raise ValueError("give a capacity or a capacity_factor, not both")
        _positive(capacity=self.capacity, capacity_factor=self.capacity_factor)


# ---------------------------------------------------------------------------------------------------------------------
# Blocks, stacks, embeddings


@dataclass(frozen=True)
class Block:
    """One layer: attention, cross-attention to an encoder where there is one, feed-forward.

    pre       `x + f(norm(x))`
    post      `norm(x + f(x))` (Xiong et al. 2020 compare the two)
    sandwich  `x + post_norm(f(norm(x)))` (Ding et al. 2021; Gemma 2)
    parallel  `x + attention(norm_1(x)) + feed_forward(norm_2(x))` (Wang & Komatsuzaki 2021; GPT-NeoX)
    """

    attention: Attention
    feed_forward: FeedForward | MixtureOfExperts
    norm: Norm
    norm_at: Literal["pre", "post", "sandwich", "parallel"]
    cross: Attention | None = None

    def __post_init__(self) -> None:
        if self.cross is not None and self.norm_at == "parallel":
            raise ValueError("a parallel block has no cross-attention")
        if self.cross is not None and (self.cross.position is not None or self.cross.pattern is not None):
            raise ValueError("cross-attention knows no distances: build it without position and pattern")


@dataclass(frozen=True)
class Stack:
    """Blocks in order. `causal`: a position attends only to itself and what came before.

    `relative_bias` is one bias for all blocks, as in T5; a bias of a block's own is that block's `attention.position`.
    """

    blocks: tuple[Block, ...]
    causal: bool
    final_norm: Norm | None = None
    relative_bias: RelativeBias | None = None

    def __post_init__(self) -> None:
        if not self.blocks:
            raise ValueError("a stack needs a block")
        if self.relative_bias is not None and len({block.attention.heads for block in self.blocks}) > 1:
            raise ValueError("blocks that share one relative bias need the same number of heads")


@dataclass(frozen=True)
class Embedding:
    """Token vectors times `scale`, plus position vectors and token-type (segment) vectors if there are any, then
    `norm`."""

    vocabulary: int
    width: int
    positions: Learned | Sinusoidal | None = None
    token_types: int = 0
    norm: Norm | None = None
    scale: float | None = None

    def __post_init__(self) -> None:
        _positive(vocabulary=self.vocabulary, width=self.width)


# ---------------------------------------------------------------------------------------------------------------------
# Heads


@dataclass(frozen=True)
class LanguageModelHead:
    """Logits over the vocabulary; `tied`: the projection is the token embedding itself (Press & Wolf 2017).

    `scale` multiplies the hidden states before (T5: width ** -0.5); `bias` is added to the logits; `softcap` as in
    `Attention`.
    """

    tied: bool
    bias: bool = False
    scale: float | None = None
    softcap: float | None = None
    kind: Literal["language_model"] = "language_model"


@dataclass(frozen=True)
class MaskedLanguageModelHead:
    """BERT's (Devlin et al. 2019): dense, activation, norm, then the token embedding as projection, with a bias."""

    activation: Activation
    norm: Norm
    kind: Literal["masked_language_model"] = "masked_language_model"


@dataclass(frozen=True)
class SpanBoundaryHead:
    """SpanBERT's (Joshi et al. 2020, section 3.2): a masked-language-model head, and beside it a network that predicts
    each token of a span from the span's two outer neighbours and the token's place in it, up to `max_span`."""

    masked: MaskedLanguageModelHead
    max_span: int
    position_width: int = 200
    kind: Literal["span_boundary"] = "span_boundary"


@dataclass(frozen=True)
class NextSentenceHead:
    """BERT's of pre-training (Devlin et al. 2019, section 3.1): a masked-language-model head, and beside it whether the
    second of two texts follows on the first, read off the first token through a dense layer and tanh."""

    masked: MaskedLanguageModelHead
    kind: Literal["next_sentence"] = "next_sentence"


@dataclass(frozen=True)
class PoolHead:
    """One vector per text (Reimers & Gurevych 2019, section 3): the mean of its tokens, or its first (`cls`) or last
    one."""

    pooling: Literal["mean", "cls", "last"] = "mean"
    normalize: bool = True
    kind: Literal["pool"] = "pool"


@dataclass(frozen=True)
class ClassificationHead:
    """One logit per label for each text, from the pooled hidden state.

    `activation`: a dense layer of the model's width and this activation come first (RoBERTa, BART; BERT's pooler).
    """

    labels: int
    pooling: Literal["mean", "cls", "last"] = "cls"
    activation: Activation | None = "tanh"
    bias: bool = True
    kind: Literal["classification"] = "classification"


@dataclass(frozen=True)
class ScoreHead:
    """One number per text, as a reward model or a reranker gives (Ouyang et al. 2022, section 3.5); `pooling` None:
    one number per position, as a critic gives."""

    pooling: Literal["mean", "cls", "last"] | None = "last"
    bias: bool = False
    kind: Literal["score"] = "score"


@dataclass(frozen=True)
class MultiTokenHead:
    """DeepSeek-V3's (2024, section 2.2): a language model head, and beside it, for each of `depth` further tokens, a
    norm of the hidden states and of the token that came last, a projection of both to one, a `block`, and a `norm`."""

    next: LanguageModelHead
    block: Block
    norm: Norm
    depth: int = 1
    kind: Literal["multi_token"] = "multi_token"

    def __post_init__(self) -> None:
        _positive(depth=self.depth)
        if self.block.cross is not None:
            raise ValueError("the block of a further token has no cross-attention")


# Those that give logits over the vocabulary.
VocabularyHead = LanguageModelHead | MaskedLanguageModelHead | SpanBoundaryHead | NextSentenceHead | MultiTokenHead
Head = VocabularyHead | PoolHead | ClassificationHead | ScoreHead


@dataclass(frozen=True)
class ModelConfig:
    """A whole model. `context_length` is the number of positions it was trained for; no `head` gives hidden states.

    With both stacks it is an encoder–decoder. The two share the token vectors; `decoder_embedding` gives the decoder
    positions and a norm of its own, without it everything is shared.
    """

    embedding: Embedding
    encoder: Stack | None
    decoder: Stack | None
    head: Head | None
    context_length: int
    decoder_embedding: Embedding | None = None

    def __post_init__(self) -> None:
        if self.encoder is None and self.decoder is None:
            raise ValueError("a model needs an encoder or a decoder")
        _positive(context_length=self.context_length)
        if self.encoder is not None and self.encoder.causal:
            raise ValueError("an encoder attends in both directions: build its Stack with causal=False")
        if self.decoder is not None and not self.decoder.causal:
            raise ValueError("a decoder attends to the past only: build its Stack with causal=True")
        both = self.encoder is not None and self.decoder is not None
        encoder, decoder = (stack.blocks if stack else () for stack in (self.encoder, self.decoder))
        if any(block.cross for block in encoder) or any((block.cross is not None) != both for block in decoder):
            raise ValueError("every decoder block of an encoder–decoder has cross-attention, and no other block has")
        if isinstance(self.head, MultiTokenHead) and (both or self.decoder is None):
            raise ValueError("only a decoder alone predicts several tokens")
        if self.decoder_embedding is not None and not both:
            raise ValueError("decoder_embedding belongs to a model with an encoder and a decoder")
        methods = {block.attention.position for block in (*encoder, *decoder)}
        methods |= {embedding.positions for embedding in (self.embedding, self.decoder_embedding) if embedding}
        if self.embedding.width % 2 and any(isinstance(method, Sinusoidal | TransformerXL) for method in methods):
            raise ValueError(f"sines and cosines come in pairs: the width {self.embedding.width} is odd")
        for embedding in filter(None, (self.embedding, self.decoder_embedding)):
            self._check_embedding(embedding)

    def _check_embedding(self, embedding: Embedding) -> None:
        learned = embedding.positions
        if isinstance(learned, Learned) and self.context_length > learned.length:
            raise ValueError(f"context_length {self.context_length} exceeds the {learned.length} learned positions")
        if (embedding.vocabulary, embedding.width) != (self.embedding.vocabulary, self.embedding.width):
            raise ValueError("encoder and decoder share the token vectors: their embeddings need the same sizes")

    @property
    def stacks(self) -> tuple[Stack, ...]:
        """The stacks there are, the encoder first."""
        return tuple(stack for stack in (self.encoder, self.decoder) if stack is not None)
