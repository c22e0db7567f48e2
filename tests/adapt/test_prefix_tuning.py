"""Prefix tuning in every kind of attention and forward. That PEFT computes the same, tests/parity proves.

The reference: keys and values of the prefix lie in a `KVCache` at positions 0 to P - 1, and the base continues from P.
"""

from dataclasses import replace

import pytest
import torch
from small_models import LLAMA, T5, TIED, build, random_ids
from torch.nn.attention.flex_attention import flex_attention

from lmworks.adapt import PrefixConfig, add_adapter, load_adapter, save_adapter
from lmworks.model import config as configs
from lmworks.model import dot_product_attention, masks
from lmworks.model.kv_cache import KVCache
from lmworks.model.presets import gopher, llama, mistral, transformer
from lmworks.train.activation_checkpointing import recompute
from training_cases import new_checkpoint

P, LENGTH = 5, 12
WIDE = llama(89, 64, layers=2, heads=4, kv_heads=2, hidden=48, context_length=64)  # whose heads have a kernel
WINDOWED = mistral(89, 64, layers=2, heads=4, kv_heads=2, hidden=48, context_length=64, window=4)
PREFIX = PrefixConfig(P)


def with_attention(**fields):
    block = LLAMA.decoder.blocks[0]
    block = replace(block, attention=replace(block.attention, **fields))
    return replace(LLAMA, decoder=replace(LLAMA.decoder, blocks=(block, block)))


KINDS = {
    "rope": LLAMA,
    "yarn": with_attention(position=configs.Rope(100.0, scaling=configs.YarnScaling(4.0, 16))),
    "half of rope": with_attention(position=configs.Rope(100.0, fraction=0.5), qk_norm=configs.Norm("rms", 1e-6)),
    "learned": TIED,
    "alibi": with_attention(position=configs.Alibi()),
    "relative bias": with_attention(position=configs.RelativeBias(8, 20)),
    "shaw": with_attention(position=configs.Shaw(6)),
    "transformer-xl": gopher(89, 32, layers=2, heads=4, hidden=48, context_length=64),
    "sinks and a cap": with_attention(sinks=True, softcap=2.0),
    "wide window": with_attention(pattern=configs.Window(P + LENGTH)),
    "t5": T5,
}


def prefixed(config, method=PREFIX, seed=0):
    return add_adapter(build(config), method, seed)


def by_cache(model, adapted, ids, memory=None):
    """The reference; an encoder–decoder's layers take every second part, as PEFT counts them."""
    blocks = model.config.decoder.blocks
    cache, count = KVCache(model.config, len(ids), P + ids.shape[1]), len(blocks)
    rows = adapted.get_submodule("prefix").table().unflatten(1, (count, 2, blocks[0].attention.kv_heads, -1))
    for layer in range(count):
        part = rows[:, (layer if memory is None else 2 * layer) % count].permute(1, 2, 0, 3)
        cache.keys[layer][:, :, :P], cache.values[layer][:, :, :P] = part
    view = cache.view(torch.arange(len(ids)), torch.arange(P, P + ids.shape[1]).expand(len(ids), -1))
    hidden = model.hidden(ids, cache=view) if memory is None else model.decode(ids, memory, cache=view)
    return model.logits(hidden)


@torch.no_grad()
@pytest.mark.parametrize("mlp", [False, True], ids=["table", "mlp"])
@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_position(name, mlp):
    model, ids = build(KINDS[name]), random_ids(2, LENGTH)
    adapted = add_adapter(model, PrefixConfig(P, mlp), seed=1)
    both = len(model.config.stacks) == 2
    sources = random_ids(2, 7, seed=1)
    memory = model.encode(sources) if both else None
    expected = by_cache(model, adapted, ids, memory)
    found = adapted(sources, ids) if both else adapted(ids)
    assert (found - (model(sources, ids) if both else model(ids))).abs().max() > 0.05
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    cache = KVCache(adapted.config, 2, LENGTH)  # and one token at a time
    for place in range(LENGTH):
        view, new = cache.view(torch.arange(2), torch.full((2, 1), place)), ids[:, place : place + 1]
        hidden = adapted.decode(new, memory, cache=view) if both else adapted.hidden(new, cache=view)
        torch.testing.assert_close(adapted.logits(hidden)[:, 0], found[:, place], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("config", [WIDE, WINDOWED], ids=["causal", "window"])
@pytest.mark.parametrize("case", ["plain", "documents", "left padding", "right padding"])
def test_the_kernel_of_training_gives_the_gradients_of_float64(config, case):
    numbers = torch.tensor([0] * 5 + [1] * 4 + [2] * 3).expand(2, -1)
    positions = torch.tensor([*range(5), *range(4), *range(3)]).expand(2, -1)
    real = torch.arange(LENGTH) >= torch.tensor([[0], [4]])
    arguments = {
        "plain": {},
        "documents": {"rule": masks.both(masks.causal, masks.documents(numbers)), "positions": positions},
        "left padding": {"attention_mask": real},
        "right padding": {"attention_mask": real.flip(1)},
    }[case]
    shown = arguments.get("attention_mask", torch.ones(2, LENGTH, dtype=torch.bool))
    ids, gradients = random_ids(2, LENGTH), []
    for dtype in (torch.float32, torch.float64):
        model = add_adapter(build(config).to(dtype), PREFIX, seed=1)
        output = model(ids, **arguments)[shown]
        output.square().mean().backward()
        gradients.append((output.detach().double(), model.get_submodule("prefix").embedding.grad.double()))
    for found, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))


@torch.no_grad()
def test_packed_documents_are_as_each_alone():
    adapted, ids = prefixed(WINDOWED), random_ids(1, LENGTH)
    rule = masks.both(masks.causal, masks.documents(torch.tensor([[0] * 7 + [1] * 5])))
    packed = adapted(ids, rule=rule, positions=torch.tensor([[*range(7), *range(5)]]))
    alone = torch.cat((adapted(ids[:, :7]), adapted(ids[:, 7:])), dim=1)
    torch.testing.assert_close(packed, alone, rtol=1e-4, atol=1e-4)


@torch.no_grad()
@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("softcap", [None, 2.0])
def test_a_block_mask(softcap, monkeypatch):
    """As a GPU takes it, here by PyTorch's definition."""
    monkeypatch.setattr(dot_product_attention, "compiled_flex_attention", lambda: flex_attention)
    config = with_attention(head_dim=16, softcap=softcap)
    adapted, ids = prefixed(config).requires_grad_(False), random_ids(2, LENGTH)
    rule = masks.both(masks.causal, masks.documents(torch.tensor([[0] * 7 + [1] * 5] * 2)))
    expected = adapted(ids, rule=rule)
    block = masks.blockwise(rule, 2, LENGTH, None, ids.device)
    monkeypatch.setattr(type(adapted.decoder), "_mask", lambda *given: block)
    torch.testing.assert_close(adapted(ids), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("policy", ["blocks", "selective"])
@pytest.mark.parametrize("mlp", [False, True], ids=["table", "mlp"])
def test_activation_checkpointing_changes_no_gradient(policy, mlp):
    ids, gradients = random_ids(2, LENGTH), []
    for chosen in ("nothing", policy):
        adapted = recompute(prefixed(WIDE, PrefixConfig(P, mlp)).train(), chosen)
        adapted(ids).square().mean().backward()
        gradients.append([weight.grad for weight in adapted.get_submodule("prefix").parameters()])
    for kept, computed in zip(*gradients, strict=True):
        assert kept.abs().max() > 0
        assert torch.equal(kept, computed)


@pytest.mark.parametrize(
    ("config", "method", "message"),
    [
        (transformer(89, 32, layers=2, heads=4, hidden=48), PREFIX, "begins at position 5"),
        (TIED, PrefixConfig(64), "none of the 64 learned positions"),
    ],
    ids=["sinusoids", "short table"],
)
def test_positions_that_cannot_begin_later_are_refused(config, method, message):
    with pytest.raises(ValueError, match=message):
        prefixed(config, method)


def test_a_folder_of_another_base_is_refused(tmp_path):
    checkpoint = new_checkpoint("gpt2")
    folder = save_adapter(tmp_path / "prefix", add_adapter(checkpoint.model, PREFIX), PREFIX, checkpoint)
    with pytest.raises(ValueError, match=r"another base: num_attention_heads is \d+"):
        load_adapter(folder, new_checkpoint("llama"))
