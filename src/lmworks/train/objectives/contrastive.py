"""Contrastive learning of text vectors: InfoNCE (van den Oord et al. 2018, section 2.3) with the other documents of a
batch as negatives, as MultipleNegativesRankingLoss takes them (Henderson et al. 2017, section 4.4)."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from lmworks.config import at_least, positive
from lmworks.data.token_groups import GroupBatch
from lmworks.model.heads import PoolHead
from lmworks.model.transformer import Transformer
from lmworks.train.losses import Loss, cross_entropy
from lmworks.train.objectives.objective import Objective


@dataclass(frozen=True, slots=True, eq=False)
class ContrastiveExamples:
    """A batch as a single row: each text is a negative of the others, so that no micro-batch may split them.

    queries    (1, pairs, query length) int64, `query_mask` bool, True = no padding
    documents  (1, documents, document length) int64, `document_mask` likewise: document i belongs to query i, those
               beyond the last query are negatives of all
    same       (1, pairs, documents) bool: this document answers the query too, besides its own
    """

    queries: Tensor
    query_mask: Tensor
    documents: Tensor
    document_mask: Tensor
    same: Tensor


@dataclass(frozen=True, slots=True)
class Contrastive(Objective[ContrastiveExamples]):
    """Each query is to prefer its document to all others of the batch.

        -log exp(s_ii / τ) / Σ_j exp(s_ij / τ),  s_ij the cosine of query i and document j

    The metric `accuracy` is the share of queries that do. A document that is equal to a query's own, or belongs to an
    equal query, is no negative of that query.

    The negatives are those of the batch, however the step is divided: examples are one row, and `chunk` bounds the
    memory instead of the loop's `micro_batch`. With it, so many texts at a time are embedded and nothing but their
    vectors is kept; the backward embeds each chunk again, with the gradient of its vectors at hand (Gao et al. 2021,
    GradCache). Batches that make up one step together keep their negatives apart.

    temperature  τ; 0.05 is a scale of 20
    symmetric    the mean of this loss and of the one that has each document choose among the queries
    chunk        texts in a forward; None: all at once
    """

    temperature: float = 0.05
    symmetric: bool = False
    chunk: int | None = None

    def __post_init__(self) -> None:
        positive(temperature=self.temperature)
        at_least(1, chunk=self.chunk)

    def examples(self, batch: GroupBatch, seed: int) -> ContrastiveExamples:
        """The examples of groups of a query, its document and perhaps negatives. ValueError for a group without a
        document."""
        pairs, ids, mask = len(batch), batch.ids, batch.attention_mask
        if ids.shape[1] < 2 or not mask[:, 1].any(-1).all():
            raise ValueError("a query has no document: contrastive learning takes pairs of texts")
        hard = mask[:, 2:].any(-1)  # (pairs, size - 2)
        queries, query_mask = _trimmed(ids[:, 0], mask[:, 0])
        documents, document_mask = _trimmed(
            torch.cat([ids[:, 1], ids[:, 2:][hard]]), torch.cat([mask[:, 1], mask[:, 2:][hard]])
        )
        by_query, by_document = _groups(queries, query_mask), _groups(documents, document_mask)
        same = by_document[:pairs, None] == by_document
        same[:, :pairs] |= by_query[:, None] == by_query
        same.fill_diagonal_(False)
        tensors = (queries, query_mask, documents, document_mask, same)
        return ContrastiveExamples(*(tensor[None] for tensor in tensors))

    def counts(self, examples: ContrastiveExamples) -> Mapping[str, int]:
        return {"contrastive": examples.queries.shape[1]}

    def losses(self, model: Transformer, examples: ContrastiveExamples) -> Mapping[str, Loss]:
        """TypeError for a model that gives no vectors."""
        if not isinstance(model.head, PoolHead):
            raise TypeError(f"this objective compares vectors: it needs a config.PoolHead, not {model.config.head}")
        queries = self._embed(model, examples.queries[0], examples.query_mask[0])
        documents = self._embed(model, examples.documents[0], examples.document_mask[0])
        pairs, same = len(queries), examples.same[0]
        scores = queries @ documents.T / self.temperature  # (pairs, documents)
        diagonal = torch.arange(pairs, device=scores.device)
        choices = scores.masked_fill(same, -torch.inf)
        loss = cross_entropy(choices, diagonal)
        accuracy = (choices.argmax(dim=1) == diagonal).sum()
        total, nats = loss.sum, loss.nats.sum()
        if self.symmetric:
            other = cross_entropy(scores[:, :pairs].T.masked_fill(same[:, :pairs].T, -torch.inf), diagonal)
            total, nats = (total + other.sum) / 2, (nats + other.nats.sum()) / 2
        return {"contrastive": Loss(total, pairs, {"nats": nats, "accuracy": accuracy})}

    def _embed(self, model: Transformer, ids: Tensor, mask: Tensor) -> Tensor:
        """(texts, length) → (texts, width) float32 of length 1."""

        def embed(ids: Tensor, mask: Tensor) -> Tensor:
            return F.normalize(model(ids, attention_mask=mask).float(), dim=-1)

        if self.chunk is None or self.chunk >= len(ids):
            return embed(ids, mask)
        chunks = zip(ids.split(self.chunk), mask.split(self.chunk), strict=True)
        return torch.cat([checkpoint(embed, *chunk, use_reentrant=False) for chunk in chunks])  # type: ignore[arg-type]


def _trimmed(ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Rows without the padding that all of them share."""
    longest = int(mask.sum(-1).max())
    return ids[:, :longest], mask[:, :longest]


def _groups(ids: Tensor, mask: Tensor) -> Tensor:
    """(texts,) int64: the same number for equal texts."""
    return torch.unique(ids.masked_fill(~mask, -1), dim=0, return_inverse=True)[1]
