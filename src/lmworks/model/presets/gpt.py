"""The GPT series of OpenAI as far as its weights are published, and its open successor."""

from lmworks.model.config import (
    Activation,
    Attention,
    Block,
    Embedding,
    FeedForward,
    LanguageModelHead,
    Learned,
    ModelConfig,
    Norm,
    Rope,
    Stack,
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
