"""Linear layers whose weights are packed integers: in inference of what has no fused program, such as BERT or a mixture
of experts, and under an adapter that is trained (Dettmers et al. 2023, "QLoRA", section 3).
"""

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import cache
from typing import Any, Literal

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from lmworks.kernels.fused_operations import linear
from lmworks.kernels.packing import BLOCK, PackedMatrix, pack, pack_weight, unpack
from lmworks.kernels.training_kernels import dequantise
from lmworks.kernels.weight_formats import BLOCK_FORMATS, GROUP, Format, Quantised, from_gguf
from lmworks.kernels.weight_formats import dequantise as dequantise_values
from lmworks.model.transformer import Transformer, empty_model

_TILE = 1 << 20  # weights that are numbers at a time


class QuantisedLinear(nn.Module):
    """An `nn.Linear` with packed weights, which are no parameters. It has no `weight`: `dequantised` makes one.

    exact  multiply with the dequantised weights in the dtype of the activations, whose gradient is exact, too. If not,
           the integer formats round activations to int8 in groups of 32, which has no gradient.
    """

    def __init__(self, matrix: PackedMatrix, exact: bool = False) -> None:
        super().__init__()
        self.matrix, self.exact = matrix, exact
        self.in_features, self.out_features = matrix.columns, matrix.rows

    @property
    def bias(self) -> Tensor | None:
        """(out,) float32."""
        return self.matrix.bias

    def forward(self, hidden: Tensor) -> Tensor:
        """(…, columns) → (…, rows), of the same dtype. ValueError where gradients are wanted of what is rounded."""
        if self.exact:
            return _multiply()(hidden, self.matrix)
        if hidden.requires_grad and torch.is_grad_enabled():
            raise ValueError("activations rounded to int8 have no gradient: make the layer with exact=True")
        return linear(hidden.float(), self.matrix).to(hidden.dtype)

    def dequantised(self) -> Tensor:
        """The weight that the packed integers stand for, (out, in) float32, rebuilt at each call."""
        return dequantise(self.matrix, torch.float32)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "QuantisedLinear":
        """To another device. Dtypes are those of floating-point tensors: the integers stay, and the bias is float32."""
        bias = None if self.matrix.bias is None else fn(self.matrix.bias).float()
        self.matrix = replace(self.matrix, values=fn(self.matrix.values), bias=bias)
        return super()._apply(fn, recurse)  # type: ignore[return-value]


class _ExactProduct(torch.autograd.Function):
    """y = x Ŵᵀ + b and dx = dy Ŵ, where Ŵ, dequantised and rounded to the dtype of x, exists a tile at a time, in the
    forward and again in the backward (Dettmers et al. 2023, equations 5 and 6; the scales are not quantised twice).
    A tile has whole rows in the forward and whole columns in the backward: nothing is summed up over tiles."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, matrix: PackedMatrix) -> Tensor:
        """`x` (…, columns) → (…, rows)."""
        ctx.matrix, step = matrix, _step(matrix.columns, BLOCK)
        tiles = (matrix.part(rows=slice(first, first + step)) for first in range(0, matrix.rows, step))
        y = _joined([F.linear(x, dequantise(tile, x.dtype)) for tile in tiles])
        return y if matrix.bias is None else y + matrix.bias.to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """`dy` (…, rows) → (…, columns)."""
        matrix: PackedMatrix = ctx.matrix
        step = _step(matrix.rows, GROUP)
        tiles = (matrix.part(columns=slice(first, first + step)) for first in range(0, matrix.columns, step))
        return _joined([dy @ dequantise(tile, dy.dtype) for tile in tiles]), None


@cache
def _multiply() -> Any:
    """The product, which a compiler leaves as it is; made when it is asked for, as this imports the compiler."""
    return torch.compiler.disable(_ExactProduct.apply)


def _step(other_size: int, multiple: int) -> int:
    """How many rows, or columns, make a tile."""
    return max(_TILE // other_size // multiple, 1) * multiple


def _joined(outputs: list[Tensor]) -> Tensor:
    return outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=-1)


def quantise_projections(model: Transformer, format_of: Callable[[str], Format | str]) -> Transformer:
    """A copy of the model whose projections are held in `format_of(name of the weight)`; everything else is shared.

    Norms, embeddings, heads and routers stay as they are: they are small, or looked up, or decide, or are read as a
    matrix, not called.
    """

    def packed(name: str, layer: nn.Linear) -> PackedMatrix:
        format_ = format_of(f"{name}.weight")
        return pack_weight(layer.weight.detach(), "bfloat16" if format_ == "stored" else format_, layer.bias)  # type: ignore[arg-type]

    return replace_projections(model, packed)


def replace_projections(
    model: Transformer, matrix_of: Callable[[str, nn.Linear], PackedMatrix], exact: bool = False
) -> Transformer:
    """A copy of the model with `QuantisedLinear`s of `matrix_of(name, layer)`; see `quantise_projections`."""
    memo: dict[int, Any] = {}
    for tensor in (*model.parameters(), *model.buffers()):
        memo[id(tensor)] = tensor
    for name, module in model.named_modules():
        if type(module) is nn.Linear and not name.startswith("head."):
            memo[id(module)] = QuantisedLinear(matrix_of(name, module), exact).train(module.training)
    return copy.deepcopy(model, memo)


def pack_parameter(
    weights: Mapping[str, Tensor | Quantised],
    name: str,
    target_format: Format | Literal["stored"],
    bias: Tensor | None = None,
) -> PackedMatrix:
    """A matrix among a model's weights in a format; "stored": what is `Quantised`, and a GGUF file's blocks,
    as they are, bit for bit; what has no counterpart in int8, and what is not quantised in bfloat16."""
    blocks_of = getattr(weights, "blocks", None)  # of a GGUF file, whose library takes long to import
    stored = None if blocks_of is None else blocks_of(name)
    if stored is not None and stored[0] in BLOCK_FORMATS:
        kind, blocks = stored
        format_, block_bytes, _ = BLOCK_FORMATS[kind]
        if target_format in ("stored", format_):
            return pack(from_gguf(blocks, kind, blocks.shape[1] // block_bytes * GROUP), bias)
    values = weights[name]
    if isinstance(values, Quantised):
        if target_format in ("stored", values.format):
            return pack(values, bias)
        values = dequantise_values(values)
    if target_format == "stored":
        target_format = "bfloat16" if stored is None else "int8"
    return pack_weight(values, target_format, bias)


def quantised_weights(model: Transformer) -> dict[str, Tensor | Quantised]:
    """The weights by our names, those of quantised projections with their integers and scales as they are."""
    weights: dict[str, Tensor | Quantised] = dict(model.state_dict())
    for name, module in quantised_linears(model):
        weights[f"{name}.weight"] = unpack(module.matrix)
        if module.matrix.bias is not None:
            weights[f"{name}.bias"] = module.matrix.bias
    return weights


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
