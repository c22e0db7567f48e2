"""Rotary position embedding (Su et al. 2021, RoFormer, section 3.2), in the half-split layout of Hugging Face's LLaMA.

The head is seen as head_dim / 2 planes; plane i is rotated by the angle `position * theta ** (-2 i / head_dim)`, so
that the product of a query and a key depends on the distance of their positions alone. In the half-split layout plane i
holds the dimensions (i, i + head_dim / 2). The paper, and GGUF files, pair the neighbours (2 i, 2 i + 1) instead: the
same function up to a fixed permutation of the rows of the query and key projections, and silently wrong without it.
"""

import torch
from torch import Tensor

from lmworks.model import config as configs

Rotation = tuple[Tensor, Tensor]  # cosine and sine, each (batch, 1, length, head_dim)


def rotation(rope: configs.Rope, head_dim: int, positions: Tensor, dtype: torch.dtype) -> Rotation:
    """Cosine and sine of every plane's angle at `positions` (batch, length).

    Angles are computed in float32 whatever the model's dtype: bfloat16 has 8 bits, too few to tell position 256 from
    257.
    """
    exponents = torch.arange(0, head_dim, 2, device=positions.device, dtype=torch.float32) / head_dim
    frequencies = rope.theta**-exponents  # (head_dim / 2,)
    angles = positions[:, None, :, None].float() * frequencies  # (batch, 1, length, head_dim / 2)
    angles = torch.cat((angles, angles), dim=-1)
    return angles.cos().to(dtype), angles.sin().to(dtype)


def rotate(heads: Tensor, rotation: Rotation) -> Tensor:
    """Turns each plane of `heads` (batch, heads, length, head_dim) by its angle."""
    cosine, sine = rotation
    first, second = heads.chunk(2, dim=-1)
    return heads * cosine + torch.cat((-second, first), dim=-1) * sine
