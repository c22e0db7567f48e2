"""GPTQ against OBQ's update by the full inverse Hessian, column by column, in float64."""

import torch

from kit.tables import for_each
from lmworks.compress.config import GPTQConfig, GridConfig
from lmworks.compress.gptq import gptq_matrix
from lmworks.compress.weight_grid import fit_grid

ROWS, COLUMNS = 24, 160  # columns of several groups, and more than wait for one update


def layer(seed=0):
    """A weight, and the second moment of inputs that are correlated and of unequal size."""
    torch.manual_seed(seed)
    inputs = torch.randn(512, COLUMNS, dtype=torch.float64) @ torch.randn(COLUMNS, COLUMNS, dtype=torch.float64)
    inputs *= torch.logspace(-1, 1, COLUMNS, dtype=torch.float64)[torch.randperm(COLUMNS)]
    return torch.randn(ROWS, COLUMNS, dtype=torch.float64), inputs.T @ inputs / len(inputs)


def obq(weight, moment, grid, damping, order):
    """Frantar & Alistarh 2022, algorithm 3, with a fixed order: the best change of all other columns for each."""
    hessian = moment + damping * moment.diagonal().mean() * torch.eye(COLUMNS, dtype=torch.float64)
    inverse, rest, q = torch.linalg.inv(hessian), weight.clone(), torch.empty_like(weight)
    for column in order:
        place = torch.tensor([column])
        q[:, place] = grid.nearest(rest[:, place], place)
        error = (rest[:, column] - grid.levels(q[:, place], place)[:, 0]) / inverse[column, column]
        rest -= error[:, None] * inverse[column]
        inverse -= inverse[:, column, None] * inverse[None, column] / inverse[column, column]
    return q


@for_each("grid", [GridConfig(4), GridConfig(4, symmetric=True, group=64), GridConfig(3), GridConfig(8)])
@for_each("by_size", [True, False])
def test_a_layers_solution_is_that_of_the_full_inverse_hessian(grid, by_size):
    weight, moment = layer()
    levels, config = fit_grid(weight, grid, moment.diagonal()), GPTQConfig(order=by_size)
    order = moment.diagonal().argsort(descending=True).tolist() if by_size else range(COLUMNS)
    wanted = obq(weight, moment, levels, config.damping, order)
    assert torch.equal(gptq_matrix(weight, moment, levels, config), wanted)
    plain = levels.levels(levels.nearest(weight)) - weight
    change = levels.levels(wanted) - weight
    assert ((change @ moment) * change).sum() < 0.7 * ((plain @ moment) * plain).sum()


def test_an_input_that_is_always_zero_is_rounded_to_nearest():
    weight, moment = layer()
    moment[7] = moment[:, 7] = 0
    levels = fit_grid(weight, GridConfig(4))
    q = gptq_matrix(weight, moment, levels, GPTQConfig())
    assert torch.equal(q[:, 7], levels.nearest(weight)[:, 7])
    nothing = gptq_matrix(weight, torch.zeros_like(moment), levels, GPTQConfig())
    assert torch.equal(nothing, levels.nearest(weight))
