"""Contrastive search against its definition, run without a cache."""

import pytest
import torch
from search_oracle import contrastive_search, decoder_logits

from lmworks.generate.constraint import Choice
from lmworks.generate.engine import Engine
from lmworks.generate.protocol import Request, SamplingParameters
from lmworks.generate.search_parameters import ContrastiveParameters


@pytest.fixture(scope="module")
def engine(tiny_llama) -> Engine:
    return Engine(tiny_llama, slots=2, weights="float32", lowered=False)


@pytest.fixture(autouse=True)
def everything_is_given_back(engine):
    yield
    assert engine.batcher.cache.used == 0


def _request(prompt, max_tokens: int, **sampling) -> Request:
    return Request(tuple(prompt), sampling=SamplingParameters(max_tokens=max_tokens, ignore_eos=True, **sampling))


@pytest.mark.parametrize(("candidates", "penalty"), [(4, 0.6), (8, 0.3), (2, 0.9)])
def test_as_the_definition(engine, tiny_llama, candidates: int, penalty: float) -> None:
    model = tiny_llama.model
    for prompt in ([1, 2, 3], list(range(60, 100))):
        expected = contrastive_search(
            decoder_logits(model, prompt),
            lambda ids, prompt=prompt: model.hidden(torch.tensor([[*prompt, *ids]]))[0],
            20, candidates, penalty,
        )  # fmt: skip
        request = _request(prompt, 20)
        found = engine.contrastive_search(request, ContrastiveParameters(candidates, penalty))
        assert list(found.ids) == expected
        (score,) = engine.score([prompt], [found.ids])
        assert found.log_probabilities == pytest.approx(score.log_probabilities, abs=5e-5)  # as in test_scoring.py
        assert found.ids != engine.generate([request])[0].ids, "else the penalty has done nothing"


def test_without_a_choice_it_is_greedy(engine) -> None:
    request = _request(range(30), 25, repetition_penalty=1.2, banned_tokens=(7,))
    (greedy,) = engine.generate([request])
    for parameters in (ContrastiveParameters(5, 0.0), ContrastiveParameters(1, 0.8)):
        found = engine.contrastive_search(request, parameters)
        assert (found.ids, found.text, found.finish_reason) == (greedy.ids, greedy.text, greedy.finish_reason)


def test_what_the_cache_knows_of_the_prompt_does_not_matter(tiny_llama) -> None:
    """The states of all its tokens are needed, and the cache has none."""
    engine = Engine(tiny_llama, weights="float32", lowered=False)
    request, parameters = _request(range(200), 10), ContrastiveParameters()
    first = engine.contrastive_search(request, parameters)
    engine.generate([request])
    again = engine.contrastive_search(request, parameters)
    assert (first.ids, again.cached_tokens) == (again.ids, 0)


def test_a_constraint_is_followed(engine) -> None:
    request = Request((1, 2), sampling=SamplingParameters(max_tokens=20, constraint=Choice(("yes", "no", "nobody"))))
    found = engine.contrastive_search(request, ContrastiveParameters(4, 0.5))
    assert found.text in ("yes", "no", "nobody") and found.finish_reason == "stop"


def test_closing_it_in_the_middle_gives_the_pages_back(engine) -> None:
    for steps in (1, 2, 7):
        parts = engine.contrastive_search_in_parts(_request(range(50), 40), ContrastiveParameters())
        for _ in range(steps):
            next(parts)
        assert engine.batcher.cache.used > 0
        parts.close()
        assert engine.batcher.cache.used == 0


def test_a_deadline_ends_it(engine) -> None:
    request = Request((1, 2), sampling=SamplingParameters(max_tokens=200, ignore_eos=True), deadline=1e-6)
    found = engine.contrastive_search(request, ContrastiveParameters())
    assert (found.finish_reason, found.completion_tokens) == ("deadline", 1)


def test_what_cannot_be_searched_is_refused(engine) -> None:
    with pytest.raises(ValueError, match="temperature"):
        engine.contrastive_search(_request([1], 5, temperature=1.0), ContrastiveParameters())
    with pytest.raises(ValueError, match="no token is allowed"):
        engine.contrastive_search(_request([1], 5, banned_tokens=tuple(range(260))), ContrastiveParameters())
    for arguments, message in (({"candidates": 0}, "candidates"), ({"penalty": 1.0}, "penalty")):
        with pytest.raises(ValueError, match=message):
            ContrastiveParameters(**arguments)
