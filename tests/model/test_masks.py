"""Masks against double loops; in a model: what is hidden changes nothing, and caches, padding and packing agree."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kit.tables import for_each
from lmworks.model import masks
from lmworks.model.config import (
    Alibi,
    Attention,
    Banded,
    Block,
    Embedding,
    FeedForward,
    LanguageModelHead,
    Learned,
    ModelConfig,
    Norm,
    Rope,
    Stack,
    Window,
    WindowAndGlobal,
)
from lmworks.model.initialisation import initialise
from lmworks.model.kv_cache import KVCache
from lmworks.model.transformer import Transformer

LENGTH = 20
IDS = torch.randint(50, (3, LENGTH), generator=torch.Generator().manual_seed(1))
PATTERNS = [Window(4), Banded(4, 2), WindowAndGlobal(3, 2)]
VISIBLE = {  # the patterns in Python's integers
    Window: lambda p, query, key: abs(query - key) < p.size,
    Banded: lambda p, query, key: abs(query // p.block - key // p.block) < p.bands,
    WindowAndGlobal: lambda p, query, key: abs(query - key) < p.size or min(query, key) < p.global_tokens,
}


def build(*patterns, causal=True, position=Rope(10_000.0), learned=None) -> Transformer:  # noqa: B008
    """A block for each pattern, in float64, so that a tolerance of 1e-10 tells rounding from a mistake."""
    blocks = tuple(
        Block(
            Attention(4, 2, 8, position=position, pattern=pattern), FeedForward(32, "gelu"), Norm("layer", 1e-5), "pre"
        )
        for pattern in patterns
    )
    stack, embedding = Stack(blocks, causal), Embedding(50, 16, learned)
    encoder, decoder = (None, stack) if causal else (stack, None)
    config = ModelConfig(embedding, encoder, decoder, LanguageModelHead(tied=False), 32)
    return initialise(Transformer(config), seed=0, std=0.5).double().eval()


def close(actual, expected):
    """Angles are float32 in every model: equal positions give equal ones, and moved ones would need a wider margin."""
    torch.testing.assert_close(actual, expected, atol=1e-10, rtol=1e-10)


def prefix_lm(lengths, length=LENGTH):
    """The first `lengths[row]` tokens of a row see each other, all later ones the past."""
    return masks.prefixes(torch.zeros(len(lengths), length), torch.arange(length) < torch.tensor(lengths)[:, None])


def square(rule, batch=1, length=LENGTH):
    places = torch.arange(length)[None]
    return masks.dense(rule, batch, places, places).expand(batch, 1, length, length)[:, 0]


patterns = st.one_of(
    st.builds(Window, st.integers(1, 12)),
    st.builds(Banded, st.integers(1, 6), st.integers(1, 4)),
    st.builds(WindowAndGlobal, st.integers(1, 8), st.integers(0, 4)),
)


class TestRules:
    @given(st.integers(1, 20))
    def test_causal_and_everything(self, length):
        for query in range(length):
            for key in range(length):
                assert square(masks.causal, length=length)[0, query, key] == (key <= query)
        assert square(masks.everything, length=length).all()

    @given(st.integers(1, 12), st.lists(st.integers(0, 12), min_size=2, max_size=2))
    def test_prefix(self, length, prefixes):
        found = square(prefix_lm(prefixes, length), 2, length)
        for row, prefix in enumerate(prefixes):
            for query in range(length):
                for key in range(length):
                    assert found[row, query, key] == (key <= query or key < prefix)

    @for_each("config", [*PATTERNS, Banded(6, 1), Banded(1, 3)])
    def test_reach_is_as_far_as_nothing_is_hidden_wherever_the_text_begins(self, config):
        def all_visible(length):
            positions = torch.arange(10)[:, None] + torch.arange(length)  # ten beginnings
            return masks.dense(masks.pattern(config), 10, positions, positions).all()

        assert all_visible(masks.reach(config))
        assert not all_visible(masks.reach(config) + 1)

    @given(patterns, st.integers(1, 20), st.integers(0, 9))
    def test_patterns(self, config, length, start):
        positions = (torch.arange(length) + start)[None]
        found = masks.dense(masks.pattern(config), 1, positions, positions)[0, 0]
        assert torch.equal(found, square(masks.at(positions, masks.pattern(config)), length=length)[0])
        for query in range(length):
            for key in range(length):
                assert found[query, key] == VISIBLE[type(config)](config, query + start, key + start)

    @given(st.lists(st.integers(0, 2), min_size=6, max_size=6), patterns)
    def test_documents_and_both(self, numbers, config):
        rows = torch.tensor([numbers, numbers[::-1]])
        found = square(masks.both(masks.documents(rows, causal=False), masks.pattern(config)), 2, 6)
        for row in range(2):
            for query in range(6):
                for key in range(6):
                    together = len(set(rows[row, min(query, key) : max(query, key) + 1].tolist())) == 1
                    assert found[row, query, key] == (together and VISIBLE[type(config)](config, query, key))

    @for_each("pattern", [None, *PATTERNS])
    def test_blockwise_is_dense(self, pattern):
        """A block mask's own predicate, asked everywhere, and its empty blocks: 300 places are three blocks of 128."""
        rule = masks.causal if pattern is None else masks.both(masks.causal, masks.pattern(pattern))
        real = (torch.arange(300) >= torch.tensor([[0], [170]])).long()
        blocks = masks.blockwise(rule, 2, 300, real, real.device)
        dense = square(rule, 2, 300)[:, None] & masks.padding(real)
        row, query, key = torch.arange(2)[:, None, None], torch.arange(300)[:, None], torch.arange(300)
        assert torch.equal(blocks.mask_mod(row, row, query, key), dense[:, 0])
        padded = torch.nn.functional.pad(dense, (0, 84, 0, 84))
        used = padded.unflatten(-1, (3, 128)).unflatten(-3, (3, 128)).any(dim=-1).any(dim=-2)
        assert torch.equal(blocks.to_dense().bool(), used)


class TestInModels:
    @pytest.fixture(autouse=True)
    def without_gradients(self):
        with torch.no_grad():
            yield

    @for_each("causal", [True, False])
    @for_each("pattern", PATTERNS)
    def test_one_layer_sees_its_pattern_and_nothing_else(self, pattern, causal):
        """Exactly: a hidden token has weight 0, and adding 0 times another finite number changes no bit."""
        model = build(pattern, causal=causal)
        before = model(IDS[:1])
        for key in range(LENGTH):
            changed = IDS[:1].clone()
            changed[0, key] = (changed[0, key] + 1) % 50
            after = model(changed)
            for query in range(LENGTH):
                seen = VISIBLE[type(pattern)](pattern, query, key) and (key <= query or not causal)
                assert torch.equal(before[0, query], after[0, query]) != seen

    @for_each("pattern", [None, Window(4)])
    def test_prefix_equals_a_mask_by_hand(self, pattern, monkeypatch):
        prefixes = [7, 0, 20]
        model = build(pattern, pattern)
        found = model(IDS, rule=prefix_lm(prefixes))
        by_hand = torch.zeros(3, 1, LENGTH, LENGTH, dtype=torch.bool)
        for row, prefix in enumerate(prefixes):
            for query in range(LENGTH):
                for key in range(LENGTH):
                    inside = pattern is None or abs(query - key) < pattern.size
                    by_hand[row, 0, query, key] = (key <= query or key < prefix) and inside
        assert model.decoder is not None
        monkeypatch.setattr(model.decoder, "_mask", lambda *_: by_hand)
        close(found, model(IDS))
        monkeypatch.undo()
        close(found[1], model(IDS[1:2])[0])  # no prefix: a language model
        assert (found[0] - model(IDS[:1])[0]).abs().max() > 0.01

    @for_each("cuts", [[8], [1, 2, 3, 12, 13], [20]])
    @for_each("position", [Rope(10_000.0), Alibi()])
    @for_each("pattern", PATTERNS)
    def test_cached_equals_whole_past_the_window(self, pattern, position, cuts):
        model = build(pattern, None, pattern, position=position)
        whole, cache = model(IDS), KVCache(model.config, 3, 32, dtype=torch.float64)
        start = 0
        for end in [*cuts, *range(cuts[-1] + 1, LENGTH + 1)]:
            view = cache.view(torch.tensor([2, 0, 1]), torch.arange(start, end).expand(3, -1))
            close(model(IDS[:, start:end], cache=view), whole[:, start:end])
            start = end

    @for_each("ragged", [True, False])
    def test_a_cached_prefix(self, ragged):
        """Rows of unequal prefixes, then the rest token by token, as a prefix-LM would generate."""
        model, prefixes = build(None, Window(4)), torch.tensor([7, 5, 3]) if ragged else torch.tensor([7, 7, 7])
        rule = prefix_lm(prefixes.tolist())
        whole, cache = model(IDS, rule=rule), KVCache(model.config, 3, 32, dtype=torch.float64)
        positions = torch.arange(7).expand(3, -1)
        positions = positions.where(positions < prefixes[:, None], -1)
        found = model(IDS[:, :7], cache=cache.view(torch.arange(3), positions), rule=rule)
        for step in range(4):
            for row, prefix in enumerate(prefixes.tolist()):
                at = slice(0, prefix) if step == 0 else slice(prefix + step - 1, prefix + step)
                close(found[row, : at.stop - at.start], whole[row, at])
            at = prefixes[:, None] + step
            found = model(IDS.gather(1, at), cache=cache.view(torch.arange(3), at), rule=rule)

    def test_a_prefix_cut_short_sees_what_is_stored_and_nothing_older(self):
        model, lengths = build(None, Window(4)), [4, 2, 3]
        cache = KVCache(model.config, 3, 32, dtype=torch.float64)
        for stored in (*cache.keys, *cache.values):
            stored.fill_(1e3)  # what an earlier text may have left behind
        positions = torch.arange(4).expand(3, -1)
        positions = positions.where(positions < torch.tensor(lengths)[:, None], -1)
        rule = prefix_lm([7, 7, 7])
        found = model(IDS[:, :4], cache=cache.view(torch.arange(3), positions), rule=rule)
        for row, length in enumerate(lengths):
            alone = prefix_lm([7], length)
            close(found[row, :length], model(IDS[row : row + 1, :length], rule=alone)[0])

    @for_each("side", ["left", "right"])
    @for_each("causal", [True, False])
    @for_each("pattern", [None, *PATTERNS])
    def test_padding_changes_nothing(self, pattern, causal, side):
        model, lengths = build(pattern, None, causal=causal), [20, 13, 1]
        real = torch.arange(LENGTH) < torch.tensor(lengths)[:, None]
        real = real.flip(1) if side == "left" else real
        for mask in (real, real.long()):
            found = model(IDS, attention_mask=mask)
            assert found.isfinite().all()
            for row, ids in enumerate(IDS):
                close(found[row, real[row]], model(ids[real[row]][None])[0])

    @for_each(("position", "learned"), [(Rope(10_000.0), None), (None, Learned(32))])
    @for_each("causal", [True, False])
    @for_each("pattern", [None, *PATTERNS])
    def test_packed_documents_equal_each_alone(self, pattern, causal, position, learned):
        """Two rows with documents of other lengths, whose positions start afresh."""
        model = build(pattern, None, causal=causal, position=position, learned=learned)
        lengths = [[9, 1, 10], [4, 16]]
        numbers = torch.stack([torch.arange(len(row)).repeat_interleave(torch.tensor(row)) for row in lengths])
        positions = torch.stack([torch.cat([torch.arange(length) for length in row]) for row in lengths])
        found = model(IDS[:2], positions=positions, rule=masks.documents(numbers, causal))
        for row in range(2):
            for number in range(len(lengths[row])):
                own = numbers[row] == number
                close(found[row, own], model(IDS[row, own][None])[0])
