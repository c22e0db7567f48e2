"""GGUF files written by the `gguf` package, with the rows of queries and keys in llama.cpp's order."""

import gguf
import numpy as np
import pytest
import torch

from lmworks.model.checkpoint import load
from lmworks.model.gguf_file import open_gguf
from lmworks.model.gguf_model import read_gguf
from lmworks.model.huggingface import UnsupportedModel
from lmworks.model.initialisation import initialise
from lmworks.model.presets import llama
from lmworks.model.transformer import Transformer

F32, F16, Q8_0, Q4_1 = (gguf.GGMLQuantizationType[name] for name in ("F32", "F16", "Q8_0", "Q4_1"))
CONFIG = llama(267, 64, 2, 4, 2, 96, 128, rope_theta=50_000.0, norm_eps=1e-5)
NAMES = {
    "embedding.tokens": "token_embd",
    "unembedding": "output",
    "decoder.norm": "output_norm",
    "attention_norm": "attn_norm",
    "attention.query": "attn_q",
    "attention.key": "attn_k",
    "attention.value": "attn_v",
    "attention.output": "attn_output",
    "feed_forward_norm": "ffn_norm",
    "feed_forward.gate": "ffn_gate",
    "feed_forward.up": "ffn_up",
    "feed_forward.down": "ffn_down",
}


def permuted(weight: torch.Tensor, heads: int) -> torch.Tensor:
    """Plane i of a head, which we keep in rows i and i + head_dim / 2, goes to rows 2 i and 2 i + 1."""
    head_dim = weight.shape[0] // heads
    order = [
        h * head_dim + half * head_dim // 2 + i for h in range(heads) for i in range(head_dim // 2) for half in (0, 1)
    ]
    return weight[order]


def write(path, model, tokenizer, kind=F32, **metadata):
    writer = gguf.GGUFWriter(str(path), metadata.pop("architecture", "llama"))
    writer.add_context_length(128)
    writer.add_embedding_length(64)
    writer.add_block_count(2)
    writer.add_feed_forward_length(96)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_rope_freq_base(50_000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    vocabulary = sorted(tokenizer.backend.get_vocab().items(), key=lambda entry: entry[1])
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(metadata.pop("pre", "smollm"))
    writer.add_token_list([token for token, _ in vocabulary])
    writer.add_token_types([3 if token in tokenizer.special_ids else 1 for token, _ in vocabulary])
    writer.add_token_merges(["Ġ t", "h e", "Ġt he", "i n", "e r", "Ġ a", "o n", "in g"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_chat_template("{{ messages[0].content }}")
    for key, value in metadata.items():
        writer.add_uint32(key.replace("__", "."), value)
    for name, weight in model.state_dict().items():
        module, _, parameter = name.rpartition(".")
        layer = module.split(".")[2] if ".blocks." in module else ""
        theirs = NAMES[module.split(".", 3)[3] if layer else module]
        if theirs in ("attn_q", "attn_k"):
            weight = permuted(weight, 4 if theirs == "attn_q" else 2)
        full_name = f"blk.{layer}.{theirs}.{parameter}" if layer else f"{theirs}.{parameter}"
        chosen = kind if weight.dim() == 2 else F32
        data = weight.numpy() if chosen == F32 else gguf.quantize(weight.numpy(), chosen)
        writer.add_tensor(full_name, data, raw_dtype=chosen)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture(scope="module")
def model():
    return initialise(Transformer(CONFIG), seed=0, std=0.1).eval()


@torch.no_grad()
def test_the_model_in_the_file_is_the_model_written(tmp_path, model, tiny_tokenizer):
    write(tmp_path / "m.gguf", model, tiny_tokenizer)
    loaded = load(tmp_path / "m.gguf")
    assert loaded.config == CONFIG
    ids = torch.randint(267, (2, 30), generator=torch.Generator().manual_seed(0))
    assert torch.equal(loaded.model(ids), model(ids))
    assert loaded.chat_template == "{{ messages[0].content }}"
    text = "the thing's 1234 <|im_end|> größer 🙂"
    assert loaded.tokenizer.encode(text) == tiny_tokenizer.encode(text)
    assert (loaded.tokenizer.bos_id, loaded.tokenizer.eos_ids) == (1, (2,))


@torch.no_grad()
@pytest.mark.parametrize(("kind", "bits"), [(F16, 11), (Q8_0, 7), (Q4_1, 4)])
def test_quantised_blocks(tmp_path, model, tiny_tokenizer, kind, bits):
    write(tmp_path / "m.gguf", model, tiny_tokenizer, kind)
    read = read_gguf(tmp_path / "m.gguf").weights
    for name, weight in model.state_dict().items():
        # A block of 32 spans at most twice its largest value, in 2**bits steps; rounding is off by up to one step.
        assert (read[name] - weight).abs().max() <= 2 * weight.abs().max() / 2**bits


def test_metadata_is_what_the_reference_reader_reads(tmp_path, model, tiny_tokenizer):
    write(tmp_path / "m.gguf", model, tiny_tokenizer, Q8_0)
    file = open_gguf(tmp_path / "m.gguf")
    reference = gguf.GGUFReader(tmp_path / "m.gguf")
    expected = {key: field.contents() for key, field in reference.fields.items() if not key.startswith("GGUF.")}
    assert file.metadata == expected
    assert [*file.tensors] == [tensor.name for tensor in reference.tensors]
    for tensor in reference.tensors:
        values = gguf.dequantize(tensor.data, tensor.tensor_type)
        assert np.array_equal(file.read(tensor.name), values)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"architecture": "mamba"}, "general.architecture"),
        ({"llama__expert_count": 8}, "expert_count"),
        ({"llama__rope__dimension_count": 8}, "rope.dimension_count"),
        ({"pre": "deepseek-llm"}, "pre-tokenizer 'deepseek-llm'"),
    ],
)
def test_what_is_not_supported_is_named(tmp_path, model, tiny_tokenizer, change, message):
    write(tmp_path / "m.gguf", model, tiny_tokenizer, **change)
    with pytest.raises(ValueError, match=message):
        read_gguf(tmp_path / "m.gguf")


def test_another_file_is_refused(tmp_path):
    (tmp_path / "m.gguf").write_bytes(b"PK\x03\x04" + bytes(100))
    with pytest.raises(ValueError, match="not a GGUF file"):
        open_gguf(tmp_path / "m.gguf")
    assert issubclass(UnsupportedModel, ValueError)
