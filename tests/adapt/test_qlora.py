"""An adapter on a base of packed integers, beside the same adapter on the base whose weights these stand for."""

import copy
from functools import partial

import pytest
import torch
from torch import nn

from gguf_cases import CONFIGS, random_checkpoint
from lmworks.adapt import LoraConfig, add_adapter, quantise_base
from lmworks.data.loader import Loader
from lmworks.model.checkpoint import Checkpoint, load
from lmworks.model.gguf_write import save_gguf
from lmworks.model.quantised_linear import quantised_linears, quantised_weights
from lmworks.model.transformer import Transformer
from lmworks.train.config import CheckpointConfig, TrainConfig
from lmworks.train.loop import step, train
from lmworks.train.objectives.causal import CausalLanguageModel
from lmworks.train.optimizer_config import AdamW
from lmworks.train.run import Run
from training_cases import loader_config, new_checkpoint, write_text_dataset

LORA = LoraConfig(r=4, lora_alpha=8.0)


def _dequantised(base: Transformer, of: Checkpoint) -> Transformer:
    """The float model of what a quantised one stands for."""
    model = copy.deepcopy(of.model)
    for name, layer in quantised_linears(base):
        model.get_parameter(f"{name}.weight").data = layer.dequantised()
    return model


@pytest.mark.parametrize("form", ["int4", "int8"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_steps_are_those_on_the_dequantised_base(form, dtype, tiny_tokenizer):
    checkpoint = random_checkpoint(CONFIGS["qwen2"], tiny_tokenizer)
    base = quantise_base(checkpoint, form)
    ids = torch.randint(267, (2, 33), generator=torch.Generator().manual_seed(0))
    found = []
    for model in (base, _dequantised(base, checkpoint)):
        adapted = add_adapter(copy.deepcopy(model).to(dtype), LORA, seed=3)
        trained = {name: p for name, p in adapted.named_parameters() if p.requires_grad}
        optimizer, losses = torch.optim.SGD(trained.values(), lr=1.0), []
        for _ in range(3):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(adapted(ids[:, :-1]).flatten(0, 1).float(), ids[:, 1:].flatten())
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
        gradients = {name: p.grad for name, p in trained.items()}
        found.append((torch.stack(losses), gradients))
    near = 1e-4 if dtype == torch.float32 else 0.05
    torch.testing.assert_close(found[0][0], found[1][0], atol=near, rtol=near)
    assert found[0][0][-1] < found[0][0][0]
    assert found[0][1].keys() == found[1][1].keys() and all("lora_" in name for name in found[0][1])
    for name, gradient in found[1][1].items():
        assert (found[0][1][name] - gradient).norm() <= near * gradient.norm() + 1e-7, name


@pytest.mark.parametrize("kind", ["Q4_0", "Q8_0"])
def test_blocks_of_a_file_are_taken_as_they_are(kind, tiny_tokenizer, tmp_path):
    of = random_checkpoint(CONFIGS["llama"], tiny_tokenizer)
    checkpoint = load(save_gguf(of, tmp_path / "m.gguf", kind))
    base = quantise_base(checkpoint, "stored")
    assert "model" not in vars(checkpoint), "the float model was not made"
    layers = dict(quantised_linears(base))
    assert len(layers) == 7 * len(checkpoint.config.decoder.blocks)
    for name, layer in layers.items():
        assert torch.equal(layer.dequantised(), checkpoint.weights[f"{name}.weight"])
    bits = {"Q4_0": 5, "Q8_0": 8.5}[kind]  # with a float16 scale, and minimum, for 32
    packed = sum(layer.matrix.nbytes for layer in layers.values())
    assert packed == bits / 8 * sum(layer.in_features * layer.out_features for layer in layers.values())
    merged = checkpoint.with_model(base)
    assert quantised_weights(merged.model).keys() == checkpoint.weights.keys()


def test_what_is_rounded_again_is_counted_and_what_is_not_quantised_is_refused(tiny_tokenizer, tmp_path):
    of = random_checkpoint(CONFIGS["llama"], tiny_tokenizer)
    with pytest.raises(ValueError, match="int4 or int8"):
        quantise_base(of, "stored")
    with pytest.warns(UserWarning, match=r"to int4: \d+ of Q8_0"):
        quantise_base(load(save_gguf(of, tmp_path / "m.gguf", "Q8_0")), "int4")


def test_a_run_that_is_stopped_goes_on_to_the_same_adapter(tmp_path):
    dataset = write_text_dataset(tmp_path / "tokens")

    def run_of(folder: str) -> Run:
        checkpoint = new_checkpoint("llama")
        base = checkpoint.with_model(quantise_base(checkpoint, "int4"))
        saving = CheckpointConfig(steps=3)
        config = TrainConfig(AdamW(rate=2e-2), log=1, validate=None, precision="bfloat16", checkpoint=saving)
        loader, adapt = Loader(loader_config(dataset, steps=6)), partial(add_adapter, method=LORA)
        return Run(base, CausalLanguageModel(), loader, config, tmp_path / folder, adapt=adapt)

    undisturbed, stopped = run_of("one"), run_of("two")
    packed = {name: layer.matrix.values.clone() for name, layer in quantised_linears(undisturbed.model)}
    train(undisturbed)
    for _ in range(3):
        step(stopped)
    stopped.save()
    stopped.checkpoints.close()
    again = run_of("two")
    train(again)
    assert again.weights.masters.keys() == undisturbed.weights.masters.keys()
    for name, weight in undisturbed.weights.masters.items():
        assert torch.equal(again.weights.masters[name], weight)
    for name, layer in quantised_linears(again.model):
        assert torch.equal(layer.matrix.values, packed[name])
