"""Learned relative positions. Each gives a bias of the scores, (batch, heads, length, stored), from the distances."""

import torch
from torch import Tensor, nn

from lmworks.model import config as configs
from lmworks.model.positions import distances, relative_buckets, sinusoids


class RelativeBias(nn.Module):
    """T5's (Raffel et al. 2020, section 2.1): one number for each bucket and head, whatever the query."""

    def __init__(self, config: configs.RelativeBias, heads: int) -> None:
        super().__init__()
        self.config = config
        self.table = nn.Parameter(torch.zeros(config.buckets, heads))

    def forward(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Positions `queries` (batch, length), `keys` (batch or 1, stored) → (batch, heads, length, stored)."""
        buckets = relative_buckets(self.config, distances(queries, keys))  # (batch, length, stored)
        return self.table[buckets].permute(0, 3, 1, 2)


class Shaw(nn.Module):
    """Shaw et al. 2018, section 3.2: a query also meets a learned vector of the distance, shared by the heads."""

    def __init__(self, config: configs.Shaw, head_dim: int) -> None:
        super().__init__()
        self.limit = config.max_distance
        self.vectors = nn.Parameter(torch.zeros(2 * config.max_distance + 1, head_dim))

    def forward(self, query: Tensor, queries: Tensor, keys: Tensor) -> Tensor:
        """`query` (batch, heads, length, head_dim) and positions as above → unscaled scores of the distances."""
        index = distances(queries, keys).clamp(-self.limit, self.limit) + self.limit  # (batch, length, stored)
        scores = query @ self.vectors.T  # (batch, heads, length, 2 * limit + 1)
        return scores.gather(-1, _for_heads(index, scores))


class TransformerXL(nn.Module):
    """Dai et al. 2019, section 3.3: `(q + u) · k + (q + v) · W r(distance)`, with r the sinusoids of the distance.

    `content_bias` is the paper's u, which the caller adds to the query, and `position_bias` its v.
    """

    def __init__(self, heads: int, head_dim: int, width: int) -> None:
        super().__init__()
        self.width = width
        self.projection = nn.Linear(width, heads * head_dim, bias=False)
        self.content_bias = nn.Parameter(torch.zeros(heads, head_dim))
        self.position_bias = nn.Parameter(torch.zeros(heads, head_dim))

    def forward(self, query: Tensor, queries: Tensor, keys: Tensor) -> Tensor:
        """`query` (batch, heads, length, head_dim) and positions as above → unscaled scores of the distances.

        Positions must have no gaps: a distance is less than the number of keys. So the distances to be projected, each
        once, follow from the shapes, and the device need not be asked for the lowest and the highest.
        """
        heads, head_dim = self.position_bias.shape
        longest = keys.shape[1] - 1
        every = torch.arange(-longest, longest + 1, device=query.device)
        vectors = self.projection(sinusoids(every, self.width, 10_000.0, query.dtype))  # (distances, heads * head_dim)
        vectors = vectors.view(-1, heads, head_dim).permute(1, 2, 0)  # (heads, head_dim, distances)
        scores = (query + self.position_bias[:, None]) @ vectors  # (batch, heads, length, distances)
        return scores.gather(-1, _for_heads(distances(queries, keys) + longest, scores))


def _for_heads(index: Tensor, scores: Tensor) -> Tensor:
    """(batch or 1, length, stored) → (batch, heads, length, stored)."""
    batch, heads = scores.shape[:2]
    return index[:, None].expand(batch, heads, -1, -1)
