"""Pairs of texts as padded rows of token ids."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lmworks.tokenizer.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True, eq=False)
class PairBatch:
    """Queries and what answers them: document i belongs to query i; documents beyond the last query are negatives for
    all.

    queries        (pairs, query length) int64, `query_mask` bool, True = no padding
    documents      (pairs or more, document length) int64, `document_mask` likewise
    """

    queries: Tensor
    query_mask: Tensor
    documents: Tensor
    document_mask: Tensor

    def __post_init__(self) -> None:
        if len(self.documents) < len(self.queries):
            raise ValueError(f"{len(self.queries)} queries need as many documents, there are {len(self.documents)}")

    def __len__(self) -> int:
        return len(self.queries)

    @property
    def tokens(self) -> int:
        """Places that are no padding."""
        return int(self.query_mask.sum()) + int(self.document_mask.sum())


def pair_batch(
    tokenizer: Tokenizer, pairs: Sequence[tuple[str, str]], max_length: int, negatives: Sequence[str] = ()
) -> PairBatch:
    """(query, document) pairs, and further documents that answer no query, framed as the model's texts are.

    ValueError names the first text of more than `max_length` tokens: nothing is cut.
    """
    queries = [query for query, _ in pairs]
    documents = [*(document for _, document in pairs), *negatives]
    return PairBatch(*_encoded(tokenizer, queries, max_length), *_encoded(tokenizer, documents, max_length))


def pad(rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Rows of ids as (rows, longest) int64, 0 at padding, and bool: True = no padding."""
    lengths = torch.tensor([len(row) for row in rows])
    real = torch.arange(int(lengths.max())) < lengths[:, None]
    ids = torch.zeros(real.shape, dtype=torch.int64)
    ids[real] = torch.tensor([token for row in rows for token in row])
    return ids, real


def _encoded(tokenizer: Tokenizer, texts: Sequence[str], max_length: int) -> tuple[Tensor, Tensor]:
    rows = tokenizer.encode_batch(texts, special=True)
    for text, row in zip(texts, rows, strict=True):
        if not 0 < len(row) <= max_length:
            raise ValueError(f"a text has {len(row)} tokens, 1 to {max_length} are allowed: {text[:60]!r}")
    return pad(rows)
