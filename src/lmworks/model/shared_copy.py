"""Copies of a model that share its weights, so that a few of its modules can be replaced: every `f(model, …) -> model`
needs one."""

import copy
from collections.abc import Callable

from torch import Tensor

from lmworks.model.transformer import Transformer


def sharing_copy(model: Transformer, convert: Callable[[Tensor], Tensor] = lambda tensor: tensor) -> Transformer:
    """New modules around the same parameters and buffers, or around what `convert` makes of each.

    What `model` ties stays tied. Never call `.to()` on the copy: PyTorch moves parameters in place, and so the ones of
    `model` with them.
    """
    return copy.deepcopy(model, {id(tensor): convert(tensor) for tensor in (*model.parameters(), *model.buffers())})
