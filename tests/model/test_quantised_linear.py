"""A linear layer of packed integers beside one whose weights are what these stand for."""

import copy

import pytest
import torch
from torch import nn

from lmworks.kernels.packing import pack_weight
from lmworks.kernels.weight_formats import dequantise, quantise
from lmworks.model import quantised_linear
from lmworks.model.quantised_linear import QuantisedLinear

DRAWN = torch.Generator().manual_seed(0)
WEIGHT, BIAS = torch.randn(70, 100, generator=DRAWN), torch.randn(70, generator=DRAWN)


@pytest.mark.parametrize("tile", [1, 3000, 1 << 20], ids=["blocks", "several", "one"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("form", ["int8", "int4"])
def test_product_and_gradient_are_those_of_the_dequantised_layer(form, dtype, tile, monkeypatch):
    monkeypatch.setattr(quantised_linear, "_TILE", tile)
    plain = nn.Linear(100, 70).to(dtype)
    plain.weight.data, plain.bias.data = dequantise(quantise(WEIGHT, form)).to(dtype), BIAS.to(dtype)
    layer = QuantisedLinear(pack_weight(WEIGHT, form, BIAS), exact=True)
    inputs = [torch.randn(2, 9, 100, generator=torch.Generator().manual_seed(1)).to(dtype) for _ in range(2)]
    outputs = [module(x.requires_grad_()) for module, x in zip((layer, plain), inputs, strict=True)]
    torch.autograd.backward(outputs, [torch.ones_like(outputs[0]).cumsum(-1) / 70] * 2)
    near = {torch.float64: 1e-12, torch.float32: 2e-5, torch.bfloat16: 0.1}[dtype]  # the bias is added to what is round
    torch.testing.assert_close(outputs[0], outputs[1], atol=near, rtol=near)
    torch.testing.assert_close(inputs[0].grad, inputs[1].grad, atol=near, rtol=near)
    assert not list(layer.parameters()) and not hasattr(layer, "weight")


def test_integers_are_shared_by_copies_and_have_no_other_dtype():
    layer = QuantisedLinear(pack_weight(WEIGHT, "int4", BIAS))
    with pytest.raises(ValueError, match="exact=True"):
        layer(torch.zeros(1, 100, requires_grad=True))
    other = copy.deepcopy(layer).to(torch.bfloat16)
    assert other.matrix.values.data_ptr() == layer.matrix.values.data_ptr()
    assert torch.equal(other.dequantised(), dequantise(quantise(WEIGHT, "int4")))
    assert copy.deepcopy(layer).to("meta").matrix.values.is_meta and not layer.matrix.values.is_meta
