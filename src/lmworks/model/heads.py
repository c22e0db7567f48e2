"""Heads, which turn the last hidden states into logits, pooled text vectors, labels or scores."""

from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple, assert_never

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from lmworks.model import config as configs
from lmworks.model import masks
from lmworks.model.mixture_of_experts import ACTIVATIONS
from lmworks.model.norms import build_norm
from lmworks.model.stack import Stack


def pool(hidden: Tensor, attention_mask: Tensor | None, pooling: Literal["mean", "cls", "last"]) -> Tensor:
    """`hidden` (batch, length, width), `attention_mask` (batch, length) bool, True = real token → (batch, width).

    `cls` is the first token's vector and `last` the last one's, real tokens both. A text without a real token gives the
    zero vector under `mean`.
    """
    if attention_mask is None:
        attention_mask = torch.ones(hidden.shape[:2], dtype=torch.bool, device=hidden.device)
    rows = torch.arange(hidden.shape[0], device=hidden.device)
    real = attention_mask.long()
    match pooling:
        case "mean":
            weights = attention_mask[:, :, None].to(hidden.dtype)  # (batch, length, 1)
            return (hidden * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)
        case "cls":
            return hidden[rows, real.argmax(dim=1)]
        case "last":
            return hidden[rows, real.shape[1] - 1 - real.flip(1).argmax(dim=1)]
        case unknown:
            assert_never(unknown)


class VocabularyProjection(NamedTuple):
    """The last step of every language model, from features to logits: what a loss needs to take the logits of a few
    positions at a time, and never hold those of all.

    weight   (vocabulary, width), `bias` (vocabulary,); `softcap` as in `config.LanguageModelHead`.
    """

    weight: Tensor
    bias: Tensor | None = None
    softcap: float | None = None

    def __call__(self, features: Tensor) -> Tensor:
        """(…, width) → logits (…, vocabulary)."""
        return self.capped(F.linear(features, self.weight, self.bias))

    def capped(self, logits: Tensor) -> Tensor:
        return logits if self.softcap is None else self.softcap * torch.tanh(logits / self.softcap)


class _ToVocabulary(nn.Module):
    """A head that gives logits over the vocabulary: the projection of its features."""

    def forward(self, hidden: Tensor, tokens: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """`hidden` (…, width), the token embedding `tokens` (vocabulary, width) → (…, vocabulary)."""
        return self.projection_to_vocabulary(tokens)(self.features(hidden))

    def features(self, hidden: Tensor) -> Tensor:
        """The vectors that are projected to the vocabulary: (…, width) → (…, width)."""
        raise NotImplementedError

    def projection_to_vocabulary(self, tokens: Tensor) -> VocabularyProjection:
        raise NotImplementedError


class LanguageModelHead(_ToVocabulary):
    """Logits over the vocabulary; see `config.LanguageModelHead`."""

    def __init__(self, config: configs.LanguageModelHead, width: int, vocabulary: int) -> None:
        super().__init__()
        self.config = config
        self.projection = None if config.tied else nn.Linear(width, vocabulary, bias=False)
        self.bias = nn.Parameter(torch.zeros(vocabulary)) if config.bias else None

    def features(self, hidden: Tensor) -> Tensor:
        return hidden if self.config.scale is None else hidden * self.config.scale

    def projection_to_vocabulary(self, tokens: Tensor) -> VocabularyProjection:
        weight = tokens if self.projection is None else self.projection.weight
        return VocabularyProjection(weight, self.bias, self.config.softcap)


class MaskedLanguageModelHead(_ToVocabulary):
    """Dense, activation, norm, then the token embedding as projection (Devlin et al. 2019)."""

    def __init__(self, config: configs.MaskedLanguageModelHead, width: int, vocabulary: int) -> None:
        super().__init__()
        self.dense = nn.Linear(width, width)
        self.activation = ACTIVATIONS[config.activation]
        self.norm = build_norm(config.norm, width)
        self.bias = nn.Parameter(torch.zeros(vocabulary))

    def features(self, hidden: Tensor) -> Tensor:
        return self.norm(self.activation(self.dense(hidden)))

    def projection_to_vocabulary(self, tokens: Tensor) -> VocabularyProjection:
        return VocabularyProjection(tokens, self.bias)


class _MaskedAndMore(_ToVocabulary):
    """A masked language model's head, and the parts of a second objective next to it."""

    def __init__(self, masked: configs.MaskedLanguageModelHead, width: int, vocabulary: int) -> None:
        super().__init__()
        self.masked = MaskedLanguageModelHead(masked, width, vocabulary)

    def features(self, hidden: Tensor) -> Tensor:
        return self.masked.features(hidden)

    def projection_to_vocabulary(self, tokens: Tensor) -> VocabularyProjection:
        return self.masked.projection_to_vocabulary(tokens)


class SpanBoundaryHead(_MaskedAndMore):
    """Joshi et al. 2020, section 3.2: token i of a span is predicted from its outer neighbours and from i alone.

    `forward` is the masked language model; `spans` is the second objective's output.
    """

    def __init__(self, config: configs.SpanBoundaryHead, width: int, vocabulary: int) -> None:
        super().__init__(config.masked, width, vocabulary)
        self.positions = nn.Embedding.from_pretrained(torch.zeros(config.max_span, config.position_width), freeze=False)
        self.first = nn.Linear(2 * width + config.position_width, width)
        self.second = nn.Linear(width, width)
        self.first_norm = build_norm(config.masked.norm, width)
        self.second_norm = build_norm(config.masked.norm, width)
        self.bias = nn.Parameter(torch.zeros(vocabulary))

    def spans(
        self, hidden: Tensor, tokens: Tensor, rows: Tensor, starts: Tensor, ends: Tensor, offsets: Tensor
    ) -> Tensor:
        """Logits (n, vocabulary) of n tokens of masked spans; the last projection of `span_features`."""
        return F.linear(self.span_features(hidden, rows, starts, ends, offsets), tokens, self.bias)

    def span_features(self, hidden: Tensor, rows: Tensor, starts: Tensor, ends: Tensor, offsets: Tensor) -> Tensor:
        """The vectors that are projected to the vocabulary for n tokens of masked spans: (n, width).

        hidden   (batch, length, width), the encoder's output.
        rows     (n,) the row of the batch that each token is in.
        starts   (n,) the position just before its span; `ends` the one just after.
        offsets  (n,) its offset in the span, from 0.
        """
        joined = torch.cat((hidden[rows, starts], hidden[rows, ends], self.positions(offsets)), dim=-1)
        joined = self.first_norm(F.gelu(self.first(joined)))
        return self.second_norm(F.gelu(self.second(joined)))


class NextSentenceHead(_MaskedAndMore):
    """Devlin et al. 2019, section 3.1; `forward` is the masked language model, `relation` the second output."""

    def __init__(self, config: configs.NextSentenceHead, width: int, vocabulary: int) -> None:
        super().__init__(config.masked, width, vocabulary)
        self.pooler = nn.Linear(width, width)
        self.projection = nn.Linear(width, 2)

    def relation(self, hidden: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """`hidden` (batch, length, width), `attention_mask` (batch, length) bool → logits (batch, 2): that the second
        text follows on the first, and that it does not."""
        return self.projection(torch.tanh(self.pooler(pool(hidden, attention_mask, "cls"))))


class FurtherToken(nn.Module):
    """One step ahead of a `MultiTokenHead`: DeepSeek-AI 2024, equations 21 and 22."""

    def __init__(self, config: configs.MultiTokenHead, width: int) -> None:
        super().__init__()
        self.hidden_norm = build_norm(config.norm, width)
        self.token_norm = build_norm(config.norm, width)
        self.join = nn.Linear(2 * width, width, bias=False)
        self.stack = Stack(configs.Stack((config.block,), causal=True, final_norm=config.norm), width)

    def forward(self, hidden: Tensor, vectors: Tensor, positions: Tensor, rule: masks.Rule | None = None) -> Tensor:
        """`hidden` of the step before and the `vectors` of the tokens it was to predict, (batch, length, width) each →
        the same shape."""
        joined = torch.cat((self.hidden_norm(hidden), self.token_norm(vectors)), dim=-1)
        return self.stack(self.join(joined), positions, rule=rule)


class MultiTokenHead(_ToVocabulary):
    """DeepSeek-AI 2024, section 2.2; `forward` is the language model, `further` gives the hidden states that predict
    the tokens after the next one, by the same projection to the vocabulary."""

    def __init__(self, config: configs.MultiTokenHead, width: int, vocabulary: int) -> None:
        super().__init__()
        self.next = LanguageModelHead(config.next, width, vocabulary)
        self.steps = nn.ModuleList(FurtherToken(config, width) for _ in range(config.depth))

    def features(self, hidden: Tensor) -> Tensor:
        return self.next.features(hidden)

    def projection_to_vocabulary(self, tokens: Tensor) -> VocabularyProjection:
        return self.next.projection_to_vocabulary(tokens)

    def further(
        self,
        hidden: Tensor,
        embed: Callable[[Tensor], Tensor],
        next_ids: Tensor,
        positions: Tensor,
        rule: masks.Rule | None = None,
    ) -> Iterator[Tensor]:
        """Step k = 1, 2, … gives (batch, length, width): the vector at place i predicts the token of place i + k + 1.

        hidden     (batch, length, width), the decoder's output; `embed` gives the vectors of tokens, as the embedding.
        next_ids   (batch, length) int64, the token that comes after each place. Step k at place i reads the one of
                   place i + k - 1; behind the last it reads token 0, which no earlier place sees.
        positions  (batch or 1, length) and `rule` as the decoder took them.
        """
        for step in self.steps:
            hidden = step(hidden, embed(next_ids), positions, rule)
            yield hidden
            next_ids = F.pad(next_ids[:, 1:], (0, 1))


# Those that give logits over the vocabulary.
VocabularyHead = LanguageModelHead | MaskedLanguageModelHead | SpanBoundaryHead | NextSentenceHead | MultiTokenHead


class PoolHead(nn.Module):
    """One vector per text; it has no weights."""

    def __init__(self, config: configs.PoolHead, width: int, vocabulary: int) -> None:
        super().__init__()
        self.config = config

    def forward(self, hidden: Tensor, tokens: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """`hidden` (batch, length, width), `attention_mask` (batch, length) bool → (batch, width)."""
        pooled = pool(hidden, attention_mask, self.config.pooling)
        return F.normalize(pooled, dim=-1) if self.config.normalize else pooled


class ClassificationHead(nn.Module):
    """One logit per label for each text."""

    def __init__(self, config: configs.ClassificationHead, width: int, vocabulary: int) -> None:
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

    def __init__(self, config: configs.ScoreHead, width: int, vocabulary: int) -> None:
        super().__init__()
        self.config = config
        self.projection = nn.Linear(width, 1, bias=config.bias)

    def forward(self, hidden: Tensor, tokens: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """`hidden` (batch, length, width), `attention_mask` (batch, length) bool → (batch,), or (batch, length)."""
        pooling = self.config.pooling
        pooled = hidden if pooling is None else pool(hidden, attention_mask, pooling)
        return self.projection(pooled).squeeze(-1)


class SpanHead(nn.Module):
    """Two numbers per position: that an answer starts there, and that it ends there."""

    def __init__(self, config: configs.SpanHead, width: int, vocabulary: int) -> None:
        super().__init__()
        self.projection = nn.Linear(width, 2)

    def forward(self, hidden: Tensor, tokens: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """`hidden` (batch, length, width) → (batch, length, 2)."""
        return self.projection(hidden)


_CLASSES: tuple[type[nn.Module], ...] = (
    *(LanguageModelHead, MaskedLanguageModelHead, SpanBoundaryHead, NextSentenceHead, MultiTokenHead),
    *(PoolHead, ClassificationHead, ScoreHead, SpanHead),
)


def build_head(config: configs.Head, width: int, vocabulary: int) -> nn.Module:
    """The module of a head, which has its config's name; all are called as `head(hidden, tokens, attention_mask)`."""
    return {head.__name__: head for head in _CLASSES}[type(config).__name__](config, width, vocabulary)
