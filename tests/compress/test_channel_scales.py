"""Scales that are folded into a block change nothing that it computes, whatever they are."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from gguf_cases import CONFIGS, random_checkpoint
from lmworks.compress.awq import scale_block
from lmworks.compress.block_calibration import calibrated_blocks, linear_names, read_calibration
from lmworks.compress.channel_scales import fold, sites
from lmworks.compress.config import AWQConfig, CalibrationConfig, GridConfig, SmoothQuantConfig
from lmworks.compress.quantisation import float_copy
from lmworks.compress.smoothquant import rounded_activations, rounding_section, smooth_block
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
    assert changed >= len(linear_names(model)) / 4
    assert torch.allclose(logits(model, text), wanted, atol=1e-10)


@pytest.mark.parametrize("method", ["awq", "smoothquant"])
def test_the_scales_of_the_methods_change_weights_and_no_logits_and_what_was_seen_with_them(checkpoint, method):
    text = read_calibration(TEXTS, checkpoint.required_tokenizer, CALIBRATION)
    model, wanted = float_copy(checkpoint.model), logits(checkpoint.model, text)
    grids = dict.fromkeys(linear_names(model), GridConfig(3))
    for block in calibrated_blocks(model, text):
        statistics = block.statistics()
        if method == "awq":
            scale_block(block, statistics, grids, AWQConfig(steps=4))
        else:
            smooth_block(block, statistics, SmoothQuantConfig())
        for name, own in block.statistics().items():
            assert torch.allclose(own.second_moment, statistics[name].second_moment, rtol=1e-3, atol=1e-5)
            assert torch.allclose(own.largest, statistics[name].largest, rtol=1e-3)
    assert torch.allclose(logits(model, text), wanted, atol=2e-4)
    assert any(not torch.equal(model.get_submodule(n).weight, checkpoint.model.get_submodule(n).weight) for n in grids)


def test_smoothing_makes_room_for_outlier_channels(tiny_tokenizer):
    """One scale a token spends its 255 levels on channels that reach 50 times as far as the others."""
    checkpoint = random_checkpoint(CONFIGS["llama"], tiny_tokenizer)
    text = read_calibration(TEXTS, checkpoint.required_tokenizer, CALIBRATION)
    model = float_copy(checkpoint.model)
    for block in model.decoder.blocks:
        for norm in (block.attention_norm, block.feed_forward_norm):
            norm.weight.data[:2] *= 50
    wanted, errors = logits(model, text), []
    for _ in ("as it is", "smoothed"):
        with rounded_activations(model):
            errors.append((logits(model, text) - wanted).square().mean())
        for block in calibrated_blocks(model, text):
            smooth_block(block, block.statistics(), SmoothQuantConfig())
    assert errors[1] < errors[0] / 4
    ((_, plain, rounded, more),) = rounding_section({"model": model}, text).tables[0].rows
    targets = text.ids[:, 1:].flatten()
    assert float(plain) == pytest.approx(F.cross_entropy(wanted[:, :-1].flatten(0, 1), targets).item(), abs=1e-4)
    assert float(more) == pytest.approx(float(rounded) - float(plain), abs=2e-4)
    for block in calibrated_blocks(model, text):
        smooth_block(block, own := block.statistics(), SmoothQuantConfig(strength=1.0))
        for part in ("attention.query", "feed_forward.up"):  # all of the range is moved: equation 4 with α = 1
            assert torch.allclose(own[f"{block.name}.{part}"].largest, torch.ones(64), rtol=1e-4)
