"""Whatever is cached, in whatever slots and pieces: the logits are those of the plain forward.

All in float64, so that a tolerance of 1e-10 tells rounding from a mistake.
"""

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kit.tables import for_each
from lmworks.model.initialisation import initialise
from lmworks.model.kv_cache import KVCache
from lmworks.model.presets import bert, gpt2, llama
from lmworks.model.transformer import Transformer

CONFIG = llama(97, 32, 3, 4, 2, 48, 64)
MODEL = initialise(Transformer(CONFIG), seed=0, std=0.3).double().eval()
IDS = torch.randint(97, (4, 20), generator=torch.Generator().manual_seed(1))
with torch.no_grad():
    PLAIN = MODEL(IDS)


def new_cache(slots: int = 8, length: int = 24) -> KVCache:
    cache = KVCache(CONFIG, slots, length, dtype=torch.float64)
    for stored in (*cache.keys, *cache.values):
        stored.fill_(1e3)  # what an earlier request may have left behind
    return cache


def close(actual, expected):
    torch.testing.assert_close(actual, expected, atol=1e-10, rtol=1e-10)


@torch.no_grad()
@given(
    slots=st.permutations(range(8)).map(lambda order: order[:4]) | st.integers(0, 4).map(lambda s: [*range(s, s + 4)]),
    cuts=st.sets(st.integers(1, 19), max_size=5),
)
def test_pieces_of_any_size_in_any_slots(slots, cuts):
    cache = new_cache()
    borders = [0, *sorted(cuts), 20]
    for start, end in pairwise(borders):
        view = cache.view(torch.tensor(slots), torch.arange(start, end).expand(4, -1))
        close(MODEL(IDS[:, start:end], cache=view), PLAIN[:, start:end])


@torch.no_grad()
@given(
    slots=st.permutations(range(8)).map(lambda order: order[:4]),
    pieces=st.lists(st.lists(st.integers(0, 6), min_size=4, max_size=4), min_size=1, max_size=3),
)
def test_ragged_batches(slots, pieces):
    """Each step continues every row by another number of tokens, or not at all; -1 pads."""
    cache, done = new_cache(), [0] * 4
    for piece in pieces:
        if max(piece) == 0:
            continue
        positions = torch.full((4, max(piece)), -1)
        ids = torch.zeros(4, max(piece), dtype=torch.long)
        for row, count in enumerate(piece):
            positions[row, :count] = torch.arange(done[row], done[row] + count)
            ids[row, :count] = IDS[row, done[row] : done[row] + count]
        logits = MODEL(ids, cache=cache.view(torch.tensor(slots), positions))
        assert logits.isfinite().all()
        for row, count in enumerate(piece):
            close(logits[row, :count], PLAIN[row, done[row] : done[row] + count])
            done[row] += count


@torch.no_grad()
@for_each("padding", [1, 2])
@for_each("slots", [[2, 3], [5, 0]])
def test_padding_may_stand_left_in_every_row(padding, slots):
    """One -1 before a 0 looks like a row of consecutive positions."""
    cache, slots = new_cache(), torch.tensor(slots)
    positions = torch.cat((torch.full((2, padding), -1), torch.arange(5).expand(2, 5)), dim=1)
    ids = torch.cat((torch.zeros(2, padding, dtype=torch.long), IDS[:2, :5]), dim=1)
    close(MODEL(ids, cache=cache.view(slots, positions))[:, padding:], PLAIN[:2, :5])
    close(MODEL(IDS[:2, 5:6], cache=cache.view(slots, torch.full((2, 1), 5))), PLAIN[:2, 5:6])


@torch.no_grad()
def test_padding_is_not_stored():
    cache = new_cache()
    positions = torch.arange(6).expand(2, 6).clone()
    positions[0, 2:] = -1
    MODEL(IDS[:2, :6], cache=cache.view(torch.tensor([3, 5]), positions))
    assert (cache.keys[0][3, :, 2:] == 1e3).all()
    assert (cache.keys[0][5, :, :6] != 1e3).all()
    assert (cache.keys[0][[0, 1, 2, 4, 6, 7]] == 1e3).all()


@torch.no_grad()
def test_a_copied_prefix_continues_like_the_original():
    cache = new_cache()
    MODEL(IDS[:1, :7], cache=cache.view(torch.tensor([2]), torch.arange(7)[None]))
    cache.copy(2, torch.tensor([0, 6]), 7)
    rows = torch.cat((IDS[:1, :7].expand(2, 7), IDS[1:3, 7:12]), dim=1)
    view = cache.view(torch.tensor([6, 0]), torch.arange(7, 12).expand(2, 5))
    close(MODEL(rows[:, 7:], cache=view), MODEL(rows)[:, 7:])


@torch.no_grad()
def test_bfloat16_cache_follows_the_model():
    model = initialise(Transformer(CONFIG), seed=0, std=0.1).bfloat16().eval()
    cache = KVCache(CONFIG, 4, 24, dtype=torch.bfloat16)
    model(IDS[:, :10], cache=cache.view(torch.arange(4), torch.arange(10).expand(4, 10)))
    step = model(IDS[:, 10:11], cache=cache.view(torch.arange(4), torch.full((4, 1), 10)))
    # The same numbers in another order of summation: a few units in the last of bfloat16's 8 bits.
    torch.testing.assert_close(step, model(IDS[:, :11])[:, 10:], atol=0.03, rtol=0.03)


def test_what_lies_outside_the_cache_is_refused():
    cache = new_cache(slots=4, length=16)
    row = torch.arange(3)[None]
    with pytest.raises(ValueError, match="outside the cache's 4 slots"):
        cache.view(torch.tensor([4]), row)
    with pytest.raises(ValueError, match="different slots"):
        cache.view(torch.tensor([1, 1]), row.expand(2, 3))
    with pytest.raises(ValueError, match="outside the cache's length 16"):
        cache.view(torch.tensor([0]), row + 14)
    with pytest.raises(ValueError, match="outside the cache's length"):
        cache.view(torch.tensor([0]), row - 2)
    for slots, positions in ((torch.tensor([0]), row[0]), (torch.tensor([[0]]), row), (torch.tensor([0]), row[:, :0])):
        with pytest.raises(ValueError, match="neither empty"):
            cache.view(slots, positions)
    learned = KVCache(gpt2(97, 32, 1, 4, context_length=10), 1, 64)
    learned.view(torch.tensor([0]), row + 7)
    with pytest.raises(ValueError, match="position 10 is past the model's 10 learned positions"):
        learned.view(torch.tensor([0]), row + 8)
    with pytest.raises(ValueError, match="decoder"):
        KVCache(bert(97, 32, 3, 4, 48, 64), 1, 8)
