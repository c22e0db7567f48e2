"""Documents held out: never one that tokens were chosen from, and the same ones in any order."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmworks.records import Scored
from lmworks.tokenizer.fertility import Text
from lmworks.tokenizer.vocabulary_comparison import LEAST_HELD_OUT, bytes_per_token, hold_out, tokens_left
from lmworks.tokenizer.vocabulary_extension import extend_for_texts

DOCUMENTS = st.lists(st.text("ab \n", max_size=4), max_size=40)


@given(documents=DOCUMENTS, share=st.floats(0.01, 0.9))
def test_a_document_is_on_one_side(documents, share):
    different = {document for document in documents if document.strip()}
    try:
        kept, held = hold_out(Text(tuple(documents), "line"), share)
    except ValueError as error:
        assert "too few" in str(error) and len(different) - max(share * len(different), LEAST_HELD_OUT) < LEAST_HELD_OUT
        return
    assert set(kept.passages).isdisjoint(held.passages) and kept.unit == held.unit == "line"
    assert sorted((*kept.passages, *held.passages)) == sorted(documents)
    assert (
        max(share * len(different), LEAST_HELD_OUT)
        <= len(set(held.passages))
        < max(share * len(different), LEAST_HELD_OUT) + 1
    )
    assert len({each for each in kept.passages if each.strip()}) >= LEAST_HELD_OUT


@given(documents=st.permutations([f"document {number}" for number in range(20)]))
def test_which_ones_does_not_depend_on_their_order(documents):
    found = hold_out(Text(tuple(documents)), 0.3)[1].passages
    expected = hold_out(Text(tuple(sorted(documents))), 0.3)[1].passages
    assert sorted(found) == sorted(expected)


def test_a_share_is_one():
    for share in (0, 1, -0.1):
        with pytest.raises(ValueError, match="between 0 and 1"):
            hold_out(Text(("a", "b", "c", "d")), share)


def test_the_ratios_are_those_of_the_counts(tiny_tokenizer):
    text = Text(("the antigen", "an antibody\n", "größer"))
    extended = extend_for_texts(tiny_tokenizer, ["antigen antibody"] * 2, 8).tokenizer
    before, after = (sum(len(t.encode(each)) for each in text.passages) for t in (tiny_tokenizer, extended))
    rate, left = bytes_per_token(extended, text), tokens_left(tiny_tokenizer, extended, text)
    assert isinstance(rate, Scored) and isinstance(left, Scored)
    assert rate.value == sum(len(each.encode()) for each in text.passages) / after
    assert left.value == after / before < 1 and left.n == rate.n == 3
    assert left.interval[0] < left.value < left.interval[1]
