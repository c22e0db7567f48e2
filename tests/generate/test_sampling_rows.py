"""Rows of any parameters against the plain oracle, and against themselves beside other rows, bit for bit."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from sampling_oracle import adjusted, distribution, packed

from kit.tables import for_each
from lmworks.generate.logit_processors import allowed_tokens
from lmworks.generate.protocol import SamplingParameters
from lmworks.generate.runner import LogitRows
from lmworks.generate.sampling import Sampled, sample, uniform
from sampling_cases import SAMPLERS

# float32 numbers around 10, divided by a temperature down to 0.3, are off by a few 1e-6: what a decision hangs on must
# differ by more, or both ways are right.
_CLEAR = 2e-5


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    """Not here: what threads would change must not be used."""


@st.composite
def _parameters(draw: st.DrawFn, vocabulary: int) -> SamplingParameters:
    """Parameters with some of the transformations on."""
    tokens = st.integers(0, vocabulary - 1)
    settings: dict[str, st.SearchStrategy[Any]] = {
        "top_k": st.integers(1, vocabulary + 5),
        "top_p": st.floats(0.05, 0.999),
        "min_p": st.floats(0.001, 1.0),
        "typical_p": st.floats(0.05, 0.999),
        "repetition_penalty": st.floats(0.5, 2.0),
        "frequency_penalty": st.floats(-2.0, 2.0),
        "presence_penalty": st.floats(-2.0, 2.0),
        "logit_bias": st.dictionaries(tokens, st.floats(-10.0, 10.0), max_size=5),
        "banned_tokens": st.lists(tokens, max_size=5).map(tuple),
        "forced_tokens": st.lists(tokens, max_size=5).map(tuple),
    }
    chosen = draw(st.sets(st.sampled_from(sorted(settings)), max_size=6))
    temperature = draw(st.sampled_from([0.0, 0.3, 1.0, 1.0, 2.5]))
    return SamplingParameters(temperature=temperature, **{name: draw(settings[name]) for name in sorted(chosen)})


@dataclass(frozen=True)
class _Row:
    """One row of a step, with everything that belongs to it."""

    logits: np.ndarray
    parameters: SamplingParameters
    prompt: list[int]
    completion: list[int]
    allowed: np.ndarray | None
    draw: float


def _row(logits: np.ndarray, parameters: SamplingParameters, seed: int) -> _Row:
    """A row with a random prompt, completion and draw; one of three has a mask that allows an eighth of the tokens."""
    generator = np.random.default_rng(seed)
    vocabulary = len(logits)
    prompt = generator.integers(0, vocabulary, generator.integers(0, 30)).tolist()
    completion = generator.integers(0, min(vocabulary, 8), generator.integers(0, 12)).tolist()
    allowed = generator.random(vocabulary) < 0.125 if generator.random() < 0.3 else None
    return _Row(logits, parameters, prompt, completion, allowed, uniform(seed, len(completion)))


def _logits(vocabulary: int, seed: int, ties: bool) -> np.ndarray:
    values = np.random.default_rng(seed).normal(0, 2.5, vocabulary).astype(np.float32)
    return (np.round(values * 2) / 2).astype(np.float32) if ties else values


@st.composite
def _rows(draw: st.DrawFn, most: int, ties: bool) -> list[_Row]:
    vocabulary = draw(st.sampled_from([3, 31, 64, 257, 700, 3000]))
    seeds = draw(st.lists(st.integers(0, 2**32), min_size=1, max_size=most))
    return [_row(_logits(vocabulary, seed, ties), draw(_parameters(vocabulary)), seed) for seed in seeds]


def _sample(rows: Sequence[_Row]) -> Sampled:
    return sample(
        LogitRows.from_logits(torch.from_numpy(np.stack([row.logits for row in rows]))),
        [row.parameters for row in rows],
        [row.prompt for row in rows],
        [row.completion for row in rows],
        [row.draw for row in rows],
        [None if row.allowed is None else packed(row.allowed) for row in rows],
    )


def _assert_same_bits(one: Sampled, other: Sampled) -> None:
    assert torch.equal(one.dead, other.dead)
    for values, others in zip(one[:3], other[:3], strict=True):
        assert torch.equal(values[~one.dead], others[~one.dead])


@given(_rows(most=1, ties=False))
def test_a_row_has_the_distribution_that_the_oracle_spells_out(rows: list[_Row]) -> None:
    row = rows[0]
    scores = adjusted(row.logits, row.parameters, row.prompt, row.completion, row.allowed)
    if not np.isfinite(scores).any():
        assert _sample(rows).dead.tolist() == [True]
        return
    expected, margin = distribution(row.logits, row.parameters, row.prompt, row.completion, row.allowed)
    assume(margin > _CLEAR)
    count = 64
    sampled = _sample([replace(row, draw=(number + 0.5) / count) for number in range(count)])
    assert not sampled.dead.any()
    histogram = np.bincount(sampled.ids, minlength=len(expected))
    assert np.abs(histogram - count * expected).max() < 1.01  # evenly spaced draws: see test_sampling.py
    assert histogram[expected == 0].sum() == 0
    # errors of the scaled logits, as above
    np.testing.assert_allclose(sampled.sampled_log_probabilities, np.log(expected[sampled.ids]), atol=2e-5, rtol=0)


@given(_rows(most=7, ties=False) | _rows(most=7, ties=True), st.randoms(use_true_random=False))
def test_rows_do_not_see_each_other(rows: list[_Row], random: Random) -> None:
    """Neither neighbours nor order change a bit, even where equal logits leave open which of them comes first."""
    together = _sample(rows)
    for number, row in enumerate(rows):
        _assert_same_bits(Sampled(*(values[number : number + 1] for values in together)), _sample([row]))
    order = random.sample(range(len(rows)), len(rows))
    _assert_same_bits(Sampled(*(values[order] for values in together)), _sample([rows[number] for number in order]))


@for_each("vocabulary", [20_000, 49_152])
def test_rows_do_not_see_each_other_in_a_vocabulary_of_usual_size(vocabulary: int) -> None:
    """Long rows are cut among the threads when they are few: what this would change must not be used."""
    rows = [
        _row(_logits(vocabulary, seed, ties=seed % 3 == 0), parameters, seed)
        for seed, parameters in enumerate([*SAMPLERS.values(), *SAMPLERS.values()])
    ]
    together = _sample(rows)
    normalisers = LogitRows.from_logits(torch.from_numpy(np.stack([row.logits for row in rows])))
    for number, row in enumerate(rows):
        _assert_same_bits(Sampled(*(values[number : number + 1] for values in together)), _sample([row]))
        alone = LogitRows.from_logits(torch.from_numpy(row.logits[None]))
        assert torch.equal(alone.log_normaliser, normalisers.log_normaliser[number : number + 1])


@for_each("name", SAMPLERS)
def test_a_nucleus_of_any_width_is_that_of_the_oracle(name: str) -> None:
    """In 20,000 tokens the first 256 candidates, 2048 and all of them are needed."""
    row = replace(_row(_logits(20_000, 5, ties=False), SAMPLERS[name], seed=5), allowed=None)
    expected, _ = distribution(row.logits, row.parameters, row.prompt, row.completion)
    sampled = _sample([replace(row, draw=(number + 0.5) / 32) for number in range(32)])
    kept = expected[sampled.ids] > 0
    # Among so many tokens one lies within rounding of the border. Being on the other side of it, it moves every ln p by
    # its own probability.
    assert kept.sum() >= 31
    border = expected[expected > 0].min()
    found = sampled.sampled_log_probabilities.numpy()[kept]
    np.testing.assert_allclose(found, np.log(expected[sampled.ids][kept]), atol=2e-5 + 2 * border, rtol=0)
    assert "wide" not in name or (expected > 0).sum() > 256, "the case does not leave the first candidates"


@for_each("truncation", [{"top_p": 0.9}, {"typical_p": 0.9}])
def test_a_long_tail_of_improbable_tokens_belongs_to_the_nucleus(truncation: dict) -> None:
    """One token, and 20,000 of e^-11 of its probability, which are a quarter together and far from the entropy."""
    logits = np.full(20_001, -11.0, dtype=np.float32)
    logits[9000] = 0.0
    row = _Row(logits, SamplingParameters(temperature=1.0, **truncation), [], [], None, 0.0)
    expected, _ = distribution(logits, row.parameters, [], [])
    assert (expected > 0).sum() > 10_000
    sampled = _sample([replace(row, draw=(number + 0.5) / 64) for number in range(64)])
    head = sampled.ids == 9000
    assert head.sum().item() == pytest.approx(64 * expected[9000], abs=1)
    wanted = np.where(head, np.log(expected[9000]), np.log(expected[0]))
    np.testing.assert_allclose(sampled.sampled_log_probabilities, wanted, atol=1e-3, rtol=0)  # one token of 12,000


@for_each(
    ("truncation", "count"),
    [({"top_k": 100}, 100), ({"top_p": 0.25}, 250), ({"typical_p": 0.5}, 500), ({"min_p": 1.0}, 1000)],
)
def test_of_equal_tokens_the_first_are_left_and_no_more_than_it_takes(truncation: dict, count: int) -> None:
    """1000 equal ones, and 24 others that are all but impossible."""
    logits = np.zeros(1024, dtype=np.float32)
    logits[1000:] = -50.0
    parameters = SamplingParameters(temperature=1.0, **truncation)
    sampled = _sample([_Row(logits, parameters, [], [], None, (n + 0.5) / count) for n in range(count)])
    assert sampled.ids.tolist() == list(range(count))


def test_rows_for_which_nothing_is_left_are_dead_and_the_others_are_not() -> None:
    logits = _logits(40, 3, ties=False)
    nothing, one = np.zeros(40, dtype=bool), np.arange(40) == 7
    cases = [
        (SamplingParameters(temperature=1.0), nothing, True),
        (SamplingParameters(), nothing, True),
        (SamplingParameters(temperature=1.0), one, False),
        (SamplingParameters(temperature=1.0, banned_tokens=(7,)), one, True),
        (SamplingParameters(temperature=1.0, forced_tokens=(7,)), one, False),
        (SamplingParameters(temperature=1.0, forced_tokens=(8,), top_p=0.5), one, True),
        (SamplingParameters(banned_tokens=tuple(range(40))), None, True),
        (SamplingParameters(temperature=1.0, logit_bias=dict.fromkeys(range(40), -100.0)), None, False),
    ]
    sampled = _sample([_Row(logits, parameters, [], [], allowed, 0.5) for parameters, allowed, _ in cases])
    assert sampled.dead.tolist() == [dead for _, _, dead in cases]
    assert sampled.ids[2] == sampled.ids[4] == 7


@for_each("wrong", [torch.nan, torch.inf])
@for_each("parameters", SAMPLERS.values())
def test_a_row_that_is_not_finite_is_dead_and_harms_no_other(wrong: float, parameters: SamplingParameters) -> None:
    logits = np.stack([_logits(700, seed, ties=False) for seed in range(3)])
    rows = [_Row(row, parameters, [1], [2], None, 0.3) for row in logits]
    sound = _sample(rows)
    logits[1, 600] = wrong
    broken = _sample(rows)
    assert broken.dead.tolist() == [False, True, False]
    _assert_same_bits(Sampled(*(v[[0, 2]] for v in broken)), Sampled(*(v[[0, 2]] for v in sound)))
    rows_of_minus_infinity = LogitRows.from_logits(torch.full((1, 700), -torch.inf))
    assert not rows_of_minus_infinity.log_normaliser.isfinite()


@given(st.lists(st.booleans(), min_size=1, max_size=200))
def test_packed_masks_are_unpacked(allowed: list[bool]) -> None:
    mask = packed(np.array(allowed))
    assert allowed_tokens(mask, len(allowed)).tolist() == allowed
    with pytest.raises(ValueError, match="words of 32 bits"):
        allowed_tokens(mask, len(allowed) + 32)


@for_each("name", ["banned_tokens", "forced_tokens", "logit_bias", "repetition_penalty"])
def test_a_token_beyond_the_vocabulary_is_refused_and_reaches_no_other_row(name: str) -> None:
    values = {"logit_bias": {40: 1.0}, "repetition_penalty": 1.5}
    parameters = SamplingParameters(**{name: values.get(name, (40,))})
    row = _Row(_logits(40, 1, ties=False), parameters, [40], [], None, 0.5)
    with pytest.raises(IndexError, match="out of bounds"):
        _sample([row, replace(row, parameters=SamplingParameters())])
