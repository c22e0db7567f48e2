"""What n-grams are told of the targets of an objective: no more and no less than the examples show."""

import numpy as np
import pytest
import torch
from contenders.guesses import MissingSpans, of_masked, of_next_tokens
from contenders.ngram import Between, KneserNey

from kit.tables import for_each
from lmworks.train.objectives.corruption_vocabulary import Vocabulary
from lmworks.train.objectives.masked import MaskedLanguageModel, MaskedTokens
from lmworks.train.objectives.sequence_to_sequence import rewritings
from lmworks.train.objectives.span_corruption import SpanCorruption, corrupt, noise_mask

TOKENS, MASK, EOS, SENTINELS = 6, 6, 7, (8, 9, 10, 11)  # the first six are text
SIZE = 12
TEXTS = [np.random.default_rng(seed).choice(TOKENS, 60, p=[0.4, 0.2, 0.15, 0.1, 0.1, 0.05]) for seed in range(5)]


def test_the_first_token_of_a_text_is_no_target() -> None:
    model = KneserNey(TEXTS, SIZE)
    (found,) = model.of_texts(TEXTS[:1])
    assert of_next_tokens(model, TEXTS[0]) == pytest.approx(-np.log(found[1:]))


def masked(seen: list[int], truth: int, documents: list[int]) -> MaskedTokens:
    """A row whose second token is asked for."""
    ids, row = torch.tensor([seen]), torch.tensor([documents])
    targets, chosen = ids.clone(), torch.zeros_like(ids, dtype=torch.bool)
    targets[0, 1], chosen[0, 1] = truth, True
    return MaskedTokens(ids, torch.arange(len(seen))[None], row, targets, chosen)


@for_each(("seen", "left", "right"), [([2, MASK, 3], 2, 3), ([MASK, MASK, 3], -1, 3)])
def test_a_hidden_token_is_guessed_from_the_neighbours_that_are_seen(seen, left, right) -> None:
    model, objective = Between(TEXTS, SIZE), MaskedLanguageModel(Vocabulary(MASK, np.arange(SIZE) < TOKENS))
    expected = model.from_both(np.array([left]), np.array([right]))[0]
    found = [of_masked(model, masked(seen, truth, [0, 0, 0]), objective) for truth in range(SIZE)]
    assert [float(np.exp(-each["both neighbours"][0])) for each in found] == pytest.approx(expected.tolist())
    assert sum(float(np.exp(-each["the left one"][0])) for each in found) == pytest.approx(1)
    padded = of_masked(model, masked(seen, 0, [0, 0, -1]), objective)["the right one"]
    assert np.exp(-padded) == pytest.approx(model.unigram(np.array([-1]), np.array([-1]))[0, 0])


def test_a_token_that_is_shown_is_guessed_by_bayes_rule() -> None:
    """Against the frequencies of a simulation of the objective's own rules: 200,000 draws, five standard errors."""
    model, objective = Between(TEXTS, SIZE), MaskedLanguageModel(Vocabulary(MASK, np.arange(SIZE) < TOKENS))
    generator = np.random.default_rng(0)
    prior = model.unigram(np.array([-1]), np.array([-1]))[0][:TOKENS]
    truths = generator.choice(TOKENS, 200_000, p=prior / prior.sum())
    shown = np.where(generator.random(len(truths)) < 0.5, truths, generator.integers(TOKENS, size=len(truths)))
    for seen in (0, 5):
        share = np.bincount(truths[shown == seen], minlength=TOKENS) / (shown == seen).sum()
        nats = [of_masked(model, masked([MASK, seen, MASK], w, [0, 0, 0]), objective)["nothing"] for w in range(TOKENS)]
        found = np.exp(-np.concatenate(nats))
        error = np.sqrt(share * (1 - share) / (shown == seen).sum())
        assert np.all(np.abs(found / found.sum() - share) < 5 * error)


def test_a_missing_span_is_guessed_from_the_text_that_it_was_cut_out_of() -> None:
    objective, generator = SpanCorruption(SENTINELS, EOS, start=EOS), np.random.default_rng(1)
    drawn = []
    for text in TEXTS:
        noise = noise_mask(len(text[:40]), 0.2, 2.0, generator)
        drawn.append((text[:40], noise, corrupt(text[:40], noise, SENTINELS, EOS)))
    examples = rewritings([pair for *_, pair in drawn], EOS)
    trigrams = KneserNey(TEXTS, SIZE)
    model = MissingSpans(trigrams, [examples], objective)
    found = model.nats(examples)
    expected = []
    for text, noise, _ in drawn:
        (likely,) = trigrams.of_texts([text])
        inside = 0
        for place in [*np.flatnonzero(noise).tolist(), None]:
            goes_on = place is not None and noise[place - 1]
            if inside and not goes_on:  # another sentinel, or the end of the text
                expected.append(model.ending[inside])
                inside = 0
            elif not inside:
                expected.append(1.0)  # the first sentinel
            if place is not None:
                expected.append((1 - model.ending[inside]) * likely[place])
                inside += 1
    assert np.exp(-found["the text before"]) == pytest.approx(expected)
    assert len(found["the target before"]) == int(examples.mask.sum())
    # Of the spans that reach a length some end there: as many as there are, but for the half that smoothing adds.
    lengths = [
        len(run) for _, noise, _ in drawn for run in np.split(noise, np.flatnonzero(np.diff(noise)) + 1) if run[0]
    ]
    two = sum(length == 2 for length in lengths)
    assert model.ending[2] == pytest.approx((two + 0.5) / (sum(length >= 2 for length in lengths) + 1))
