"""The grids that weights are rounded to: where the levels of a group of columns lie, and which level is nearest.

A level is `scale · q + minimum`, both float16: what `kernels.weight_formats.Quantised` holds, so that a matrix rounded
here is run, and written to files, without a further rounding.

    bits 8        q in -127 … 127, minimum 0                                    int8, Q8_0
    symmetric     q in 8 ± 2^(bits-1), minimum -8 · scale; 4 bits: 0 … 15       int4, Q4_0, compressed-tensors
    else          q in 0 … 2^bits - 1                                           int4, Q4_1

Two and three bits are simulated: they use some of the levels of four.
"""

from dataclasses import dataclass
from itertools import product

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from lmworks.compress.config import GridConfig
from lmworks.kernels.weight_formats import GROUP, Quantised

_SHRUNK = torch.linspace(0.6, 1.05, 19)  # of a range around 0, where the best levels are looked for
_ENDS = torch.linspace(0.4, 1.0, 7)  # of both ends of a range with a minimum of its own
_REFINED = 3  # times that levels are fitted to the weights that are nearest to them


@dataclass(frozen=True)
class Grid:
    """The levels of a matrix: `scales` and `minimums` (rows, groups of `config.group` columns) float32, which are
    float16 numbers."""

    config: GridConfig
    scales: Tensor
    minimums: Tensor

    def nearest(self, values: Tensor, columns: slice | Tensor = slice(None)) -> Tensor:
        """The q of the nearest levels, of the dtype of `values` (rows, columns): these columns of the matrix."""
        return _nearest(values, *self.spread(values, columns), self.config)

    def levels(self, q: Tensor, columns: slice | Tensor = slice(None)) -> Tensor:
        """The values of these q, (rows, columns)."""
        scales, minimums = self.spread(q, columns)
        return q * scales + minimums

    def quantised(self, q: Tensor) -> Quantised:
        """The matrix with these q, (rows, columns), in groups of 32 columns."""
        groups = -(-q.shape[1] // GROUP)
        scales, minimums = (
            kind.repeat_interleave(self.config.group // GROUP, dim=1)[:, :groups].half().contiguous()
            for kind in (self.scales, self.minimums)
        )
        if self.config.bits == 8:
            return Quantised("int8", q.to(torch.int8), scales)
        return Quantised("int4", q.to(torch.uint8), scales, minimums)

    def spread(self, values: Tensor, columns: slice | Tensor = slice(None)) -> tuple[Tensor, Tensor]:
        """Scales and minimums of each of these columns, of the shape and the dtype of `values`."""
        groups = torch.arange(self.scales.shape[1] * self.config.group)[columns][: values.shape[1]] // self.config.group
        return self.scales[:, groups].to(values.dtype), self.minimums[:, groups].to(values.dtype)


def round_to_nearest(weight: Tensor, config: GridConfig) -> Quantised:
    """`weight` (rows, columns) on the grid between the smallest and the largest value of each group; of one on `meta`
    a matrix of the format, with values on `meta`."""
    if weight.is_meta:
        # No two groups have one scale, nor minimums that follow from scales, but for those of levels around 0.
        scales = (torch.arange(-(-weight.shape[1] // config.group)) % 2).expand(len(weight), -1)
        return Grid(config, scales, scales * -8 + (config.centre is None)).quantised(weight)
    grid = fit_grid(weight, config)
    return grid.quantised(grid.nearest(weight.float()))


def fit_grid(weight: Tensor, config: GridConfig, importance: Tensor | None = None) -> Grid:
    """The levels for a matrix (rows, columns) of any float dtype: between the extremes of each group; or, with
    `importance` (columns,), those of the least squared error of which each column counts so much, among shrunk ranges,
    then fitted by least squares. ValueError for values that are not finite, or too large for float16."""
    missing = -weight.shape[1] % config.group  # columns, which are filled up with the last values: no range is wider
    groups = F.pad(weight.float()[None], (0, missing), mode="replicate")[0].unflatten(1, (-1, config.group))
    best = _half(*_between(groups, config), config)
    if importance is None:
        return Grid(config, *(kind.squeeze(-1) for kind in best))
    counts = importance.float().clamp(min=1e-12 * float(importance.max()) + 1e-30)
    counts = F.pad(counts, (0, missing)).unflatten(0, (-1, config.group))  # (groups, columns)

    def error(scales: Tensor, minimums: Tensor) -> Tensor:
        rounded = _nearest(groups, scales, minimums, config) * scales + minimums
        return ((rounded - groups).square() * counts).sum(-1, keepdim=True)  # (rows, groups, 1)

    def offer(scales: Tensor, minimums: Tensor) -> None:
        nonlocal best, least
        offered = _half(scales, minimums, config)
        offered_error = error(*offered)
        best = tuple(torch.where(offered_error < least, new, old) for new, old in zip(offered, best, strict=True))
        least = torch.minimum(offered_error, least)

    least = error(*best)
    if config.centre is None:
        for low, high in product(_ENDS, _ENDS):
            offer(*_between(groups, config, low, high))
    else:
        for share in _SHRUNK:
            scales, minimums = _between(groups, config, share, share)
            offer(scales, minimums)
            offer(-scales, minimums)  # the end with one more level on the other side
    for _ in range(_REFINED):
        offer(*_least_squares(groups, _nearest(groups, *best, config), counts, config))
    return Grid(config, *(kind.squeeze(-1) for kind in best))


# Scales and minimums are (rows, groups, 1), values (rows, groups, columns); levels around 0 have no minimum of their
# own: theirs follows in `_half`.


def _between(
    groups: Tensor, config: GridConfig, low_share: Tensor | float = 1.0, high_share: Tensor | float = 1.0
) -> tuple[Tensor, Tensor]:
    """Scales and minimums of ranges whose ends are these shares of the values' own."""
    low, high = groups.amin(-1, keepdim=True) * low_share, groups.amax(-1, keepdim=True) * high_share
    if config.centre is None:
        return (high - low).clamp(min=0) / (2**config.bits - 1), low
    if config.bits == 8:
        return torch.maximum(-low, high) / 127, low
    furthest = torch.where(-low > high, low, high)  # gets the level furthest from 0, of which there is one
    return furthest / -(2 ** (config.bits - 1)), low


def _least_squares(groups: Tensor, q: Tensor, counts: Tensor, config: GridConfig) -> tuple[Tensor, Tensor]:
    """Scales and minimums for which `scale · q + minimum` is nearest to the values."""

    def total(values: Tensor) -> Tensor:
        return (values * counts).sum(-1, keepdim=True)

    mean_q, mean = config.centre, 0.0
    if mean_q is None:
        weight = total(torch.ones_like(q))
        mean_q, mean = total(q) / weight, total(groups) / weight
    scales = total((q - mean_q) * (groups - mean)) / total((q - mean_q).square()).clamp(min=1e-30)
    return scales, mean - scales * mean_q


def _nearest(values: Tensor, scales: Tensor, minimums: Tensor, config: GridConfig) -> Tensor:
    return ((values - minimums) / torch.where(scales == 0, 1.0, scales)).round().clamp(*config.levels)


def _half(scales: Tensor, minimums: Tensor, config: GridConfig) -> tuple[Tensor, Tensor]:
    """As float16 has them; the minimum of levels around 0 follows from the scale."""
    scales = scales.half().float()
    minimums = minimums if config.centre is None else -config.centre * scales
    if not (minimums.half().isfinite().all() and scales.isfinite().all()):
        raise ValueError("a group of weights is not finite, or too large for a float16 scale: keep them as bfloat16")
    return scales, minimums.half().float()


def bits_of_levels(weight: Tensor) -> int:
    """Bits of the levels, 16 at most, that a matrix of floats lies on, as one that was quantised does, by the different
    values in the groups of its first rows; 0 where it lies on none, or has few values because most are 0."""
    groups = weight.detach()[:64].unfold(1, min(GROUP, weight.shape[1]), GROUP).sort(-1).values  # (rows, groups, GROUP)
    counts = (groups.diff() != 0).sum(-1) + 1  # (rows, groups)
    if counts.max() > 16 or counts.sum() > 0.75 * groups.count_nonzero():
        return 0
    return (int(counts.max()) - 1).bit_length()
