"""Attention modules against their formula, head by head, and against modules of transformers with the same weights."""

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


def test_sinks():
    """As in gpt-oss, with the same random weights, on ten tokens with rotary positions."""
    gpt_oss = pytest.importorskip("transformers.models.gpt_oss.modeling_gpt_oss")
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8}
    settings = gpt_oss.GptOssConfig(**shape, num_hidden_layers=2, attn_implementation="eager", attention_bias=True)
    theirs = gpt_oss.GptOssAttention(settings, layer_idx=1).double()
    config = configs.Attention(4, 2, 8, bias=True, position=configs.Rope(10_000.0), sinks=True)
    ours = Attention(config, 32, causal=True).double()
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    weights = theirs.state_dict()
    names = {"query": "q_proj", "key": "k_proj", "value": "v_proj", "output": "o_proj", "sinks": "sinks"}
    ours.load_state_dict(
        {name: weights[name.replace(part := name.split(".")[0], names[part], 1)] for name in ours.state_dict()}
    )
    hidden, positions = torch.randn(2, 10, 32, dtype=torch.float64), torch.arange(10).expand(2, 10)
    turned = rotation(configs.Rope(10_000.0), 8, positions, torch.float64)
    mask = masks.dense(masks.causal, 2, positions, positions).expand(2, 1, 10, 10)
    cosine, sine = (part[:, 0, :, :4] for part in turned)  # gpt-oss keeps each angle once
    additive = torch.zeros(mask.shape, dtype=torch.float64).masked_fill(~mask, -torch.inf)
    with torch.no_grad():
        expected, _ = theirs(hidden, (cosine, sine), additive)
        for context in (Context(positions, positions, turned, mask), Context(positions, positions, turned)):
            # theirs computes the softmax in float32
            torch.testing.assert_close(ours(hidden, context), expected, atol=2e-6, rtol=1e-5)
