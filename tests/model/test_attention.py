"""Attention modules against their formula, head by head, and against modules of transformers with the same weights."""

from functools import partial

import pytest
import torch

from lmworks.model import config as configs
from lmworks.model import masks
from lmworks.model.attention import Attention, Context, Memory
from lmworks.model.positions import rotation


def formula(attention, hidden, memory, group, scale, allowed):
    """Head by head; `group` query heads share a key head."""
    query, key, value = attention.query(hidden), attention.key(memory), attention.value(memory)
    heads = []
    for head in range(6):
        q, own = query[..., head * 8 : head * 8 + 8], slice(head // group * 8, head // group * 8 + 8)
        k = key[..., own]
        if attention.query_norm is not None:
            q, k = attention.query_norm(q), attention.key_norm(k)
        scores = (q @ k.transpose(1, 2) * scale).masked_fill(~allowed, -torch.inf)
        heads.append(scores.softmax(-1) @ value[..., own])
    return attention.output(torch.cat(heads, dim=-1))


@pytest.mark.parametrize("kv_heads", [6, 2, 1])
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("scale", [None, 1.0])
def test_formula_with_grouped_heads(causal, scale, kv_heads):
    torch.manual_seed(0)
    config = configs.Attention(heads=6, kv_heads=kv_heads, head_dim=8, bias=True, scale=scale)
    attention = Attention(config, width=20, causal=causal).double()
    hidden, positions = torch.randn(2, 5, 20, dtype=torch.float64), torch.arange(5).expand(2, 5)
    allowed = torch.ones(5, 5).tril().bool() if causal else torch.ones(5, 5).bool()
    expected = formula(attention, hidden, hidden, 6 // kv_heads, 8**-0.5 if scale is None else scale, allowed)
    torch.testing.assert_close(attention(hidden, Context(positions, positions)), expected)


@pytest.mark.parametrize("qk_norm", [None, configs.Norm("rms", 1e-6)])
def test_cross_attention_reads_its_memory_once(qk_norm):
    torch.manual_seed(0)
    config = configs.Attention(heads=6, kv_heads=2, head_dim=8, qk_norm=qk_norm)
    attention = Attention(config, width=20, causal=False).double()
    hidden, encoded = torch.randn(2, 3, 20, dtype=torch.float64), torch.randn(2, 7, 20, dtype=torch.float64)
    real = torch.arange(7) < torch.tensor([[7], [4]])
    memory = Memory(encoded, real[:, None, None, :])
    expected = formula(attention, hidden, encoded, 3, 8**-0.5, real[:, None, :])
    torch.testing.assert_close(attention.cross(hidden, memory, layer=0), expected)
    assert not memory.projected  # in training nothing is kept
    with torch.no_grad():
        torch.testing.assert_close(attention.cross(hidden, memory, layer=0), expected)
        encoded.fill_(torch.nan)  # a later step asks the keys and values that are kept
        torch.testing.assert_close(attention.cross(hidden[:, 2:], memory, layer=0), expected[:, 2:])


NAMES = {"query": "q_proj", "key": "k_proj", "value": "v_proj", "output": "o_proj"}
SHAPE = {"hidden_size": 32, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8}
SHAPE |= {"num_hidden_layers": 2, "attn_implementation": "eager"}


def compare(theirs, ours, names, pattern=None):
    """Their module and ours with the same random weights, on ten tokens with rotary positions."""
    for name, parameter in theirs.named_parameters():
        torch.nn.init.normal_(parameter, mean=float("norm" in name), std=0.3)
    weights = theirs.state_dict()
    translated = {
        name: ".".join([(NAMES | names)[(part := name.split("."))[0]], *part[1:]]) for name in ours.state_dict()
    }
    assert {*translated.values()} == {*weights}
    ours.load_state_dict({name: weights[their] for name, their in translated.items()})
    hidden, positions = torch.randn(2, 10, 32, dtype=torch.float64), torch.arange(10).expand(2, 10)
    turned = rotation(configs.Rope(10_000.0), 8, positions, torch.float64)
    rule = masks.causal if pattern is None else masks.both(masks.causal, masks.pattern(pattern))
    mask = masks.dense(rule, 2, positions, positions).expand(2, 1, 10, 10)
    half = (slice(None), 0, slice(None), slice(0, 4))  # gpt-oss keeps each angle once
    cosine, sine = (part[half] if "GptOss" in type(theirs).__name__ else part[:, 0] for part in turned)
    additive = torch.zeros(mask.shape, dtype=torch.float64).masked_fill(~mask, -torch.inf)
    with torch.no_grad():
        expected, _ = theirs(hidden, (cosine, sine), additive)
        for context in (Context(positions, positions, turned, mask), Context(positions, positions, turned)):
            if pattern is None or context.mask is not None:
                # theirs computes the softmax, and Qwen3's norms, in float32
                torch.testing.assert_close(ours(hidden, context), expected, atol=2e-6, rtol=1e-5)


def test_norms_of_queries_and_keys_come_before_the_rotation():
    """As in Qwen3; after the rotation they would give other values."""
    qwen3 = pytest.importorskip("transformers.models.qwen3.modeling_qwen3")
    torch.manual_seed(0)
    settings = qwen3.Qwen3Config(**SHAPE, rms_norm_eps=1e-6)
    config = configs.Attention(4, 2, 8, position=configs.Rope(10_000.0), qk_norm=configs.Norm("rms", 1e-6))
    compare(
        qwen3.Qwen3Attention(settings, layer_idx=0).double(),
        Attention(config, 32, causal=True).double(),
        {"query_norm": "q_norm", "key_norm": "k_norm"},
    )


@pytest.mark.parametrize("layer", [0, 1])
def test_capped_scores_and_another_scale(layer):
    """As in Gemma 2, whose even layers have a window."""
    gemma2 = pytest.importorskip("transformers.models.gemma2.modeling_gemma2")
    torch.manual_seed(0)
    settings = gemma2.Gemma2Config(**SHAPE, attn_logit_softcapping=1.5, query_pre_attn_scalar=3, sliding_window=4)
    config = partial(configs.Attention, 4, 2, 8, scale=3**-0.5, softcap=1.5)
    compare(
        gemma2.Gemma2Attention(settings, layer_idx=layer).double(),
        Attention(config(position=configs.Rope(10_000.0)), 32, causal=True).double(),
        {},
        pattern=configs.Window(4) if layer == 0 else None,
    )


def test_sinks():
    """As in gpt-oss."""
    gpt_oss = pytest.importorskip("transformers.models.gpt_oss.modeling_gpt_oss")
    torch.manual_seed(0)
    settings = gpt_oss.GptOssConfig(**SHAPE, attention_bias=True)
    config = configs.Attention(4, 2, 8, bias=True, position=configs.Rope(10_000.0), sinks=True)
    compare(
        gpt_oss.GptOssAttention(settings, layer_idx=1).double(),
        Attention(config, 32, causal=True).double(),
        {"sinks": "sinks"},
    )
