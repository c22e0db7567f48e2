"""Decoders: the GPT series and its open successor; large ones whose weights were not published, where what is not in
their papers is taken from GPT-2 or T5, and said; LLaMA and those that change it a little.

A family that changes another one takes its arguments as well: `shape` in its order, `settings` by their names.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from lmworks.model.config import (
    Activation,
    Attention,
    Banded,
    Block,
    Embedding,
    FeedForward,
    LanguageModelHead,
    Learned,
    MixtureOfExperts,
    ModelConfig,
    Norm,
    RelativeBias,
    Rope,
    Stack,
    TransformerXL,
    Window,
)


def gpt1(
    vocabulary: int, width: int, layers: int, heads: int, hidden: int | None = None,
    context_length: int = 512, activation: Activation = "gelu_tanh", norm_eps: float = 1e-5,
    tied: bool = True,
) -> ModelConfig:  # fmt: skip
    """GPT (Radford et al. 2018, section 4.1): the decoder of Vaswani et al. 2017 by itself, with learned positions.

    New was to train it as a language model on plain text first, and to adapt the whole of it to each task afterwards.
    GELU (Hendrycks & Gimpel 2016) replaces ReLU.
    """
    norm = Norm("layer", norm_eps)
    attention = Attention(heads, heads, width // heads, bias=True)
    block = Block(attention, FeedForward(hidden or 4 * width, activation, bias=True), norm, norm_at="post")
    decoder = Stack((block,) * layers, causal=True)
    embedding = Embedding(vocabulary, width, Learned(context_length))
    return ModelConfig(embedding, None, decoder, LanguageModelHead(tied), context_length)


def gpt2(
    vocabulary: int, width: int, layers: int, heads: int, hidden: int | None = None,
    context_length: int = 1024, activation: Activation = "gelu_tanh", norm_eps: float = 1e-5,
    tied: bool = True,
) -> ModelConfig:  # fmt: skip
    """GPT-2 (Radford et al. 2019, section 2.3): GPT with the norms moved before the sublayers, and one more at the end.

    That keeps the residual path free from the first layer to the last, and lets it be deeper. New besides were
    byte-level BPE, which can write any text, and tasks that are put as text, without training for them.
    """
    norm = Norm("layer", norm_eps)
    attention = Attention(heads, heads, width // heads, bias=True)
    block = Block(attention, FeedForward(hidden or 4 * width, activation, bias=True), norm, norm_at="pre")
    decoder = Stack((block,) * layers, causal=True, final_norm=norm)
    embedding = Embedding(vocabulary, width, Learned(context_length))
    return ModelConfig(embedding, None, decoder, LanguageModelHead(tied), context_length)


def gpt_neox(
    vocabulary: int, width: int, layers: int, heads: int, hidden: int, context_length: int = 2048,
    rope: Rope = Rope(10_000.0, fraction=0.25), activation: Activation = "gelu", norm_eps: float = 1e-5,  # noqa: B008
    tied: bool = False, attention_bias: bool = True, parallel: bool = True,
) -> ModelConfig:  # fmt: skip
    """GPT-NeoX (Black et al. 2022, section 2.1), and Pythia (Biderman et al. 2023), which is its series of small ones.

    GPT-3's size with two changes from GPT-J: rotary positions, of a quarter of each head only, and attention and
    feed-forward that work side by side on the same input, which saves a synchronisation of the devices.
    """
    norm = Norm("layer", norm_eps)
    attention = Attention(heads, heads, width // heads, bias=attention_bias, position=rope)
    feed_forward = FeedForward(hidden, activation, bias=True)
    block = Block(attention, feed_forward, norm, norm_at="parallel" if parallel else "pre")
    decoder = Stack((block,) * layers, causal=True, final_norm=norm)
    return ModelConfig(Embedding(vocabulary, width), None, decoder, LanguageModelHead(tied), context_length)


def gpt3(*shape: Any, head_dim: int | None = None, **settings: Any) -> ModelConfig:
    """GPT-3 (Brown et al. 2020, section 2.1): GPT-2, whose every second layer attends in a locally banded pattern.

    New was the size, and what it brought: tasks learned from a few examples in the prompt. The pattern is Child et al.
    2019; its width is not in the paper, 128 is theirs for text.
    """
    patterns = None, Banded(block=128, bands=2)
    return change_attention(
        gpt2(*shape, **settings),
        lambda a, layer: replace(a, head_dim=head_dim or a.head_dim, pattern=patterns[layer % 2]),
    )


def jurassic1(*shape: Any, **settings: Any) -> ModelConfig:
    """Jurassic-1 (Lieber et al. 2021, section 2): dense GPT-3, wider and shallower, as Levine et al. 2020 advise.

    New was a vocabulary of 256,000 that holds whole phrases, so that the same text takes fewer tokens.
    """
    return gpt2(*shape, **settings)


def gopher(
    vocabulary: int, width: int, layers: int, heads: int, hidden: int, context_length: int = 2048,
    head_dim: int | None = None,
) -> ModelConfig:  # fmt: skip
    """Gopher (Rae et al. 2021, section 3.1): GPT-2 with RMS norms and the relative positions of Transformer-XL.

    New for a large model were these two: the norm is cheaper, and relative positions can be evaluated on longer texts
    than were trained on. The activation and biases, in the feed-forward alone, are not in the paper; with these the
    counts of table A9 of Hoffmann et al. 2022 come out.
    """
    norm = Norm("rms", 1e-6)
    attention = Attention(heads, heads, head_dim or width // heads, position=TransformerXL())
    block = Block(attention, FeedForward(hidden, "gelu_tanh", bias=True), norm, norm_at="pre")
    decoder = Stack((block,) * layers, causal=True, final_norm=norm)
    return ModelConfig(Embedding(vocabulary, width), None, decoder, LanguageModelHead(tied=True), context_length)


def chinchilla(*shape: Any, **settings: Any) -> ModelConfig:
    """Chinchilla (Hoffmann et al. 2022, section 4.1): Gopher's architecture, unchanged.

    New was the proportion: for the same training cost, a quarter of Gopher's parameters and four times its tokens give
    the better model.
    """
    return gopher(*shape, **settings)


def lamda(
    vocabulary: int, width: int, layers: int, heads: int, hidden: int, context_length: int = 2048, head_dim: int = 128
) -> ModelConfig:
    """LaMDA (Thoppilan et al. 2022, section 3): a decoder with T5's relative bias and a gated GELU feed-forward.

    New was its use: trained on dialogue, then tuned for safety and to ask a search tool for facts. Norms and context
    length are not in the paper.
    """
    norm = Norm("rms", 1e-6)
    attention = Attention(heads, heads, head_dim)
    block = Block(attention, FeedForward(hidden, "gelu_tanh", gated=True), norm, norm_at="pre")
    decoder = Stack((block,) * layers, causal=True, final_norm=norm, relative_bias=RelativeBias())
    return ModelConfig(Embedding(vocabulary, width), None, decoder, LanguageModelHead(tied=True), context_length)


def glam(
    vocabulary: int, width: int, layers: int, heads: int, hidden: int, experts: int,
    context_length: int = 1024, head_dim: int | None = None,
) -> ModelConfig:  # fmt: skip
    """GLaM (Du et al. 2022, section 4): in every second layer, 2 of many experts instead of one feed-forward.

    New was a mixture of experts as large as GPT-3 and beyond in a decoder, at a third of its training energy. The dense
    layers are gated, the experts are not, and each layer has a relative bias of its own. Norms are not in the paper.
    """
    norm = Norm("rms", 1e-6)
    attention = Attention(heads, heads, head_dim or width // heads, position=RelativeBias())
    dense = FeedForward(hidden, "gelu_tanh", gated=True)
    mixture = MixtureOfExperts(FeedForward(hidden, "gelu_tanh"), experts, top_k=2)
    blocks = [Block(attention, (dense, mixture)[layer % 2], norm, norm_at="pre") for layer in range(layers)]
    decoder = Stack(tuple(blocks), causal=True, final_norm=norm)
    return ModelConfig(Embedding(vocabulary, width), None, decoder, LanguageModelHead(tied=True), context_length)


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


def mistral(*shape: Any, window: int | None = 4096, **settings: Any) -> ModelConfig:
    """Mistral 7B (Jiang et al. 2023, section 2): LLaMA whose layers see only the nearest `window` positions.

    What lies further back still arrives, one window per layer, and the cache of a long text stays small. Later versions
    have no window, and are LLaMA again.
    """
    return _with_windows(llama(*shape, **settings), window, lambda layer: True)


def qwen2(
    *shape: Any, window: int | None = None, windowed: Sequence[bool] = (), norm_eps: float = 1e-6,
    rope: Rope = Rope(1_000_000.0), **settings: Any,  # noqa: B008
) -> ModelConfig:  # fmt: skip
    """Qwen2 (Yang et al. 2024, section 2.2.1): LLaMA with a bias on queries, keys and values, but not on the output.

    The bias is from the first Qwen, where it helped to extrapolate to longer texts (Su 2023). The long-context versions
    give their last layers, those that `windowed` says, a sliding window.
    """
    model = llama(*shape, norm_eps=norm_eps, rope=rope, **settings)
    model = change_attention(model, lambda attention, layer: replace(attention, bias=True, output_bias=False))
    return _with_windows(model, window, lambda layer: layer < len(windowed) and windowed[layer])


def qwen3(
    *shape: Any, window: int | None = None, windowed: Sequence[bool] = (), norm_eps: float = 1e-6,
    rope: Rope = Rope(1_000_000.0), head_dim: int = 128, **settings: Any,  # noqa: B008
) -> ModelConfig:  # fmt: skip
    """Qwen3 (Yang et al. 2025, section 2): Qwen2 without the bias, and with an RMS norm on each query and key head.

    The norm keeps the scores in range, which the bias did not, so that training in low precision stays stable
    (Dehghani et al. 2023). The size of a head no longer depends on the width.
    """
    model = llama(*shape, norm_eps=norm_eps, rope=rope, head_dim=head_dim, **settings)
    model = change_attention(model, lambda attention, layer: replace(attention, qk_norm=Norm("rms", norm_eps)))
    return _with_windows(model, window, lambda layer: layer < len(windowed) and windowed[layer])


def phi3(*shape: Any, window: int | None = None, **settings: Any) -> ModelConfig:
    """Phi-3 (Abdin et al. 2024, section 2): the blocks of LLaMA 2, on purpose, so that its tools fit.

    New were the data, filtered and synthetic: a model for a phone with the results of one ten times as large.
    Phi-4-mini rotates three quarters of each head.
    """
    return mistral(*shape, window=window, **settings)


def mixtral(
    *shape: Any, experts: int = 8, top_k: int = 2, window: int | None = None,
    rope: Rope = Rope(1_000_000.0), **settings: Any,  # noqa: B008
) -> ModelConfig:  # fmt: skip
    """Mixtral (Jiang et al. 2024, section 2): Mistral with a mixture of experts for each feed-forward network.

    Every token takes its `top_k` of the `experts`, weighted by the softmax over those chosen alone: a token costs as
    much as in a model of 13B parameters, and has the use of 47B.
    """

    def with_experts(block: Block, layer: int) -> Block:
        assert isinstance(block.feed_forward, FeedForward)
        return replace(block, feed_forward=MixtureOfExperts(block.feed_forward, experts, top_k))

    return _change(mistral(*shape, window=window, rope=rope, **settings), with_experts)


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
    *shape: Any, window: int = 4096, windowed: Sequence[bool] | None = None, tied: bool = True,
    scale: float | None = None, attention_softcap: float | None = 50.0, softcap: float | None = 30.0, **settings: Any,
) -> ModelConfig:  # fmt: skip
    """Gemma 2 (Gemma Team 2024b, section 2): Gemma with norms after the sublayers too, and capped logits.

    Both keep a deep model stable. Every other layer, the first one included, sees a window only; `windowed` says it for
    each layer. The small models learned from a larger one's probabilities instead of the next token.
    """
    model = _change(gemma(*shape, **settings), lambda block, layer: replace(block, norm_at="sandwich"))
    model = replace(model, head=LanguageModelHead(tied, softcap=softcap))
    model = change_attention(model, lambda a, layer: replace(a, scale=scale, softcap=attention_softcap))
    return _with_windows(model, window, lambda layer: layer % 2 == 0 if windowed is None else windowed[layer])


def gemma3(
    *shape: Any, window: int = 512, windowed: Sequence[bool] | None = None, norm_eps: float = 1e-6,
    rope: Rope = Rope(1_000_000.0), local_rope: Rope = Rope(10_000.0), softcap: float | None = None,  # noqa: B008
    **settings: Any,
) -> ModelConfig:  # fmt: skip
    """Gemma 3 (Gemma Team 2025, section 2): Gemma 2 with a norm on queries and keys in place of the capped scores.

    Long texts are why five of six layers see a short window: only the sixth keeps keys and values of everything, and
    turns slower (`rope`) than the others (`local_rope`). `windowed` says for each layer which one it is.
    """

    def is_local(layer: int) -> bool:
        return (layer + 1) % 6 > 0 if windowed is None else windowed[layer]

    model = gemma2(*shape, norm_eps=norm_eps, attention_softcap=None, softcap=softcap, **settings)
    norm = Norm("rms", norm_eps, offset=1.0)
    model = change_attention(
        model, lambda a, layer: replace(a, qk_norm=norm, position=local_rope if is_local(layer) else rope)
    )
    return _with_windows(model, window, is_local)


def _with_windows(model: ModelConfig, window: int | None, is_local: Callable[[int], bool]) -> ModelConfig:
    """The decoder with a sliding window in the layers of these numbers, and in no others; None: in none."""
    pattern = None if window is None else Window(window)
    return change_attention(model, lambda a, layer: replace(a, pattern=pattern if is_local(layer) else None))


def change_attention(model: ModelConfig, change: Callable[[Attention, int], Attention]) -> ModelConfig:
    """The decoder with each layer's attention changed; `change` gets it and the layer's number."""
    return _change(model, lambda block, layer: replace(block, attention=change(block.attention, layer)))


def _change(model: ModelConfig, change: Callable[[Block, int], Block]) -> ModelConfig:
    assert model.decoder is not None
    blocks = tuple(change(block, layer) for layer, block in enumerate(model.decoder.blocks))
    return replace(model, decoder=replace(model.decoder, blocks=blocks))
