"""AWQ: scale the columns of a matrix that see large inputs before it is rounded, so that their weights, which matter
most, lose least (Lin et al. 2023, "AWQ: Activation-aware Weight Quantization for LLM Compression and Acceleration").

The scales are s = a^α of the inputs' mean magnitudes a (equation 5), with the α of the least error of the outputs, and
are folded into what gives the inputs. The error of a matrix is tr((Ŵ - W) E[x xᵀ] (Ŵ - W)ᵀ), the mean squared error of
its outputs on the calibration text.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from lmworks.compress.block_calibration import CalibratedBlock, InputStatistics
from lmworks.compress.channel_scales import Site, fold, sites
from lmworks.compress.config import AWQConfig, GridConfig
from lmworks.compress.weight_grid import fit_grid


def scale_block(
    block: CalibratedBlock,
    statistics: Mapping[str, InputStatistics],
    grids: Mapping[str, GridConfig | None],
    config: AWQConfig,
) -> None:
    """Fold the best scales into a block that sees inputs of these statistics, in place; these become those of the
    scaled inputs. `grids` are of its layers by their full names, None: not rounded."""
    for site in sites(block.block):
        names = [f"{block.name}.{layer}" for layer in site.layers]
        own = statistics.get(names[0])
        if own is None or any(grids[name] is None for name in names):
            continue
        weights = {name: block.linears()[name].weight.detach() for name in names}
        channels = best_scales(site, weights, own, grids, config)
        fold(block.block, site, channels)
        own.divide(site.per_column(channels))


def best_scales(
    site: Site,
    weights: Mapping[str, Tensor],
    statistics: InputStatistics,
    grids: Mapping[str, GridConfig | None],
    config: AWQConfig,
) -> Tensor:
    """The scales of the producer's channels, of which no scaling is one."""
    assert statistics.second_moment is not None
    magnitudes = site.per_channel(statistics.mean_absolute).clamp(min=1e-8)
    tried = []
    for strength in torch.linspace(0, 1, config.steps + 1).tolist():
        scales = magnitudes**strength
        scales = (scales / (scales.max() * scales.min()).sqrt()).clamp(min=1e-4, max=1e4)
        columns, error = site.per_column(scales), 0.0
        for name, weight in weights.items():
            grid = grids[name]
            assert grid is not None
            levels = fit_grid(weight * columns, grid)
            change = levels.levels(levels.nearest(weight * columns)) / columns - weight
            error += float(((change @ statistics.second_moment) * change).sum())
        tried.append((error, scales))
    return min(tried, key=lambda pair: pair[0])[1]
