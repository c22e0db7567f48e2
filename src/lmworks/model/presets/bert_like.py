"""BERT and its like: encoders, which read a text in both directions."""

from dataclasses import replace

from lmworks.model.config import (
    Activation,
    Attention,
    Block,
    Embedding,
    FeedForward,
    Head,
    Learned,
    MaskedLanguageModelHead,
    ModelConfig,
    Norm,
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


def roberta(
    vocabulary: int, width: int, layers: int, heads: int, hidden: int, context_length: int = 512,
    token_types: int = 1, activation: Activation = "gelu", norm_eps: float = 1e-5, head: Head | None = None,
    offset: int = 2,
) -> ModelConfig:  # fmt: skip
    """RoBERTa (Liu et al. 2019, section 4): BERT without segments, its positions from row `offset` of their table on.

    New was the training alone: ten times the data, longer, in larger batches, with masks redrawn each time, bytes
    instead of characters in the vocabulary, and no next-sentence prediction.
    """
    config = bert(vocabulary, width, layers, heads, hidden, context_length, token_types, activation, norm_eps, head)
    return replace(config, embedding=replace(config.embedding, positions=Learned(context_length, offset)))


def spanbert(
    vocabulary: int, width: int, layers: int, heads: int, hidden: int, context_length: int = 512, max_span: int = 10
) -> ModelConfig:
    """SpanBERT (Joshi et al. 2020, section 3): BERT with a second objective.

    New: whole spans of words are masked, of up to `max_span` words, and each token of a span is also predicted from
    the span's two outer neighbours alone, so that they learn to summarise it. Its text is one segment.
    """
    head = SpanBoundaryHead(MaskedLanguageModelHead("gelu", Norm("layer", 1e-12)), max_span)
    return bert(vocabulary, width, layers, heads, hidden, context_length, head=head)
