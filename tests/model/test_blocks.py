from dataclasses import replace

import pytest
import torch
from torch import nn

from lmworks.model.attention import Context, Memory
from lmworks.model.config import Attention, FeedForward, MixtureOfExperts, Norm
from lmworks.model.config import Block as Config
from lmworks.model.stack import Block

WIDTH = 16
ATTENTION = Attention(heads=2, kv_heads=2, head_dim=8)
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
@pytest.mark.parametrize("norm_at", ["pre", "post", "sandwich"])
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
