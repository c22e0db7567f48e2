"""Pairs of texts: what is read from files, and the tokens they become."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from byte_tokenizer import byte_tokenizer
from lmworks.corpus.sources.files import NoSourceError
from lmworks.data.training_rows import is_held_out, pair_files, pair_groups, pair_of, read_pairs
from lmworks.records import RejectedRecord, TextPair

TOKENIZER = byte_tokenizer({"cls_token": "[CLS]", "sep_token": "[SEP]"})


@given(st.binary(max_size=60) | st.text(max_size=60).map(lambda text: json.dumps(text).encode()))
def test_what_is_no_pair_is_an_error_that_says_where(line):
    with pytest.raises(ValueError, match=r"^file, line 3"):
        pair_of(TextPair, line, "file, line 3")


def test_files_are_found_in_order_and_the_rest_is_told(tmp_path):
    (tmp_path / "b.jsonl").write_text('\ufeff{"anchor": "q", "positive": "p"}\n\n', "utf-8")
    (tmp_path / "a.jsonl").write_text('{"anchor": "first", "positive": "p"}', "utf-8")
    (tmp_path / "c.txt").write_text("text")
    left_out: list[RejectedRecord] = []
    files = pair_files([str(tmp_path)], tmp_path, left_out)
    assert [pair.anchor for pair in read_pairs(files)] == ["first", "q"]
    assert len(left_out) == 1
    with pytest.raises(NoSourceError, match=r"no \.jsonl file"):
        pair_files([str(tmp_path / "c.txt")], tmp_path)


def test_all_answers_of_an_anchor_are_on_one_side():
    pairs = [TextPair(f"q{number}", f"p{k}") for number in range(2000) for k in range(2)]
    sides = [is_held_out(pair, 0.2) for pair in pairs]
    assert sides[::2] == sides[1::2]
    assert 0.16 < np.mean(sides) < 0.24  # 4.5 standard deviations of a binomial share of 2,000


def test_texts_that_are_too_long_lose_their_ends_and_are_counted():
    groups = pair_groups([TextPair("abcdefghij", "ok", ("no",)), TextPair("b", "c" * 50)], TOKENIZER, 6)
    batch = groups.batch([1, 0])
    assert groups.cut == 2
    texts = [
        [TOKENIZER.decode(row[mask].tolist(), skip_special=False) for row, mask in zip(*group, strict=True)]
        for group in zip(batch.ids, batch.attention_mask, strict=True)
    ]
    framed = [["b", "cccc", None], ["abcd", "ok", "no"]]
    assert texts == [["" if text is None else f"[CLS]{text}[SEP]" for text in group] for group in framed]
