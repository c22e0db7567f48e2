import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import SwitchTransformersConfig
from transformers.models.mixtral.modeling_mixtral import load_balancing_loss_func
from transformers.models.switch_transformers.modeling_switch_transformers import (
    SwitchTransformersSparseMLP,
    router_z_loss_func,
)

from kit.tables import for_each
from lmworks.model.config import FeedForward, MixtureOfExperts
from lmworks.model.initialisation import initialise
from lmworks.model.mixture_of_experts import MixtureOfExperts as Mixture
from lmworks.model.mixture_of_experts import (
    Routing,
    expert_use,
    load_balancing_loss,
    observe_routing,
    route,
    router_z_loss,
)
from lmworks.model.presets import llama
from lmworks.model.transformer import Transformer

WIDTH = 8
EXPERT = FeedForward(12, "silu", gated=True)
SWITCH = MixtureOfExperts(EXPERT, experts=4, top_k=1, normalise=False)
MIXTRAL = MixtureOfExperts(EXPERT, experts=4, top_k=2)
SHARED = MixtureOfExperts(EXPERT, experts=4, top_k=3, normalise=False, shared=FeedForward(6, "relu", bias=True))
FULL = MixtureOfExperts(EXPERT, experts=4, top_k=2, capacity=3)
SHARE = MixtureOfExperts(EXPERT, experts=4, top_k=1, normalise=False, capacity_factor=1.0)


def random(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def build(config, dtype=torch.float64):
    mixture = Mixture(config, WIDTH).to(dtype)
    for seed, parameter in enumerate(mixture.parameters()):
        parameter.data = random(*parameter.shape, seed=seed, dtype=dtype) / 2
    return mixture


def one_token_at_a_time(mixture, hidden):
    """The formula, with a loop over tokens and a counter for each expert, and nothing shared with the module."""
    config, rows = mixture.config, []
    for row in hidden:
        capacity = math.inf if config.capacity is None else config.capacity
        if config.capacity_factor is not None:
            capacity = math.ceil(config.capacity_factor * config.top_k * len(row) / config.experts)
        taken, outputs = [0] * config.experts, []
        for token in row:
            probability = torch.softmax(mixture.router.weight @ token, dim=0)
            preferred = sorted(range(config.experts), key=(-probability.detach()).tolist().__getitem__)[: config.top_k]
            total = sum(probability[e] for e in preferred) if config.normalise else 1.0
            output = torch.zeros_like(token) if mixture.shared is None else mixture.shared(token)
            for e in preferred:
                if taken[e] < capacity:
                    output = output + probability[e] / total * mixture.experts[e](token)
                taken[e] += 1
            outputs.append(output)
        rows.append(torch.stack(outputs))
    return torch.stack(rows)


@for_each("config", [SWITCH, MIXTRAL, SHARED, FULL, SHARE])
def test_values_and_gradients_are_the_formulas(config):
    mixture = build(config)
    hidden = random(3, 9, WIDTH, seed=50).requires_grad_()
    inputs = (hidden, *mixture.parameters())
    seen = random(3, 9, WIDTH, seed=51)
    actual, expected = mixture(hidden), one_token_at_a_time(mixture, hidden)
    torch.testing.assert_close(actual, expected, atol=1e-13, rtol=1e-13)
    for ours, theirs in zip(
        torch.autograd.grad((actual * seen).sum(), inputs, allow_unused=True),
        torch.autograd.grad((expected * seen).sum(), inputs, allow_unused=True),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=1e-12)


@given(data=st.data())
def test_any_sizes(data):
    experts = data.draw(st.integers(1, 6))
    top_k = data.draw(st.integers(1, experts))
    limit = data.draw(st.sampled_from([{}, {"capacity": 1}, {"capacity": 4}, {"capacity_factor": 0.7}]))
    config = MixtureOfExperts(EXPERT, experts, top_k, normalise=data.draw(st.booleans()), **limit)
    hidden = random(
        data.draw(st.integers(1, 3)), data.draw(st.integers(1, 7)), WIDTH, seed=data.draw(st.integers(0, 9))
    )
    mixture = build(config)
    torch.testing.assert_close(mixture(hidden), one_token_at_a_time(mixture, hidden), atol=1e-13, rtol=1e-13)


@for_each("capacity", [1, 3, 9])
def test_switch_of_transformers_with_tokens_dropped(capacity):
    expert = FeedForward(12, "relu")
    ours = build(MixtureOfExperts(expert, 4, 1, normalise=False, capacity=capacity), torch.float32)
    theirs = SwitchTransformersSparseMLP(
        SwitchTransformersConfig(
            d_model=WIDTH, d_ff=12, num_experts=4, expert_capacity=capacity, dropout_rate=0.0, router_jitter_noise=0.0
        )
    ).eval()
    with torch.no_grad():
        theirs.router.classifier.weight.copy_(ours.router.weight)
        for number, module in enumerate(ours.experts):
            theirs.experts[f"expert_{number}"].wi.weight.copy_(module.up.weight)
            theirs.experts[f"expert_{number}"].wo.weight.copy_(module.down.weight)
    hidden = random(3, 9, WIDTH, seed=50, dtype=torch.float32)
    out = ours(hidden)
    torch.testing.assert_close(out, theirs(hidden), atol=1e-6, rtol=1e-5)
    dropped = (out == 0).all(dim=-1).sum()
    assert (dropped > 0) == (capacity < 9)


def test_a_full_expert_turns_away_the_latest_tokens():
    mixture = build(MixtureOfExperts(EXPERT, 4, 1, normalise=False, capacity=2))
    same = random(1, 1, WIDTH, seed=3).expand(1, 5, WIDTH)
    out = mixture(same)
    assert (out[0, :2] != 0).any(dim=-1).all()
    assert (out[0, 2:] == 0).all()


@pytest.mark.parametrize("config", [SWITCH, MIXTRAL, SHARED, FULL, SHARE])
@given(seed=st.integers(0, 1000), neighbours=st.integers(1, 6))
def test_the_other_rows_of_a_batch_change_nothing(config, seed, neighbours):
    """The choices are equal. The values agree to rounding and not bitwise: the number of rows of a matrix product may
    change the order in which it adds."""
    mixture = build(config)
    hidden = random(1 + neighbours, 6, WIDTH, seed=seed)
    together, alone = (route(mixture.router(x), config) for x in (hidden, hidden[:1]))
    assert torch.equal(together[1][:1], alone[1])
    torch.testing.assert_close(mixture(hidden)[:1], mixture(hidden[:1]), atol=1e-13, rtol=1e-13)


def test_a_choice_never_depends_on_a_later_token():
    """With a fixed capacity too; a capacity that is a share of the length depends on the length."""
    logits = random(2, 12, 4, seed=5)
    whole = route(logits, FULL)[1]
    assert (whole == 4).any()
    for length in range(1, 12):
        assert torch.equal(route(logits[:, :length], FULL)[1], whole[:, :length])


def test_capacity_rounds_up_and_counts_every_choice():
    crowd = torch.zeros(1, 7, 4)
    crowd[..., 0] = 5.0
    crowd[..., 1] = 4.0
    config = MixtureOfExperts(EXPERT, 4, 2, capacity_factor=1.0)
    chosen = route(crowd, config)[1]  # ceil(1.0 * 2 * 7 / 4) = 4 places
    assert chosen[0, :4].tolist() == [[0, 1]] * 4
    assert chosen[0, 4:].tolist() == [[4, 4]] * 3


def test_the_router_decides_in_float32():
    """In bfloat16 these two logits, 1 and 1.002, would be equal."""
    mixture = build(MixtureOfExperts(EXPERT, 2, 1, normalise=False), torch.bfloat16)
    hidden = torch.zeros(1, 1, WIDTH, dtype=torch.bfloat16)
    hidden[..., :2] = 1.0
    weight = torch.zeros(2, WIDTH)
    weight[:, 0], weight[1, 1] = 1.0, 0.002
    mixture.router.weight.data = weight.bfloat16()
    assert route(mixture.router(hidden), mixture.config)[1].item() == 1
    assert (hidden @ mixture.router.weight.T).unique().numel() == 1
    assert mixture(hidden).dtype == torch.bfloat16


def test_the_router_decides_in_float32_under_autocast_too():
    mixture, hidden = build(MIXTRAL, torch.float32), random(2, 9, WIDTH, seed=50, dtype=torch.float32)
    expected = mixture.router(hidden)
    with torch.autocast("cpu", torch.bfloat16):
        assert mixture.experts[0](hidden).dtype == torch.bfloat16
        assert torch.equal(mixture.router(hidden), expected)


@for_each("shape", [(0, 9), (3, 0)])
def test_no_tokens_give_no_outputs(shape):
    assert build(SHARED)(torch.zeros(*shape, WIDTH, dtype=torch.float64)).shape == (*shape, WIDTH)


@pytest.mark.slow
@pytest.mark.usefixtures("fresh_compiler")
def test_compiled_equals_eager():
    mixture = build(SHARED, torch.float32)
    compiled = torch.compile(mixture)
    for length in (9, 5):
        hidden = random(3, length, WIDTH, seed=50, dtype=torch.float32)
        torch.testing.assert_close(compiled(hidden), mixture(hidden), atol=1e-5, rtol=1e-5)


# ---------------------------------------------------------------------------------------------------------------------
# Losses and statistics

MASK = torch.tensor([[True] * 9, [True] * 4 + [False] * 5, [False] * 2 + [True] * 7])


@for_each("mask", [None, MASK])
@for_each("top_k", [1, 2, 3])
def test_load_balancing_is_transformers_over_the_tokens_of_all_layers(top_k, mask):
    layers = [random(3, 9, 4, seed=seed, dtype=torch.float32) for seed in range(3)]
    expected = load_balancing_loss_func(tuple(x.flatten(0, 1) for x in layers), 4, top_k, mask)
    every = None if mask is None else torch.cat([mask] * 3).flatten()
    loss = load_balancing_loss(torch.cat(layers).flatten(0, 1), top_k, every)
    torch.testing.assert_close(loss, expected, atol=1e-6, rtol=1e-6)


@for_each("top_k", [1, 2])
def test_load_balancing_of_a_balanced_and_of_a_collapsed_router(top_k):
    """Balanced: f_i = top_k / N and P_i = 1 / N, hence top_k. Collapsed on one expert: f_1 = P_1 = 1, hence N."""
    balanced = 50 * torch.eye(4, dtype=torch.float64).roll(1, 0).repeat(5, 1)
    balanced = balanced if top_k == 1 else torch.maximum(balanced, balanced.roll(1, 1))
    torch.testing.assert_close(load_balancing_loss(balanced, top_k), torch.tensor(float(top_k), dtype=torch.float64))
    if top_k == 1:
        collapsed = torch.zeros(20, 4, dtype=torch.float64).index_fill(1, torch.tensor([2]), 50.0)
        torch.testing.assert_close(load_balancing_loss(collapsed, 1), torch.tensor(4.0, dtype=torch.float64))


def test_descending_the_load_balancing_loss_spreads_the_tokens():
    mixture, hidden = build(SWITCH), random(8, 32, WIDTH, seed=9) + 1.0
    use = []
    weight = mixture.router.weight
    for _ in range(60):
        with observe_routing(mixture) as routing:
            mixture(hidden)
        use.append(expert_use(routing[""]).effective_experts)
        loss = load_balancing_loss(routing[""].logits.flatten(0, 1), 1)
        weight.data -= 0.5 * torch.autograd.grad(loss, weight)[0]
    assert use[-1] > max(use[0] + 0.5, 3.0)


def test_router_z_is_transformers_and_masks_padding():
    logits = random(3, 9, 4, seed=5, dtype=torch.float32)
    torch.testing.assert_close(router_z_loss(logits).mean(), router_z_loss_func(logits), atol=1e-6, rtol=1e-6)
    rows = [
        torch.log(torch.exp(tokens[real]).sum(-1)).square().mean() for tokens, real in zip(logits, MASK, strict=True)
    ]
    torch.testing.assert_close(router_z_loss(logits, MASK), torch.stack(rows), atol=1e-6, rtol=1e-6)
    assert router_z_loss(logits, torch.zeros(3, 9, dtype=torch.bool)).tolist() == [0, 0, 0]


def test_expert_use_counts():
    logits = torch.zeros(1, 8, 4, dtype=torch.float64)
    for place, expert in enumerate([0, 0, 0, 0, 1, 1, 2, 3]):
        logits[0, place, expert] = 5.0
    config = MixtureOfExperts(EXPERT, 4, 1, normalise=False, capacity=3)
    use = expert_use(Routing(logits, config))
    assert use.shares == (0.5, 0.25, 0.125, 0.125)
    assert use.dropped == 1 / 8
    assert use.effective_experts == pytest.approx(2**1.75)  # the entropy of these shares is 1.75 bits
    masked = expert_use(Routing(logits, config), torch.tensor([[True] * 4 + [False] * 4]))
    assert masked.shares == (1.0, 0.0, 0.0, 0.0)
    assert masked.effective_experts == 1.0 and masked.dropped == 1 / 4


def test_observing_sees_every_layer_changes_nothing_and_ends():
    dense = llama(97, 16, 3, 2, 2, 24, 32)
    block = dense.decoder.blocks[0]
    sparse = replace(block, feed_forward=MIXTRAL)
    config = replace(dense, decoder=replace(dense.decoder, blocks=(block, sparse, sparse)))
    model = initialise(Transformer(config), seed=0, std=0.3)
    ids = torch.randint(97, (2, 5), generator=torch.Generator().manual_seed(0))
    plain = model(ids)
    with observe_routing(model) as routing:
        assert torch.equal(model(ids), plain)
    assert list(routing) == ["decoder.blocks.1.feed_forward", "decoder.blocks.2.feed_forward"]
    assert all(layer.logits.shape == (2, 5, 4) and layer.chosen.shape == (2, 5, 2) for layer in routing.values())
    load_balancing_loss(routing["decoder.blocks.1.feed_forward"].logits, 2).mean().backward()
    assert model.decoder.blocks[1].feed_forward.router.weight.grad.abs().sum() > 0
    routing.clear()
    model(ids)
    assert not routing
