"""Adapters beside the weights: which token uses which, and what that must not change."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_models import LLAMA, MIXTRAL, T5, TIED, build, random_ids, random_lora

from kit.tables import for_each
from lmworks.adapt import AdapterIndex, Lora, LoraConfig, LowRank, apply, initialise_lora, merge, with_lora
from lmworks.adapt.multi_lora import AdaptedLinear, low_rank

LORAS = [
    random_lora(LLAMA, 1),
    random_lora(LLAMA, 2, LoraConfig(r=1, target_modules=("query", "down"))),
    random_lora(LLAMA, 3, LoraConfig(r=3, rank_pattern={"value": 5}, target_modules=("value", "query"))),
]


@pytest.fixture(scope="module")
def model():
    return build(LLAMA)


@given(
    numbers=st.lists(st.integers(-1, 2), min_size=1, max_size=40),
    ranks=st.lists(st.integers(1, 6), min_size=3, max_size=3),
    seed=st.integers(0, 2**16),
)
def test_each_token_gets_its_own_change(numbers, ranks, seed):
    """Against the definition, y = W x + bias + scale · B (A x), token by token in float64."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    base = torch.nn.Linear(7, 5).double()
    changes = [LowRank(draw(rank, 7), draw(5, rank), 0.5 + rank) for rank in ranks]
    changes[1] = None
    index, x = AdapterIndex(), draw(1, len(numbers), 7)
    layer = AdaptedLinear(base, changes, index)
    with torch.no_grad(), index.using(torch.tensor([numbers])):
        found = layer(x)
    for token, number in enumerate(numbers):
        expected = base.weight @ x[0, token] + base.bias
        change = changes[number] if number >= 0 else None
        if change is not None:
            expected = expected + change.scale * (change.b @ (change.a @ x[0, token]))
        torch.testing.assert_close(found[0, token], expected)


@torch.no_grad()
def test_a_mixed_batch_gives_each_row_its_own_run(model):
    index, ids = AdapterIndex(), random_ids(5, 9)
    adapted, numbers = with_lora(model, LORAS, index), [2, -1, 0, 1, 0]
    with index.using(torch.tensor(numbers)[:, None]):
        mixed = adapted(ids)
    for row, number in enumerate(numbers):
        alone = model if number < 0 else apply(model, LORAS[number])
        # A product of another number of rows may add in another order.
        torch.testing.assert_close(mixed[row], alone(ids[row : row + 1])[0], atol=1e-5, rtol=1e-5)
    assert (mixed[2] - model(ids)[2]).abs().max() > 0.01  # and it is no small change


@torch.no_grad()
def test_tokens_of_one_row_may_use_different_adapters(model):
    """A token's own outputs depend on its own adapter, and through attention on those of the tokens before it."""
    index, ids = AdapterIndex(), random_ids(1, 8)
    adapted = with_lora(model, LORAS, index)
    with index.using(torch.tensor([[0, 0, 0, 0, 0, 1, 1, 1]])):
        mixed = adapted(ids)
    with index.using(torch.tensor(0)):
        first = adapted(ids)
    assert torch.equal(mixed[0, :5], first[0, :5])
    assert not torch.allclose(mixed[0, 5:], first[0, 5:], atol=1e-3)


@torch.no_grad()
def test_tokens_without_an_adapter_are_bitwise_what_they_were(model):
    index, ids = AdapterIndex(), random_ids(4, 11)
    adapted = with_lora(model, LORAS, index)
    expected = model(ids)
    assert torch.equal(adapted(ids), expected)  # nobody has set the index
    with index.using(torch.tensor([[-1], [0], [-1], [2]])):
        mixed = adapted(ids)
    assert torch.equal(mixed[[0, 2]], expected[[0, 2]])
    assert not torch.equal(mixed[[1, 3]], expected[[1, 3]])
    assert torch.equal(adapted(ids), expected)


@torch.no_grad()
def test_neighbours_do_not_change_a_token(model):
    """Bit for bit, whichever adapters the other rows of a batch use."""
    index, ids = AdapterIndex(), random_ids(24, 1)
    adapted = with_lora(model, LORAS, index)
    generator = torch.Generator().manual_seed(0)
    with index.using(torch.zeros(24, 1, dtype=torch.int64)):
        expected = adapted(ids)
    for _ in range(10):
        numbers = torch.randint(-1, 3, (24, 1), generator=generator)
        numbers[0] = 0
        with index.using(numbers):
            found = adapted(ids)
        same = numbers[:, 0] == 0
        assert torch.equal(found[same], expected[same])


@for_each("dtype", [torch.float32, torch.bfloat16])
@for_each(("inputs", "outputs", "rank"), [(64, 64, 1), (96, 200, 8), (576, 192, 16)])
def test_the_number_of_rows_does_not_change_one(dtype, inputs, outputs, rank):
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(rank, inputs, generator=generator).to(dtype)
    b = torch.randn(outputs, rank, generator=generator).to(dtype)
    rows = torch.randn(70, inputs, generator=generator).to(dtype)
    whole = low_rank(rows, a, b, 0.5)
    for count in (1, 2, 3, 8, 9, 16, 17, 33, 69):
        assert torch.equal(low_rank(rows[:count], a, b, 0.5), whole[:count])


@torch.no_grad()
def test_an_encoder_decoder_takes_an_adapter_for_each_text():
    model, index = build(T5), AdapterIndex()
    loras = [random_lora(T5, 1), random_lora(T5, 2)]
    ids, targets = random_ids(3, 9), random_ids(3, 6, seed=1)
    with index.using(torch.tensor([[1], [-1], [0]])):
        mixed = with_lora(model, loras, index)(ids, targets)
    for row, alone in enumerate((merge(model, loras[1]), model, merge(model, loras[0]))):
        expected = alone(ids[row : row + 1], targets[row : row + 1])[0]
        torch.testing.assert_close(mixed[row], expected, atol=2e-5, rtol=1e-5)  # merged: rounded once more


@torch.no_grad()
def test_a_tied_head_keeps_the_embedding_as_it_is():
    model = build(TIED)
    lora = random_lora(TIED, 5, LoraConfig(r=2, target_modules=("head.projection",)))
    assert lora.changes["head.projection"].b.shape == (TIED.embedding.vocabulary, 2)
    ids, index = random_ids(2, 6), AdapterIndex()
    adapted = with_lora(model, [lora], index)
    merged = merge(model, lora)
    expected = model(ids) + model.hidden(ids) @ lora.changes["head.projection"].product().T
    with index.using(torch.tensor([[0], [0]])):
        torch.testing.assert_close(adapted(ids), expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(merged(ids), expected, atol=1e-5, rtol=1e-5)
    with index.using(torch.tensor([0, -1, 0])):  # a runner that has picked three rows for the head
        rows = model.hidden(ids)[0, :3]
        torch.testing.assert_close(adapted.logits(rows)[::2], expected[0, :3:2], atol=1e-5, rtol=1e-5)
        assert torch.equal(adapted.logits(rows)[1], model.logits(rows)[1])
    assert adapted.head.projection.weight is model.tokens and merged.tokens is model.tokens
    assert model.config.head.tied and not merged.config.head.tied and not adapted.config.head.tied


@torch.no_grad()
def test_an_adapted_model_has_the_base_model_weights(model):
    """The same tensors under the same names, so that whoever replaces weights by names need not know of adapters."""
    adapted = with_lora(model, LORAS, AdapterIndex())
    assert adapted.state_dict().keys() == model.state_dict().keys()
    found = adapted.state_dict()
    assert all(found[name].data_ptr() == tensor.data_ptr() for name, tensor in model.state_dict().items())
    assert type(model.decoder.blocks[0].attention.query) is torch.nn.Linear  # `model` is as it was


@torch.no_grad()
def test_a_copy_is_run_with_the_same_index(model):
    index, ids = AdapterIndex(), random_ids(1, 5)
    adapted = with_lora(model, LORAS, index)
    with index.using(torch.tensor(1)):
        assert torch.equal(copy.deepcopy(adapted)(ids), adapted(ids))


def test_the_index_is_as_before_after_an_error(model):
    index = AdapterIndex(torch.tensor(-1))
    with pytest.raises(RuntimeError), index.using(torch.tensor(0)):
        raise RuntimeError
    assert index.groups(torch.Size([2, 3])) == []


@torch.no_grad()
@for_each(
    ("numbers", "message"),
    [
        (torch.zeros(1, 5, dtype=torch.int64), r"index \(1, 5\) does not fit tokens \(2, 6\)"),
        (torch.zeros(6, dtype=torch.int64), r"index \(6,\) does not fit"),  # it would be broadcast over the rows
        (torch.tensor(3), "no adapter 3: the model has 3"),
        (torch.tensor(-2), "no adapter -2"),
    ],
)
def test_an_index_that_cannot_be_meant_is_refused(model, numbers, message):
    index = AdapterIndex()
    adapted = with_lora(model, LORAS, index)
    with pytest.raises(ValueError, match=message), index.using(numbers):
        adapted(random_ids(2, 6))


def test_what_cannot_be_adapted_token_by_token_is_refused():
    experts = random_lora(MIXTRAL, 0, LoraConfig(r=2, target_modules=("up",)))
    router = random_lora(MIXTRAL, 0, LoraConfig(r=2, target_modules=("router",)))
    model = build(MIXTRAL)
    with pytest.raises(ValueError, match=r"experts\.0\.up is a Linear.*`merge`"):
        apply(model, experts)
    with pytest.raises(ValueError, match=r"router is a Router.*`merge`"):
        apply(model, router)
    with pytest.raises(ValueError, match="one call"):
        apply(apply(build(LLAMA), LORAS[0]), LORAS[1])


@torch.no_grad()
@for_each("target", ["up", "router"])
def test_merging_takes_experts_and_routers(target):
    model, lora = build(MIXTRAL), random_lora(MIXTRAL, 0, LoraConfig(r=2, target_modules=(target,)))
    merged, by_hand = merge(model, lora), copy.deepcopy(model)
    for name, change in lora.changes.items():
        by_hand.get_submodule(name).weight += change.scale * change.b @ change.a
    ids = random_ids(2, 7)
    torch.testing.assert_close(merged(ids), by_hand(ids), atol=1e-5, rtol=1e-5)
    assert (merged(ids) - model(ids)).abs().max() > 1e-3


@torch.no_grad()
def test_merging_rounds_once_and_shares_the_rest(model):
    half, lora = copy.deepcopy(model).bfloat16(), LORAS[1]
    before = {name: tensor.clone() for name, tensor in half.state_dict().items()}
    merged = merge(half, lora)
    for name, tensor in merged.state_dict().items():
        change = lora.changes.get(name.removesuffix(".weight"))
        if change is None:
            assert tensor.data_ptr() == half.state_dict()[name].data_ptr()
        else:
            exact = before[name].double() + change.scale * change.b.double() @ change.a.double()
            # Half a unit in the last of bfloat16's 8 places, and what float32 leaves of the product. Rounding the
            # product before the sum would be up to twice as far off.
            assert ((tensor.double() - exact).abs() <= exact.abs() * 2**-8 + 1e-7).all()
    assert all(torch.equal(half.state_dict()[name], tensor) for name, tensor in before.items())


@torch.no_grad()
def test_a_new_adapter_changes_nothing(model):
    lora = initialise_lora(LLAMA, LoraConfig(r=4), torch.Generator().manual_seed(0))
    assert len(lora.changes) == 2 * 7
    ids = random_ids(2, 6)
    assert torch.equal(apply(model, lora)(ids), model(ids))
    assert all(0 < change.a.abs().max() <= change.a.shape[1] ** -0.5 for change in lora.changes.values())


def test_gradients_reach_the_adapter_alone(model):
    """What training will ask for: the frozen base, and a gradient of both matrices."""
    lora = LORAS[0]
    a, b = (tensor.clone().requires_grad_() for tensor in lora.changes["decoder.blocks.1.feed_forward.down"][:2])
    trained = Lora({"decoder.blocks.1.feed_forward.down": LowRank(a, b, 0.5)})
    frozen = copy.deepcopy(model).requires_grad_(False)
    apply(frozen, trained)(random_ids(2, 6)).square().sum().backward()
    assert a.grad is not None and b.grad is not None and a.grad.abs().max() > 0 and b.grad.abs().max() > 0
