"""One vector per text from one vector per token (Reimers & Gurevych 2019, Sentence-BERT, section 3)."""

from typing import Literal, assert_never

import torch
from torch import Tensor


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
