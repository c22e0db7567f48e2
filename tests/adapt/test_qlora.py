"""An adapter on a base of packed integers, beside the same adapter on the base whose weights these stand for."""

import copy
from functools import partial

import pytest
import torch
from torch.nn.functional import cross_entropy

from gguf_cases import CONFIGS, random_checkpoint
from kit.tables import for_each
from lmworks.adapt import LoraConfig, add_adapter, quantise_base
from lmworks.data.loader import Loader
from lmworks.model.checkpoint import load
from lmworks.model.gguf_write import save_gguf
from lmworks.model.quantised_linear import quantised_linears
from lmworks.train import AdamW, CausalLanguageModel, CheckpointConfig, Run, TrainConfig, step, train
from training_cases import loader_config, new_checkpoint, write_text_dataset

LORA = LoraConfig(r=4, lora_alpha=8.0)


@for_each("form", ["int4", "int8"])
@for_each(("dtype", "near"), [(torch.float32, 1e-4), (torch.bfloat16, 0.05)])
def test_steps_are_those_on_the_dequantised_base(form, dtype, near, tiny_tokenizer):
    checkpoint = random_checkpoint(CONFIGS["qwen2"], tiny_tokenizer)
    base, plain = quantise_base(checkpoint, form), copy.deepcopy(checkpoint.model)
    for name, layer in quantised_linears(base):
        plain.get_parameter(f"{name}.weight").data = layer.dequantised()
    ids, found = torch.randint(267, (2, 33), generator=torch.Generator().manual_seed(0)), []
    for model in (base, plain):
        adapted = add_adapter(copy.deepcopy(model).to(dtype), LORA, seed=3)
        trained, losses = {name: p for name, p in adapted.named_parameters() if p.requires_grad}, []
        optimizer = torch.optim.SGD(trained.values(), lr=1.0)
        for _ in range(3):
            optimizer.zero_grad()
            losses.append(cross_entropy(adapted(ids[:, :-1]).flatten(0, 1).float(), ids[:, 1:].flatten()))
            losses[-1].backward()
            optimizer.step()
        found.append((torch.stack(losses), {name: p.grad for name, p in trained.items()}))
    torch.testing.assert_close(found[0][0], found[1][0], atol=near, rtol=near)
    assert found[0][0][-1] < found[0][0][0] and found[0][1].keys() == found[1][1].keys()
    for name, gradient in found[1][1].items():
        assert (found[0][1][name] - gradient).norm() <= near * gradient.norm() + 1e-7, name


def test_blocks_of_a_file_are_taken_as_they_are(tiny_tokenizer, tmp_path):
    of = random_checkpoint(CONFIGS["llama"], tiny_tokenizer)
    with pytest.raises(ValueError, match="int4 or int8"):
        quantise_base(of, "stored")
    for kind, bits in {"Q4_0": 5, "Q8_0": 8.5}.items():  # with a float16 scale, and minimum, for 32
        checkpoint = load(save_gguf(of, tmp_path / f"{kind}.gguf", kind))
        layers = dict(quantised_linears(quantise_base(checkpoint, "stored")))
        assert "model" not in vars(checkpoint) and len(layers) == 7 * len(checkpoint.config.decoder.blocks)
        for name, layer in layers.items():
            assert torch.equal(layer.dequantised(), checkpoint.weights[f"{name}.weight"])
            assert layer.matrix.nbytes == bits / 8 * layer.in_features * layer.out_features
    with pytest.warns(UserWarning, match=rf"to int4: {len(layers)} of Q8_0"):
        quantise_base(checkpoint, "int4")


def test_a_run_that_is_stopped_goes_on_to_the_same_adapter(tmp_path):
    dataset = write_text_dataset(tmp_path / "tokens")

    def run_of(folder: str) -> Run:
        checkpoint = new_checkpoint("llama")
        config = TrainConfig(AdamW(), validate=None, precision="bfloat16", checkpoint=CheckpointConfig(steps=3))
        parts = CausalLanguageModel(), Loader(loader_config(dataset, steps=6)), config, tmp_path / folder
        return Run(checkpoint.with_model(quantise_base(checkpoint)), *parts, adapt=partial(add_adapter, method=LORA))

    undisturbed, stopped = run_of("one"), run_of("two")
    train(undisturbed)
    for _ in range(3):
        step(stopped)
    stopped.save()
    stopped.checkpoints.close()
    train(again := run_of("two"))
    assert all(torch.equal(again.weights.masters[name], own) for name, own in undisturbed.weights.masters.items())
