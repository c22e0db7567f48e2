"""The families, each as one function that is the documentation of its architecture."""

from typing import Literal

from lmworks.model.config import (
    Attention,
    Block,
    Embedding,
    FeedForward,
    LanguageModelHead,
    Learned,
    ModelConfig,
    Norm,
    PoolHead,
    Rope,
    Stack,
)


def llama(
    vocabulary: int,
    width: int,
    layers: int,
    heads: int,
    kv_heads: int,
    hidden: int,
    context_length: int,
    head_dim: int | None = None,
    rope_theta: float = 10_000.0,
    norm_eps: float = 1e-5,
    tied: bool = False,
    attention_bias: bool = False,
    feed_forward_bias: bool = False,
) -> ModelConfig:
    """LLaMA (Touvron et al. 2023, section 2.2), with the grouped keys and values of LLaMA 2 (Touvron et al. 2023b).

    New at the time was the combination, each part from an earlier paper: RMS norms before the sublayers instead of
    layer norms after them, a gated SiLU feed-forward instead of ReLU, rotary positions inside attention instead of
    learned ones at the bottom, and no biases. Most open decoders since are this one with small changes.
    """
    norm = Norm("rms", norm_eps)
    rope = Rope(rope_theta)
    attention = Attention(heads, kv_heads, head_dim or width // heads, bias=attention_bias, rope=rope)
    feed_forward = FeedForward(hidden, "silu", gated=True, bias=feed_forward_bias)
    block = Block(attention, feed_forward, norm, norm_at="pre")
    decoder = Stack((block,) * layers, causal=True, final_norm=norm)
    return ModelConfig(Embedding(vocabulary, width), None, decoder, LanguageModelHead(tied), context_length)


def bert(
    vocabulary: int,
    width: int,
    layers: int,
    heads: int,
    hidden: int,
    context_length: int = 512,
    token_types: int = 2,
    activation: Literal["gelu", "gelu_tanh", "relu", "silu"] = "gelu",
    norm_eps: float = 1e-12,
    head: PoolHead | None = None,
) -> ModelConfig:
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
