"""Checkpoints written as GGUF files: what comes back, and what is refused. `test_gguf_llama_cpp.py` runs them."""

from dataclasses import replace

import gguf
import numpy as np
import pytest
import torch

from gguf_cases import ARCHITECTURES, CONFIGS, SIZES, random_checkpoint
from lmworks.model import presets
from lmworks.model.checkpoint import load
from lmworks.model.config import Alibi, Rope, UnsupportedModel, YarnScaling
from lmworks.model.gguf_file import open_gguf
from lmworks.model.gguf_write import save_gguf
from lmworks.model.presets.llama_like import change_attention
from lmworks.tokenizer.tokenizer import Tokenizer


@pytest.mark.parametrize("name", CONFIGS)
def test_what_is_read_back_is_what_was_written(tmp_path, tiny_tokenizer, name):
    checkpoint = random_checkpoint(CONFIGS[name], tiny_tokenizer)
    loaded = load(save_gguf(checkpoint, tmp_path / "m.gguf", "F32"))
    assert open_gguf(tmp_path / "m.gguf").metadata["general.architecture"] == ARCHITECTURES[name]
    assert loaded.config == checkpoint.config
    ours = checkpoint.model.state_dict()
    for parameter, weight in loaded.model.state_dict().items():
        # Gemma's norms are stored plus one: the sum is rounded to a multiple of 2**-23 or, above two, of 2**-22.
        shifted = "gemma" in name and "norm" in parameter
        torch.testing.assert_close(weight, ours[parameter], rtol=0, atol=2**-23 if shifted else 0)
        if shifted:
            assert torch.equal(weight + 1, ours[parameter] + 1)  # the weight that is applied is the same
    assert loaded.tokenizer.hash == tiny_tokenizer.hash
    assert (loaded.chat_template, loaded.licence) == (checkpoint.chat_template, checkpoint.licence)


def test_the_reference_reader_finds_the_same(tmp_path, tiny_tokenizer):
    checkpoint = random_checkpoint(CONFIGS["mixtral"], tiny_tokenizer)
    reader = gguf.GGUFReader(save_gguf(checkpoint, tmp_path / "m.gguf", "F16"))
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    ours = checkpoint.model.state_dict()
    experts = torch.stack([ours[f"decoder.blocks.1.feed_forward.experts.{e}.down.weight"] for e in range(4)])
    stored = tensors["blk.1.ffn_down_exps.weight"]
    assert np.array_equal(stored.data, experts.half().numpy())
    assert [int(size) for size in stored.shape] == [96, 64, 4]  # the format counts dimensions from the fastest
    assert tensors["blk.0.ffn_gate_inp.weight"].tensor_type == gguf.GGMLQuantizationType.F32
    expected = tiny_tokenizer.encode("the thing")
    tokens = reader.fields["tokenizer.ggml.tokens"].contents()
    assert "".join(tokens[index] for index in expected) == "theĠthing"


@pytest.mark.parametrize(("kind", "step"), [("F16", 2**-11), ("Q8_0", 1 / 254), ("Q4_0", 1 / 8)])
def test_quantised_weights_are_close(tmp_path, tiny_tokenizer, kind, step):
    checkpoint = random_checkpoint(CONFIGS["llama"], tiny_tokenizer)
    loaded = load(save_gguf(checkpoint, tmp_path / "m.gguf", kind)).model.state_dict()
    for name, weight in checkpoint.model.state_dict().items():
        if weight.dim() == 1:
            assert torch.equal(loaded[name], weight)
            continue
        largest = weight.unflatten(-1, (-1, 32)).abs().amax(-1, keepdim=True)  # of each block
        # Half a step of the block's scale, and the scale itself is a float16: 2**-11 more of the largest value. Q4_0
        # keeps one end of its range only, where a value is off by up to a whole step.
        error = (loaded[name] - weight).unflatten(-1, (-1, 32)).abs()
        assert (error <= largest * (step + 2**-11)).all()
        assert error.max() > 0


def test_a_matrix_that_has_no_whole_blocks_is_float16(tmp_path, tiny_tokenizer):
    config = presets.llama(**{**SIZES, "hidden": 40})
    save_gguf(random_checkpoint(config, tiny_tokenizer), tmp_path / "m.gguf", "Q8_0")
    tensors = open_gguf(tmp_path / "m.gguf").tensors
    kinds = {name: tensors[f"blk.0.{name}.weight"].kind.name for name in ("ffn_down", "ffn_up", "ffn_norm")}
    assert kinds == {"ffn_down": "F16", "ffn_up": "Q8_0", "ffn_norm": "F32"}


def test_an_embedding_larger_than_the_vocabulary(tmp_path, tiny_tokenizer):
    checkpoint = random_checkpoint(presets.llama(**{**SIZES, "vocabulary": 300}), tiny_tokenizer)
    loaded = load(save_gguf(checkpoint, tmp_path / "m.gguf", "F32"))
    metadata = open_gguf(tmp_path / "m.gguf").metadata
    assert metadata["tokenizer.ggml.tokens"][266:269] == ["ing", "[PAD267]", "[PAD268]"]
    assert metadata["tokenizer.ggml.token_type"][266:268] == [1, 5]
    assert torch.equal(loaded.model.embedding.tokens.weight, checkpoint.model.embedding.tokens.weight)


def test_nothing_is_overwritten_and_nothing_half_written_stays(tmp_path, tiny_tokenizer, monkeypatch):
    checkpoint = random_checkpoint(CONFIGS["llama"], tiny_tokenizer)
    path = save_gguf(checkpoint, tmp_path / "m.gguf")
    before = path.read_bytes()
    with pytest.raises(FileExistsError, match=r"m\.gguf"):
        save_gguf(checkpoint, path)
    monkeypatch.setattr(gguf, "quantize", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        save_gguf(checkpoint, tmp_path / "other.gguf")
    assert [file.name for file in tmp_path.iterdir()] == ["m.gguf"]
    assert path.read_bytes() == before


YARN = YarnScaling(4.0, 32, attention_factor=1.5)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (presets.bert(267, 64, 2, 4, 96, 128), "decoder"),
        (presets.mistral(**SIZES, window=8), "window"),
        (presets.llama(**SIZES, rope=Rope(10_000.0, scaling=YARN)), "attention_factor"),
        (change_attention(CONFIGS["llama"], lambda a, layer: replace(a, position=Alibi())), "position"),
        (change_attention(CONFIGS["llama"], lambda a, layer: replace(a, softcap=30.0)), "softcap"),
        (change_attention(CONFIGS["llama"], lambda a, layer: replace(a, sinks=True)), "sinks"),
        (change_attention(CONFIGS["llama"], lambda a, layer: replace(a, scale=0.5)), "scale"),
        (replace(CONFIGS["llama"], head=None), "head"),
    ],
)
def test_a_config_that_llama_cpp_does_not_compute_is_refused(tmp_path, tiny_tokenizer, config, message):
    with pytest.raises(UnsupportedModel, match=message):
        save_gguf(random_checkpoint(config, tiny_tokenizer), tmp_path / "m.gguf")
    assert not list(tmp_path.iterdir())


def test_a_tokenizer_that_llama_cpp_does_not_have_is_refused(tmp_path, tiny_tokenizer):
    from tokenizers import Tokenizer as Backend
    from tokenizers import pre_tokenizers

    backend = Backend.from_str(tiny_tokenizer.backend.to_str())
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    checkpoint = random_checkpoint(CONFIGS["llama"], Tokenizer(backend, tiny_tokenizer.roles))
    with pytest.raises(ValueError, match="Whitespace"):
        save_gguf(checkpoint, tmp_path / "m.gguf")
