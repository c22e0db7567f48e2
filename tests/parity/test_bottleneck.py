"""Bottleneck adapters against the paper's formula, put into models of `transformers` by hooks, in float64."""

import copy
from pathlib import Path

import pytest
import torch
from decoder_cases import DECODERS
from encoder_cases import ENCODERS
from harness import Float64, Pair, difference

from lmworks.adapt import BottleneckConfig, add_adapter, trained_weights

CASES = {case.name: case for case in (*DECODERS, *ENCODERS)}
# Whose outputs go on to the residual sum, or to the norm before it: after attention, after cross-attention, at the end.
SUBLAYERS = {
    "llama": ("self_attn.o_proj", None, "mlp.down_proj"),
    "gemma2": ("self_attn.o_proj", None, "mlp.down_proj"),  # with a norm behind either
    "gpt_neox": ("attention.dense", None, "mlp.dense_4h_to_h"),  # side by side
    "mixtral": ("self_attn.o_proj", None, "mlp"),
    "bert": ("attention.output.dense", None, "output.dense"),
    "bart": ("self_attn.out_proj", "encoder_attn.out_proj", "fc2"),
}
ACTIVATIONS = {"relu": torch.relu, "silu": torch.nn.functional.silu}
PLACES = {"attention.output": 0, "cross_attention.output": 1, "feed_forward.down": 2, "feed_forward": 2}


@pytest.mark.parametrize(("placement", "activation"), [("houlsby", "relu"), ("pfeiffer", "silu")])
@pytest.mark.parametrize("name", SUBLAYERS)
def test_the_formula_of_the_paper(name, placement, activation, tmp_path: Path):
    pair = Pair(CASES[name], tmp_path)
    theirs, ours = copy.deepcopy(pair.in_float64[0]), pair.in_float64[1]
    adapted = add_adapter(ours, BottleneckConfig(6, placement, activation))
    weights = {}  # (layer's path, number of the sub-layer) → down, its bias, up, its bias
    generator = torch.Generator().manual_seed(1)
    for full, weight in trained_weights(adapted).items():
        stack, _, number, sublayer = full.rpartition(".")[0].split(".", 3)
        weight.copy_(torch.randn(weight.shape, generator=generator, dtype=weight.dtype) / 4)
        weights.setdefault((stack, int(number), PLACES[sublayer]), []).append(weight.clone().requires_grad_())
    used = 0
    for stack in ("encoder", "decoder"):
        lists = [(path, m) for path, m in theirs.named_modules() if isinstance(m, torch.nn.ModuleList)]
        blocks = next((m for path, m in lists if len(pair.ours.config.stacks) == 1 or stack in path), ())
        for number, block in enumerate(blocks):
            for place, path in enumerate(SUBLAYERS[name]):
                if (parts := weights.get((stack, number, place))) is not None:
                    used += 1

                    def hook(module, inputs, output, parts=parts):
                        down, down_bias, up, up_bias = parts
                        return output + ACTIVATIONS[activation](output @ down.T + down_bias) @ up.T + up_bias

                    block.get_submodule(path).register_forward_hook(hook)
    assert used == len(weights)
    inputs = pair.inputs()
    with Float64():
        found, expected = adapted(**inputs), pair.their_output(inputs, theirs)
        assert difference(ours(**inputs), expected) > 0.05
    assert difference(found, expected) < 1e-10
    for output in (found, expected):
        output.square().sum().backward()
    gradients = [weight.grad for weight in adapted.parameters() if weight.requires_grad]
    for gradient, weight in zip(gradients, [w for parts in weights.values() for w in parts], strict=True):
        assert difference(gradient, weight.grad) < 1e-10
