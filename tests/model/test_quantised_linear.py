"""A linear layer of packed integers beside one whose weights are what these stand for."""

import pytest
import torch
from torch import nn

from kit.tables import for_each
from lmworks.kernels.packing import pack_weight
from lmworks.kernels.weight_formats import dequantise, quantise
from lmworks.model import quantised_linear
from lmworks.model.quantised_linear import QuantisedLinear

WEIGHT = torch.randn(70, 100, generator=torch.Generator().manual_seed(0))
BIAS = WEIGHT[:, 0]


@for_each("tile", [1, 3000, 1 << 20])
@for_each("dtype", [torch.float64, torch.float32, torch.bfloat16])
@for_each("form", ["int8", "int4"])
def test_product_and_gradient_are_those_of_the_dequantised_layer(form, dtype, tile, monkeypatch):
    monkeypatch.setattr(quantised_linear, "_TILE", tile)
    plain = nn.Linear(100, 70).to(dtype)
    plain.weight.data, plain.bias.data = dequantise(quantise(WEIGHT, form)).to(dtype), BIAS.to(dtype)
    layer = QuantisedLinear(pack_weight(WEIGHT, form, BIAS), exact=True)
    inputs = [torch.randn(2, 9, 100, generator=torch.Generator().manual_seed(1)).to(dtype) for _ in range(2)]
    outputs = [module(x.requires_grad_()) for module, x in zip((layer, plain), inputs, strict=True)]
    torch.autograd.backward(outputs, [torch.ones_like(outputs[0]).cumsum(-1) / 70] * 2)
    near = {torch.float64: 1e-12, torch.float32: 2e-5, torch.bfloat16: 0.1}[dtype]  # the bias is added to what is round
    for found, expected in (outputs, [x.grad for x in inputs]):
        torch.testing.assert_close(found, expected, atol=near, rtol=near)
    assert not list(layer.parameters()) and not hasattr(layer, "weight")
    with pytest.raises(ValueError, match="exact=True"):
        QuantisedLinear(layer.matrix)(inputs[0])
