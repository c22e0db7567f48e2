"""Features against their definitions, computed by hand."""

import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lmworks.ground.features import NAMES, word_overlap


def test_overlap_weighs_words_by_their_rarity(finder):
    chunks = len(finder.index)

    def weight(frequency: int) -> float:
        return max(0.0, math.log((chunks + 1) / (frequency + 0.5)))

    texts = [chunk.text for chunk in finder.index.chunks(finder.index.keys)]
    sleeping = sum("sleep" in text for text in texts)  # Porter: "sleeps" and "sleep" are one word
    purring = sum("purr" in text for text in texts)
    total = weight(sleeping) + weight(purring) + weight(0)
    shares = word_overlap(
        "Does a zebra sleep or purr?", ["it sleeps", "it PURRS, asleep", "nothing", "zebras"], finder.index
    )
    expected = [weight(sleeping) / total, weight(purring) / total, 0, weight(0) / total]
    assert shares == pytest.approx(expected, abs=1e-12)


def test_a_question_of_stop_words_shares_nothing(finder):
    assert word_overlap("what is it?", ["what is it?"], finder.index).tolist() == [0.0]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(max_size=60))
def test_no_question_is_syntax_and_every_share_lies_between_0_and_1(finder, question):
    shares = word_overlap(question, [question, "A cat sleeps"], finder.index)
    assert np.all((shares >= 0) & (shares <= 1 + 1e-12))


def test_columns_are_what_their_names_say(finder):
    evidence = finder.evidence("How long does a cat sleep?")
    columns = dict(zip(NAMES, evidence.features.T, strict=True))
    rows = len(evidence.candidates)
    for column, score in {"passage_similarity": "dense", "passage_late_interaction": "late_interaction"}.items():
        highest = max(passage.scores[score] for passage in evidence.passages)
        assert columns[column].tolist() == pytest.approx([highest] * rows)
    query, *passages = finder.encoder.encode_both(
        [evidence.question, *(passage.text for passage in evidence.passages)], "passage"
    )[1]
    offsets = finder.encoder.token_offsets([passage.text for passage in evidence.passages])
    for candidate, measured in zip(evidence.candidates, columns["late_interaction"], strict=True):
        start = candidate.evidence.start - evidence.passages[candidate.passage].span.start
        inside = [s < start + len(candidate.text) and e > start for s, e in offsets[candidate.passage]]
        tokens = passages[candidate.passage][inside]
        # a word's vector depends on nothing else here, so that a slice of a passage is the sentence; int8 rounds it
        assert measured == pytest.approx(float((query @ tokens.T).max(axis=1).mean()), abs=0.02)
    texts = [candidate.in_context for candidate in evidence.candidates]
    assert columns["overlap"] == pytest.approx(word_overlap(evidence.question, texts, finder.index))
    assert columns["length"] == pytest.approx([math.log(len(candidate.text)) for candidate in evidence.candidates])
    openings = {evidence.candidates[place].text for place in np.flatnonzero(columns["opening"])}
    assert {"A cat sleeps for sixteen hours a day.", "Most birds sleep at night, standing on one leg."} <= openings
    assert not any(text.startswith("It") for text in openings)


def test_what_was_asked_before_changes_no_digit(finder):
    def features(question: str) -> np.ndarray:
        return finder.evidence(question).features

    first = features("How long does a cat sleep?")
    features("Where do owls hunt?")
    assert np.array_equal(features("How long does a cat sleep?"), first)
