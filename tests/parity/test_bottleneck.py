"""Bottleneck adapters against the paper's formula, put into models of `transformers` by hooks, in float64."""

import copy

import torch
from decoder_cases import DECODERS
from encoder_cases import ENCODERS
from harness import Float64, Pair, difference

from kit.tables import for_each
from lmworks.adapt import BottleneckConfig, add_adapter, trained_weights

CASES = {case.name: case for case in (*DECODERS, *ENCODERS)}
# What ends a sub-layer, before the residual sum or the norm before it: attention, feed-forward, cross-attention.
ENDS = {
    "llama": ("self_attn.o_proj", "mlp.down_proj"),
    "gemma2": ("self_attn.o_proj", "mlp.down_proj"),  # with a norm behind either
    "gpt_neox": ("attention.dense", "mlp.dense_4h_to_h"),  # side by side
    "mixtral": ("self_attn.o_proj", "mlp"),
    "bert": ("attention.output.dense", "output.dense"),
    "bart": ("self_attn.out_proj", "fc2", "encoder_attn.out_proj"),
}
OURS = ("attention.output", "feed_forward", "cross_attention.output")
ACTIVATIONS = {"relu": torch.relu, "silu": torch.nn.functional.silu}


@for_each(("placement", "activation"), [("houlsby", "relu"), ("pfeiffer", "silu")])
@for_each("name", ENDS)
def test_the_formula_of_the_paper(name, placement, activation, tmp_path):
    pair = Pair(CASES[name], tmp_path)
    theirs, ours = copy.deepcopy(pair.in_float64[0]), pair.in_float64[1]
    adapted, generator = add_adapter(ours, BottleneckConfig(6, placement, activation)), torch.Generator().manual_seed(1)
    layers = {}  # the adapted sub-layer → down, its bias, up, its bias
    for full, weight in trained_weights(adapted).items():
        weight.copy_(torch.randn(weight.shape, generator=generator, dtype=weight.dtype) / 4)
        sublayer = full.rpartition(".")[0].removesuffix(".down")
        layers.setdefault(sublayer, []).append(weight.clone().requires_grad_())
    for sublayer, parts in layers.items():
        stack, _, number, place = sublayer.split(".", 3)
        end = f".{number}.{ENDS[name][OURS.index(place)]}"
        found = [m for path, m in theirs.named_modules() if path.endswith(end) and (not pair.crosses or stack in path)]
        assert len(found) == 1

        def hook(module, inputs, output, parts=parts):
            down, down_bias, up, up_bias = parts
            return output + ACTIVATIONS[activation](output @ down.T + down_bias) @ up.T + up_bias

        found[0].register_forward_hook(hook)
    with Float64():
        found, expected = adapted(**pair.inputs()), pair.their_output(pair.inputs(), theirs)
    assert difference(found, expected) < 1e-10
    for output in (found, expected):
        output.square().sum().backward()
    gradients = [weight.grad for weight in adapted.parameters() if weight.requires_grad]
    for gradient, weight in zip(gradients, [w for parts in layers.values() for w in parts], strict=True):
        assert difference(gradient, weight.grad) < 1e-10
