"""Attention modules against their formula, head by head, and against modules of transformers with the same weights."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from kit.tables import for_each
from lmworks.model import config as configs
from lmworks.model import masks
from lmworks.model.attention import Attention, Context, Memory
from lmworks.model.config import Block as Config
from lmworks.model.config import FeedForward, MixtureOfExperts, Norm
from lmworks.model.positions import rotation
from lmworks.model.stack import Block


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


@for_each("kv_heads", [6, 2, 1])
@for_each("causal", [True, False])
@for_each("scale", [None, 1.0])
def test_formula_with_grouped_heads(causal, scale, kv_heads):
    torch.manual_seed(0)
    config = configs.Attention(heads=6, kv_heads=kv_heads, head_dim=8, bias=True, scale=scale)
    attention = Attention(config, width=20, causal=causal).double()
    hidden, positions = torch.randn(2, 5, 20, dtype=torch.float64), torch.arange(5).expand(2, 5)
    allowed = torch.ones(5, 5).tril().bool() if causal else torch.ones(5, 5).bool()
    expected = formula(attention, hidden, hidden, 6 // kv_heads, 8**-0.5 if scale is None else scale, allowed)
    torch.testing.assert_close(attention(hidden, Context(positions, positions)), expected)


@for_each("qk_norm", [None, configs.Norm("rms", 1e-6)])
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


# ---------------------------------------------------------------------------------------------------------------------
# Blocks


WIDTH = 16
ATTENTION = configs.Attention(heads=2, kv_heads=2, head_dim=8)
DENSE = FeedForward(24, "gelu", bias=True)
CONFIG = Config(ATTENTION, DENSE, Norm("layer", 1e-5), "pre")


def random(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


HIDDEN = random(2, 6, WIDTH, seed=100)
POSITIONS = torch.arange(6).expand(2, 6)
CONTEXT = Context(POSITIONS, POSITIONS)


def build(config: Config) -> Block:
    """With every parameter random, the norms' too, so that no two of them can be exchanged unseen."""
    block = Block(config, WIDTH, causal=True).double()
    for seed, parameter in enumerate(block.parameters()):
        parameter.data = random(*parameter.shape, seed=seed) / 2
    return block


def norm(module: nn.Module, x: torch.Tensor) -> torch.Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt() * module.weight + module.bias


def close(actual, expected):
    torch.testing.assert_close(actual, expected, atol=1e-12, rtol=1e-12)


@torch.no_grad()
def test_pre():
    block, x = build(CONFIG), HIDDEN
    x = x + block.attention(norm(block.attention_norm, x), CONTEXT)
    close(block(HIDDEN, CONTEXT), x + block.feed_forward(norm(block.feed_forward_norm, x)))


@torch.no_grad()
def test_post():
    block, x = build(replace(CONFIG, norm_at="post")), HIDDEN
    x = norm(block.attention_norm, x + block.attention(x, CONTEXT))
    close(block(HIDDEN, CONTEXT), norm(block.feed_forward_norm, x + block.feed_forward(x)))


@torch.no_grad()
def test_sandwich():
    block, x = build(replace(CONFIG, norm_at="sandwich")), HIDDEN
    x = x + norm(block.attention_post_norm, block.attention(norm(block.attention_norm, x), CONTEXT))
    change = block.feed_forward(norm(block.feed_forward_norm, x))
    close(block(HIDDEN, CONTEXT), x + norm(block.feed_forward_post_norm, change))


@torch.no_grad()
def test_parallel():
    block, x = build(replace(CONFIG, norm_at="parallel")), HIDDEN
    attended = block.attention(norm(block.attention_norm, x), CONTEXT)
    close(block(HIDDEN, CONTEXT), x + attended + block.feed_forward(norm(block.feed_forward_norm, x)))


@torch.no_grad()
@for_each("norm_at", ["pre", "post", "sandwich"])
def test_cross_attention_stands_between(norm_at):
    block = build(replace(CONFIG, norm_at=norm_at, cross=ATTENTION))
    memory, x = Memory(random(2, 4, WIDTH, seed=7)), HIDDEN
    parts = (
        ("attention", lambda y: block.attention(y, CONTEXT)),
        ("cross_attention", lambda y: block.cross_attention.cross(y, memory, 0)),
        ("feed_forward", block.feed_forward),
    )
    for name, part in parts:
        own = block.get_submodule(f"{name}_norm")
        if norm_at == "post":
            x = norm(own, x + part(x))
        elif norm_at == "pre":
            x = x + part(norm(own, x))
        else:
            x = x + norm(block.get_submodule(f"{name}_post_norm"), part(norm(own, x)))
    close(block(HIDDEN, CONTEXT, memory), x)


@torch.no_grad()
def test_any_feed_forward_fits():
    mixture = build(replace(CONFIG, feed_forward=MixtureOfExperts(DENSE, 3, 1)))
    x = HIDDEN + mixture.attention(norm(mixture.attention_norm, HIDDEN), CONTEXT)
    close(mixture(HIDDEN, CONTEXT), x + mixture.feed_forward(norm(mixture.feed_forward_norm, x)))
