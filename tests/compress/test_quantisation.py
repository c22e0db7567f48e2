"""Quantised checkpoints: the files and the engine hold the very numbers that a method gave."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import lmworks
from gguf_cases import CONFIGS, random_checkpoint
from kit.tables import for_each
from lmworks.compress import stage, weight_grid
from lmworks.compress.block_calibration import linears
from lmworks.compress.config import (
    AWQConfig,
    CalibrationConfig,
    GPTQConfig,
    GridConfig,
    QuantiseConfig,
    RoundConfig,
    SmoothQuantConfig,
    Sparsity,
)
from lmworks.compress.quantisation import float_copy, quantise
from lmworks.compress.sparsity import sparsify
from lmworks.compress.stage import file_bytes
from lmworks.compress.survival import total
from lmworks.generate.engine import Engine
from lmworks.kernels.weight_formats import Quantised
from lmworks.model.config import UnsupportedModel
from lmworks.model.gguf_write import save_gguf
from slow_cases import slow

TEXTS = [f"A lost laptop is reported within {number} hours, by telephone. " * 9 for number in range(9)]
CALIBRATION = CalibrationConfig(sequences=8, length=64)
METHODS = {
    "rtn": (RoundConfig(), GridConfig(3, symmetric=True)),
    "gptq": (GPTQConfig(), GridConfig(4)),
    "awq": (AWQConfig(), GridConfig(4, symmetric=True, group=64)),
    "smoothquant": (SmoothQuantConfig(), GridConfig(8)),
}


def compressed(checkpoint, method, **more):
    kind, grid = METHODS[method]
    return quantise(checkpoint, QuantiseConfig(method=kind, grid=grid, calibration=CALIBRATION, **more), TEXTS)


def log_probabilities(checkpoint, **settings):
    ids = checkpoint.required_tokenizer.encode(TEXTS[0])[:60]
    return np.array(Engine(checkpoint, 1, **settings).score([ids[:1]], [ids[1:]])[0].log_probabilities)


@pytest.mark.parametrize("name", ["llama, biases", "mixtral", "gemma 2", *slow("llama 3", "qwen3", "phi3", "gpt2")])
@pytest.mark.parametrize("method", METHODS)
def test_a_gguf_file_and_the_engine_hold_what_the_method_gave(name, method, tiny_tokenizer, tmp_path):
    smaller = compressed(random_checkpoint(CONFIGS[name], tiny_tokenizer), method).checkpoint
    written = lmworks.load(save_gguf(smaller, tmp_path / "m.gguf", "BF16"))
    for key, value in smaller.weights.stored.items():
        exact = isinstance(value, Quantised) or "norm" not in key  # Gemma's norms are stored plus one
        assert torch.equal(written.weights[key], smaller.weights[key].float()) or not exact
    assert np.array_equal(log_probabilities(written), log_probabilities(smaller))
    plain = replace(smaller, weights=dict(smaller.weights))
    assert np.array_equal(log_probabilities(smaller, weights="float32"), log_probabilities(plain, weights="float32"))


@for_each("name", ["llama", "mixtral"])
def test_calibrated_methods_lose_less_of_the_outputs_than_rounding(name, tiny_tokenizer):
    """On the text itself: what |ΔW x|² of each layer says, and the logits that come of it."""
    checkpoint, errors, losses = random_checkpoint(CONFIGS[name], tiny_tokenizer), {}, {}
    ids = torch.tensor([tiny_tokenizer.encode(TEXTS[3])[:100]])
    for method in (RoundConfig(), GPTQConfig(), AWQConfig()):
        config = QuantiseConfig(method=method, grid=GridConfig(3), calibration=CALIBRATION)
        found = quantise(checkpoint, config, TEXTS)
        errors[method.kind] = np.mean(list(found.errors.values()))
        with torch.no_grad():
            losses[method.kind] = (found.checkpoint.model(ids) - checkpoint.model(ids)).square().mean().item()
    assert errors["gptq"] < 0.5 * errors["rtn"] and losses["gptq"] < 0.7 * losses["rtn"]
    assert errors["awq"] < 0.9 * errors["rtn"] and losses["awq"] < losses["rtn"]


def test_embeddings_have_their_own_format_and_bytes_are_counted(tiny_tokenizer, tmp_path):
    checkpoint = random_checkpoint(CONFIGS["llama, tied, wide heads"], tiny_tokenizer)
    sizes = []
    for embedding in ("int4", "int8", "bfloat16"):
        smaller = compressed(checkpoint, "rtn", embedding=embedding).checkpoint
        file = save_gguf(smaller, tmp_path / f"{embedding}.gguf", "BF16")
        sizes.append((smaller.weights.nbytes, file.stat().st_size))
    overhead = {size - own for own, size in sizes}
    assert max(overhead) - min(overhead) < 32 * 40  # what aligns tensors in the file
    assert sizes[0] < sizes[1] < sizes[2]


SIZED = ["llama 3, qwen's biases", "gpt2, mixed", *slow(*CONFIGS, "llama, mixed")]
GRIDS = GridConfig(4), GridConfig(4, symmetric=True, group=64), GridConfig(8)


@pytest.mark.parametrize("name", SIZED)
@pytest.mark.parametrize("form", ["gguf", "compressed-tensors", "float"])
def test_the_bytes_of_a_file_are_known_before_anything_is_rounded_or_written(
    name, form, tiny_tokenizer, tmp_path, monkeypatch
):
    checkpoint = random_checkpoint(CONFIGS[name.removesuffix(", mixed")], tiny_tokenizer)
    layers = list(linears(checkpoint.model))
    for number, grid in enumerate(GRIDS[1:] if form == "compressed-tensors" else GRIDS):
        config = QuantiseConfig(method=RoundConfig(), grid=grid, format=form)
        others = (config.grid, replace(config.grid, bits=8), None)
        grids = {layer: others[place // 7 % 3] for place, layer in enumerate(layers)} if "mixed" in name else None
        made = quantise(checkpoint, config, grids=grids).checkpoint
        try:
            size = file_bytes(stage.write(made, tmp_path / str(number), form))
        except UnsupportedModel:  # of what the format does not hold
            continue
        with monkeypatch.context() as patched:
            patched.setattr(stage, "write", None)
            patched.setattr(weight_grid, "fit_grid", None)
            patched.setattr(stage, "quantise_checkpoint", None)
            assert stage.planned_bytes(checkpoint, config, grids) == size


def test_quantised_weights_and_adapters_are_refused_with_what_is_possible(tiny_tokenizer, tmp_path):
    checkpoint = random_checkpoint(CONFIGS["llama"], tiny_tokenizer)
    smaller = compressed(checkpoint, "rtn").checkpoint
    written = lmworks.load(save_gguf(smaller, tmp_path / "m.gguf"))
    for already in (smaller, written):
        with pytest.raises(ValueError, match=r"quantised already.*floating-point model.*requantise=true"):
            compressed(already, "gptq")
        assert compressed(already, "gptq", requantise=True).errors
    assert lmworks.load(save_gguf(checkpoint, tmp_path / "f16.gguf")) and compressed(checkpoint, "rtn")
    with pytest.raises(ValueError, match="no calibration text"):
        quantise(checkpoint, QuantiseConfig())


@for_each("bits", [2, 3, 4])
@for_each("symmetric", [False, True])
def test_floats_that_lie_on_levels_are_refused_as_quantised_with_their_bits(bits, symmetric, tiny_tokenizer, tmp_path):
    """Written as floats, by `save` of a quantised model or by format=float; the levels are counted, group by group."""
    checkpoint = random_checkpoint(CONFIGS["llama"], tiny_tokenizer)
    grid = GridConfig(bits, symmetric, group=32 if bits < 4 else 64)
    rounded = quantise(checkpoint, QuantiseConfig(method=RoundConfig(), grid=grid, format="float")).checkpoint
    for dtype in ("stored", torch.bfloat16):
        floats = lmworks.load(rounded.save(tmp_path / f"{bits}{symmetric}{dtype}"), dtype)
        for method in METHODS:
            with pytest.raises(ValueError, match=rf"quantised already \({bits} bits\).*requantise=true"):
                compressed(floats, method)
        assert compressed(floats, "rtn", requantise=True).errors
    sparse = sparsify(checkpoint, Sparsity(0.75, kind="magnitude"))
    assert compressed(sparse, "rtn").errors  # few values in each group, but not few levels


def test_a_fine_tune_of_a_quantised_base_is_not_rounded_away_unasked(tiny_tokenizer, tmp_path):
    """Small changes of weights that lie on the levels of 4 bits, merged and saved."""
    base = save_gguf(compressed(random_checkpoint(CONFIGS["llama"], tiny_tokenizer), "gptq").checkpoint, tmp_path / "b")
    checkpoint, generator = lmworks.load(base), torch.Generator().manual_seed(1)
    model, whole, before = float_copy(checkpoint.model), {}, dict(checkpoint.weights)
    for name, layer in linears(model).items():
        whole[f"{name}.weight"] = 0.004 * torch.randn(layer.weight.shape, generator=generator)
        layer.weight.data += whole[f"{name}.weight"]
    tuned = lmworks.load(checkpoint.with_model(model).save(tmp_path / "once"))
    tuned = lmworks.load(tuned.save(tmp_path / "twice"))  # saved again, it is still known
    grids, shares = {"same": GridConfig(4), "others": GridConfig(4, symmetric=True), "finer": GridConfig(8)}, {}
    for name, grid in grids.items():
        config = QuantiseConfig(method=RoundConfig(), grid=grid, minimum_survival=0)
        made = quantise(tuned, config)
        changes = [(made.checkpoint.weights[key] - before[key], change) for key, change in whole.items()]
        projected = sum((left * change).sum() for left, change in changes) / sum(c.square().sum() for _, c in changes)
        shares[name] = total(made.left.values())
        assert shares[name] == pytest.approx(float(projected), abs=1e-4)
    assert shares["same"] < 0.5 and shares["others"] > 0.8 and shares["finer"] > 0.95
    with pytest.raises(ValueError, match=r"(?s)of the fine-tune is left.*grid\.symmetric=true"):
        quantise(tuned, QuantiseConfig(method=RoundConfig(), grid=grids["same"]))
    aligned = {"method": AWQConfig(), "calibration": CALIBRATION, "minimum_survival": 0}
    scaled = quantise(tuned, QuantiseConfig(grid=GridConfig(8), **aligned), TEXTS)
    assert total(scaled.left.values()) == pytest.approx(1, abs=0.02)  # whatever the columns were scaled by
    base.unlink()
    assert str(base) in quantise(tuned, QuantiseConfig(method=RoundConfig())).unmeasured
