"""What is read off the last hidden states: logits, vectors, labels, scores."""

from typing import assert_never

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from lmworks.model import config as configs
from lmworks.model.feed_forward import ACTIVATIONS
from lmworks.model.norms import build_norm
from lmworks.model.pooling import pool


class LanguageModelHead(nn.Module):
    """Logits over the vocabulary; see `config.LanguageModelHead`."""

    def __init__(self, config: configs.LanguageModelHead, width: int, vocabulary: int) -> None:
        super().__init__()
        self.config = config
        self.projection = None if config.tied else nn.Linear(width, vocabulary, bias=False)
        self.bias = nn.Parameter(torch.zeros(vocabulary)) if config.bias else None

    def forward(self, hidden: Tensor, tokens: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """`hidden` (…, width), the token embedding `tokens` (vocabulary, width) → (…, vocabulary)."""
        if self.config.scale is not None:
            hidden = hidden * self.config.scale
        logits = self.project(hidden, tokens)
        cap = self.config.softcap
        return logits if cap is None else cap * torch.tanh(logits / cap)

    def project(self, hidden: Tensor, tokens: Tensor) -> Tensor:
        """The logits before their cap, of scaled hidden states."""
        return F.linear(hidden, tokens if self.projection is None else self.projection.weight, self.bias)


class MaskedLanguageModelHead(nn.Module):
    """Dense, activation, norm, then the token embedding as projection (Devlin et al. 2019)."""

    def __init__(self, config: configs.MaskedLanguageModelHead, width: int, vocabulary: int) -> None:
        super().__init__()
        self.dense = nn.Linear(width, width)
        self.activation = ACTIVATIONS[config.activation]
        self.norm = build_norm(config.norm, width)
        self.bias = nn.Parameter(torch.zeros(vocabulary))

    def forward(self, hidden: Tensor, tokens: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """`hidden` (…, width), the token embedding `tokens` (vocabulary, width) → (…, vocabulary)."""
        return F.linear(self.norm(self.activation(self.dense(hidden))), tokens, self.bias)


class SpanBoundaryHead(nn.Module):
    """Joshi et al. 2020, section 3.2: token i of a span is predicted from its outer neighbours and from i alone.

    `forward` is the masked language model; `spans` is the second objective's output.
    """

    def __init__(self, config: configs.SpanBoundaryHead, width: int, vocabulary: int) -> None:
        super().__init__()
        self.masked = MaskedLanguageModelHead(config.masked, width, vocabulary)
        self.positions = nn.Embedding.from_pretrained(torch.zeros(config.max_span, config.position_width), freeze=False)
        self.first = nn.Linear(2 * width + config.position_width, width)
        self.second = nn.Linear(width, width)
        self.first_norm = build_norm(config.masked.norm, width)
        self.second_norm = build_norm(config.masked.norm, width)
        self.bias = nn.Parameter(torch.zeros(vocabulary))

    def forward(self, hidden: Tensor, tokens: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        return self.masked(hidden, tokens)

    def spans(
        self, hidden: Tensor, tokens: Tensor, rows: Tensor, starts: Tensor, ends: Tensor, places: Tensor
    ) -> Tensor:
        """Logits (n, vocabulary) of n tokens of masked spans.

        hidden   (batch, length, width), the encoder's output.
        rows     (n,) the row of the batch that each token is in.
        starts   (n,) the position just before its span; `ends` the one just after.
        places   (n,) its place in the span, from 0.
        """
        joined = torch.cat((hidden[rows, starts], hidden[rows, ends], self.positions(places)), dim=-1)
        joined = self.first_norm(F.gelu(self.first(joined)))
        joined = self.second_norm(F.gelu(self.second(joined)))
        return F.linear(joined, tokens, self.bias)


class PoolHead(nn.Module):
    """One vector per text; it has no weights."""

    def __init__(self, config: configs.PoolHead) -> None:
        super().__init__()
        self.config = config

    def forward(self, hidden: Tensor, tokens: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """`hidden` (batch, length, width), `attention_mask` (batch, length) bool → (batch, width)."""
        pooled = pool(hidden, attention_mask, self.config.pooling)
        return F.normalize(pooled, dim=-1) if self.config.normalize else pooled


class ClassificationHead(nn.Module):
    """One logit per label for each text."""

    def __init__(self, config: configs.ClassificationHead, width: int) -> None:
        super().__init__()
        self.config = config
        self.dense = nn.Linear(width, width) if config.activation else None
        self.activation = ACTIVATIONS[config.activation] if config.activation else None
        self.projection = nn.Linear(width, config.labels, bias=config.bias)

    def forward(self, hidden: Tensor, tokens: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """`hidden` (batch, length, width), `attention_mask` (batch, length) bool → (batch, labels)."""
        pooled = pool(hidden, attention_mask, self.config.pooling)
        if self.dense is not None and self.activation is not None:
            pooled = self.activation(self.dense(pooled))
        return self.projection(pooled)


class ScoreHead(nn.Module):
    """One number per text, or per position."""

    def __init__(self, config: configs.ScoreHead, width: int) -> None:
        super().__init__()
        self.config = config
        self.projection = nn.Linear(width, 1, bias=config.bias)

    def forward(self, hidden: Tensor, tokens: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """`hidden` (batch, length, width), `attention_mask` (batch, length) bool → (batch,), or (batch, length)."""
        pooling = self.config.pooling
        pooled = hidden if pooling is None else pool(hidden, attention_mask, pooling)
        return self.projection(pooled).squeeze(-1)


def build_head(config: configs.Head, width: int, vocabulary: int) -> nn.Module:
    """The module of a head; all are called as `head(hidden, tokens, attention_mask)`."""
    match config:
        case configs.LanguageModelHead():
            return LanguageModelHead(config, width, vocabulary)
        case configs.MaskedLanguageModelHead():
            return MaskedLanguageModelHead(config, width, vocabulary)
        case configs.SpanBoundaryHead():
            return SpanBoundaryHead(config, width, vocabulary)
        case configs.PoolHead():
            return PoolHead(config)
        case configs.ClassificationHead():
            return ClassificationHead(config, width)
        case configs.ScoreHead():
            return ScoreHead(config, width)
        case unknown:
            assert_never(unknown)
