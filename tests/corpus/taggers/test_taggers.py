"""What holds for all taggers on any text: what they emit is declared and in its range, texts do not know of others."""

import math
import pickle
from fnmatch import fnmatchcase
from random import Random
from typing import get_args

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from kit.tables import for_each
from lmworks.corpus.attributes import TaggedSpan
from lmworks.corpus.documents import Kind
from lmworks.corpus.taggers.classifier import Classifier, classifier_tagger
from lmworks.corpus.taggers.tag_document import HEURISTICS, LANGUAGE, LICENCES, OF_KINDS, PERSONAL_DATA, SPAM
from lmworks.corpus.taggers.tagger import Text, without_overlaps
from lmworks.corpus.taggers.word_list import word_list
from noise import made_prose

CLASSIFIER = Classifier(np.linspace(-9, 9, 256, dtype=np.float32), 0.1, 2, "wanted", {})
OWN = (word_list("unwanted", ["ab", "世"]), classifier_tagger("wanted", CLASSIFIER))
BY_NAME = {tagger.name: tagger for tagger in (LANGUAGE, *OF_KINDS, *HEURISTICS, PERSONAL_DATA, LICENCES, SPAM, *OWN)}
ODD = [*"ab #.-…{}[]•\n\r\t1世ไम्", "\ud800", "\x00", "\x85", "\u2028", "\u0301", "\f", "/* (c) */\n", "CONTENTS\n\n"]
CHARACTERS = st.characters() | st.sampled_from(ODD)
TEXTS = st.builds(
    Text,
    st.lists(CHARACTERS, max_size=60).map("".join),
    st.sampled_from(get_args(Kind)),
    st.sampled_from(["en", "zh", ""]),
    st.sampled_from(["a.py", "a.min.js", "vendor/b.c"]),
)


@for_each("name", BY_NAME)
@given(TEXTS)
def test_any_text_has_what_is_declared_in_its_range(name: str, text: Text) -> None:
    found, emits = BY_NAME[name].tag(text), BY_NAME[name].emits
    for score, value in found.scores.items():
        assert f"score.{score}" in emits and math.isfinite(value) and value >= 0, score
        assert not score.endswith(("_share", "_probability")) or value <= 1, score
    assert all(0 <= span.start < span.end <= len(text.text) for span in found.spans)
    assert all(any(fnmatchcase(f"span.{span.rule}", glob) for glob in emits) for span in found.spans)
    assert {f"label.{label}" for label in found.labels} <= emits.keys()


@for_each("name", BY_NAME)
@given(st.lists(TEXTS, max_size=4), st.randoms(use_true_random=False))
def test_texts_do_not_know_of_each_other(name: str, texts: list[Text], random: Random) -> None:
    tag = pickle.loads(pickle.dumps(BY_NAME[name])).tag  # as in another process
    found = [BY_NAME[name].tag(text) for text in texts]
    order = list(range(len(texts)))
    random.shuffle(order)
    assert all(tag(texts[place]) == found[place] for place in order)


PLACES = st.lists(st.tuples(st.integers(0, 20), st.integers(0, 5)))


@given(PLACES)
def test_of_spans_that_overlap_the_first_stays(places: list[tuple[int, int]]) -> None:
    spans = [TaggedSpan("a", start, start + length, number) for number, (start, length) in enumerate(places)]
    expected: list[TaggedSpan] = []
    for span in spans:
        if span.start < span.end and all(span.end <= one.start or one.end <= span.start for one in expected):
            expected.append(span)
    assert without_overlaps(spans, lambda span: span.score) == sorted(expected, key=lambda span: span.start)


def test_a_prose_text_has_scores_of_every_tagger_that_applies() -> None:
    text = Text(made_prose(3), "text", "en")
    empty = {name for name, tagger in BY_NAME.items() if not tagger.tag(text).scores}
    assert empty == {"front_matter", "ocr_quality", "code", "licence"}
