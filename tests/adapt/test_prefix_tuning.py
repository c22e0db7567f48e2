"""Prefix tuning in every kind of attention and forward. That PEFT computes the same, tests/parity proves."""

from dataclasses import replace

import pytest
import torch
from small_models import LLAMA, T5, TIED, VOCABULARY, build, random_ids
from torch.nn.attention.flex_attention import flex_attention

from kit.tables import for_each
from lmworks.adapt import PrefixConfig, add_adapter, load_adapter, save_adapter
from lmworks.model import config as configs
from lmworks.model import dot_product_attention, masks
from lmworks.model.kv_cache import KVCache
from lmworks.model.presets import gopher, mistral, transformer
from lmworks.train.activation_checkpointing import checkpoint_activations
from training_cases import new_checkpoint

P, LENGTH, PREFIX = 5, 12, PrefixConfig(5)
WINDOWED = mistral(89, 64, layers=2, heads=4, kv_heads=2, hidden=48, context_length=64, window=4)
DOCUMENTS = masks.documents(torch.tensor([[0] * 7 + [1] * 5] * 2), causal=True)
POSITIONS = torch.tensor([[*range(7), *range(5)]] * 2)


def with_attention(**fields):
    block = LLAMA.decoder.blocks[0]
    block = replace(block, attention=replace(block.attention, **fields))
    return replace(LLAMA, decoder=replace(LLAMA.decoder, blocks=(block, block)))


KINDS = {
    "rope": LLAMA,
    "learned": TIED,
    "alibi": with_attention(position=configs.Alibi()),
    "relative bias": with_attention(position=configs.RelativeBias(8, 20)),
    "shaw": with_attention(position=configs.Shaw(6)),
    "transformer-xl": gopher(89, 32, layers=2, heads=4, hidden=48, context_length=64),
    "sinks and a cap": with_attention(sinks=True, softcap=2.0),
    "wide window": with_attention(pattern=configs.Window(P + LENGTH)),
    "t5": T5,
}


def close(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@torch.no_grad()
@for_each("config", KINDS.values())
def test_a_text_and_its_tokens_one_by_one_are_as_a_base_whose_cache_holds_the_prefix(config):
    """At positions 0 to P - 1; the text follows. T5's layers take every second part, as PEFT counts them."""
    model, ids, every = build(config), random_ids(2, LENGTH), torch.arange(2)
    adapted, both, blocks = add_adapter(model, PREFIX, seed=1), len(config.stacks), config.decoder.blocks
    memory = {"memory": model.encode(random_ids(2, 7, seed=1))} if both == 2 else {}

    def logits(of, new, view):
        return of.logits((of.decode if memory else of.hidden)(new, **memory, cache=view))

    cache, own = KVCache(config, 2, P + LENGTH), KVCache(adapted.config, 2, LENGTH)
    rows = adapted.get_submodule("prefix").table().unflatten(1, (len(blocks), 2, blocks[0].attention.kv_heads, -1))
    for layer in range(len(blocks)):
        part = rows[:, both * layer % len(blocks)].permute(1, 2, 0, 3)
        cache.keys[layer][:, :, :P], cache.values[layer][:, :, :P] = part
    expected = logits(model, ids, cache.view(every, torch.arange(P, P + LENGTH).expand(2, -1)))
    close(adapted.logits(adapted.decode(ids, **memory) if memory else adapted.hidden(ids)), expected)
    for place in range(LENGTH):
        found = logits(adapted, ids[:, place : place + 1], own.view(every, torch.full((2, 1), place)))
        close(found[:, 0], expected[:, place])


@torch.no_grad()
@for_each("config", [LLAMA, TIED, KINDS["alibi"]])
def test_it_begins_as_the_base_after_random_tokens(config):
    model, ids = build(config), random_ids(2, LENGTH)
    before = torch.randint(VOCABULARY, (1, P), generator=torch.Generator().manual_seed(1)).expand(2, -1)
    close(add_adapter(model, PREFIX, seed=1)(ids), model(torch.cat((before, ids), dim=1))[:, P:])


@for_each("windowed", [False, True])
@for_each("case", ["plain", "documents", "left padding", "right padding"])
def test_the_kernel_of_training_gives_the_gradients_of_float64(windowed, case):
    real = torch.ones(2, LENGTH, dtype=torch.bool)
    if "padding" in case:
        real[1, slice(0, 4) if "left" in case else slice(8, None)] = False
    packed = {"rule": DOCUMENTS, "positions": POSITIONS} if case == "documents" else {"attention_mask": real}
    config, ids, gradients = WINDOWED if windowed else with_attention(head_dim=16), random_ids(2, LENGTH), []
    for dtype in (torch.float32, torch.float64):
        model = add_adapter(build(config).to(dtype), PREFIX, seed=1)
        model(ids, **({} if case == "plain" else packed))[real].square().mean().backward()
        gradients.append(model.get_submodule("prefix").embedding.grad.double())
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-4 * float(gradients[1].abs().max()))


@torch.no_grad()
def test_packed_documents_are_as_each_alone():
    adapted, ids = add_adapter(build(WINDOWED), PREFIX), random_ids(2, LENGTH)
    packed = adapted(ids, rule=DOCUMENTS, positions=POSITIONS)
    close(packed, torch.cat((adapted(ids[:, :7]), adapted(ids[:, 7:])), dim=1))


@torch.no_grad()
@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@for_each("softcap", [None, 2.0])
def test_a_block_mask(softcap, monkeypatch):
    """As a GPU takes it, here by PyTorch's definition."""
    monkeypatch.setattr(dot_product_attention, "compiled_flex_attention", lambda: flex_attention)
    config, ids = with_attention(head_dim=16, softcap=softcap), random_ids(2, LENGTH)
    adapted = add_adapter(build(config), PREFIX).requires_grad_(False)
    expected, block = adapted(ids, rule=DOCUMENTS), masks.blockwise(DOCUMENTS, 2, LENGTH, None, ids.device)
    monkeypatch.setattr(type(adapted.decoder), "_mask", lambda *given: block)
    close(adapted(ids), expected)


@for_each("policy", ["blocks", "selective"])
def test_activation_checkpointing_changes_no_gradient(policy):
    gradients = []
    for chosen in ("nothing", policy):
        adapted = checkpoint_activations(
            add_adapter(build(WINDOWED), PrefixConfig(P, prefix_projection=True)).train(), chosen
        )
        adapted(random_ids(2, LENGTH)).square().mean().backward()
        gradients.append([weight.grad for weight in adapted.get_submodule("prefix").parameters()])
    assert all(kept.any() and torch.equal(kept, computed) for kept, computed in zip(*gradients, strict=True))


def test_what_does_not_fit_is_refused(tmp_path):
    with pytest.raises(ValueError, match="begins at position 5"):
        add_adapter(build(transformer(89, 32, layers=2, heads=4, hidden=48)), PREFIX)
    with pytest.raises(ValueError, match="none of the 64 learned positions"):
        add_adapter(build(TIED), PrefixConfig(64))
    checkpoint = new_checkpoint("gpt2")
    folder = save_adapter(tmp_path / "prefix", add_adapter(checkpoint.model, PREFIX), PREFIX, checkpoint)
    with pytest.raises(ValueError, match=r"another base: num_attention_heads is \d+"):
        load_adapter(folder, new_checkpoint("llama"))
