"""Each sampler's histogram against the closed form of its distribution, greedy choice, and the draws themselves."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from sampling_oracle import adjusted, distribution, packed
from scipy import stats

from kit.tables import for_each
from lmworks.generate.logit_processors import Ids
from lmworks.generate.protocol import SamplingParameters
from lmworks.generate.runner import LogitRows
from lmworks.generate.sampling import Sampled, alternatives_of, log_probability, sample, uniform

_VOCABULARY = 40
_PROMPT, _COMPLETION = [3, 3, 8], [17, 20, 17, 17]
_ALLOWED = np.arange(_VOCABULARY) % 3 != 1

# name -> parameters; those whose name begins with "mask" are sampled under the mask `_ALLOWED`
_SAMPLERS = {
    "temperature 1": SamplingParameters(temperature=1.0),
    "temperature 0.5": SamplingParameters(temperature=0.5),
    "top-k": SamplingParameters(temperature=1.7, top_k=5),
    "top-k of all": SamplingParameters(temperature=1.7, top_k=_VOCABULARY),
    "top-p": SamplingParameters(temperature=1.0, top_p=0.8),
    "min-p": SamplingParameters(temperature=1.5, min_p=0.08),
    "typical": SamplingParameters(temperature=1.2, typical_p=0.6),
    "repetition": SamplingParameters(temperature=1.0, repetition_penalty=1.8),
    "frequency": SamplingParameters(temperature=1.0, frequency_penalty=0.7),
    "presence": SamplingParameters(temperature=1.0, presence_penalty=-1.5),
    "bias": SamplingParameters(temperature=0.8, logit_bias={5: 3.0, 17: -100.0, 39: 1.5}),
    "banned": SamplingParameters(temperature=1.0, banned_tokens=(0, 20, 6, 6)),
    "forced": SamplingParameters(temperature=1.0, forced_tokens=(1, 2, 3, 4, 31)),
    "forced before": SamplingParameters(temperature=1.0, forced_tokens=(17, 20, 17, 17)),
    "mask": SamplingParameters(temperature=1.0),
    "mask, banned, typical": SamplingParameters(temperature=1.0, banned_tokens=(0, 3), typical_p=0.8),
    "top-k, top-p": SamplingParameters(temperature=1.3, top_k=12, top_p=0.7),
    "top-k, typical": SamplingParameters(temperature=1.3, top_k=12, typical_p=0.7),
    "typical, top-p": SamplingParameters(temperature=1.6, typical_p=0.8, top_p=0.8),
    "top-p, min-p": SamplingParameters(temperature=2.0, top_p=0.9, min_p=0.15),
    "mask, everything": SamplingParameters(
        temperature=1.4,
        repetition_penalty=1.3,
        top_k=20,
        typical_p=0.95,
        top_p=0.9,
        min_p=0.04,
        frequency_penalty=-0.6,
        presence_penalty=0.4,
        logit_bias={3: -1.0, 20: 2.0, 21: 2.0},
        banned_tokens=(5,),
        forced_tokens=(17,),
    ),
}


def _logits(vocabulary: int, seed: int, scale: float = 2.0) -> torch.Tensor:
    return torch.randn(vocabulary, generator=torch.Generator().manual_seed(seed)) * scale


def _sample(
    logits: torch.Tensor,
    parameters: SamplingParameters,
    draws: Sequence[float] = (0.5,),
    prompt: Ids = (),
    completion: Ids = (),
    allowed: np.ndarray | None = None,
) -> Sampled:
    """One row of logits (vocabulary,), sampled with each of the draws."""
    count, mask = len(draws), None if allowed is None else packed(allowed)
    rows = LogitRows(*(values.expand(count, *values.shape[1:]) for values in LogitRows.from_logits(logits[None])))
    return sample(rows, [parameters] * count, [prompt] * count, [completion] * count, draws, [mask] * count)


def _drawn(name: str, draws: Sequence[float]) -> tuple[Sampled, np.ndarray]:
    """What a sampler of the table gives for each draw, and the probabilities that its definition gives."""
    logits, allowed = _logits(_VOCABULARY, seed=1), _ALLOWED if name.startswith("mask") else None
    expected, margin = distribution(logits.numpy(), _SAMPLERS[name], _PROMPT, _COMPLETION, allowed)
    assert margin > 1e-4, "the case hangs on rounding: choose another"
    prompt, completion = np.array(_PROMPT), np.array(_COMPLETION)
    return _sample(logits, _SAMPLERS[name], draws, prompt, completion, allowed), expected


@for_each("name", _SAMPLERS)
def test_evenly_spaced_draws_fall_on_each_token_as_often_as_its_probability_says(name: str) -> None:
    """A token owns a piece of [0, 1) as long as its probability: of n evenly spaced draws it gets n · p, rounded."""
    count = 4096
    sampled, expected = _drawn(name, [(number + 0.5) / count for number in range(count)])
    histogram = np.bincount(sampled.ids.numpy(), minlength=_VOCABULARY)
    # beside the rounding to whole draws: float32 weights, off by 1e-6 of a probability, times 4096
    assert np.abs(histogram - count * expected).max() < 1 + 0.01
    assert histogram[expected == 0].sum() == 0, "drew a token that the distribution excludes"
    assert not sampled.dead.any()
    # float32 logits of magnitude 10 and sums over 40 of them: errors of a few 1e-6
    found, model = sampled.sampled_log_probabilities.numpy(), sampled.log_probabilities
    np.testing.assert_allclose(found, np.log(expected[sampled.ids]), atol=1e-5, rtol=0)
    own = _logits(_VOCABULARY, seed=1).log_softmax(-1)[sampled.ids]
    torch.testing.assert_close(model, own, atol=1e-5, rtol=0)


@pytest.mark.slow
@for_each("name", _SAMPLERS)
def test_histogram_of_100_000_seeds_is_that_of_the_distribution(name: str) -> None:
    count = 100_000
    sampled, expected = _drawn(name, [uniform(seed, len(_COMPLETION)) for seed in range(count)])
    observed, wanted = np.bincount(sampled.ids.numpy(), minlength=_VOCABULARY), expected * count
    assert observed[expected == 0].sum() == 0
    # Chi-square needs an expected count of about 5 in each cell: the rare tokens are counted as one cell.
    frequent = wanted >= 5
    seen, due = (np.append(values[frequent], values[~frequent].sum()) for values in (observed, wanted))
    seen, due = seen[due > 0], due[due > 0]
    # The seeds are fixed, so this does not flicker; a correct sampler fails for one choice of seeds in 10,000.
    assert len(due) == 1 or stats.chisquare(seen, due).pvalue > 1e-4


@for_each("name", _SAMPLERS)
def test_greedy_takes_the_largest_adjusted_logit(name: str) -> None:
    logits, allowed = _logits(_VOCABULARY, seed=1), _ALLOWED if name.startswith("mask") else None
    parameters = replace(_SAMPLERS[name], temperature=0.0)
    scores = adjusted(logits.numpy(), parameters, _PROMPT, _COMPLETION, allowed)
    before = logits.clone()
    sampled = _sample(logits, parameters, [0.999] * 2, _PROMPT, _COMPLETION, allowed)
    assert sampled.ids.tolist() == [scores.argmax()] * 2 and sampled.sampled_log_probabilities.tolist() == [0.0] * 2
    torch.testing.assert_close(sampled.log_probabilities, logits.log_softmax(-1)[sampled.ids], atol=1e-5, rtol=0)
    assert torch.equal(logits, before), "the model's logits stay as they are"


def test_the_same_seed_and_step_give_the_same_token_and_others_do_not() -> None:
    logits, parameters = torch.zeros(1000), SamplingParameters(temperature=1.0)
    seeds = [(seed, step) for seed in range(10) for step in range(10)]
    once, again = (_sample(logits, parameters, [uniform(*pair) for pair in seeds]) for _ in range(2))
    assert torch.equal(once.ids, again.ids)
    # 100 draws from 1000 equal tokens: 95.2 different ones on average, with a standard deviation of 2.1
    assert len(set(once.ids.tolist())) > 85


def test_alternatives_are_topk_of_log_softmax() -> None:
    logits = torch.stack([_logits(300, seed) for seed in range(5)])
    values, ids = logits.log_softmax(-1).topk(7)
    rows = LogitRows.from_logits(logits)
    alternatives = alternatives_of([7, 0, 7, 7, 4], rows)
    assert [[token for token, _ in row] for row in alternatives] == [
        row[:count] for row, count in zip(ids.tolist(), [7, 0, 7, 7, 4], strict=True)
    ]
    for row in (0, 2, 3):
        log_probabilities = torch.tensor([value for _, value in alternatives[row]])
        torch.testing.assert_close(log_probabilities, values[row], atol=2e-6, rtol=0)
        assert log_probability(rows, ids[:, 3].numpy())[row] == log_probabilities[3].item()
    few = alternatives_of([20] * 5, LogitRows.from_logits(logits[:, :3]))
    assert [len(row) for row in few] == [3] * 5, "three tokens have no more"


@for_each("draw", [0.0, 1 - 2**-32])
@for_each("truncation", [{}, {"top_k": 3}, {"top_p": 0.9}, {"min_p": 0.3}, {"typical_p": 0.9}])
def test_the_ends_of_the_unit_interval_give_possible_tokens(draw: float, truncation: dict) -> None:
    # whole blocks of impossible tokens at both ends, and the border of a block between possible ones
    logits = torch.tensor([-torch.inf, 1.0, 2.0, 0.5, -torch.inf]).repeat(300)
    logits[:600] = logits[-600:] = -torch.inf
    sampled = _sample(logits, replace(SamplingParameters(temperature=1.0), **truncation), [draw])
    assert sampled.ids.item() % 5 in {1, 2, 3} and sampled.sampled_log_probabilities.isfinite().all()


@for_each("seed", [0, 1, 7, 123_456_789_012_345, 2**64 - 1])
def test_draws_are_those_of_numpys_philox(seed: int) -> None:
    for step in (0, 1, 2, 1000, 2**40):
        word = int(np.random.Philox(key=seed, counter=[step, 0, 0, 0]).random_raw())
        assert uniform(seed, step) == (word >> 32) / 2**32


def test_draws_are_uniform_and_depend_on_seed_and_step_alone() -> None:
    values = [uniform(seed, step) for seed in range(100) for step in range(100)]
    # Kolmogorov-Smirnov over all, and no correlation between neighbouring steps or seeds (4 standard errors of 1e-2)
    assert stats.kstest(values, "uniform").pvalue > 1e-3
    grid = torch.tensor(values).view(100, 100)
    for one, other in ((grid[:, :-1], grid[:, 1:]), (grid[:-1], grid[1:])):
        assert abs(torch.corrcoef(torch.stack([one.flatten(), other.flatten()]))[0, 1]) < 0.04
    assert uniform(7, 3) == uniform(7, 3)
    assert uniform(2**64 - 1, 0) != uniform(0, 0)


@for_each(
    "wrong",
    [
        {"max_tokens": 0},
        {"temperature": -1.0},
        {"temperature": float("nan")},
        {"top_k": -1},
        {"top_p": 0.0},
        {"top_p": 1.5},
        {"repetition_penalty": 0.0},
        {"seed": -1},
        {"stop": ("",)},
        {"stop": "text"},
        {"alternatives": 21},
        {"alternatives": -1},
        {"frequency_penalty": 2.1},
        {"presence_penalty": float("nan")},
        {"min_p": -0.1},
        {"min_p": 1.1},
        {"typical_p": 0.0},
        {"typical_p": float("nan")},
        {"banned_tokens": (-1,)},
        {"forced_tokens": ("5",)},
        {"logit_bias": {-1: 1.0}},
        {"logit_bias": {"5": 1.0}},
        {"logit_bias": {True: 1.0}},
        {"logit_bias": {5: 100.5}},
        {"logit_bias": {5: float("nan")}},
    ],
)
def test_impossible_parameters_are_refused(wrong: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        SamplingParameters(**wrong)


def test_parameters_with_a_bias_are_values() -> None:
    bias = {1: 2.0}
    one, other = SamplingParameters(logit_bias=bias), SamplingParameters(logit_bias={1: 2.0})
    assert one == other and hash(one) == hash(other) and one != SamplingParameters(logit_bias={1: 3.0})
    bias[1] = 50.0
    assert one.logit_bias == {1: 2.0}
