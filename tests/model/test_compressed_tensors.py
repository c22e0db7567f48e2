"""compressed-tensors folders: transformers computes the same logits from them, and we read them back bit for bit."""

import json
from dataclasses import replace

import pytest
import torch
from transformers import AutoModelForCausalLM

import lmworks
from gguf_cases import CONFIGS, random_checkpoint
from kit.tables import for_each
from lmworks.compress.config import GridConfig
from lmworks.compress.weight_grid import round_to_nearest
from lmworks.model.config import UnsupportedModel
from lmworks.model.tensor_files import QuantisedWeights
from slow_cases import slow

GRIDS = {"4 bits": GridConfig(4, symmetric=True), "groups": GridConfig(4, symmetric=True, group=64), "8": GridConfig(8)}


def quantised(checkpoint, grid_of):
    stored = {
        name: round_to_nearest(weight, grid)
        if weight.ndim == 2 and "blocks" in name and (grid := grid_of(name))
        else weight.bfloat16()
        for name, weight in checkpoint.weights.items()
    }
    return replace(checkpoint, weights=QuantisedWeights(stored), dtype=torch.float32)


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("name", ["llama", "qwen3", "gemma 3", *slow("llama 3, qwen's biases", "phi3", "gemma 2")])
def test_transformers_loads_the_folder_with_equal_logits(name, grid, tiny_tokenizer, tmp_path):
    check(quantised(random_checkpoint(CONFIGS[name], tiny_tokenizer), lambda _: GRIDS[grid]), tmp_path / "m")


def check(smaller, folder):
    smaller.save(folder, packed=True)
    read = lmworks.load(folder)
    assert read.weights.quantised.keys() == smaller.weights.quantised.keys()
    for name, value in smaller.weights.items():
        assert torch.equal(read.weights[name].float(), value.float()), name
    theirs = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    ids = torch.randint(0, 256, (2, 20), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.allclose(theirs(ids).logits, smaller.model(ids), atol=1e-5)


def test_layers_of_several_widths_and_of_floats_are_one_folder(tiny_tokenizer, tmp_path):
    widths = {"output": GridConfig(8), "down": None}
    checkpoint = random_checkpoint(CONFIGS["llama"], tiny_tokenizer)
    smaller = quantised(checkpoint, lambda name: widths.get(name.split(".")[-2], GRIDS["4 bits"]))
    check(smaller, tmp_path / "m")
    quantization = json.loads((tmp_path / "m" / "config.json").read_text())["quantization_config"]
    assert [group["weights"]["num_bits"] for group in quantization["config_groups"].values()] == [4, 8]
    assert "model.layers.0.mlp.down_proj" in quantization["ignore"]
    for group in quantization["config_groups"].values():  # as llmcompressor writes it: another order of rounding alone
        group["weights"]["actorder"] = "static"
    path = tmp_path / "m" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "quantization_config": quantization}))
    assert len(lmworks.load(tmp_path / "m").weights.quantised) == len(smaller.weights.quantised)


def test_a_folder_of_floats_can_be_saved_of_what_was_read(tiny_tokenizer, tmp_path):
    smaller = quantised(random_checkpoint(CONFIGS["llama"], tiny_tokenizer), lambda _: GRIDS["4 bits"])
    smaller.save(tmp_path / "packed", packed=True)
    plain = lmworks.load(lmworks.load(tmp_path / "packed").save(tmp_path / "floats"))
    assert not isinstance(plain.weights, QuantisedWeights)
    assert all(torch.equal(plain.weights[name], smaller.weights[name].float()) for name in smaller.weights)


def test_what_the_format_does_not_hold_is_refused_with_what_does(tiny_tokenizer, tmp_path):
    llama, gpt2 = (random_checkpoint(CONFIGS[name], tiny_tokenizer) for name in ("llama", "gpt2"))
    with pytest.raises(UnsupportedModel, match=r"has a minimum.*GGUF"):
        quantised(llama, lambda _: GridConfig(4)).save(tmp_path / "a", packed=True)
    with pytest.raises(UnsupportedModel, match=r"stored transposed.*GGUF"):
        quantised(gpt2, lambda _: GRIDS["8"]).save(tmp_path / "b", packed=True)
    tokens = {"embedding.tokens.weight": round_to_nearest(llama.weights["embedding.tokens.weight"], GridConfig(8))}
    smaller = quantised(llama, lambda _: GRIDS["8"])
    smaller = replace(smaller, weights=QuantisedWeights({**smaller.weights.stored, **tokens}))
    with pytest.raises(UnsupportedModel, match=r"embedding\.tokens\.weight is none"):
        smaller.save(tmp_path / "c", packed=True)
    with pytest.raises(ValueError, match="not quantised"):
        llama.save(tmp_path / "d", packed=True)
    assert not list(tmp_path.iterdir())


@for_each(
    ("change", "message"),
    [
        ({"format": "marlin-24"}, "format = 'marlin-24'"),
        ({"config_groups": {"a": {"weights": {"symmetric": False}}}}, "symmetric = False"),
        ({"quant_method": "gptq"}, "quantization_config"),
    ],
)
def test_other_forms_of_the_format_are_refused(change, message, tiny_tokenizer, tmp_path):
    quantised(random_checkpoint(CONFIGS["llama"], tiny_tokenizer), lambda _: GRIDS["8"]).save(
        tmp_path / "m", packed=True
    )
    path = tmp_path / "m" / "config.json"
    document = json.loads(path.read_text())
    path.write_text(json.dumps({**document, "quantization_config": {**document["quantization_config"], **change}}))
    with pytest.raises(UnsupportedModel, match=message):
        lmworks.load(tmp_path / "m")
