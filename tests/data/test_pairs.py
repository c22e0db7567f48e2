"""Pairs in files and in batches: what is read, in which order, and that nothing else decides it."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from byte_tokenizer import byte_tokenizer
from lmworks.config import ConfigError
from lmworks.data.config import PairLoaderConfig
from lmworks.data.files import NoSourceError
from lmworks.data.pair_loader import PairLoader
from lmworks.data.pairs import is_held_out, pair_files, parse_pair, read_pairs
from lmworks.records import LeftOut, TextPair

TOKENIZER = byte_tokenizer({"cls_token": "[CLS]", "sep_token": "[SEP]"})
PAIRS = [
    TextPair(f"q{number}", f"answer {number}", tuple(f"wrong {number} {k}" for k in range(number % 3)))
    for number in range(23)
]


def loader(batch=4, steps=None, seed=0, pairs=PAIRS, length=64, **settings):
    return PairLoader(PairLoaderConfig(length, batch, steps, seed), pairs, TOKENIZER, **settings)


def texts(ids, mask):
    return [TOKENIZER.decode(row[real].tolist()) for row, real in zip(ids, mask, strict=True)]


def shown(batch):
    return texts(batch.queries, batch.query_mask), texts(batch.documents, batch.document_mask)


words = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20).filter(str.strip)


@given(st.builds(TextPair, words, words, st.lists(words, max_size=3).map(tuple)))
def test_a_pair_comes_back_from_its_line(pair):
    row = {"anchor": pair.anchor, "positive": pair.positive, "negatives": list(pair.negatives)}
    assert parse_pair(json.dumps(row), "here") == pair
    assert parse_pair(json.dumps(row, ensure_ascii=False).encode(), "here") == pair


@given(st.binary(max_size=60) | st.text(max_size=60).map(lambda text: json.dumps(text).encode()))
def test_what_is_no_pair_is_an_error_that_says_where(line):
    with pytest.raises(ValueError, match=r"^file, line 3"):
        parse_pair(line, "file, line 3")


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"anchor": "a"}, "positive: missing"),
        ({"anchor": "a", "positive": "b", "negative": "c"}, 'did you mean "negatives"'),
        ({"anchor": "a", "positive": " "}, "is empty"),
        ({"anchor": "a", "positive": "b", "negatives": "c"}, "expected a list"),
        ({"anchor": "a", "positive": "\ud800"}, r"holds \\ud800, one half"),
    ],
)
def test_the_error_says_what_is_wrong(row, told):
    with pytest.raises((ValueError, ConfigError), match=told):
        parse_pair(json.dumps(row), "here")


def test_files_are_found_in_order_and_the_rest_is_told(tmp_path):
    (tmp_path / "b.jsonl").write_text('\ufeff{"anchor": "q", "positive": "p"}\n\n', "utf-8")
    (tmp_path / "a.jsonl").write_text('{"anchor": "first", "positive": "p"}', "utf-8")
    (tmp_path / "c.txt").write_text("text")
    left_out: list[LeftOut] = []
    files = pair_files([str(tmp_path)], tmp_path, left_out)
    assert [pair.anchor for pair in read_pairs(files)] == ["first", "q"]
    assert [each.reason for each in left_out] == ["pairs are .jsonl files"]
    with pytest.raises(NoSourceError, match=r"no \.jsonl file"):
        pair_files([str(tmp_path / "c.txt")], tmp_path)


def test_all_answers_of_an_anchor_are_on_one_side():
    pairs = [TextPair(f"q{number}", f"p{k}") for number in range(2000) for k in range(2)]
    sides = [is_held_out(pair, 0.2) for pair in pairs]
    assert sides[::2] == sides[1::2]
    assert 0.16 < np.mean(sides) < 0.24  # 4.5 standard deviations of a binomial share of 2,000


def test_an_epoch_shows_each_pair_once_with_its_own_negatives():
    seen = [shown(batch) for batch in loader()]
    assert [len(queries) for queries, _ in seen] == [4] * 5 + [3]
    assert sorted(query for queries, _ in seen for query in queries) == sorted(pair.anchor for pair in PAIRS)
    of = {pair.anchor: pair for pair in PAIRS}
    for queries, documents in seen:
        rows = [of[query] for query in queries]
        assert documents == [row.positive for row in rows] + [text for row in rows for text in row.negatives]
    assert loader().texts == sum(2 + len(pair.negatives) for pair in PAIRS)


def test_epochs_have_orders_of_their_own():
    epochs = [query for batch in loader(batch=23, steps=2) for query in [shown(batch)[0]]]
    assert sorted(epochs[0]) == sorted(epochs[1]) and epochs[0] != epochs[1]
    assert [query for batch in loader(batch=23, steps=1, seed=1) for query in shown(batch)[0]] != epochs[0]


@pytest.mark.parametrize("world_size", [2, 3, 4])
def test_ranks_divide_the_batch_and_change_nothing_else(world_size):
    for step in range(5):
        whole = shown(loader().batch(step))
        parts = [shown(loader(rank=rank, world_size=world_size, steps=5).batch(step)) for rank in range(world_size)]
        assert [query for queries, _ in parts for query in queries] == whole[0]
        positives = [text for queries, documents in parts for text in documents[: len(queries)]]
        assert positives == whole[1][: len(whole[0])]


@settings(max_examples=25)
@given(st.integers(0, 12), st.integers(13, 40))
def test_a_saved_position_is_gone_on_from_also_with_more_steps(stop, steps):
    first, again = loader(steps=13), loader(steps=steps)
    for _ in range(stop):
        next(first)
    state = json.loads(json.dumps(first.state()))
    assert again.restore(state) == stop
    assert shown(next(again)) == shown(loader(steps=steps).batch(stop))
    again.seek(2)
    assert shown(next(again)) == shown(first.batch(2))


def test_texts_that_are_too_long_lose_their_ends_and_are_counted():
    made = loader(batch=2, pairs=[TextPair("abcdefghij", "ok"), TextPair("b", "c" * 50)], length=6)
    queries, documents = shown(made.batch(0))
    assert made.cut == 2
    assert {*queries, *documents} == {"abcd", "ok", "b", "cccc"}
    batch = made.batch(0)
    last = TOKENIZER.special_ids["[SEP]"]
    assert all(row[real][-1] == last for row, real in zip(batch.queries, batch.query_mask, strict=True))
    assert batch.tokens == int(batch.query_mask.sum() + batch.document_mask.sum())
    assert not batch.queries[~batch.query_mask].any()


def test_equal_settings_give_equal_tensors():
    one, other = loader().batch(3), loader().batch(3)
    assert all(torch.equal(getattr(one, name), getattr(other, name)) for name in one.__slots__)


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="no pairs"):
        loader(pairs=[])
    with pytest.raises(ValueError, match="set batch to a number between 1 and 23"):
        loader(batch=24)
    with pytest.raises(ValueError, match="for 5 ranks: set batch"):
        loader(world_size=5)
    with pytest.raises(ValueError, match="outside a world"):
        loader(rank=1)
    with pytest.raises(ValueError, match="the last step holds 3 pairs, fewer than ranks"):
        loader(world_size=4)
    with pytest.raises(IndexError, match="step 6 of a run of 6"):
        loader().batch(6)
    with pytest.raises(ValueError, match="another stream of pairs: seed was 0, is 1"):
        loader(seed=1).restore(loader().state())
    with pytest.raises(ValueError, match="another stream of pairs: pairs was"):
        loader(pairs=PAIRS[::-1]).restore(loader().state())
    with pytest.raises(ValueError, match="no room beside the special tokens"):
        loader(length=2)
