"""The shape of a model as data: small nested frozen dataclasses, free of torch.

An architecture is a value, not a class: `presets/` builds one per family, and no forward reads a family name. The
tree of configs has the shape of the tree of modules, so per-layer variety is just another tuple of blocks. A part that
comes in several kinds is a union of dataclasses, which their constant `kind` distinguish. Here are the larger parts;
those of a block, and positional encodings, are in `block_config.py`.
"""

from dataclasses import dataclass
from typing import Literal

from lmworks.model.block_config import (  # noqa: F401 - a block's parts are handed out with the rest
    Activation,
    Alibi,
    Attention,
    Banded,
    Block,
    FeedForward,
    Learned,
    LinearScaling,
    Llama3Scaling,
    MixtureOfExperts,
    Norm,
    Pattern,
    RelativeBias,
    Rope,
    Shaw,
    Sinusoidal,
    TransformerXL,
    Window,
    WindowAndGlobal,
    YarnScaling,
    positive,
)  # fmt: skip


class UnsupportedModel(ValueError):  # noqa: N818
    """A model that is described well, and that `lmworks` does not compute; the message names the field."""


# ---------------------------------------------------------------------------------------------------------------------
# Stacks, embeddings


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
        positive(vocabulary=self.vocabulary, width=self.width)


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
    """SpanBERT's (Joshi et al. 2020, section 3.2): a masked-language-model head, and next to it a network that predicts
    each token of a span from the span's two outer neighbours and the token's place in it, up to `max_span`."""

    masked: MaskedLanguageModelHead
    max_span: int
    position_width: int = 200
    kind: Literal["span_boundary"] = "span_boundary"


@dataclass(frozen=True)
class NextSentenceHead:
    """BERT's of pre-training (Devlin et al. 2019, section 3.1): a masked-language-model head, and next to it whether
    the second of two texts follows on the first, read off the first token through a dense layer and tanh."""

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
class SpanHead:
    """Two numbers per position, that an answer starts and that it ends there (Devlin et al. 2019, section 4.2)."""

    kind: Literal["span"] = "span"


@dataclass(frozen=True)
class MultiTokenHead:
    """DeepSeek-V3's (2024, section 2.2): a language model head, and next to it, for each of `depth` further tokens, a
    norm of the hidden states and of the token that came last, a projection of both to one, a `block`, and a `norm`."""

    next: LanguageModelHead
    block: Block
    norm: Norm
    depth: int = 1
    kind: Literal["multi_token"] = "multi_token"

    def __post_init__(self) -> None:
        positive(depth=self.depth)
        if self.block.cross is not None:
            raise ValueError("the block of a further token has no cross-attention")


# Those that give logits over the vocabulary.
VocabularyHead = LanguageModelHead | MaskedLanguageModelHead | SpanBoundaryHead | NextSentenceHead | MultiTokenHead
Head = VocabularyHead | PoolHead | ClassificationHead | ScoreHead | SpanHead


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
        positive(context_length=self.context_length)
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
            learned = embedding.positions
            if isinstance(learned, Learned) and self.context_length > learned.length:
                raise ValueError(f"context_length {self.context_length} exceeds the {learned.length} learned positions")
            if (embedding.vocabulary, embedding.width) != (self.embedding.vocabulary, self.embedding.width):
                raise ValueError("encoder and decoder share the token vectors: their embeddings need the same sizes")

    @property
    def stacks(self) -> tuple[Stack, ...]:
        """The stacks there are, the encoder first."""
        return tuple(stack for stack in (self.encoder, self.decoder) if stack is not None)
