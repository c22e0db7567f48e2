"""Contrastive search against its definition, run without a cache; by the fused kernels and by modules."""

from collections.abc import Sequence

import engine_cases
import numpy as np
import pytest
import torch
from engine_cases import KINDS, make_engine
from search_oracle import contrastive_search, decoder_logits

from lmworks.generate.constraint import Choice
from lmworks.generate.engine import Engine
from lmworks.generate.fused_runner import FusedRunner
from lmworks.generate.protocol import ContrastiveParameters, Request, SamplingParameters
from lmworks.kernels.fused_operations import run
from lmworks.kernels.kv_pages import PAGE
from lmworks.kernels.program import RaggedBatch, Rows
from lmworks.model.checkpoint import Checkpoint
from slow_cases import slow


@pytest.fixture(scope="module")
def tiny_llama() -> Checkpoint:
    """Instead of the one of all tests, whose heads the kernels do not know."""
    return engine_cases.tiny_llama()


@pytest.fixture(scope="module", params=KINDS)
def engine(request: pytest.FixtureRequest, tiny_llama) -> Engine:
    return make_engine(request.param, tiny_llama, slots=2)


@pytest.fixture(autouse=True)
def everything_is_given_back(engine):
    yield
    assert engine.batcher.cache.used == 0


def _request(prompt, max_tokens: int, **sampling) -> Request:
    return Request(tuple(prompt), sampling=SamplingParameters(max_tokens=max_tokens, ignore_eos=True, **sampling))


@pytest.mark.parametrize(("candidates", "penalty"), [(4, 0.6), (8, 0.3), *slow((2, 0.9))])
@pytest.mark.parametrize("tokens", [12, *slow(20)])
def test_as_the_definition(engine, tiny_llama, candidates: int, penalty: float, tokens: int) -> None:
    model = tiny_llama.model
    for prompt in ([1, 2, 3], list(range(60, 100))):
        expected = contrastive_search(
            decoder_logits(model, prompt),
            lambda ids, prompt=prompt: model.hidden(torch.tensor([[*prompt, *ids]]))[0],
            tokens, candidates, penalty,
        )  # fmt: skip
        request = _request(prompt, tokens)
        (found,) = engine.search(request, ContrastiveParameters(candidates, penalty))
        assert list(found.ids) == expected
        (score,) = engine.score([prompt], [found.ids])
        assert found.log_probabilities == pytest.approx(score.log_probabilities, abs=5e-5)  # as in test_scoring.py
        assert found.ids != engine.generate([request])[0].ids, "else the penalty has done nothing"


@pytest.mark.parametrize("weights", ["bfloat16", "int4", *slow("float32", "int8")])
def test_rounded_weights_are_searched_as_the_definition_does_with_the_states_of_these_weights(
    tiny_llama, weights: str
) -> None:
    """The whole text anew at each step, by the same kernels: whatever they round is the same in both."""
    runner = make_engine(
        "fused", tiny_llama, weights=weights
    ).batcher.runner  # an engine's whose pages nobody else uses
    assert isinstance(runner, FusedRunner)

    def whole(ids: Sequence[int]) -> Rows:
        places, none = np.arange(len(ids), dtype=np.int32), np.zeros(len(ids), dtype=np.int32)
        pages = np.arange(-(-len(ids) // PAGE), dtype=np.int32)[None]
        step = RaggedBatch(np.array(ids, np.int32), places, none, (pages,) * len(runner.windows), places)
        return run(runner.program, step, hidden=True)

    def states(ids: Sequence[int]) -> torch.Tensor:
        found = whole(ids).hidden
        assert found is not None
        return found

    prompt = list(range(60, 100))
    expected = contrastive_search(
        lambda texts: whole([*prompt, *texts[0]]).logits[-1:], lambda ids: states([*prompt, *ids]), 12, 4, 0.6
    )
    engine = make_engine("fused", tiny_llama, weights=weights)
    request = _request(prompt, 12)
    (found,) = engine.search(request, ContrastiveParameters(4, 0.6))
    assert list(found.ids) == expected
    assert found.ids != engine.generate([request])[0].ids, "else the penalty has done nothing"


def test_without_a_choice_it_is_greedy(engine) -> None:
    request = _request(range(30), 25, repetition_penalty=1.2, banned_tokens=(7,))
    (greedy,) = engine.generate([request])
    for parameters in (ContrastiveParameters(5, 0.0), ContrastiveParameters(1, 0.8)):
        (found,) = engine.search(request, parameters)
        assert (found.ids, found.text, found.finish_reason) == (greedy.ids, greedy.text, greedy.finish_reason)


def test_what_the_cache_knows_of_the_prompt_does_not_matter(engine) -> None:
    """The states of all its tokens are needed, and the cache has none."""
    request, parameters = _request(range(200), 10), ContrastiveParameters()
    (first,) = engine.search(request, parameters)
    engine.generate([request])
    (again,) = engine.search(request, parameters)
    assert (first.ids, again.cached_tokens) == (again.ids, 0)


def test_a_constraint_is_followed(engine) -> None:
    request = Request((1, 2), sampling=SamplingParameters(max_tokens=20, constraint=Choice(("yes", "no", "nobody"))))
    (found,) = engine.search(request, ContrastiveParameters(4, 0.5))
    assert found.text in ("yes", "no", "nobody") and found.finish_reason == "stop"


def test_a_deadline_ends_it(engine) -> None:
    request = Request((1, 2), sampling=SamplingParameters(max_tokens=200, ignore_eos=True), deadline=1e-6)
    (found,) = engine.search(request, ContrastiveParameters())
    assert (found.finish_reason, found.completion_tokens) == ("deadline", 1)


def test_what_cannot_be_searched_is_refused(engine) -> None:
    with pytest.raises(ValueError, match="temperature"):
        engine.search(_request([1], 5, temperature=1.0), ContrastiveParameters())
    with pytest.raises(ValueError, match="no token is allowed"):
        engine.search(_request([1], 5, banned_tokens=tuple(range(260))), ContrastiveParameters())
    for arguments, message in (({"candidates": 0}, "candidates"), ({"penalty": 1.0}, "penalty")):
        with pytest.raises(ValueError, match=message):
            ContrastiveParameters(**arguments)
