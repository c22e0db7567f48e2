"""Large decoders whose weights were not published: what is not in their papers is taken from GPT-2 or T5, and said."""

from dataclasses import replace

from lmworks.model.config import (
    Attention,
    Banded,
    Block,
    Embedding,
    FeedForward,
    LanguageModelHead,
    MixtureOfExperts,
    ModelConfig,
    Norm,
    RelativeBias,
    Stack,
    TransformerXL,
)
from lmworks.model.presets.gpt import gpt2
from lmworks.model.presets.llama_like import change_attention


def gpt3(
    vocabulary: int, width: int, layers: int, heads: int, hidden: int, context_length: int, head_dim: int | None = None
) -> ModelConfig:
    """GPT-3 (Brown et al. 2020, section 2.1): GPT-2, whose every second layer attends in a locally banded pattern.

    New was the size, and what it brought: tasks learned from a few examples in the prompt. The pattern is Child et al.
    2019; its width is not in the paper, 128 is theirs for text.
    """
    size, patterns = head_dim or width // heads, (None, Banded(block=128, bands=2))
    model = gpt2(vocabulary, width, layers, heads, hidden, context_length)
    return change_attention(model, lambda a, layer: replace(a, head_dim=size, pattern=patterns[layer % 2]))


def jurassic1(
    vocabulary: int, width: int, layers: int, heads: int, hidden: int, context_length: int = 2048
) -> ModelConfig:
    """Jurassic-1 (Lieber et al. 2021, section 2): dense GPT-3, wider and shallower, as Levine et al. 2020 advise.

    New was a vocabulary of 256,000 that holds whole phrases, so that the same text takes fewer tokens.
    """
    return gpt2(vocabulary, width, layers, heads, hidden, context_length)


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


def chinchilla(
    vocabulary: int, width: int, layers: int, heads: int, hidden: int, context_length: int = 2048,
    head_dim: int | None = None,
) -> ModelConfig:  # fmt: skip
    """Chinchilla (Hoffmann et al. 2022, section 4.1): Gopher's architecture, unchanged.

    New was the proportion: for the same training cost, a quarter of Gopher's parameters and four times its tokens give
    the better model.
    """
    return gopher(vocabulary, width, layers, heads, hidden, context_length, head_dim)


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
