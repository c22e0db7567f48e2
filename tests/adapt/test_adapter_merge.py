"""DoRA's lengths, what new adapters begin as, and merging. That PEFT has the same logits, tests/parity proves."""

import copy
from functools import partial

import pytest
import torch
from small_models import LLAMA, T5, TIED, build, random_ids

from kit.tables import for_each
from lmworks.adapt import (
    AdapterIndex,
    BottleneckConfig,
    FullConfig,
    IA3Config,
    LoraConfig,
    PrefixConfig,
    add_adapter,
    load_adapter,
    lora_of,
    merge_adapter,
    merge_difference,
    quantise_base,
    save_adapter,
    with_lora,
)
from lmworks.adapt.dora import changed_lengths
from lmworks.adapt.layers import AdapterLinear
from lmworks.model.gguf_write import save_gguf
from lmworks.model.quantised_linear import QuantisedLinear
from training_cases import new_checkpoint

METHODS = {
    "lora": LoraConfig(r=4, target_modules=("query", "down", "projection", "tokens")),
    "dora": LoraConfig(r=4, target_modules=("query", "down", "projection", "tokens"), use_dora=True),
    "ia3": IA3Config(),
}


def drawn(model, method, seed=0):
    adapted = add_adapter(model, method, seed)
    generator = torch.Generator().manual_seed(seed)
    for weight in adapted.parameters():
        if weight.requires_grad:
            weight.data += 0.2 * torch.randn(weight.shape, generator=generator).to(weight)
    return adapted


@for_each(("dtype", "error"), [(torch.float64, 1e-13), (torch.float32, 1e-6), (torch.bfloat16, 1e-6)])
@for_each("shape", [(5, 7), (3000, 2000)])
def test_lengths_of_rows_are_those_of_the_sum(dtype, error, shape):
    generator = torch.Generator().manual_seed(0)
    weight, a, b = (torch.randn(s, generator=generator).to(dtype) for s in (shape, (4, shape[1]), (shape[0], 4)))
    expected = torch.linalg.vector_norm(weight.double() - 0.7 * b.double() @ a.double(), dim=1)
    before, after = changed_lengths(weight, a, b, -0.7)
    torch.testing.assert_close(after.double(), expected, rtol=error, atol=0)
    torch.testing.assert_close(before.double(), torch.linalg.vector_norm(weight.double(), dim=1), rtol=error, atol=0)
    assert torch.equal(*changed_lengths(weight, a, torch.zeros_like(b), -0.7))


@for_each("method", METHODS)
@for_each("dtype", [torch.float32, torch.bfloat16])
def test_a_new_adapter_begins_as_its_base_and_is_learned_alone(method, dtype):
    model, ids = build(TIED).to(dtype), random_ids(2, 9)
    adapted = add_adapter(model, METHODS[method])
    rounding = 0 if method != "lora" else 1e-4 if dtype == torch.float32 else 0.1  # LoRA is part of a longer sum
    assert merge_difference(adapted, model, ids) <= rounding
    adapted(ids).float().square().sum().backward()
    learned = {name for name, weight in adapted.named_parameters() if weight.grad is not None}
    assert learned == {n for n, _ in adapted.named_parameters() if n.rpartition(".")[2].startswith(("lora_", "ia3_"))}
    assert all(weight.requires_grad and weight.grad is None for weight in model.parameters())


@for_each("method", METHODS)
def test_a_merged_model_computes_what_the_adapter_does_and_rounds_once(method):
    model, ids = build(TIED), random_ids(2, 9)
    adapted = drawn(model, METHODS[method])
    merged = merge_adapter(adapted)
    assert merge_difference(adapted, merged, ids) < 1e-4 < merge_difference(model, merged, ids)
    assert all(weight.requires_grad for weight in merged.parameters())
    low = drawn(build(TIED).bfloat16(), METHODS[method])
    exact = merge_adapter(copy.deepcopy(low).double())
    for half, weight in zip(merge_adapter(low).parameters(), exact.parameters(), strict=True):
        assert half.dtype == torch.bfloat16
        assert ((half - weight).abs() <= 2**-8 * weight.abs() + 1e-7).all()  # half of the last place


def test_embedding_and_tied_head_change_by_themselves():
    model, ids = build(TIED), random_ids(2, 9)
    table = drawn(model, LoraConfig(target_modules=("tokens",)))
    hidden = torch.randn(3, 32, generator=torch.Generator().manual_seed(0))
    merged = merge_adapter(table)
    for changed in (table, merged):
        assert torch.equal(changed.logits(hidden), model.logits(hidden))
        assert not torch.equal(changed.embedding.tokens(ids), model.embedding.tokens(ids))
    assert not merged.config.head.tied and table.config.head.tied
    head = merge_adapter(drawn(model, LoraConfig(target_modules=("projection",))))
    assert torch.equal(head.embedding.tokens(ids), model.embedding.tokens(ids))
    assert not torch.equal(head.logits(hidden), model.logits(hidden))


@for_each("method", [*METHODS.values(), PrefixConfig(4), FullConfig()])
def test_a_model_takes_one_adapter(method, tmp_path):
    checkpoint = new_checkpoint()
    folder = save_adapter(tmp_path / "one", add_adapter(checkpoint.model, IA3Config()), IA3Config(), checkpoint)
    for first in (LoraConfig(r=2), PrefixConfig(4)):
        adapted = add_adapter(checkpoint.model, first)
        with pytest.raises(ValueError, match="merge that one first"):
            add_adapter(adapted, method)
        with pytest.raises(ValueError, match=r"one: .* merge that one first"):
            load_adapter(folder, checkpoint.with_model(adapted))


def test_dora_leaves_a_row_of_zeros_alone():
    model, ids = build(LLAMA), random_ids(2, 9)
    model.decoder.blocks[0].feed_forward.up.weight.data[3] = 0
    adapted = add_adapter(model, METHODS["dora"])
    adapted(ids).square().mean().backward()
    assert all(weight.grad.isfinite().all() for weight in adapted.parameters() if weight.requires_grad)
    assert merge_difference(adapted, model, ids) < 1e-5 > merge_difference(merge_adapter(adapted), model, ids)


@for_each("method", ["dora", "lora"])
def test_tokens_of_one_batch_do_not_have_each_their_dora_or_embedding(method):
    lora = lora_of(drawn(build(TIED), METHODS[method]))
    with pytest.raises(ValueError, match=r"DoRA|adapter of the embedding.*merge"):
        with_lora(build(TIED), [lora], AdapterIndex())


def test_what_is_no_change_of_weights_is_not_merged_and_no_whole_model_is_saved_without_it(tmp_path):
    checkpoint = new_checkpoint()
    for method in (PrefixConfig(4), BottleneckConfig(4)):
        adapted = checkpoint.with_model(add_adapter(checkpoint.model, method))
        for save, name in ((adapted.save, "whole"), (partial(save_gguf, adapted), "whole.gguf")):
            with pytest.raises(ValueError, match="the model is not whole"):
                save(tmp_path / name)
            assert not any(tmp_path.iterdir())
    model = build(LLAMA)
    model.decoder.blocks[0].feed_forward.down = AdapterLinear(model.decoder.blocks[0].feed_forward.down)
    with pytest.raises(ValueError, match="no change of weights and cannot be merged"):
        merge_adapter(model)


@for_each("method", METHODS)
def test_an_adapter_in_bfloat16_is_the_same_after_it_was_written(method, tmp_path):
    checkpoint = new_checkpoint("gpt2")
    checkpoint.model.bfloat16()
    adapted, ids = drawn(checkpoint.model, METHODS[method]), torch.arange(40, 60)[None]
    folder = save_adapter(tmp_path / "adapter", adapted, METHODS[method], checkpoint)
    assert merge_difference(adapted, load_adapter(folder, checkpoint), ids) == 0


@for_each("method", [LoraConfig(r=4), LoraConfig(r=4, use_dora=True), IA3Config()])
def test_a_quantised_base_is_quantised_again_only_where_that_is_asked_for(method):
    base, ids = quantise_base(new_checkpoint("gpt2"), "int8"), torch.arange(40, 60)[None]
    low = copy.deepcopy(base).bfloat16()  # but for the packed layers' biases
    assert torch.equal(add_adapter(low, method)(ids), low(ids))
    adapted = drawn(base, method)
    with pytest.raises(ValueError, match=r"is quantised, and would be again.*16 bits"):
        merge_adapter(adapted)
    merged = merge_adapter(adapted, requantise=True)
    assert isinstance(merged.decoder.blocks[0].feed_forward.down, QuantisedLinear)
    assert 0 < merge_difference(adapted, merged, ids) < 0.1 * merge_difference(base, merged, ids)


@for_each(
    ("config", "method", "message"),
    [
        (T5, LoraConfig(target_modules=("embedding.tokens",)), "name no linear layer"),  # two stacks share it
        (TIED, IA3Config(target_modules=("projection",)), r"head\.projection is in no block"),
        (TIED, IA3Config(target_modules=("k_proj",)), "name no linear layer"),
    ],
)
def test_layers_that_a_method_does_not_take_are_refused(config, method, message):
    with pytest.raises(ValueError, match=message):
        add_adapter(build(config), method)
