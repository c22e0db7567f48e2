"""What holds for all taggers on any text: shares are shares, nothing raises, texts do not know of each other."""

import math
import pickle
from fnmatch import fnmatchcase
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmworks.corpus.taggers.heuristics import C4, FINEWEB, GOPHER, SPAM
from lmworks.corpus.taggers.language import LANGUAGE
from lmworks.corpus.taggers.licence import LICENCES
from lmworks.corpus.taggers.pii.scan import PERSONAL_DATA
from lmworks.corpus.taggers.repetition import REPETITION
from lmworks.corpus.taggers.tagger import Text
from lmworks.corpus.taggers.word_list import word_list

TAGGERS = {
    tagger.name: tagger
    for tagger in (
        *(GOPHER, REPETITION, C4, FINEWEB, SPAM, LANGUAGE, LICENCES, PERSONAL_DATA),
        word_list("unwanted", ["ab", "世"]),
    )
}
ODD = [*"ab #.-…{}[]•\n\r\t1世ไम्", "\ud800", "\x00", "\x85", "\u2028", "\u0301"]
CHARACTERS = st.characters() | st.sampled_from(ODD)


@pytest.mark.parametrize("name", TAGGERS)
@given(st.text(CHARACTERS), st.sampled_from(["en", "zh", ""]))
def test_any_text_has_what_is_declared_in_its_range(name: str, text: str, language: str) -> None:
    found, emits = TAGGERS[name].tag(Text(text, language=language)), TAGGERS[name].emits
    for score, value in found.scores.items():
        assert f"score.{score}" in emits and math.isfinite(value) and value >= 0, score
        assert not score.endswith(("_share", "_probability")) or value <= 1, score
    assert all(0 <= span.start < span.end <= len(text) for span in found.spans)
    assert all(any(fnmatchcase(f"span.{span.rule}", glob) for glob in emits) for span in found.spans)
    assert {f"label.{label}" for label in found.labels} <= emits.keys()


@pytest.mark.parametrize("name", TAGGERS)
@given(st.lists(st.text(CHARACTERS)), st.randoms(use_true_random=False))
def test_the_order_of_documents_does_not_matter(name: str, texts: list[str], random: Random) -> None:
    tag = TAGGERS[name].tag
    found = dict(zip(texts, (tag(Text(text, language="en")) for text in texts), strict=True))
    random.shuffle(texts)
    assert all(tag(Text(text, language="en")) == found[text] for text in texts)


@pytest.mark.parametrize("name", TAGGERS)
def test_taggers_can_be_sent_to_another_process(name: str) -> None:
    text = Text("A line, ab.\nA line.\nNo end", language="en")
    assert pickle.loads(pickle.dumps(TAGGERS[name])).tag(text) == TAGGERS[name].tag(text)
