import pytest
import torch
from transformers.activations import ACT2FN
from transformers.models.gemma3.modeling_gemma3 import Gemma3RMSNorm
from transformers.models.t5.modeling_t5 import T5LayerNorm

from kit.tables import for_each
from lmworks.model.config import FeedForward as Config
from lmworks.model.config import Norm
from lmworks.model.mixture_of_experts import ACTIVATIONS, FeedForward
from lmworks.model.norms import build_norm

X = 3 * torch.randn(4, 7, 64, generator=torch.Generator().manual_seed(0))
WEIGHT = torch.randn(64, generator=torch.Generator().manual_seed(1))


def ours(config: Norm, weight=WEIGHT, bias=None):
    norm = build_norm(config, 64)
    norm.load_state_dict({"weight": weight} if bias is None else {"weight": weight, "bias": bias})
    return norm


def test_layer_norm_is_the_formula():
    bias = WEIGHT.flip(0)
    x = X.double()
    mean, variance = x.mean(-1, keepdim=True), x.var(-1, keepdim=True, unbiased=False)
    expected = (x - mean) / (variance + 1e-3).sqrt() * WEIGHT + bias
    torch.testing.assert_close(ours(Norm("layer", 1e-3), bias=bias).double()(x), expected, atol=1e-14, rtol=1e-14)


def test_rms_norm_is_the_formula_and_t5s():
    x = X.double()
    expected = x / (x.square().mean(-1, keepdim=True) + 1e-3).sqrt() * WEIGHT
    torch.testing.assert_close(ours(Norm("rms", 1e-3)).double()(x), expected, atol=1e-14, rtol=1e-14)
    theirs = T5LayerNorm(64, eps=1e-3)
    theirs.load_state_dict({"weight": WEIGHT})
    # float32 and the order of a product of three
    torch.testing.assert_close(ours(Norm("rms", 1e-3))(X), theirs(X), atol=2e-6, rtol=2e-6)


@for_each("dtype", [torch.float32, torch.bfloat16])
def test_an_offset_is_gemmas(dtype):
    theirs = Gemma3RMSNorm(64, eps=1e-6)
    theirs.load_state_dict({"weight": WEIGHT})
    actual = ours(Norm("rms", 1e-6, offset=1.0)).to(dtype)(X.to(dtype))
    assert actual.dtype == dtype
    # One rounding apart where the fused kernel multiplies in another order: 1 ulp of float32, of bfloat16 2 ** -8.
    tolerance = 1e-6 if dtype == torch.float32 else 2**-8
    torch.testing.assert_close(actual, theirs.to(dtype)(X.to(dtype)), atol=tolerance, rtol=tolerance)


def test_near_one_an_offset_keeps_what_bfloat16_would_round_away():
    """A stored 0.0038 stands for a factor of 1.0038, which bfloat16, whose next number is 1.0078, would make 1."""
    norm = ours(Norm("rms", 0.0, offset=1.0), weight=torch.full((64,), 0.0038)).bfloat16()
    x = X.bfloat16()
    normalised = x.double() / x.double().square().mean(-1, keepdim=True).sqrt()
    stored = float(norm.weight.detach()[0])
    assert torch.tensor(1 + stored).bfloat16() == 1
    agrees = norm(x) == (normalised * (1 + stored)).bfloat16()
    assert agrees.float().mean() > 0.99  # not all: float32 may round a tie the other way
    assert (norm(x) == normalised.bfloat16()).float().mean() < 0.8


def test_a_new_norm_multiplies_by_one():
    for config in (Norm("layer", 0.0), Norm("rms", 0.0), Norm("rms", 0.0, offset=1.0)):
        out = build_norm(config, 64)(X)
        torch.testing.assert_close(out.square().mean(-1), torch.ones(4, 7), atol=1e-5, rtol=0)


def test_a_layer_norm_has_no_offset():
    with pytest.raises(ValueError, match="offset"):
        Norm("layer", 1e-5, offset=1.0)


# ---------------------------------------------------------------------------------------------------------------------
# Feed-forward


THEIR_NAMES = {
    "silu": "silu",
    "gelu": "gelu",
    "gelu_tanh": "gelu_pytorch_tanh",
    "relu": "relu",
    "relu2": "relu2",
    "tanh": "tanh",
}


@for_each("ours", ACTIVATIONS)
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


@for_each("bias", [True, False])
@for_each("gated", [True, False])
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
