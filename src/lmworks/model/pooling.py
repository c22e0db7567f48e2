"""One vector per text (Reimers & Gurevych 2019, Sentence-BERT, section 3)."""

from typing import assert_never

import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from lmworks.model import config as configs


def pool(hidden: Tensor, attention_mask: Tensor | None, head: configs.PoolHead) -> Tensor:
    """`hidden` (batch, length, width), `attention_mask` (batch, length) bool, True = real token → (batch, width).

    With `head.normalize` every vector has length 1, so that a dot product is the cosine. A text without a real token
    gives the zero vector under mean pooling.
    """
    match head.pooling:
        case "mean":
            pooled = _masked_mean(hidden, attention_mask)
        case "cls":
            pooled = hidden[:, 0]
        case pooling:
            assert_never(pooling)
    return F.normalize(pooled, dim=-1) if head.normalize else pooled


def _masked_mean(hidden: Tensor, attention_mask: Tensor | None) -> Tensor:
    if attention_mask is None:
        return hidden.mean(dim=1)
    weights = attention_mask[:, :, None].to(hidden.dtype)  # (batch, length, 1)
    return (hidden * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)
