import pytest
import torch
from transformers.activations import ACT2FN

from lmworks.model.config import FeedForward as Config
from lmworks.model.feed_forward import ACTIVATIONS, FeedForward

THEIR_NAMES = {
    "silu": "silu",
    "gelu": "gelu",
    "gelu_tanh": "gelu_pytorch_tanh",
    "relu": "relu",
    "relu2": "relu2",
    "tanh": "tanh",
}


@pytest.mark.parametrize("ours", ACTIVATIONS)
def test_each_activation_is_the_one_that_transformers_calls_so(ours):
    x = torch.linspace(-8, 8, 1001, dtype=torch.float64)
    torch.testing.assert_close(ACTIVATIONS[ours](x), ACT2FN[THEIR_NAMES[ours]](x), atol=1e-15, rtol=1e-15)


def test_the_two_forms_of_gelu_differ_where_they_should():
    x = torch.linspace(-4, 4, 1001, dtype=torch.float64)
    exact = x * (1 + torch.erf(x / 2**0.5)) / 2
    approximate = x * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (x + 0.044715 * x**3))) / 2  # Hendrycks & Gimpel 2016
    torch.testing.assert_close(ACTIVATIONS["gelu"](x), exact, atol=1e-14, rtol=0)
    torch.testing.assert_close(ACTIVATIONS["gelu_tanh"](x), approximate, atol=1e-14, rtol=0)
    assert 1e-4 < (exact - approximate).abs().max() < 1e-3


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("gated", [True, False])
def test_the_formula(gated, bias):
    network = FeedForward(Config(12, "relu2", gated, bias), width=8).double()
    x = torch.randn(2, 5, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    weights = {name: parameter.detach() for name, parameter in network.named_parameters()}
    zero = torch.zeros((), dtype=torch.float64)

    def project(name, inputs):
        return torch.einsum("oi,...i->...o", weights[f"{name}.weight"], inputs) + weights.get(f"{name}.bias", zero)

    inner = project("gate" if gated else "up", x).clamp(min=0) ** 2
    expected = project("down", inner * project("up", x) if gated else inner)
    torch.testing.assert_close(network(x), expected, atol=1e-14, rtol=1e-14)
    assert len(weights) == (3 if gated else 2) * (2 if bias else 1)
