from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmworks.model.config import Norm, PoolHead
from lmworks.model.huggingface import UnsupportedModel, read_config, write_config
from lmworks.model.presets import bert, llama

LLAMA = llama(97, 32, 2, 4, 2, 48, 64)
BERT = bert(97, 32, 2, 4, 48, 64)
sizes = st.integers(1, 8)


@given(
    st.builds(
        lambda heads, group, head_dim, width, layers, theta, eps, flags: llama(
            97, width, layers, heads * group, heads, 48, 64, 2 * head_dim, theta, eps, *flags
        ),
        *(sizes, sizes, sizes, sizes, sizes),
        st.sampled_from([10_000.0, 100_000.0]),
        st.sampled_from([1e-5, 1e-6]),
        st.tuples(st.booleans(), st.booleans(), st.booleans()),
    )
)
def test_llama_configs_survive(config):
    assert read_config(write_config(config)) == config


@given(
    st.builds(
        lambda heads, dim, layers, types, activation, head: bert(
            97, heads * dim, layers, heads, 48, 64, types, activation, head=head
        ),
        *(sizes, sizes, sizes, sizes),
        st.sampled_from(["gelu", "gelu_tanh", "relu", "silu"]),
        st.sampled_from([None, PoolHead(), PoolHead("cls", normalize=False)]),
    )
)
def test_bert_configs_survive(config):
    assert read_config(write_config(config), config.head) == config


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("rope_scaling", {"rope_type": "llama3", "factor": 8.0}),
        ("rope_parameters", {"rope_type": "yarn", "rope_theta": 10_000.0}),
        ("rope_interleaved", True),
        ("hidden_act", "gelu"),
        ("quantization_config", {"bits": 4}),
        ("architectures", ["LlamaForSequenceClassification"]),
        ("model_type", "mamba"),
    ],
)
def test_an_unsupported_llama_field_is_named(field, value):
    with pytest.raises(UnsupportedModel, match=field.replace("rope_parameters", "rope_type")):
        read_config({**write_config(LLAMA), field: value})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("position_embedding_type", "relative_key"),
        ("is_decoder", True),
        ("add_cross_attention", True),
        ("hidden_act", "swish7"),
        ("architectures", ["BertForMaskedLM"]),
    ],
)
def test_an_unsupported_bert_field_is_named(field, value):
    with pytest.raises(UnsupportedModel, match=field):
        read_config({**write_config(BERT), field: value})


def test_fields_that_change_nothing_are_ignored():
    assert read_config({**write_config(LLAMA), "use_cache": False, "transformers.js_config": {}}) == LLAMA


def test_a_config_without_a_family_is_refused_not_approximated():
    block = LLAMA.decoder.blocks[0]
    normed = replace(block, attention=replace(block.attention, qk_norm=Norm("rms", 1e-6)))
    biased = replace(block, attention=replace(block.attention, scale=1.0))
    for blocks in [(normed, normed), (block, biased)]:
        with pytest.raises(UnsupportedModel, match="none of the families"):
            write_config(replace(LLAMA, decoder=replace(LLAMA.decoder, blocks=blocks)))
    with pytest.raises(UnsupportedModel, match="pooling"):
        read_config(write_config(LLAMA), PoolHead())
