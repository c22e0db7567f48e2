"""LLaMA, and the decoders that change it a little: Mistral, Mixtral, Qwen2, Qwen3, Phi-3, Gemma 1 to 3."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from lmworks.model.config import (
    Attention,
    Block,
    Embedding,
    FeedForward,
    LanguageModelHead,
    MixtureOfExperts,
    ModelConfig,
    Norm,
    Rope,
    Stack,
    Window,
)


def llama(
    vocabulary: int, width: int, layers: int, heads: int, kv_heads: int, hidden: int, context_length: int,
    head_dim: int | None = None, rope: Rope = Rope(10_000.0), norm_eps: float = 1e-5, tied: bool = False,  # noqa: B008
    attention_bias: bool = False, feed_forward_bias: bool = False,
) -> ModelConfig:  # fmt: skip
    """LLaMA (Touvron et al. 2023, section 2.2), with the grouped keys and values of LLaMA 2 (Touvron et al. 2023b).

    New at the time was the combination, each part from an earlier paper: RMS norms before the sublayers instead of
    layer norms after them, a gated SiLU feed-forward instead of ReLU, rotary positions inside attention instead of
    learned ones at the bottom, and no biases. Most open decoders since are this one with small changes.
    """
    norm = Norm("rms", norm_eps)
    attention = Attention(heads, kv_heads, head_dim or width // heads, bias=attention_bias, position=rope)
    feed_forward = FeedForward(hidden, "silu", gated=True, bias=feed_forward_bias)
    block = Block(attention, feed_forward, norm, norm_at="pre")
    decoder = Stack((block,) * layers, causal=True, final_norm=norm)
    return ModelConfig(Embedding(vocabulary, width), None, decoder, LanguageModelHead(tied), context_length)


def mistral(
    vocabulary: int, width: int, layers: int, heads: int, kv_heads: int, hidden: int, context_length: int,
    window: int | None = 4096, head_dim: int | None = None, rope: Rope = Rope(10_000.0),  # noqa: B008
    norm_eps: float = 1e-5, tied: bool = False,
) -> ModelConfig:  # fmt: skip
    """Mistral 7B (Jiang et al. 2023, section 2): LLaMA whose layers see only the nearest `window` positions.

    What lies further back still arrives, one window per layer, and the cache of a long text stays small. Later versions
    have no window, and are LLaMA again.
    """
    model = llama(vocabulary, width, layers, heads, kv_heads, hidden, context_length, head_dim, rope, norm_eps, tied)
    return with_windows(model, window, [True] * layers)


def qwen2(
    vocabulary: int, width: int, layers: int, heads: int, kv_heads: int, hidden: int, context_length: int,
    window: int | None = None, windowed: Sequence[bool] = (), head_dim: int | None = None,
    rope: Rope = Rope(1_000_000.0), norm_eps: float = 1e-6, tied: bool = False,  # noqa: B008
) -> ModelConfig:  # fmt: skip
    """Qwen2 (Yang et al. 2024, section 2.2.1): LLaMA with a bias on queries, keys and values, but not on the output.

    The bias is from the first Qwen, where it helped to extrapolate to longer texts (Su 2023). The long-context versions
    give their last layers, those that `windowed` says, a sliding window.
    """
    model = llama(vocabulary, width, layers, heads, kv_heads, hidden, context_length, head_dim, rope, norm_eps, tied)
    model = change_attention(model, lambda attention, layer: replace(attention, bias=True, output_bias=False))
    return with_windows(model, window, windowed)


def qwen3(
    vocabulary: int, width: int, layers: int, heads: int, kv_heads: int, hidden: int, context_length: int,
    window: int | None = None, windowed: Sequence[bool] = (), head_dim: int = 128,
    rope: Rope = Rope(1_000_000.0), norm_eps: float = 1e-6, tied: bool = False,  # noqa: B008
    attention_bias: bool = False,
) -> ModelConfig:  # fmt: skip
    """Qwen3 (Yang et al. 2025, section 2): Qwen2 without the bias, and with an RMS norm on each query and key head.

    The norm keeps the scores in range, which the bias did not, so that training in low precision stays stable
    (Dehghani et al. 2023). The size of a head no longer depends on the width.
    """
    model = llama(vocabulary, width, layers, heads, kv_heads, hidden, context_length, head_dim, rope, norm_eps, tied)
    norm = Norm("rms", norm_eps)
    model = change_attention(model, lambda a, layer: replace(a, qk_norm=norm, bias=attention_bias))
    return with_windows(model, window, windowed)


def phi3(
    vocabulary: int, width: int, layers: int, heads: int, kv_heads: int, hidden: int, context_length: int,
    window: int | None = None, head_dim: int | None = None, rope: Rope = Rope(10_000.0),  # noqa: B008
    norm_eps: float = 1e-5, tied: bool = False,
) -> ModelConfig:  # fmt: skip
    """Phi-3 (Abdin et al. 2024, section 2): the blocks of LLaMA 2, on purpose, so that its tools fit.

    New were the data, filtered and synthetic: a model for a phone with the results of one ten times as large.
    Phi-4-mini rotates three quarters of each head.
    """
    return mistral(
        vocabulary, width, layers, heads, kv_heads, hidden, context_length, window, head_dim, rope, norm_eps, tied
    )


def mixtral(
    vocabulary: int, width: int, layers: int, heads: int, kv_heads: int, hidden: int, context_length: int,
    experts: int = 8, top_k: int = 2, window: int | None = None, head_dim: int | None = None,
    rope: Rope = Rope(1_000_000.0), norm_eps: float = 1e-5, tied: bool = False,  # noqa: B008
) -> ModelConfig:  # fmt: skip
    """Mixtral (Jiang et al. 2024, section 2): Mistral with a mixture of experts for each feed-forward network.

    Every token takes its `top_k` of the `experts`, weighted by the softmax over those chosen alone: a token costs as
    much as in a model of 13B parameters, and has the use of 47B.
    """
    model = mistral(
        vocabulary, width, layers, heads, kv_heads, hidden, context_length, window, head_dim, rope, norm_eps, tied
    )
    feed_forward = MixtureOfExperts(FeedForward(hidden, "silu", gated=True), experts, top_k)
    return _change(model, lambda block, layer: replace(block, feed_forward=feed_forward))


def gemma(
    vocabulary: int, width: int, layers: int, heads: int, kv_heads: int, hidden: int, context_length: int,
    head_dim: int = 256, rope: Rope = Rope(10_000.0), norm_eps: float = 1e-6, tied: bool = True,  # noqa: B008
    attention_bias: bool = False,
) -> ModelConfig:  # fmt: skip
    """Gemma (Gemma Team 2024a, section 2): LLaMA with GELU for SiLU, a vocabulary of 256,000, heads wider than usual.

    Inherited from T5's code are embeddings that are multiplied by the root of the width, and norms whose weights are
    kept as their distance from one.
    """
    norm = Norm("rms", norm_eps, offset=1.0)
    attention = Attention(heads, kv_heads, head_dim, bias=attention_bias, position=rope)
    block = Block(attention, FeedForward(hidden, "gelu_tanh", gated=True), norm, norm_at="pre")
    decoder = Stack((block,) * layers, causal=True, final_norm=norm)
    embedding = Embedding(vocabulary, width, scale=width**0.5)
    return ModelConfig(embedding, None, decoder, LanguageModelHead(tied), context_length)


def gemma2(
    vocabulary: int, width: int, layers: int, heads: int, kv_heads: int, hidden: int, context_length: int,
    head_dim: int = 256, window: int = 4096, windowed: Sequence[bool] | None = None,
    rope: Rope = Rope(10_000.0), norm_eps: float = 1e-6, tied: bool = True, attention_bias: bool = False,  # noqa: B008
    scale: float | None = None, attention_softcap: float | None = 50.0, softcap: float | None = 30.0,
) -> ModelConfig:  # fmt: skip
    """Gemma 2 (Gemma Team 2024b, section 2): Gemma with norms after the sublayers too, and capped logits.

    Both keep a deep model stable. Every other layer, the first one included, sees a window only; `windowed` says it for
    each layer. The small models learned from a larger one's probabilities instead of the next token.
    """
    model = gemma(vocabulary, width, layers, heads, kv_heads, hidden, context_length, head_dim, rope, norm_eps)
    assert model.decoder is not None
    blocks = tuple(replace(block, norm_at="sandwich") for block in model.decoder.blocks)
    model = replace(model, decoder=replace(model.decoder, blocks=blocks), head=LanguageModelHead(tied, softcap=softcap))
    changes = {"bias": attention_bias, "scale": scale, "softcap": attention_softcap}
    model = change_attention(model, lambda a, layer: replace(a, **changes))
    return with_windows(model, window, [layer % 2 == 0 for layer in range(layers)] if windowed is None else windowed)


def gemma3(
    vocabulary: int, width: int, layers: int, heads: int, kv_heads: int, hidden: int, context_length: int,
    head_dim: int = 256, window: int = 512, windowed: Sequence[bool] | None = None,
    rope: Rope = Rope(1_000_000.0), local_rope: Rope = Rope(10_000.0), norm_eps: float = 1e-6,  # noqa: B008
    tied: bool = True, attention_bias: bool = False, scale: float | None = None,
    softcap: float | None = None,
) -> ModelConfig:  # fmt: skip
    """Gemma 3 (Gemma Team 2025, section 2): Gemma 2 with a norm on queries and keys in place of the capped scores.

    Long texts are why five of six layers see a short window: only the sixth keeps keys and values of everything, and
    turns slower (`rope`) than the others (`local_rope`). `windowed` says for each layer which one it is.
    """
    local = [(layer + 1) % 6 > 0 for layer in range(layers)] if windowed is None else windowed
    model = gemma2(
        vocabulary, width, layers, heads, kv_heads, hidden, context_length, head_dim, window, local, norm_eps=norm_eps,
        tied=tied, attention_bias=attention_bias, scale=scale, attention_softcap=None, softcap=softcap,
    )  # fmt: skip
    norm = Norm("rms", norm_eps, offset=1.0)
    return change_attention(
        model, lambda a, layer: replace(a, qk_norm=norm, position=local_rope if local[layer] else rope)
    )


def with_windows(model: ModelConfig, window: int | None, windowed: Sequence[bool]) -> ModelConfig:
    """The decoder with a sliding window in the layers that `windowed` says; none without a `window`."""
    pattern = Window(window) if window is not None else None
    local = [*windowed, *[False] * len(model.stacks[-1].blocks)]
    return change_attention(model, lambda a, layer: replace(a, pattern=pattern) if local[layer] else a)


def change_attention(model: ModelConfig, change: Callable[[Attention, int], Attention]) -> ModelConfig:
    """The decoder with each layer's attention changed; `change` gets it and the layer's number."""
    return _change(model, lambda block, layer: replace(block, attention=change(block.attention, layer)))


def _change(model: ModelConfig, change: Callable[[Block, int], Block]) -> ModelConfig:
    assert model.decoder is not None
    blocks = tuple(change(block, layer) for layer, block in enumerate(model.decoder.blocks))
    return replace(model, decoder=replace(model.decoder, blocks=blocks))
