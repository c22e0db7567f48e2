"""Learned relative positions against slow references: the formulas of the papers as loops over positions."""

import math

import pytest
import torch
from torch import Tensor

from kit.tables import for_each
from lmworks.model import config as configs
from lmworks.model.attention import Attention, Context
from lmworks.model.config import Alibi, Learned, RelativeBias, Rope, Shaw, Sinusoidal, TransformerXL
from lmworks.model.kv_cache import KVCache
from lmworks.model.transformer import Transformer
from slow_cases import slow

WIDTH, HEADS, KV_HEADS, HEAD_DIM, BATCH, LENGTH = 12, 4, 2, 6, 2, 5
RELATIVE = [
    Rope(100.0),
    Rope(100.0, fraction=1 / 3),
    Alibi(),
    RelativeBias(buckets=8, max_distance=12),
    Shaw(max_distance=3),
    TransformerXL(),
]


def randomised(module):
    """The same module in float64, every parameter random: nothing may hide behind a zero or a one."""
    generator = torch.Generator().manual_seed(0)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.5, generator=generator)
    return module.double().eval()


def attention(position: configs.Shaw | configs.TransformerXL | configs.RelativeBias, causal: bool) -> Attention:
    config = configs.Attention(HEADS, KV_HEADS, HEAD_DIM, bias=True, position=position)
    return randomised(Attention(config, WIDTH, causal))


def inputs() -> tuple[Tensor, Context]:
    hidden = torch.randn(BATCH, LENGTH, WIDTH, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    positions = torch.arange(LENGTH).expand(BATCH, -1)
    return hidden, Context(positions, positions)


def naive(attention: Attention, hidden: Tensor, score, causal: bool) -> Tensor:
    """Attention, a pair of positions at a time; `score(head, query_i, key_j, i, j)` is the paper's e_ij, a number."""
    query, key, value = attention.query(hidden), attention.key(hidden), attention.value(hidden)
    rows = []
    for row in range(BATCH):
        for i in range(LENGTH):
            parts = []
            for head in range(HEADS):
                mine = slice(head * HEAD_DIM, (head + 1) * HEAD_DIM)
                group = head // (HEADS // KV_HEADS)
                shared = slice(group * HEAD_DIM, (group + 1) * HEAD_DIM)
                seen = range(i + 1) if causal else range(LENGTH)
                scores = [score(head, query[row, i, mine], key[row, j, shared], i, j) for j in seen]
                weights = torch.stack(scores).softmax(0)
                parts.append(sum(w * value[row, j, shared] for w, j in zip(weights, seen, strict=True)))
            rows.append(torch.cat(parts))
    return attention.output(torch.stack(rows).view(BATCH, LENGTH, -1))


@for_each("causal", [True, False])
@for_each("max_distance", [2, 30])
def test_shaw_is_equation_5(causal, max_distance):
    """e_ij = q_i · (k_j + a_ij) / sqrt(d), a_ij = w_clip(j - i) (Shaw et al. 2018, equations 5 and 3; the paper counts
    from the query to the key, and the row of the table for distance d = i - j is d + max_distance)."""
    module = attention(Shaw(max_distance), causal)

    def score(head: int, query: Tensor, key: Tensor, i: int, j: int) -> Tensor:
        clipped = max(-max_distance, min(max_distance, i - j))
        return query @ (key + module.relative.vectors[clipped + max_distance]) / math.sqrt(HEAD_DIM)

    hidden, context = inputs()
    torch.testing.assert_close(module(hidden, context), naive(module, hidden, score, causal))


@for_each("causal", [True, False])
def test_transformer_xl_is_the_sum_of_four_terms(causal):
    """A_ij = (a) q_i·k_j + (b) q_i·W r_ij + (c) u·k_j + (d) v·W r_ij (Dai et al. 2019, section 3.3)."""
    module = attention(TransformerXL(), causal)

    def score(head: int, query: Tensor, key: Tensor, i: int, j: int) -> Tensor:
        angles = [(i - j) / 10_000 ** (2 * n / WIDTH) for n in range(WIDTH // 2)]
        encoding = torch.tensor([*map(math.sin, angles), *map(math.cos, angles)], dtype=torch.float64)
        weight = module.relative.projection.weight[head * HEAD_DIM : (head + 1) * HEAD_DIM]
        u, v = module.relative.content_bias[head], module.relative.position_bias[head]
        distant = weight @ encoding
        return (query @ key + query @ distant + u @ key + v @ distant) / math.sqrt(HEAD_DIM)

    hidden, context = inputs()
    # The package's angles are float32: those of distances up to 4 are off by up to 2e-7.
    expected = naive(module, hidden, score, causal)
    torch.testing.assert_close(module(hidden, context), expected, atol=1e-5, rtol=0)


@for_each("causal", [True, False])
def test_relative_bias_is_added_to_the_scores_of_its_head(causal):
    """Raffel et al. 2020, section 2.1; all distances here have a bucket of their own, those ahead from 16 on."""
    module = attention(RelativeBias(32, 128, both_directions=not causal), causal)

    def score(head: int, query: Tensor, key: Tensor, i: int, j: int) -> Tensor:
        bucket = i - j if i >= j else 16 + j - i
        return query @ key / math.sqrt(HEAD_DIM) + module.relative.table[bucket, head]

    hidden, context = inputs()
    torch.testing.assert_close(module(hidden, context), naive(module, hidden, score, causal))


@for_each("position", [Shaw(2), TransformerXL(), RelativeBias(4, 6)])
def test_gradients_of_the_parameters(position):
    module = attention(position, causal=True)
    hidden, context = inputs()
    names = [name for name, _ in module.named_parameters() if name.startswith("relative.")]
    assert names

    def run(*parameters: Tensor) -> Tensor:
        return torch.func.functional_call(module, dict(zip(names, parameters, strict=True)), (hidden, context))

    values = tuple(module.get_parameter(name).detach().clone().requires_grad_() for name in names)
    assert torch.autograd.gradcheck(run, values, fast_mode=True)


# ---------------------------------------------------------------------------------------------------------------------
# In a whole decoder


def decoder(position, absolute=None, shared=None) -> Transformer:
    norm = configs.Norm("layer", 1e-5)
    own = configs.Attention(HEADS, KV_HEADS, HEAD_DIM, position=position)
    block = configs.Block(own, configs.FeedForward(16, "gelu"), norm, "pre")
    config = configs.ModelConfig(
        configs.Embedding(31, WIDTH, positions=absolute),
        encoder=None,
        decoder=configs.Stack((block, block), causal=True, relative_bias=shared),
        head=configs.LanguageModelHead(tied=True),
        context_length=64,
    )
    return randomised(Transformer(config))


def every_kind() -> dict[str, Transformer]:
    models = {f"{position}": decoder(position) for position in RELATIVE}
    models["shared relative bias"] = decoder(None, shared=RelativeBias(8, 12))
    models["shared relative bias and alibi"] = decoder(Alibi(), shared=RelativeBias(8, 12))
    return models


KINDS = every_kind()
IDS = torch.randint(31, (2, 20), generator=torch.Generator().manual_seed(2))


@for_each("name", KINDS)
@torch.no_grad()
def test_shifted_positions_change_nothing(name):
    positions = torch.arange(20).expand(2, -1)
    here, there = (KINDS[name](IDS, positions=positions + shift) for shift in (0, 37))
    # A float32 angle of up to 57 is off by up to 4e-6, and the logits are of size 10.
    torch.testing.assert_close(here, there, atol=2e-3 if "Rope" in name else 1e-12, rtol=0)


@for_each("absolute", [Learned(64), Sinusoidal()])
@torch.no_grad()
def test_shifted_absolute_positions_change_the_logits(absolute):
    model, positions = decoder(None, absolute), torch.arange(20).expand(2, -1)
    assert (model(IDS, positions=positions) - model(IDS, positions=positions + 37)).abs().max() > 0.1


@for_each("name", KINDS)
@torch.no_grad()
def test_the_order_of_the_past_matters(name):
    """Without positions the last of one layer sees a bag of tokens; with them another order gives other logits."""
    swapped = IDS[:, [1, 0, *range(2, 20)]]
    one_layer = decoder(None)
    one_layer.decoder.blocks = one_layer.decoder.blocks[:1]
    torch.testing.assert_close(one_layer(IDS)[:, -1], one_layer(swapped)[:, -1])
    model = KINDS[name]
    assert (model(IDS)[:, -1] - model(swapped)[:, -1]).abs().max() > 1e-4


@for_each("name", KINDS)
@torch.inference_mode()
def test_cached_steps_equal_the_whole(name):
    """Two rows of unequal lengths, in slots that are not side by side: 20 and 17 tokens, the last 4 one at a time."""
    model = KINDS[name]
    cache = KVCache(model.config, slots=3, length=40, dtype=torch.float64)
    slots, lengths = torch.tensor([2, 0]), torch.tensor([16, 13])
    start = torch.where(torch.arange(16) < lengths[:, None], torch.arange(16), -1)
    model(IDS[:, :16], cache=cache.view(slots, start))
    for step in range(4):
        at = lengths[:, None] + step
        logits = model(IDS.gather(1, at), cache=cache.view(slots, at))
        whole = model(IDS)[torch.arange(2), at[:, 0]]
        torch.testing.assert_close(logits[:, 0], whole, atol=1e-10, rtol=0)


@for_each("name", KINDS)
@torch.inference_mode()
def test_padding_on_the_left_changes_nothing(name):
    model = KINDS[name]
    mask = torch.tensor([[True] * 20, [False] * 6 + [True] * 14])
    padded = model(IDS, attention_mask=mask)
    torch.testing.assert_close(padded[:1], model(IDS[:1]), atol=1e-10, rtol=0)
    torch.testing.assert_close(padded[1:, 6:], model(IDS[1:, 6:]), atol=1e-10, rtol=0)


@for_each("name", [f"{Shaw(3)}", f"{TransformerXL()}", "shared relative bias and alibi"])
@torch.no_grad()
@pytest.mark.usefixtures("fresh_compiler")
def test_the_graph_compiles_whole(name):
    """No value on the device decides what is computed, which would stop the device and split the graph."""
    compiled = torch.compile(KINDS[name], backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(IDS), KINDS[name](IDS))


@pytest.mark.parametrize("name", KINDS)
@torch.no_grad()
@pytest.mark.parametrize("repeats", [10, *slow(60)])
def test_bfloat16_stays_finite(name, repeats):
    model = Transformer(KINDS[name].config).to(torch.bfloat16)
    model.load_state_dict(KINDS[name].state_dict())
    assert model(IDS.repeat(1, repeats)).isfinite().all()
