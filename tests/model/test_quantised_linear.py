"""Linear layers of packed integers beside the layers whose weights are what these stand for."""

import copy

import pytest
import torch
from torch import nn

from lmworks.kernels.packing import pack_weight
from lmworks.kernels.weight_formats import Format, dequantise, quantise
from lmworks.model import quantised_linear
from lmworks.model.quantised_linear import QuantisedLinear

ROWS, COLUMNS = 70, 100


def _pair(form: Format, bias: bool = True) -> tuple[QuantisedLinear, nn.Linear]:
    """The layer, and a float one of the dequantised weights."""
    generator = torch.Generator().manual_seed(0)
    weight, of_bias = torch.randn(ROWS, COLUMNS, generator=generator), torch.randn(ROWS, generator=generator)
    plain = nn.Linear(COLUMNS, ROWS, bias)
    plain.weight.data = dequantise(quantise(weight, form))
    if bias:
        plain.bias.data = of_bias
    return QuantisedLinear(pack_weight(weight, form, of_bias if bias else None), exact=True), plain


@pytest.mark.parametrize("tile", [1, 3000, 1 << 20], ids=["blocks", "several", "one"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("form", ["int8", "int4", "bfloat16"])
def test_product_and_gradient_are_those_of_the_dequantised_layer(form, dtype, tile, monkeypatch):
    monkeypatch.setattr(quantised_linear, "_TILE", tile)
    layer, plain = _pair(form)
    plain = plain.to(dtype)
    x = torch.randn(2, 9, COLUMNS, generator=torch.Generator().manual_seed(1)).to(dtype)
    inputs = [x.clone().requires_grad_(), x.clone().requires_grad_()]
    outputs = [layer(inputs[0]), plain(inputs[1])]
    gradient = torch.randn(2, 9, ROWS, generator=torch.Generator().manual_seed(2)).to(dtype)
    torch.autograd.backward(outputs, [gradient, gradient])
    # bfloat16: the bias is added after the rounding of the product
    near = {torch.float64: 1e-12, torch.float32: 2e-5, torch.bfloat16: 0.1}[dtype]
    torch.testing.assert_close(outputs[0], outputs[1], atol=near, rtol=near)
    torch.testing.assert_close(inputs[0].grad, inputs[1].grad, atol=near, rtol=near)
    assert outputs[0].dtype == inputs[0].grad.dtype == dtype
    assert not list(layer.parameters()) and not hasattr(layer, "weight")
    assert torch.equal(layer.dequantised(), plain.weight.float()) or dtype == torch.bfloat16


def test_rounded_activations_have_no_gradient_to_give():
    layer, _ = _pair("int4")
    rounding, x = QuantisedLinear(layer.matrix), torch.randn(3, COLUMNS)
    rounding(x)
    with pytest.raises(ValueError, match="exact=True"):
        rounding(x.requires_grad_())


def test_a_change_of_dtype_leaves_the_integers_and_a_copy_shares_them():
    layer, _ = _pair("int4")
    values, bias = layer.matrix.values.clone(), layer.matrix.bias
    other = copy.deepcopy(layer).to(torch.bfloat16)
    assert torch.equal(other.matrix.values, values) and other.matrix.bias.dtype == torch.float32
    assert other.matrix.values.data_ptr() == layer.matrix.values.data_ptr()
    assert layer.matrix.bias is bias
    assert copy.deepcopy(layer).to("meta").matrix.values.is_meta and not layer.matrix.values.is_meta
