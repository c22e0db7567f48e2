"""The decoders of the Gemma family."""

from collections.abc import Sequence
from dataclasses import replace

from lmworks.model.config import (
    Attention,
    Block,
    Embedding,
    FeedForward,
    LanguageModelHead,
    ModelConfig,
    Norm,
    Rope,
    Stack,
)
from lmworks.model.presets.llama import change_attention, with_windows


def gemma(
    vocabulary: int,
    width: int,
    layers: int,
    heads: int,
    kv_heads: int,
    hidden: int,
    context_length: int,
    head_dim: int = 256,
    rope: Rope = Rope(10_000.0),  # noqa: B008
    norm_eps: float = 1e-6,
    tied: bool = True,
    attention_bias: bool = False,
) -> ModelConfig:
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
    vocabulary: int,
    width: int,
    layers: int,
    heads: int,
    kv_heads: int,
    hidden: int,
    context_length: int,
    head_dim: int = 256,
    window: int = 4096,
    windowed: Sequence[bool] | None = None,
    rope: Rope = Rope(10_000.0),  # noqa: B008
    norm_eps: float = 1e-6,
    tied: bool = True,
    attention_bias: bool = False,
    scale: float | None = None,
    attention_softcap: float | None = 50.0,
    softcap: float | None = 30.0,
) -> ModelConfig:
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
    vocabulary: int,
    width: int,
    layers: int,
    heads: int,
    kv_heads: int,
    hidden: int,
    context_length: int,
    head_dim: int = 256,
    window: int = 512,
    windowed: Sequence[bool] | None = None,
    rope: Rope = Rope(1_000_000.0),  # noqa: B008
    local_rope: Rope = Rope(10_000.0),  # noqa: B008
    norm_eps: float = 1e-6,
    tied: bool = True,
    attention_bias: bool = False,
    scale: float | None = None,
    softcap: float | None = None,
) -> ModelConfig:
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
