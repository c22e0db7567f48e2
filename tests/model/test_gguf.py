"""GGUF files written by the `gguf` package, with the rows of queries and keys in llama.cpp's order."""

import struct
from dataclasses import replace

import gguf
import numpy as np
import pytest
import torch
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType
from hypothesis import given
from hypothesis import strategies as st

from gguf_cases import ARCHITECTURES, CONFIGS, SIZES, copy_of, random_checkpoint
from kit.tables import for_each
from lmworks.model import gguf_file, presets
from lmworks.model.checkpoint import load
from lmworks.model.config import Alibi, Rope, UnsupportedModel, Window, YarnScaling
from lmworks.model.gguf_file import open_gguf
from lmworks.model.gguf_read import read_gguf
from lmworks.model.gguf_write import save_gguf
from lmworks.model.initialisation import initialise
from lmworks.model.presets import llama
from lmworks.model.presets.decoders import change_attention
from lmworks.model.transformer import Transformer
from lmworks.tokenizer.tokenizer import Tokenizer

F32, F16, Q8_0, Q4_1 = (GGMLQuantizationType[name] for name in ("F32", "F16", "Q8_0", "Q4_1"))
CONFIG = llama(267, 64, 2, 4, 2, 96, 128, rope=Rope(50_000.0), norm_eps=1e-5)
NAMES = {
    "embedding.tokens": "token_embd",
    "head.projection": "output",
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
    writer.add_block_count(metadata.pop("layers", 2))
    writer.add_feed_forward_length(96)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_rope_freq_base(50_000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    vocabulary = sorted(tokenizer.backend.get_vocab().items(), key=lambda entry: entry[1])
    writer.add_tokenizer_model(metadata.pop("vocabulary", "gpt2"))
    writer.add_tokenizer_pre(metadata.pop("pre", "smollm"))
    writer.add_token_list([token for token, _ in vocabulary])
    writer.add_token_types([3 if token in tokenizer.special_ids else 1 for token, _ in vocabulary])
    writer.add_token_merges(["Ġ t", "h e", "Ġt he", "i n", "e r", "Ġ a", "o n", "in g"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_chat_template("{{ messages[0].content }}")
    for key, value in metadata.items():
        add = {bool: writer.add_bool, str: writer.add_string, int: writer.add_uint32}[type(value)]
        add(key.replace("__", "."), value)
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


@for_each(("kind", "bits"), [(F16, 11), (Q8_0, 7), (Q4_1, 4)])
def test_quantised_blocks(tmp_path, model, tiny_tokenizer, kind, bits):
    write(tmp_path / "m.gguf", model, tiny_tokenizer, kind)
    read = read_gguf(tmp_path / "m.gguf").weights
    for name, weight in model.state_dict().items():
        # A block of 32 spans at most twice its largest value, in 2**bits steps; rounding is off by up to one step.
        assert (read[name] - weight).abs().max() <= 2 * weight.abs().max() / 2**bits


def dequantisable() -> list[GGMLQuantizationType]:
    def possible(kind: GGMLQuantizationType) -> bool:
        try:
            return gguf.dequantize(np.zeros((1, GGML_QUANT_SIZES[kind][1]), np.uint8), kind) is not None
        except NotImplementedError:
            return False

    return [kind for kind in GGMLQuantizationType if possible(kind)]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # random scales overflow in numpy, as they do in the reference
@for_each("kind", dequantisable())
def test_every_quantisation(tmp_path, monkeypatch, kind):
    """Any bytes are blocks of any kind: what is read of them is what the `gguf` package reads, whole or in pieces."""
    block, size = GGML_QUANT_SIZES[kind]
    blocks = -(-96 // block)
    raw = np.random.default_rng(0).integers(0, 256, (24, blocks * size), np.uint8)
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "llama")
    writer.add_tensor("t", raw, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    expected = torch.from_numpy(gguf.dequantize(raw, kind).copy())
    file = open_gguf(tmp_path / "m.gguf")
    assert file.tensors["t"].shape == expected.shape == (24, blocks * block)
    equal = {"rtol": 0, "atol": 0, "equal_nan": True}
    torch.testing.assert_close(file.read("t"), expected, **equal)
    monkeypatch.setattr(gguf_file, "_PIECE", 7 * blocks * block)
    torch.testing.assert_close(file.read("t", rows=slice(5, 23)), expected[5:23], **equal)


def test_a_type_that_cannot_be_dequantised_is_named(tmp_path):
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "llama")
    writer.add_tensor("blk.0.odd", np.zeros((2, 292), np.uint8), raw_dtype=GGMLQuantizationType.Q8_K)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(ValueError, match=r"blk\.0\.odd: Q8_K"):
        open_gguf(tmp_path / "m.gguf").read("blk.0.odd")


def test_metadata_is_what_the_reference_reader_reads(tmp_path, model, tiny_tokenizer):
    write(tmp_path / "m.gguf", model, tiny_tokenizer, Q8_0)
    file = open_gguf(tmp_path / "m.gguf")
    reference = gguf.GGUFReader(tmp_path / "m.gguf")
    expected = {key: field.contents() for key, field in reference.fields.items() if not key.startswith("GGUF.")}
    assert file.metadata == expected
    assert [*file.tensors] == [tensor.name for tensor in reference.tensors]
    for tensor in reference.tensors:
        values = gguf.dequantize(tensor.data, tensor.tensor_type)
        assert np.array_equal(file.read(tensor.name).numpy().ravel(), values.ravel())


def test_what_frames_a_text(tmp_path, model, tiny_tokenizer):
    flags = {"tokenizer__ggml__add_bos_token": True, "tokenizer__ggml__add_eos_token": True}
    write(tmp_path / "m.gguf", model, tiny_tokenizer, **flags)
    tokenizer = read_gguf(tmp_path / "m.gguf").tokenizer
    assert tokenizer.encode("the", special=True) == [1, *tiny_tokenizer.encode("the"), 2]
    assert tokenizer.encode("the") == tiny_tokenizer.encode("the")


def test_a_window_in_every_layer(tmp_path, model, tiny_tokenizer):
    """Mistral and Phi-3 are written so, though llama.cpp does not look at it."""
    write(tmp_path / "m.gguf", model, tiny_tokenizer, llama__attention__sliding_window=16)
    decoder = read_gguf(tmp_path / "m.gguf").config.decoder
    assert decoder is not None
    assert [block.attention.pattern for block in decoder.blocks] == [Window(16)] * 2


@for_each(
    ("change", "message"),
    [
        ({"architecture": "mamba"}, "general.architecture"),
        ({"architecture": "gemma3"}, "post_attention_norm"),
        ({"architecture": "qwen3"}, "attn_q_norm"),
        ({"layers": 3}, r"blk\.2"),
        ({"llama__expert_count": 8}, "expert_used_count"),
        ({"llama__expert_count": 1 << 20, "llama__expert_used_count": 2}, "ffn_gate_inp"),
        ({"llama__rope__dimension_count": 8}, "rope.dimension_count"),
        ({"llama__rope__scaling__type": "longrope"}, "longrope"),
        ({"llama__attention__key_length": 32}, r"attn_q\.weight"),
        ({"llama__attention__value_length": 8}, "value_length"),
        ({"llama__vocab_size": 267, "split__count": 3}, "3 parts"),
        ({"pre": "deepseek-llm"}, "pre-tokenizer 'deepseek-llm'"),
        ({"vocabulary": "t5"}, "tokenizer.ggml.model = 't5'"),
        ({"vocabulary": "llama"}, "tokenizer.ggml.scores"),
        ({"tokenizer__ggml__padding_token_id": 999}, "padding"),
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
    (tmp_path / "m.gguf").write_bytes(b"")
    with pytest.raises(ValueError, match="not a GGUF file"):
        open_gguf(tmp_path / "m.gguf")
    (tmp_path / "m.gguf").write_bytes(b"GGUF" + struct.pack(">IQQ", 3, 0, 0))  # big-endian
    with pytest.raises(ValueError, match="version"):
        open_gguf(tmp_path / "m.gguf")
    assert issubclass(UnsupportedModel, ValueError)


@pytest.fixture(scope="module")
def whole(tmp_path_factory, tiny_tokenizer):
    path = tmp_path_factory.mktemp("whole") / "m.gguf"
    return save_gguf(random_checkpoint(CONFIGS["mixtral"], tiny_tokenizer), path, "Q8_0")


def end_of_data(path):
    """Where the last tensor ends, without the padding after it."""
    last = [*open_gguf(path).tensors.values()][-1]
    return last.offset + last.matrix[0] * last.row_bytes


def test_a_truncated_file_names_the_tensor(whole, tmp_path):
    with pytest.raises(ValueError, match=r"before tensor output\.weight does"):
        read_gguf(copy_of(whole, tmp_path, end_of_data(whole) - 1))
    assert read_gguf(copy_of(whole, tmp_path, end_of_data(whole))).weights


@given(data=st.data())
def test_a_truncated_file_is_an_error_wherever_it_ends(whole, tmp_path_factory, data):
    length = data.draw(st.integers(0, end_of_data(whole) - 1))
    with pytest.raises(ValueError, match=r"m?\.gguf"):
        read_gguf(copy_of(whole, tmp_path_factory.mktemp("cut"), length))


@given(data=st.data())
def test_a_damaged_file_is_an_error_or_another_model(whole, tmp_path_factory, data):
    """Flipped bits, most of them in the header: one ValueError, or a file that is as good as before."""
    content = bytearray(whole.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, 12_000))] ^= 1 << data.draw(st.integers(0, 7))
    path = tmp_path_factory.mktemp("flipped") / "m.gguf"
    path.write_bytes(content)
    try:
        weights = read_gguf(path).weights
        assert all(tensor.dim() >= 1 for tensor in weights.values())
    except ValueError as error:
        assert len(str(error)) < 1000


# ---------------------------------------------------------------------------------------------------------------------
# Writing


@for_each("name", CONFIGS)
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


@for_each(("kind", "step"), [("F16", 2**-11), ("Q8_0", 1 / 254), ("Q4_0", 1 / 8)])
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


@for_each(
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
