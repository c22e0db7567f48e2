"""Scales that are folded into a block change nothing that it computes, whatever they are."""

import pytest
import torch

from gguf_cases import CONFIGS, random_checkpoint
from kit.tables import for_each
from lmworks.compress.block_calibration import calibrated_blocks, linears, read_calibration
from lmworks.compress.channel_scales import fold, scale_block, sites
from lmworks.compress.config import AWQConfig, CalibrationConfig, GridConfig, SmoothQuantConfig
from lmworks.compress.quantisation import float_copy
from lmworks.model import presets

CASES = {name: CONFIGS[name] for name in ("llama", "llama, biases", "gemma 2", "gpt2", "mixtral", "phi3")} | {
    "neox": presets.gpt_neox(vocabulary=267, width=64, layers=2, heads=4, hidden=96, context_length=128)
}
CALIBRATION = CalibrationConfig(sequences=8, length=64)
TEXTS = [f"Leave is asked for in the calendar, {number} weeks ahead. " * 9 for number in range(9)]


@pytest.fixture(scope="module", params=CASES)
def checkpoint(request, tiny_tokenizer):
    return random_checkpoint(CASES[request.param], tiny_tokenizer)


def logits(model, text):
    with torch.no_grad():
        return model(text.ids)


def test_any_scales_leave_the_function_as_it_is(checkpoint):
    text = read_calibration(TEXTS, checkpoint.required_tokenizer, CALIBRATION)
    model, wanted = float_copy(checkpoint.model).double(), logits(checkpoint.model.double(), text)
    changed = 0
    for block in calibrated_blocks(model, text):
        for site in sites(block.block):
            channels = site.per_channel(torch.ones(block.block.get_submodule(site.layers[0]).in_features)).double()
            fold(block.block, site, torch.rand_like(channels) + 0.5)
            changed += len(site.layers)
    checkpoint.model.float()
    assert changed >= len(linears(model)) / 4
    assert torch.allclose(logits(model, text), wanted, atol=1e-10)


@for_each("method", [AWQConfig(), SmoothQuantConfig()])
def test_the_scales_of_the_methods_change_weights_and_no_logits_and_what_was_seen_with_them(checkpoint, method):
    text = read_calibration(TEXTS, checkpoint.required_tokenizer, CALIBRATION)
    model, wanted = float_copy(checkpoint.model), logits(checkpoint.model, text)
    grids = dict.fromkeys(linears(model), GridConfig(3))
    for block in calibrated_blocks(model, text):
        statistics = block.statistics()
        scale_block(block, statistics, grids, method)
        for name, own in block.statistics().items():
            assert torch.allclose(own.second_moment, statistics[name].second_moment, rtol=1e-3, atol=1e-5)
            assert torch.allclose(own.largest, statistics[name].largest, rtol=1e-3)
    assert torch.allclose(logits(model, text), wanted, atol=2e-4)
    assert any(not torch.equal(model.get_submodule(n).weight, checkpoint.model.get_submodule(n).weight) for n in grids)


def rounded(_, arguments):
    """A linear layer's inputs on 255 levels, one scale a token, as GPUs multiply."""
    scales = arguments[0].abs().amax(-1, keepdim=True) / 127
    return ((arguments[0] / scales).round() * scales,)


def test_smoothing_makes_room_for_outlier_channels(tiny_tokenizer):
    """One scale a token spends its levels on channels that reach 50 times as far as the others."""
    checkpoint = random_checkpoint(CONFIGS["llama"], tiny_tokenizer)
    text = read_calibration(TEXTS, checkpoint.required_tokenizer, CALIBRATION)
    model = float_copy(checkpoint.model)
    for block in model.decoder.blocks:
        for norm in (block.attention_norm, block.feed_forward_norm):
            norm.weight.data[:2] *= 50
    wanted, errors, grids = logits(model, text), [], dict.fromkeys(linears(model), GridConfig(8))
    for _ in ("as it is", "smoothed"):
        hooks = [layer.register_forward_pre_hook(rounded) for layer in linears(model).values()]
        errors.append((logits(model, text) - wanted).square().mean())
        for hook in hooks:
            hook.remove()
        for block in calibrated_blocks(model, text):
            scale_block(block, block.statistics(), grids, SmoothQuantConfig())
    assert errors[1] < errors[0] / 4
    for block in calibrated_blocks(model, text):
        scale_block(block, own := block.statistics(), grids, SmoothQuantConfig(strength=1.0))
        for part in ("attention.query", "feed_forward.up"):  # all of the range is moved: equation 4 with α = 1
            assert torch.allclose(own[f"{block.name}.{part}"].largest, torch.ones(64), rtol=1e-4)
