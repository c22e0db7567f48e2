"""Calibration block by block, against hooks on the whole model, and the memory that it takes."""

import weakref

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from gguf_cases import CONFIGS, random_checkpoint
from kit.tables import for_each
from lmworks.compress.block_calibration import calibrated_blocks, linears, read_calibration
from lmworks.compress.config import CalibrationConfig
from lmworks.compress.quantisation import float_copy
from lmworks.model.presets import bert, llama

TEXTS = [f"Trains are booked by the office, {number} days before you travel. " * 9 for number in range(30)]


def inputs_of(model, ids):
    """(tokens, columns) of each projection, by hooks on the model in one forward of everything."""
    seen = {}
    for name, layer in linears(model).items():
        layer.register_forward_pre_hook(lambda _, args, name=name: seen.setdefault(name, []).append(args[0]))
    with torch.no_grad():
        model(ids)
    return {name: torch.cat([each.flatten(0, -2) for each in pieces]) for name, pieces in seen.items()}


@for_each("family", ["llama", "gemma 3", "mixtral", "gpt2", "bert"])
def test_statistics_are_those_of_what_the_compressed_blocks_before_give(family, tiny_tokenizer):
    encoder = bert(vocabulary=267, width=64, layers=2, heads=4, hidden=96, context_length=128)
    checkpoint = random_checkpoint(encoder if family == "bert" else CONFIGS[family], tiny_tokenizer)
    text = read_calibration(TEXTS, tiny_tokenizer, CalibrationConfig(sequences=9, length=48))
    model, found = float_copy(checkpoint.model), {}
    for block in calibrated_blocks(model, text):
        found |= block.statistics()
        for name, layer in block.linears().items():
            if name.endswith("down"):  # which nothing in the block itself reads from
                layer.weight.mul_(0.9)
    for layer, inputs in inputs_of(model, text.ids).items():
        own = found[layer]
        assert own.tokens == len(inputs)
        assert torch.allclose(own.second_moment, inputs.T @ inputs / len(inputs), rtol=1e-3, atol=1e-4)
        assert torch.allclose(own.largest, inputs.abs().amax(0), rtol=1e-4)
        assert torch.allclose(own.mean_absolute, inputs.abs().mean(0), rtol=1e-3)
        assert torch.allclose(own.mean_square, inputs.square().mean(0), rtol=1e-3)


class LiveBytes(TorchDispatchMode):
    """The most bytes of tensors made in it that were alive at once, besides those of the model, which are viewed."""

    def __init__(self, model):
        super().__init__()
        self.now = self.most = 0
        self.known = weakref.WeakSet(tensor.untyped_storage() for tensor in model.parameters())

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, tuple | list) else [made]:
            storage = tensor.untyped_storage() if isinstance(tensor, torch.Tensor) else None
            if storage is not None and storage not in self.known and storage.nbytes():
                self.known.add(storage)
                self.now += storage.nbytes()
                weakref.finalize(storage, self.free, storage.nbytes())
        self.most = max(self.most, self.now)
        return made

    def free(self, size):
        self.now -= size


def test_memory_is_that_of_one_blocks_inputs_and_does_not_grow_with_depth(tiny_tokenizer):
    peaks = []
    for layers in (2, 8):
        config = llama(267, width=64, layers=layers, heads=4, kv_heads=2, hidden=96, context_length=128)
        model = float_copy(random_checkpoint(config, tiny_tokenizer).model)
        text = read_calibration(TEXTS, tiny_tokenizer, CalibrationConfig(sequences=64, length=128, batch=1))
        with LiveBytes(model) as live:
            for block in calibrated_blocks(model, text):
                block.statistics()
        peaks.append(live.most)
    one = text.ids[:1]
    with LiveBytes(model) as live, torch.no_grad():
        model.decoder(model.embedding(one, torch.arange(128)[None]), torch.arange(128)[None])
    matrices = 4 * (3 * 64 * 64 + 2 * 96 * 96)
    assert max(peaks) < 4 * 64 * text.ids.numel() + matrices + 2 * live.most
    assert peaks[0] == peaks[1]


def test_every_document_is_in_a_calibration_that_has_room_and_the_order_is_the_seeds(tiny_tokenizer):
    config = CalibrationConfig(sequences=64, length=128)
    text = read_calibration(TEXTS, tiny_tokenizer, config)
    assert len(set(text.documents)) == len(TEXTS) and text.ids.shape == (64, 128)
    assert torch.equal(text.ids, read_calibration(TEXTS, tiny_tokenizer, config).ids)
    other = read_calibration(TEXTS, tiny_tokenizer, CalibrationConfig(sequences=64, length=128, seed=1))
    assert not torch.equal(text.ids, other.ids)
    short = read_calibration(["one"], tiny_tokenizer, config)
    assert short.ids.shape == (1, len(tiny_tokenizer.encode("one")) + 1)


def test_no_text_a_longer_one_than_the_context_and_two_stacks_are_refused(tiny_tokenizer):
    with pytest.raises(ValueError, match=r"no calibration text.*rtn"):
        read_calibration(["", ""], tiny_tokenizer, CalibrationConfig())
    checkpoint = random_checkpoint(CONFIGS["llama"], tiny_tokenizer)
    text = read_calibration(TEXTS, tiny_tokenizer, CalibrationConfig(length=256))
    with pytest.raises(ValueError, match=r"calibration\.length"):
        next(calibrated_blocks(checkpoint.model, text))
