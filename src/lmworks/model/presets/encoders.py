"""Encoders, which read a text in both directions, and encoder–decoders, whose decoder writes one while attending to it.

A family that changes another one takes its arguments as well: `shape` in its order, `settings` by their names.
"""

from dataclasses import replace
from typing import Any

from lmworks.model.config import (
    Activation,
    Attention,
    Block,
    Embedding,
    FeedForward,
    Head,
    LanguageModelHead,
    Learned,
    MaskedLanguageModelHead,
    MixtureOfExperts,
    ModelConfig,
    Norm,
    RelativeBias,
    Sinusoidal,
    SpanBoundaryHead,
    Stack,
)


def bert(
    vocabulary: int, width: int, layers: int, heads: int, hidden: int, context_length: int = 512,
    token_types: int = 2, activation: Activation = "gelu", norm_eps: float = 1e-12,
    head: Head | None = None,
) -> ModelConfig:  # fmt: skip
    """BERT (Devlin et al. 2019, section 3): the encoder of Vaswani et al. 2017, with learned positions and segments.

    New was not the network but its use: every token sees the whole text in both directions, which a language model must
    not, so it is trained to fill in masked words and then adapted to a task with one small head. With a `PoolHead` it
    is the text embedder of Sentence-BERT (Reimers & Gurevych 2019).
    """
    norm = Norm("layer", norm_eps)
    attention = Attention(heads, heads, width // heads, bias=True)
    feed_forward = FeedForward(hidden, activation, bias=True)
    block = Block(attention, feed_forward, norm, norm_at="post")
    encoder = Stack((block,) * layers, causal=False)
    embedding = Embedding(vocabulary, width, Learned(context_length), token_types, norm)
    return ModelConfig(embedding, encoder, None, head, context_length)


def roberta(*shape: Any, token_types: int = 1, norm_eps: float = 1e-5, offset: int = 2, **settings: Any) -> ModelConfig:
    """RoBERTa (Liu et al. 2019, section 4): BERT without segments, its positions from row `offset` of their table on.

    New was the training alone: ten times the data, longer, in larger batches, with masks redrawn each time, bytes
    instead of characters in the vocabulary, and no next-sentence prediction.
    """
    config = bert(*shape, token_types=token_types, norm_eps=norm_eps, **settings)
    return replace(config, embedding=replace(config.embedding, positions=Learned(config.context_length, offset)))


def spanbert(*shape: Any, max_span: int = 10, **settings: Any) -> ModelConfig:
    """SpanBERT (Joshi et al. 2020, section 3): BERT with a second objective.

    New: whole spans of words are masked, of up to `max_span` words, and each token of a span is also predicted from
    the span's two outer neighbours alone, so that they learn to summarise it. Its text is one segment.
    """
    head = SpanBoundaryHead(MaskedLanguageModelHead("gelu", Norm("layer", 1e-12)), max_span)
    return bert(*shape, head=head, **settings)


def transformer(
    vocabulary: int, width: int, layers: int, heads: int, hidden: int, context_length: int = 512
) -> ModelConfig:
    """The transformer (Vaswani et al. 2017, section 3), for translation.

    New: attention in place of recurrence, so that all positions of a text are computed at once, and any two are one
    step apart. One matrix embeds both texts and gives the logits, and a layer is followed by its norm.
    """
    norm = Norm("layer", 1e-6)
    attention = Attention(heads, heads, width // heads)
    block = Block(attention, FeedForward(hidden, "relu", bias=True), norm, norm_at="post")
    encoder = Stack((block,) * layers, causal=False)
    decoder = Stack((replace(block, cross=attention),) * layers, causal=True)
    embedding = Embedding(vocabulary, width, Sinusoidal(), scale=width**0.5)
    return ModelConfig(embedding, encoder, decoder, LanguageModelHead(tied=True), context_length)


def bart(
    vocabulary: int, width: int, layers: int, heads: int, hidden: int, decoder_layers: int | None = None,
    context_length: int = 1024, activation: Activation = "gelu", scale: float | None = None,
) -> ModelConfig:  # fmt: skip
    """BART (Lewis et al. 2020, section 2.1): the transformer with GELU, and learned positions and a norm on each side.

    New was the training: the decoder restores a text whose spans the encoder saw blanked and whose sentences shuffled,
    which makes one model for both understanding and writing.
    """
    norm = Norm("layer", 1e-5)
    attention = Attention(heads, heads, width // heads, bias=True)
    block = Block(attention, FeedForward(hidden, activation, bias=True), norm, norm_at="post")
    encoder = Stack((block,) * layers, causal=False)
    decoder = Stack((replace(block, cross=attention),) * (decoder_layers or layers), causal=True)
    embedding = Embedding(vocabulary, width, Learned(context_length, offset=2), norm=norm, scale=scale)
    head = LanguageModelHead(tied=True, bias=True)
    return ModelConfig(embedding, encoder, decoder, head, context_length, decoder_embedding=embedding)


def t5(
    vocabulary: int, width: int, layers: int, heads: int, hidden: int, head_dim: int = 64,
    decoder_layers: int | None = None, context_length: int = 512, activation: Activation = "relu",
    gated: bool = False, tied: bool = True, buckets: int = 32, max_distance: int = 128,
    norm_eps: float = 1e-6,
) -> ModelConfig:  # fmt: skip
    """T5 (Raffel et al. 2020, section 2.1): a plain encoder–decoder for every task, each put as text to text.

    New in the network: positions are a bias of the scores, learned by distance and shared by a stack's layers; norms
    come first, without mean and bias; scores are not scaled, which the first weights make up for; no biases anywhere.
    """
    norm = Norm("rms", norm_eps)
    attention = Attention(heads, heads, head_dim, scale=1.0)
    block = Block(attention, FeedForward(hidden, activation, gated), norm, norm_at="pre")
    both_ways = RelativeBias(buckets, max_distance, both_directions=True)
    encoder = Stack((block,) * layers, False, norm, both_ways)
    crossing = replace(block, cross=attention)
    decoder = Stack((crossing,) * (decoder_layers or layers), True, norm, replace(both_ways, both_directions=False))
    head = LanguageModelHead(tied, scale=width**-0.5 if tied else None)
    return ModelConfig(Embedding(vocabulary, width), encoder, decoder, head, context_length)


def t5_v1_1(*shape: Any, **settings: Any) -> ModelConfig:
    """T5 1.1 (Shazeer 2020; Raffel et al. released it), which Flan-T5 and mT5 continue: T5 with a gated GELU.

    New besides: the logits have a matrix of their own, and no dropout or supervised task took part in pre-training.
    """
    return t5(*shape, activation="gelu_tanh", gated=True, tied=False, **settings)


def switch(
    *shape: Any, experts: int, sparse_every: int = 2, decoder_sparse_every: int | None = None,
    capacity: int | None = None, **settings: Any,
) -> ModelConfig:  # fmt: skip
    """Switch Transformer (Fedus et al. 2022, section 2): T5 with experts in every `sparse_every`-th layer, 0: in none.

    New: each token goes to one expert alone, where two had been thought to be the least, so that parameters grow with
    the experts at the same cost per token. An expert takes `capacity` tokens of a text, or 1.25 times its even share.
    """
    config = t5(*shape, **settings)
    assert config.encoder is not None and config.decoder is not None
    decoder_every = sparse_every if decoder_sparse_every is None else decoder_sparse_every
    return replace(
        config,
        encoder=_with_experts(config.encoder, experts, capacity, sparse_every),
        decoder=_with_experts(config.decoder, experts, capacity, decoder_every),
    )


def _with_experts(stack: Stack, experts: int, capacity: int | None, every: int) -> Stack:
    """The second layer is the first to have experts, as in the authors' code, unless all have."""
    factor, expert = 1.25 if capacity is None else None, stack.blocks[0].feed_forward
    assert isinstance(expert, FeedForward)
    mixture = MixtureOfExperts(expert, experts, 1, normalise=False, capacity=capacity, capacity_factor=factor)
    sparse = [every == 1 or (every > 1 and layer % every == 1) for layer in range(len(stack.blocks))]
    blocks = [replace(b, feed_forward=mixture) if s else b for b, s in zip(stack.blocks, sparse, strict=True)]
    return replace(stack, blocks=tuple(blocks))
