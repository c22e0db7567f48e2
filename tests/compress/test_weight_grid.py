"""Grids against the quantisation of the library gguf, and against a search of all levels."""

import gguf
import numpy as np
import pytest
import torch
from gguf.constants import GGMLQuantizationType

from kit.tables import for_each
from lmworks.compress.config import GridConfig
from lmworks.compress.weight_grid import fit_grid, round_to_nearest
from lmworks.kernels.weight_formats import dequantise, from_gguf, to_gguf


def weights(rows=16, columns=96):
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(0)) * 0.05


@for_each(
    ("config", "kind"), [(GridConfig(4, symmetric=True), "Q4_0"), (GridConfig(4), "Q4_1"), (GridConfig(8), "Q8_0")]
)
def test_rounding_is_that_of_gguf(config, kind):
    """Which divides by scales in float32 that it stores as float16: a weight between two levels may go to the other."""
    weight, of = weights(), GGMLQuantizationType[kind]
    theirs = gguf.quantize(weight.numpy(), of)
    ours = round_to_nearest(weight, config)
    name, blocks = to_gguf(ours)
    assert name == kind
    same = np.isclose(gguf.dequantize(theirs, of), dequantise(ours).numpy(), atol=1e-6)
    assert same.mean() > 0.99
    assert torch.equal(dequantise(from_gguf(blocks, kind, weight.shape[1])), dequantise(ours))
    assert np.array_equal(gguf.dequantize(blocks.numpy(), of), dequantise(ours).numpy())


@for_each("config", [GridConfig(3), GridConfig(4, symmetric=True), GridConfig(2, symmetric=True)])
def test_levels_by_importance_are_about_the_best_there_are(config):
    generator = torch.Generator().manual_seed(1)
    weight, importance = torch.randn(4, 32, generator=generator), torch.rand(32, generator=generator) ** 2

    def error(scale, minimum):
        low, high = config.levels
        q = ((weight - minimum) / scale).round().clamp(low, high)
        return ((q * scale + minimum - weight).square() * importance).sum(1)

    best = torch.full((4,), np.inf)
    for scale in torch.linspace(0.01, 3, 300):
        for signed in (scale, -scale):
            for minimum in [-8 * signed] if config.symmetric else torch.linspace(-3, 1, 100):
                best = torch.minimum(best, error(signed, minimum))
    grid = fit_grid(weight, config, importance)
    found = error(grid.scales, grid.minimums)
    assert found.sum() < 1.15 * best.sum()
    plain = fit_grid(weight, config)
    assert found.sum() < 0.8 * error(plain.scales, plain.minimums).sum()


def test_bits_and_groups_are_what_they_say():
    for config in (GridConfig(2), GridConfig(3, symmetric=True), GridConfig(4, group=64)):
        matrix = round_to_nearest(weights(columns=128), config)
        assert len(dequantise(matrix)[0, : config.group].unique()) <= 2**config.bits
        assert matrix.scales is not None and matrix.scales[:, 0 :: config.group // 32].shape[1] == 128 // config.group


def test_weights_beyond_float16_are_refused():
    with pytest.raises(ValueError, match="keep them as bfloat16"):
        round_to_nearest(weights() * 1e7, GridConfig(4))
