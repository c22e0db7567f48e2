"""Best of n: different samples of one request, ranked, with the prompt computed once."""

import pytest

from lmworks.generate.best_of_n import best_of
from lmworks.generate.engine import Engine
from lmworks.generate.protocol import Request, SamplingParameters
from lmworks.model.checkpoint import Checkpoint, assemble
from lmworks.model.initialisation import initialise
from lmworks.model.presets import llama
from lmworks.model.transformer import Transformer

_PROMPT = tuple(n * 7 % 256 for n in range(530))


@pytest.fixture(scope="module")
def long_llama(tiny_llama) -> Checkpoint:
    """A context of more than two chunks of a prompt."""
    config = llama(260, width=48, layers=2, heads=4, kv_heads=2, hidden=96, context_length=600, tied=True)
    weights = initialise(Transformer(config), seed=3, std=0.2).state_dict()
    return assemble(config, weights, tiny_llama.tokenizer, source="long llama")


def _sampling(**changes) -> SamplingParameters:
    return SamplingParameters(**{"max_tokens": 12, "temperature": 1.0, "seed": 40, **changes})


def test_the_prompt_is_computed_once(long_llama) -> None:
    engine = Engine(long_llama, slots=3, weights="float32")
    found = best_of(engine, Request(_PROMPT, sampling=_sampling(), id="it"), 5)
    shared = len(_PROMPT) // engine.batcher.cache.alignment * engine.batcher.cache.alignment
    means = [sum(completion.log_probabilities) / len(completion.ids) for completion in found]
    assert means == sorted(means, reverse=True)
    assert len({completion.ids for completion in found}) == 5
    by_seed = sorted(found, key=lambda completion: completion.seed)
    assert shared > 0 and [completion.cached_tokens for completion in by_seed] == [0] + [shared] * 4
    assert [(completion.seed, completion.id) for completion in by_seed] == [(40 + n, f"it-{n}") for n in range(5)]
    alone = Engine(long_llama, slots=1, weights="float32")
    expected = alone.generate([Request(_PROMPT, sampling=_sampling(seed=40 + n)) for n in range(5)])
    assert [completion.ids for completion in by_seed] == [completion.ids for completion in expected]


def test_seeds_are_drawn_where_none_is_given(long_llama) -> None:
    engine = Engine(long_llama, weights="float32")
    request = Request((1, 2, 3), sampling=_sampling(seed=None))
    seeds = [{completion.seed for completion in best_of(engine, request, 3)} for _ in range(2)]
    assert all(max(these) - min(these) == 2 and len(these) == 3 for these in seeds)
    assert seeds[0] != seeds[1]


def test_one_may_be_greedy_and_several_not(long_llama) -> None:
    engine = Engine(long_llama, weights="float32")
    request = Request((1, 2, 3), sampling=_sampling(temperature=0.0))
    assert [completion.ids for completion in best_of(engine, request, 1)] == [engine.generate([request])[0].ids]
    with pytest.raises(ValueError, match="all the same"):
        best_of(engine, request, 2)
    with pytest.raises(ValueError, match="1 or more"):
        best_of(engine, request, 0)
