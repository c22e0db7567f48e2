"""Quantised projections in any model: what has no fused program, such as BERT or a mixture of experts."""

import copy
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lmworks.kernels.fused_operations import linear
from lmworks.kernels.packing import PackedMatrix, pack_weight, unpack
from lmworks.kernels.weight_formats import Format, Quantised
from lmworks.model.transformer import Transformer, empty_model


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


def quantised_weights(model: Transformer) -> dict[str, Tensor | Quantised]:
    """The weights by our names, those of quantised projections with their integers and scales as they are."""
    weights: dict[str, Tensor | Quantised] = dict(model.state_dict())
    for name, module in quantised_linears(model):
        weights[f"{name}.weight"] = unpack(module.matrix)
        if module.matrix.bias is not None:
            weights[f"{name}.bias"] = module.matrix.bias
    return weights


def own_copy(model: Transformer) -> Transformer:
    """A copy with tensors of its own, for `load_state`, which replaces packed matrices: they are shared until then."""
    memo: dict[int, Any] = {id(module.matrix): module.matrix for _, module in quantised_linears(model)}
    return copy.deepcopy(model, memo)


def load_state(model: Transformer, state: Mapping[str, Tensor]) -> None:
    """Replace the model's weights by those of an unquantised model's `state_dict`; each projection is quantised in the
    format that it has. `require_same_shapes` of `shapes_of(model)` must hold."""
    packed = set[str]()
    for name, module in quantised_linears(model):
        weight, bias = f"{name}.weight", f"{name}.bias"
        own_bias = state[bias].detach().clone() if bias in state else None  # packing copies the matrix alone
        module.matrix = pack_weight(state[weight].detach(), module.matrix.format, own_bias)
        packed |= {weight, bias}
    model.load_state_dict({name: tensor for name, tensor in state.items() if name not in packed})


def shapes_of(model: Transformer) -> dict[str, torch.Size]:
    """The shapes of the model's weights by name, as they were before projections were quantised."""
    shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
    for name, module in quantised_linears(model):
        shapes[f"{name}.weight"] = torch.Size((module.out_features, module.in_features))
        if module.matrix.bias is not None:
            shapes[f"{name}.bias"] = module.matrix.bias.shape
    return shapes


def has_adapter(model: Transformer) -> bool:
    """Whether there is more in the model than its config says, such as a prefix, which only its modules compute."""
    return shapes_of(model).keys() != empty_model(model.config).state_dict().keys()


def packed_bytes(model: Transformer) -> int:
    """Bytes of the quantised projections, which are not among a model's parameters."""
    return sum(module.matrix.nbytes for _, module in quantised_linears(model))


def quantised_linears(model: Transformer) -> Iterator[tuple[str, QuantisedLinear]]:
    """The quantised projections of a model, by name."""
    return ((name, module) for name, module in model.named_modules() if isinstance(module, QuantisedLinear))
