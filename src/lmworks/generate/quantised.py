"""Quantised projections in any model: what has no fused program, such as BERT or a mixture of experts."""

import copy
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from lmworks.kernels.formats import Format
from lmworks.kernels.operations import linear
from lmworks.kernels.packing import PackedMatrix, pack_weight
from lmworks.model.transformer import Transformer


class QuantisedLinear(nn.Module):
    """An `nn.Linear` with packed weights: activations are rounded to int8 in groups of 32 for the integer formats."""

    def __init__(self, matrix: PackedMatrix) -> None:
        super().__init__()
        self.matrix = matrix
        self.in_features, self.out_features = matrix.columns, matrix.rows

    def forward(self, hidden: Tensor) -> Tensor:
        """(…, columns) → (…, rows), of the same dtype."""
        return linear(hidden.float(), self.matrix).to(hidden.dtype)


def quantise_projections(model: Transformer, format_of: Callable[[str], Format | str]) -> Transformer:
    """A copy of the model whose projections are held in `format_of(name of the weight)`; everything else is shared.

    Norms, embeddings, heads and routers stay as they are: they are small, or looked up, or decide, or are read as a
    matrix, not called.
    """
    memo: dict[int, Any] = {}
    for tensor in (*model.parameters(), *model.buffers()):
        memo[id(tensor)] = tensor
    for name, module in model.named_modules():
        if type(module) is nn.Linear and not name.startswith("head."):
            format_ = format_of(f"{name}.weight")
            memo[id(module)] = QuantisedLinear(
                pack_weight(module.weight.detach(), "bfloat16" if format_ == "stored" else format_, module.bias)  # type: ignore[arg-type]
            )
    return copy.deepcopy(model, memo)
