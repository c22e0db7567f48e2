"""What holds for all annotators on any text: shares are shares, nothing raises, texts do not know of each other."""

import math
import pickle
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmworks.corpus.taggers.heuristics import c4, fineweb, gopher
from lmworks.corpus.taggers.repetition import repetition
from lmworks.corpus.taggers.tagger import Annotator, Text

ANNOTATORS: dict[str, Annotator] = {"gopher": gopher, "repetition": repetition, "c4": c4, "fineweb": fineweb}
ODD = [*"ab #.-…{}[]•\n\r\t1世ไम्", "\ud800", "\x00", "\x85", "\u2028", "\u0301"]
CHARACTERS = st.characters() | st.sampled_from(ODD)


@pytest.mark.parametrize("name", ANNOTATORS)
@given(st.text(CHARACTERS), st.sampled_from(["en", "zh", ""]))
def test_any_text_has_measures_in_their_range(name: str, text: str, language: str) -> None:
    found = ANNOTATORS[name](Text(text, language=language))
    for measure, value in found.scores.items():
        assert math.isfinite(value) and value >= 0, measure
        assert not measure.endswith("_share") or value <= 1, measure
    assert all(0 <= mark.start < mark.end <= len(text) for mark in found.spans)


@pytest.mark.parametrize("name", ANNOTATORS)
@given(st.lists(st.text(CHARACTERS)), st.randoms(use_true_random=False))
def test_the_order_of_documents_does_not_matter(name: str, texts: list[str], random: Random) -> None:
    annotate = ANNOTATORS[name]
    found = dict(zip(texts, (annotate(Text(text, language="en")) for text in texts), strict=True))
    random.shuffle(texts)
    assert all(annotate(Text(text, language="en")) == found[text] for text in texts)


@pytest.mark.parametrize("name", ANNOTATORS)
def test_annotators_can_be_sent_to_another_process(name: str) -> None:
    text = Text("A line.\nA line.\nNo end", language="en")
    assert pickle.loads(pickle.dumps(ANNOTATORS[name]))(text) == ANNOTATORS[name](text)
