"""Positions: rotary embedding (RoPE), sinusoids, and relative ones by distance (ALiBi, T5, Shaw, Transformer-XL).

Rotary position embedding (Su et al. 2021, RoFormer, section 3.2) is in the half-split layout of Hugging Face's LLaMA.
The head is seen as head_dim / 2 planes; plane i is rotated by the angle `position * theta ** (-2 i / head_dim)`, so
that the product of a query and a key depends on the distance of their positions alone. In the half-split layout plane i
holds the dimensions (i, i + head_dim / 2). The paper, and GGUF files, pair the neighbours (2 i, 2 i + 1) instead: the
same function up to a fixed permutation of the rows of the query and key projections, and silently wrong without it.
"""

import math
from typing import assert_never

import torch
from torch import Tensor, nn

from lmworks.model import config as configs

Rotation = tuple[Tensor, Tensor]  # cosine and sine, each (batch, 1, length, rotated part of head_dim)


def rotation(rope: configs.Rope, head_dim: int, positions: Tensor, dtype: torch.dtype) -> Rotation:
    """Cosine and sine of every plane's angle at `positions` (batch, length).

    Angles are computed in float32 whatever the model's dtype: bfloat16 has 8 bits, too few to tell position 256 from
    257. They are off by up to 1e-7 of themselves: by 0.01 at position 131,072. More would not be better: weights were
    trained with float32 angles, and only the same ones give the same logits.
    """
    frequencies, factor = rope_frequencies(rope, int(head_dim * rope.fraction), positions.device)
    angles = positions[:, None, :, None].float() * frequencies  # (batch, 1, length, rotated / 2)
    angles = torch.cat((angles, angles), dim=-1)
    return (angles.cos() * factor).to(dtype), (angles.sin() * factor).to(dtype)


def rotate(heads: Tensor, rotation: Rotation) -> Tensor:
    """Turns each plane of `heads` (batch, heads, length, head_dim) by its angle; what is not rotated stays."""
    cosine, sine = rotation
    rotated = cosine.shape[-1]
    turning, still = heads[..., :rotated], heads[..., rotated:]
    first, second = turning.chunk(2, dim=-1)
    turned = turning * cosine + torch.cat((-second, first), dim=-1) * sine
    return turned if not still.shape[-1] else torch.cat((turned, still), dim=-1)


def rope_frequencies(rope: configs.Rope, rotated: int, device: torch.device | None = None) -> tuple[Tensor, float]:
    """Each plane's angle per position, (rotated / 2,) float32, and the factor of cosine and sine."""
    periods = _periods(rope.theta, rotated, device)
    frequencies = 1 / periods
    match rope.scaling:
        case None:
            return frequencies, 1.0
        case configs.LinearScaling(factor):
            return frequencies / factor, 1.0
        case configs.YarnScaling() as yarn:
            return _yarn(yarn, rope.theta, periods)
        case configs.Llama3Scaling() as llama3:
            return _llama3(llama3, frequencies), 1.0
        case unknown:
            assert_never(unknown)


def _periods(theta: float, width: int, device: torch.device | None) -> Tensor:
    """Positions per radian, (width / 2,) float32: a geometric sequence from 1 to almost `theta`.

    Here and below the operations come in the order of the published models' code, so that not a bit differs.
    """
    return theta ** (torch.arange(0, width, 2, device=device, dtype=torch.float32) / width)


def ntk_theta(theta: float, factor: float, rotated: int) -> float:
    """The base that makes the slowest of `rotated / 2` planes `factor` times slower and leaves the fastest one:
    "NTK-aware" scaling (Peng et al. 2023, section 3.1). It needs no scaling of its own: `Rope(ntk_theta(1e4, 8, 64))`.
    """
    return theta * factor ** (rotated / (rotated - 2))


def _yarn(yarn: configs.YarnScaling, theta: float, periods: Tensor) -> tuple[Tensor, float]:
    planes = len(periods)

    def plane(turns: float) -> float:
        """The plane that makes so many turns within the original length."""
        return planes * math.log(yarn.original_length / (turns * 2 * math.pi)) / math.log(theta)

    low, high = plane(yarn.beta_fast), plane(yarn.beta_slow)
    if yarn.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, 2 * planes - 1)
    ramp = (torch.arange(planes, dtype=torch.float32, device=periods.device) - low) / max(high - low, 0.001)
    extrapolation = 1 - ramp.clamp(0, 1)
    frequencies = 1 / (yarn.factor * periods) * (1 - extrapolation) + 1 / periods * extrapolation
    factor = 0.1 * math.log(yarn.factor) + 1 if yarn.factor > 1 else 1.0
    return frequencies, factor if yarn.attention_factor is None else yarn.attention_factor


def _llama3(scaling: configs.Llama3Scaling, frequencies: Tensor) -> Tensor:
    turns = scaling.original_length / (2 * math.pi / frequencies)  # within the original length
    low, high = scaling.low_frequency_factor, scaling.high_frequency_factor
    smooth = ((turns - low) / (high - low)).clamp(0, 1)
    return (1 - smooth) * frequencies / scaling.factor + smooth * frequencies


def sinusoids(positions: Tensor, width: int, theta: float, dtype: torch.dtype) -> Tensor:
    """`positions` (…) → (…, width): sines, then cosines, of width / 2 wavelengths (Vaswani et al. 2017, section 3.5;
    the paper interleaves them, which is the same up to a permutation of the width)."""
    angles = positions[..., None].float() / _periods(theta, width, positions.device)
    return torch.cat((angles.sin(), angles.cos()), dim=-1).to(dtype)


def distances(queries: Tensor, keys: Tensor) -> Tensor:
    """`queries` (batch, length), `keys` (batch or 1, stored) → (batch, length, stored) int64, query minus key."""
    return queries[:, :, None] - keys[:, None, :]


def alibi_slopes(heads: int) -> Tensor:
    """The paper's slopes, (heads,) float32: a geometric sequence from 2^(-8 / heads) to 2^-8 (Press et al. 2022,
    section 3); where `heads` is no power of two, the authors' code takes the sequence of the power below, then every
    other slope of the power above."""
    whole = 2 ** math.floor(math.log2(heads))
    slopes = [2 ** (-8 * (head + 1) / whole) for head in range(whole)]
    between = [2 ** (-4 * (2 * head + 1) / whole) for head in range(heads - whole)]
    return torch.tensor(slopes + between)


def alibi(heads: int, distance: Tensor, dtype: torch.dtype) -> Tensor:
    """`distance` (batch, length, stored) → the bias (batch, heads, length, stored)."""
    slopes = alibi_slopes(heads).to(distance.device)
    return (-slopes[:, None, None] * distance.abs()[:, None]).to(dtype)


def relative_buckets(config: configs.RelativeBias, distance: Tensor) -> Tensor:
    """The bucket of each `distance` (query minus key), the same shape, int64 (Raffel et al. 2020, section 2.1)."""
    buckets, offset = config.buckets, torch.zeros_like(distance)
    if config.both_directions:
        buckets //= 2
        offset = (distance < 0).long() * buckets
        distance = distance.abs()
    distance = distance.clamp(min=0)
    exact = buckets // 2
    growth = (distance.clamp(min=1).float() / exact).log() / math.log(config.max_distance / exact)
    logarithmic = exact + (growth * (buckets - exact)).long()  # rounded down before the sum, which would round up
    return offset + torch.where(distance < exact, distance, logarithmic.clamp(max=buckets - 1))


# ---------------------------------------------------------------------------------------------------------------------
# Learned relative positions. Each gives a bias of the scores, (batch, heads, length, stored), from the distances.


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
