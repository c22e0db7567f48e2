"""Each sampler's histogram against the closed form of its distribution, and the draws against each other."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from transformers import (
    RepetitionPenaltyLogitsProcessor,
    SequenceBiasLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from lmworks.generate.protocol import SamplingParameters
from lmworks.generate.sampling import most_probable, sample, uniform

_DRAWS = 20_000


def _logits(vocabulary: int, seed: int, scale: float = 2.0) -> torch.Tensor:
    return torch.randn(vocabulary, generator=torch.Generator().manual_seed(seed)) * scale


def _reference(
    logits: torch.Tensor, prompt: list[int], completion: list[int], parameters: SamplingParameters
) -> torch.Tensor:
    """The distribution that `transformers` samples from, float64; what it lacks is OpenAI's documented formula."""
    ids: Any = torch.tensor([[*prompt, *completion]])
    scores = logits[None].double()
    if parameters.logit_bias:
        bias: Any = {(token,): value for token, value in parameters.logit_bias.items()}
        scores = SequenceBiasLogitsProcessor(bias)(ids, scores)
    if parameters.repetition_penalty != 1:
        scores = RepetitionPenaltyLogitsProcessor(parameters.repetition_penalty)(ids, scores)
    counts = torch.bincount(torch.tensor(completion, dtype=torch.long), minlength=logits.shape[0])
    scores = scores - counts * parameters.frequency_penalty - (counts > 0) * parameters.presence_penalty
    scores = TemperatureLogitsWarper(parameters.temperature)(ids, scores)
    if parameters.top_k:
        scores = TopKLogitsWarper(parameters.top_k)(ids, scores)
    if parameters.top_p < 1:
        scores = TopPLogitsWarper(parameters.top_p)(ids, scores)
    return scores.softmax(-1)[0]


@pytest.mark.parametrize(
    "parameters",
    [
        SamplingParameters(temperature=1.0),
        SamplingParameters(temperature=0.5),
        SamplingParameters(temperature=1.7, top_k=5),
        SamplingParameters(temperature=1.0, top_p=0.8),
        SamplingParameters(temperature=1.3, top_k=12, top_p=0.7),
        SamplingParameters(temperature=1.0, repetition_penalty=1.8),
        SamplingParameters(temperature=1.0, frequency_penalty=0.7),
        SamplingParameters(temperature=1.0, presence_penalty=-1.5),
        SamplingParameters(temperature=0.8, logit_bias={5: 3.0, 17: -100.0, 39: 1.5}),
        SamplingParameters(
            temperature=0.9,
            repetition_penalty=1.3,
            top_k=20,
            top_p=0.9,
            frequency_penalty=-0.6,
            presence_penalty=0.4,
            logit_bias={3: -1.0, 20: 2.0, 21: 2.0},
        ),
    ],
    ids=[
        *("plain", "cold", "top-k", "top-p", "top-k top-p", "repetition", "frequency", "presence", "bias"),
        "everything",
    ],
)
def test_histogram_is_that_of_the_distribution(parameters: SamplingParameters) -> None:
    logits, prompt, completion = _logits(40, seed=1), [3, 3, 8], [17, 20, 17, 17]
    expected = _reference(logits, prompt, completion, parameters)
    rows = logits.expand(_DRAWS, -1)
    draws = [uniform(seed, 0) for seed in range(_DRAWS)]
    ids, log_probabilities, sampled = sample(
        rows, [parameters] * _DRAWS, [prompt] * _DRAWS, [completion] * _DRAWS, draws
    )

    counts = torch.bincount(ids, minlength=40).double()
    possible = expected > 0
    assert counts[~possible].sum() == 0, "drew a token that the distribution excludes"
    # Chi-square needs an expected count of about 5 in each cell: the rare tokens are counted as one cell.
    frequent = expected * _DRAWS >= 5
    observed = [*counts[frequent].tolist(), counts[~frequent].sum().item()]
    wanted = [*(expected[frequent] * _DRAWS).tolist(), (expected[~frequent] * _DRAWS).sum().item()]
    if wanted[-1] == 0:
        observed, wanted = observed[:-1], wanted[:-1]
    # The seeds are fixed, so this does not flicker; a correct sampler fails for one choice of seeds in 10,000.
    assert stats.chisquare(observed, wanted).pvalue > 1e-4

    # float32 logits of magnitude 10 and sums over 40 of them: errors of a few 1e-6
    torch.testing.assert_close(sampled.double(), expected[ids].log(), atol=1e-5, rtol=0)
    torch.testing.assert_close(log_probabilities, logits.log_softmax(-1)[ids], atol=1e-5, rtol=0)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 10_000),
    st.sampled_from([0, 1, 7, 300]),
    st.floats(0.05, 1.0),
    st.sampled_from([0.1, 0.7, 1.0, 3.0]),
)
def test_any_parameters_on_a_larger_vocabulary(seed: int, top_k: int, top_p: float, temperature: float) -> None:
    """The support and the probabilities, also where the nucleus is wider than the candidates that are tried first."""
    logits = _logits(2000, seed)
    parameters = SamplingParameters(temperature=temperature, top_k=top_k, top_p=top_p)
    expected = _reference(logits, [], [], parameters)
    draws = [uniform(seed, step) for step in range(64)]
    ids, _, sampled = sample(logits.expand(64, -1), [parameters] * 64, [()] * 64, [()] * 64, draws)
    # float32 and float64 may differ about the one token at the border of a nucleus, where the mass passes top_p within
    # rounding. That moves every ln p by about the probability of that token.
    kept = expected[ids] > 0
    assert kept.float().mean() > 0.95
    border = expected[expected > 0].min().item()
    torch.testing.assert_close(sampled[kept].double(), expected[ids[kept]].log(), atol=1e-4 + 2 * border, rtol=0)


def test_rows_do_not_see_each_other() -> None:
    logits = torch.stack([_logits(500, seed) for seed in range(6)])
    parameters = [
        SamplingParameters(),
        SamplingParameters(temperature=1.0),
        SamplingParameters(temperature=1.0, top_k=3),
        SamplingParameters(temperature=2.0, top_p=0.95),
        SamplingParameters(temperature=0.7, top_k=50, top_p=0.5, repetition_penalty=1.5),
        SamplingParameters(temperature=1.0, frequency_penalty=0.3, presence_penalty=1.0, logit_bias={7: 4.0}),
    ]
    prompts = [list(range(row, 400, row + 1)) for row in range(6)]
    completions = [list(range(row, 500, 7)) * row for row in range(6)]
    draws = [uniform(9, row) for row in range(6)]
    together = sample(logits, parameters, prompts, completions, draws)
    for row in range(6):
        alone = sample(logits[row : row + 1], [parameters[row]], [prompts[row]], [completions[row]], [draws[row]])
        assert together.ids[row] == alone.ids[0]
        # the same float32 operations on the same row; only the order inside a reduction may differ
        torch.testing.assert_close(together.log_probabilities[row], alone.log_probabilities[0], atol=1e-6, rtol=0)
        torch.testing.assert_close(
            together.sampled_log_probabilities[row], alone.sampled_log_probabilities[0], atol=1e-6, rtol=0
        )


def test_greedy_takes_the_most_probable_token_with_certainty() -> None:
    logits = torch.stack([_logits(100, seed) for seed in range(4)])
    ids, log_probabilities, sampled = sample(logits, [SamplingParameters()] * 4, [()] * 4, [()] * 4, [0.999] * 4)
    assert ids.tolist() == logits.argmax(-1).tolist()
    assert sampled.tolist() == [0.0] * 4
    torch.testing.assert_close(log_probabilities, logits.log_softmax(-1).max(-1).values, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("frequency", "presence"), [(0.25, 0.0), (0.0, 1.25), (0.5, -2.0), (-2.0, 2.0)])
def test_penalties_move_the_odds_by_the_occurrences_in_the_completion(frequency: float, presence: float) -> None:
    """Of two tokens with equal logits, one n times in the completion: ln odds = -(n · frequency + presence) / T."""
    temperature = 0.5
    parameters = SamplingParameters(
        temperature=temperature, frequency_penalty=frequency, presence_penalty=presence, logit_bias={2: -100.0}
    )
    logits = torch.zeros(1, 3)
    for times in range(5):
        lnp = {}
        for draw in (0.0, 1 - 2**-32):  # the first token and the second
            found = sample(logits, [parameters], [[0, 0, 1]], [[0] * times], [draw])
            lnp[found.ids.item()] = found.sampled_log_probabilities.item()
        odds = -(times * frequency + (presence if times else 0.0)) / temperature
        # float32 logits of magnitude 10; the third token's share is e^-200
        assert lnp[0] - lnp[1] == pytest.approx(odds, abs=1e-5)
    assert torch.equal(logits, torch.zeros(1, 3)), "the model's logits stay as they are"


def test_greedy_follows_bias_and_penalties_and_reports_the_models_own_probability() -> None:
    logits = torch.tensor([[3.0, 2.5, 0.0, -1.0]])
    for parameters, completion, chosen in (
        (SamplingParameters(), [0, 0], 0),
        (SamplingParameters(frequency_penalty=0.3), [0], 0),
        (SamplingParameters(frequency_penalty=0.3), [0, 0], 1),
        (SamplingParameters(presence_penalty=0.6), [0, 1, 0], 0),
        (SamplingParameters(logit_bias={3: 100.0}), [], 3),
        (SamplingParameters(logit_bias={0: -100.0, 1: -100.0}), [], 2),
    ):
        ids, log_probabilities, sampled = sample(logits, [parameters], [[0] * 9], [completion], [0.5])
        assert (ids.tolist(), sampled.tolist()) == ([chosen], [0.0])
        torch.testing.assert_close(log_probabilities, logits.log_softmax(-1)[:, chosen], atol=1e-6, rtol=0)


def test_most_probable_is_topk_of_log_softmax() -> None:
    logits = torch.stack([_logits(300, seed) for seed in range(5)])
    values, ids = logits.log_softmax(-1).topk(7)
    found, log_probabilities = most_probable(logits, 7)
    assert torch.equal(found, ids)
    torch.testing.assert_close(log_probabilities, values, atol=1e-6, rtol=0)
    assert most_probable(logits[:, :3], 20)[0].shape == (5, 3), "a vocabulary of three has no more"


@pytest.mark.parametrize("draw", [0.0, 1 - 2**-32])
@pytest.mark.parametrize("truncation", [{}, {"top_k": 3}, {"top_p": 0.9}])
def test_the_ends_of_the_unit_interval_give_possible_tokens(draw: float, truncation: dict) -> None:
    logits = torch.tensor([[-torch.inf, 1.0, 2.0, 0.5, -torch.inf]])
    parameters = replace(SamplingParameters(temperature=1.0), **truncation)
    ids, _, sampled = sample(logits, [parameters], [()], [()], [draw])
    assert ids.item() in {1, 2, 3} and sampled.isfinite().all()


def test_draws_are_uniform_and_depend_on_seed_and_step_alone() -> None:
    values = [uniform(seed, step) for seed in range(100) for step in range(100)]
    # Kolmogorov-Smirnov over all, and no correlation between neighbouring steps or seeds (4 standard errors of 1e-2)
    assert stats.kstest(values, "uniform").pvalue > 1e-3
    grid = torch.tensor(values).view(100, 100)
    for one, other in ((grid[:, :-1], grid[:, 1:]), (grid[:-1], grid[1:])):
        assert abs(torch.corrcoef(torch.stack([one.flatten(), other.flatten()]))[0, 1]) < 0.04
    assert uniform(7, 3) == uniform(7, 3)
    assert uniform(2**64 - 1, 0) != uniform(0, 0)


@pytest.mark.parametrize(
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
