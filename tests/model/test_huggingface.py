"""config.json in both directions. That the models are the same is shown in tests/parity."""

import json
import re
from dataclasses import replace
from itertools import cycle, islice

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kit.tables import for_each
from lmworks.model import presets
from lmworks.model.checkpoint import assemble, load
from lmworks.model.config import (
    ClassificationHead,
    LinearScaling,
    Llama3Scaling,
    Norm,
    PoolHead,
    Rope,
    ScoreHead,
    UnsupportedModel,
    YarnScaling,
)
from lmworks.model.families import OWN
from lmworks.model.huggingface import read_config, to_our_names, to_their_names, write_config, write_weights
from lmworks.model.initialisation import initialise
from lmworks.model.presets import bert, llama, t5
from lmworks.model.presets.sizes import SIZES
from lmworks.model.tensor_files import read_weights
from lmworks.model.transformer import Transformer, empty_model

LLAMA = presets.llama(97, 32, 3, 4, 2, 48, 64)
SHAPE = (97, 32, 3, 4, 2, 48, 64)
GPT_SHAPE = (97, 32, 3, 4, 40, 64)
FAMILIES = {
    "llama": LLAMA,
    "mistral": presets.mistral(*SHAPE, window=16),
    "mixtral": presets.mixtral(*SHAPE, experts=5, top_k=3, window=16),
    "qwen2": presets.qwen2(*SHAPE, window=16, windowed=(False, True, False)),
    "qwen3": presets.qwen3(*SHAPE, attention_bias=True),
    "phi3": presets.phi3(*SHAPE, rope=Rope(1e4, fraction=0.5)),
    "gemma": presets.gemma(*SHAPE, head_dim=12),
    "gemma2": presets.gemma2(*SHAPE, head_dim=12, scale=10**-0.5, attention_softcap=None, softcap=5.0),
    "gemma3_text": presets.gemma3(*SHAPE, head_dim=12, window=16, rope=Rope(1e6, 1.0, LinearScaling(8.0))),
    "openai-gpt": presets.gpt1(97, 32, 3, 4, context_length=64, activation="relu"),
    "gpt2": presets.gpt2(*GPT_SHAPE, tied=False, activation="silu"),
    "gpt_neox": presets.gpt_neox(*GPT_SHAPE, rope=Rope(1e4, fraction=0.5), parallel=False, attention_bias=False),
}
ROPES = st.builds(
    Rope,
    st.sampled_from([1e4, 5e5]),
    scaling=st.none()
    | st.builds(LinearScaling, st.sampled_from([2.0, 8.0]))
    | st.builds(Llama3Scaling, st.just(8.0), st.just(32), st.sampled_from([1.0, 2.0]), st.just(4.0))
    | st.builds(
        YarnScaling,
        st.just(4.0),
        st.just(32),
        st.sampled_from([16.0, 32.0]),
        attention_factor=st.none() | st.just(1.2),
        truncate=st.booleans(),
    ),
)
SMALL, FLAG = st.integers(1, 4), st.booleans()


def reread(config):
    """Through JSON, which has no tuples."""
    return read_config(json.loads(json.dumps(write_config(config))))


@for_each("model_type", FAMILIES)
@for_each("head", [..., None, ClassificationHead(5, "last", activation=None, bias=False), ScoreHead("last")])
def test_a_family_expresses_its_presets(model_type, head):
    config = FAMILIES[model_type] if head is ... else replace(FAMILIES[model_type], head=head)
    assert write_config(config)["model_type"] == model_type
    assert reread(config) == config


@given(SMALL, SMALL, SMALL, ROPES, st.sampled_from([1e-5, 1e-6]), st.tuples(FLAG, FLAG, FLAG))
def test_llama_configs_survive(kv_heads, group, dim, rope, eps, flags):
    heads = kv_heads * group
    config = presets.llama(97, 4 * heads, 2, heads, kv_heads, 48, 64, 2 * dim, rope, eps, *flags)
    assert write_config(config)["model_type"] == "llama"
    assert reread(config) == config


@given(st.lists(FLAG, min_size=1, max_size=7), ROPES, ROPES, st.sampled_from([None, 5**-0.5]), FLAG)
def test_gemma3_configs_survive(windowed, rope, local, scale, bias):
    # A kind of layer that the model has not, has no rotation either: each kind gets a layer.
    windowed = [*windowed, True, False]
    config = presets.gemma3(
        97,
        32,
        len(windowed),
        4,
        2,
        48,
        64,
        head_dim=12,
        window=16,
        windowed=windowed,
        rope=rope,
        local_rope=local,
        attention_bias=bias,
        scale=scale,
    )
    assert write_config(config)["model_type"] == "gemma3_text"
    assert reread(config) == config


FIRST_OF_PRESET = {SIZES[size].preset: size for size in reversed(SIZES)}.values()


@pytest.mark.parametrize(
    "size", [size if size in FIRST_OF_PRESET else pytest.param(size, marks=pytest.mark.slow) for size in SIZES]
)
def test_every_published_size_survives_in_its_family_and_in_ours(size):
    config = SIZES[size].config
    assert reread(config) == config
    own = json.loads(json.dumps(OWN.write(config, OWN.architectures[0])))
    assert own["model_type"] == "lmworks"
    assert read_config(own) == config


def test_what_no_family_expresses_is_saved_as_our_own(tiny_tokenizer, tmp_path):
    blocks = LLAMA.decoder.blocks
    mixed = (replace(blocks[0], attention=replace(blocks[0].attention, qk_norm=Norm("rms", 1e-6))), *blocks[1:])
    strange = replace(LLAMA, decoder=replace(LLAMA.decoder, blocks=mixed))
    for number, config in enumerate([strange, presets.gopher(267, 32, 2, 4, 48, 64)]):
        config = replace(config, embedding=replace(config.embedding, vocabulary=267))
        checkpoint = assemble(config, initialise(Transformer(config), seed=0).state_dict(), tiny_tokenizer)
        loaded = load(checkpoint.save(tmp_path / str(number)))
        assert loaded.published["model_type"] == "lmworks"
        assert loaded.config == config
        assert loaded.fingerprint == checkpoint.fingerprint


# ---------------------------------------------------------------------------------------------------------------------
# What is refused


@for_each(
    ("model_type", "field", "value"),
    [
        ("llama", "hidden_act", "gelu"),
        ("llama", "rope_interleaved", True),
        ("llama", "partial_rotary_factor", 0.5),
        ("llama", "quantization_config", {"bits": 4}),
        ("llama", "architectures", ["LlamaForQuestionAnswering"]),
        ("llama", "rope_scaling", {"type": "dynamic", "factor": 2.0}),
        ("llama", "rope_scaling", {"rope_type": "yarn", "factor": 2.0, "mscale": 1.0, "mscale_all_dim": 0.5}),
        ("mistral", "hidden_act", "relu"),
        ("mixtral", "hidden_act", "gelu"),
        ("qwen2", "layer_types", ["chunked_attention"] * 3),
        ("qwen2", "use_sliding_window", False),
        ("qwen2", "layer_types", ["full_attention"] * 2),
        ("qwen3", "hidden_act", "gelu"),
        ("phi3", "rope_scaling", {"type": "longrope", "short_factor": [1.0], "long_factor": [2.0]}),
        ("phi3", "rope_scaling", {"type": "su", "short_factor": [1.0], "long_factor": [2.0]}),
        ("phi3", "rope_scaling", {"type": "yarn", "factor": 2.0}),
        ("gemma", "hidden_activation", "gelu"),
        ("gemma2", "use_bidirectional_attention", True),
        ("gemma3_text", "attn_logit_softcapping", 50.0),
        ("gemma3_text", "layer_types", ["full_attention", "strided_attention"]),
        ("openai-gpt", "afn", "gelu_new"),
        ("gpt2", "scale_attn_by_inverse_layer_idx", True),
        ("gpt2", "scale_attn_weights", False),
        ("gpt2", "add_cross_attention", True),
        ("gpt_neox", "hidden_act", "swish7"),
        ("gpt_neox", "rope_scaling", {"type": "dynamic", "factor": 2.0}),
    ],
)
def test_what_is_not_computed_is_refused_by_name(model_type, field, value):
    document = {**write_config(FAMILIES[model_type]), field: value}
    with pytest.raises(UnsupportedModel, match=field if field != "rope_scaling" else "rope_type"):
        read_config(document)


@for_each(("field", "value"), [("position_embedding_type", "relative_key"), ("is_decoder", True)])
def test_what_bert_does_not_compute_is_refused_by_name(field, value):
    with pytest.raises(UnsupportedModel, match=field):
        read_config({**write_config(presets.bert(97, 32, 2, 4, 48, 64)), field: value})


@for_each(
    ("field", "value"),
    [
        ("rms_norm_eps", "1e-05"),
        ("vocab_size", "97"),
        ("num_hidden_layers", 3.0),
        ("num_attention_heads", 0),
        ("attention_bias", "no"),
        ("tie_word_embeddings", None),
        ("rope_scaling", "linear"),
        ("max_position_embeddings", [64]),
    ],
)
def test_a_value_of_another_type_is_refused(field, value):
    with pytest.raises(ValueError):
        read_config({**write_config(LLAMA), field: value})


def test_a_missing_field_and_an_unknown_family_are_named():
    document = write_config(LLAMA)
    del document["hidden_size"]
    with pytest.raises(UnsupportedModel, match="llama model lacks 'hidden_size'"):
        read_config(document)
    with pytest.raises(UnsupportedModel, match=r"model_type 'gemma3' is not supported; supported: .*gemma3_text"):
        read_config({"model_type": "gemma3"})
    with pytest.raises(ValueError, match=r"config\.decoder"):
        read_config({**OWN.write(LLAMA, OWN.architectures[0]), "config": {"decoder": 3}})


# ---------------------------------------------------------------------------------------------------------------------
# Older files, as they were published, and fields that are not ours


def old(config, *without, **fields):
    """What a file of the time before `rope_parameters` and `layer_types` held."""
    document = write_config(config)
    absent = {"rope_parameters", "layer_types", *without}
    return {name: value for name, value in document.items() if name not in absent} | fields


def test_older_files_are_read():
    llama3 = {
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 32,
        "rope_type": "llama3",
    }
    scaled = presets.llama(*SHAPE, rope=Rope(5e5, 1.0, Llama3Scaling(8.0, 32)))
    assert read_config(old(scaled, rope_scaling=llama3, torch_dtype="bfloat16")) == scaled
    alike = presets.llama(97, 32, 3, 4, 4, 48, 64, norm_eps=1e-6)  # defaults of the first LLaMA's files
    absent = ("rope_theta", "num_key_value_heads", "head_dim", "tie_word_embeddings", "attention_bias", "mlp_bias")
    assert read_config(old(alike, *absent, "rms_norm_eps")) == alike
    linear = presets.llama(*SHAPE, rope=Rope(1e4, 1.0, LinearScaling(4.0)))
    assert read_config(old(linear, rope_scaling={"type": "linear", "factor": 4.0})) == linear


def test_older_names_of_a_class_are_read():
    config = presets.t5(97, 32, 2, 4, 8, 48)
    assert read_config({**write_config(config), "architectures": ["T5WithLMHeadModel"]}) == config


def test_older_files_of_the_other_families_are_read():
    neox = FAMILIES["gpt_neox"]
    assert read_config(old(neox, "rope_theta", "rope_scaling", rotary_pct=0.5, rotary_emb_base=10_000)) == neox
    tied = replace(FAMILIES["gpt2"], head=replace(FAMILIES["gpt2"].head, tied=True))
    assert read_config(old(FAMILIES["gpt2"], "tie_word_embeddings")) == tied
    assert read_config(old(FAMILIES["gemma"], "tie_word_embeddings", hidden_act="gelu")) == FAMILIES["gemma"]
    assert read_config(old(FAMILIES["mistral"], sliding_window=None)).decoder.blocks[0].attention.pattern is None
    assert read_config(old(FAMILIES["mistral"], "sliding_window")).decoder.blocks[0].attention.pattern.size == 4096
    qwen2 = presets.qwen2(*SHAPE, window=16, windowed=(False, False, True))
    assert read_config(old(qwen2, max_window_layers=2)) == qwen2
    assert read_config(old(FAMILIES["gemma2"])) == FAMILIES["gemma2"]


@for_each("pattern", [2, 6])
def test_older_gemma3_files_are_read(pattern):
    layers = 7
    windowed = list(islice(cycle([True] * (pattern - 1) + [False]), layers))
    rope = Rope(1e6, 1.0, LinearScaling(8.0))
    config = presets.gemma3(
        97, 32, layers, 4, 2, 48, 64, head_dim=12, window=16, windowed=windowed, rope=rope, local_rope=Rope(2e4)
    )
    assert read_config(old(config, sliding_window_pattern=pattern)) == config


def test_a_file_that_describes_the_config_is_kept_as_it_is():
    document = old(LLAMA, "rope_scaling", use_cache=False, attention_dropout=0.1, **{"transformers.js_config": {}})
    assert write_config(read_config(document), document) == document


def test_a_changed_config_keeps_the_fields_that_are_not_ours():
    document = old(LLAMA, rope_scaling={"type": "linear", "factor": 4.0}, attention_dropout=0.1)
    written = write_config(replace(LLAMA, context_length=32), document)
    assert written["attention_dropout"] == 0.1
    assert written["max_position_embeddings"] == 32
    assert written["rope_scaling"] is None  # theirs would believe the older field
    assert "attention_dropout" not in write_config(FAMILIES["gpt2"], document)  # of another family


def test_the_pooling_of_an_embedding_model_is_kept_elsewhere():
    pooled = replace(LLAMA, head=PoolHead("last"))
    document = write_config(pooled)
    assert document["architectures"] == ["LlamaModel"]
    assert read_config(document, PoolHead("last")) == pooled


# ---------------------------------------------------------------------------------------------------------------------
# Tensors under a family's names


TIED = llama(97, 32, 2, 4, 2, 48, 64, tied=True)
DOCUMENT = write_config(TIED)
MODEL = initialise(Transformer(TIED), seed=0)
EMBEDDING = "model.embed_tokens.weight"


@pytest.fixture
def theirs() -> dict[str, torch.Tensor]:
    return dict(to_their_names(TIED, DOCUMENT, MODEL.state_dict()))


def assert_same(first, second):
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


@for_each("shard_size", [10_000, 10**9])
def test_round_trip(shard_size, tmp_path):
    write_weights(tmp_path, MODEL, DOCUMENT, shard_size)
    assert len(list(tmp_path.glob("*.safetensors"))) == (1 if shard_size == 10**9 else 11)
    assert_same(to_our_names(TIED, DOCUMENT, read_weights(tmp_path)), MODEL.state_dict())


def test_no_tensor_is_lost_or_made_up(theirs):
    with pytest.raises(ValueError, match=r"without a place \['score.weight'\]"):
        to_our_names(TIED, DOCUMENT, {**theirs, "score.weight": theirs[EMBEDDING]})
    del theirs["model.norm.weight"]
    with pytest.raises(ValueError, match=r"missing \['norm.weight'\]"):
        to_our_names(TIED, DOCUMENT, theirs)


def test_a_wrong_shape_names_the_tensor_and_both_shapes(theirs):
    theirs[EMBEDDING] = torch.zeros(98, 32)
    ours = to_our_names(TIED, DOCUMENT, theirs)
    with pytest.raises(
        ValueError, match=r"embed_tokens.weight has the shape \(98, 32\), config.json asks for \(97, 32\)"
    ):
        ours["embedding.tokens.weight"]


def test_names_with_and_without_the_prefix_are_one_tensor(theirs):
    bare = {name.removeprefix("model."): tensor for name, tensor in theirs.items()}
    assert_same(to_our_names(TIED, DOCUMENT, bare), MODEL.state_dict())
    with pytest.raises(ValueError, match=r"model\.norm\.weight and norm\.weight are the same tensor"):
        to_our_names(TIED, DOCUMENT, {**theirs, "norm.weight": theirs["model.norm.weight"] + 1})


def test_a_tied_head_stored_twice_must_agree(theirs):
    copy = theirs[EMBEDDING].clone()
    assert_same(to_our_names(TIED, DOCUMENT, {**theirs, "lm_head.weight": copy}), MODEL.state_dict())
    with pytest.raises(ValueError, match=r"lm_head\.weight differs from model\.embed_tokens\.weight"):
        to_our_names(TIED, DOCUMENT, {**theirs, "lm_head.weight": copy + 1})


def test_a_tied_head_stored_alone_is_the_embedding(theirs):
    alone = {**theirs, "lm_head.weight": theirs[EMBEDDING]}
    del alone[EMBEDDING]  # some programs keep only the first name of what is shared
    assert_same(to_our_names(TIED, DOCUMENT, alone), MODEL.state_dict())
    with pytest.raises(ValueError, match=r"missing \['embed_tokens.weight'\]"):  # without a head nothing is tied
        to_our_names(replace(TIED, head=None), {**DOCUMENT, "architectures": ["LlamaModel"]}, alone)


@for_each("kept", ["encoder.embed_tokens.weight", "decoder.embed_tokens.weight"])
def test_the_embedding_of_t5_may_have_either_name_alone(kept):
    config = t5(97, 32, 2, 4, 8, 48)
    document, model = write_config(config), initialise(Transformer(config), seed=0)
    theirs = dict(to_their_names(config, document, model.state_dict()))
    theirs[kept] = theirs.pop("shared.weight")
    assert_same(to_our_names(config, document, theirs), model.state_dict())


def test_the_norms_of_the_first_bert_files_have_other_names():
    config = bert(97, 32, 2, 4, 48, 64)
    document, model = write_config(config), initialise(Transformer(config), seed=0)
    older = {
        re.sub(r"LayerNorm.bias$", "LayerNorm.beta", re.sub(r"LayerNorm.weight$", "LayerNorm.gamma", name)): tensor
        for name, tensor in to_their_names(config, document, model.state_dict()).items()
    }
    assert sum(name.endswith("LayerNorm.gamma") for name in older) == 1 + 2 * 2
    assert_same(to_our_names(config, document, older), model.state_dict())


def test_an_untied_head_is_a_tensor_of_its_own():
    config = llama(97, 32, 2, 4, 2, 48, 64, tied=False)
    document, model = write_config(config), initialise(Transformer(config), seed=0)
    theirs = dict(to_their_names(config, document, model.state_dict()))
    assert_same(to_our_names(config, document, theirs), model.state_dict())
    del theirs["lm_head.weight"]
    with pytest.raises(ValueError, match=r"missing \['lm_head.weight'\]"):
        to_our_names(config, document, theirs)


def test_the_pooler_of_bert_has_no_part_in_hidden_states():
    config = bert(97, 32, 2, 4, 48, 64)
    document, model = write_config(config), initialise(Transformer(config), seed=0)
    theirs = dict(to_their_names(config, document, model.state_dict()))
    theirs["pooler.dense.weight"] = torch.zeros(32, 32)
    assert_same(to_our_names(config, document, theirs), model.state_dict())


@for_each("config", [TIED, bert(97, 32, 2, 4, 48, 64, head=PoolHead())])
def test_a_model_filled_from_its_weights_has_nothing_left_to_fill(config):
    model = empty_model(config)
    assert all(tensor.is_meta for tensor in model.state_dict().values())
    model.load_state_dict(initialise(Transformer(config), seed=0).state_dict(), assign=True)
    assert not any(tensor.is_meta for tensor in [*model.parameters(), *model.buffers()])
