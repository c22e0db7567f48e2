"""Speculation changes no token, whoever guesses and however badly; it counts honestly, and guesses where that pays."""

import itertools
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch
from engine_cases import Kind, assert_same, make_engine, prompt
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from kit.tables import for_each
from lmworks.adapt import PrefixConfig, add_adapter
from lmworks.generate.constrained_decoding import Matcher
from lmworks.generate.constraint import Choice, ConstraintError, Regex
from lmworks.generate.draft_proposers import LayerSkip, PromptLookup, draft_model
from lmworks.generate.engine import Engine
from lmworks.generate.protocol import Completion, Request, SamplingParameters
from lmworks.generate.request_state import RequestState
from lmworks.generate.speculative_decoding import Speculator, StepCosts
from lmworks.model.checkpoint import Checkpoint
from slow_cases import slow

_LONG = SamplingParameters(max_tokens=40, ignore_eos=True)
_REPETITIVE = prompt(12, 1) * 5
_SAMPLINGS = {
    "greedy": _LONG,
    "sampled": replace(_LONG, temperature=1.0, seed=1),
    "truncated": replace(_LONG, temperature=1.1, top_k=5, top_p=0.9, min_p=0.01, seed=2),
    "penalties": replace(_LONG, repetition_penalty=1.3, frequency_penalty=0.7, presence_penalty=0.5),
    "sampled with penalties": replace(_LONG, temperature=0.8, frequency_penalty=1.5, seed=3),
    "a few tokens": replace(_LONG, max_tokens=3),
    "one token": replace(_LONG, max_tokens=1),
    "ends by itself": SamplingParameters(max_tokens=60, temperature=1.5, logit_bias={259: 3.0, 258: 3.0}, seed=4),
    "a stop string": SamplingParameters(max_tokens=60, stop=("a", "e", "\n"), temperature=1.0, seed=5),
    "forced and banned": replace(_LONG, forced_tokens=(5, 6, 7, 8, 9), banned_tokens=tuple(range(50, 100))),
    "a choice": SamplingParameters(
        constraint=Choice(("one and two", "one and three", "none")), temperature=1.0, seed=6
    ),
    "an expression": SamplingParameters(
        constraint=Regex(r"(abc|abd)+ [0-9]{3} end of the text"), seed=7, temperature=1.0
    ),
    "alternatives": replace(_LONG, alternatives=3),
}
_ANY = [random.Random(0).randrange(9) for _ in range(99)]
_REQUESTS = [Request(_REPETITIVE, sampling=sampling, id=name) for name, sampling in _SAMPLINGS.items()]


@dataclass
class Forced:
    """Knows the completions, and guesses them right or wrong: of the tokens of a guess, the first so many
    are right."""

    completions: dict[str, tuple[int, ...]]
    right: Sequence[int]  # one for each guess, in turns
    beyond: bool = True  # goes on after what is right
    seconds: float = 0.0
    gone: list[str] = field(default_factory=list)
    _turns: Any = None

    def propose(self, requests: Sequence[RequestState], most: Sequence[int]) -> list[list[int]]:
        self._turns = self._turns or itertools.cycle(self.right)
        found = []
        for request, limit in zip(requests, most, strict=True):
            follow = list(self.completions[request.id][len(request.ids) :][:limit])
            right = next(self._turns)
            wrong = [(token + 1) % 256 for token in follow[right:]] if self.beyond else []
            found.append(follow[:right] + wrong)
        return found

    def forget(self, request: RequestState) -> None:
        self.gone.append(request.id)


class Free(StepCosts):
    """Every step costs the same, so that whatever is guessed is tried."""

    def seconds(self, rows: int) -> float:
        return 1.0


@pytest.fixture(scope="module")
def plain(kind: Kind, checkpoint: Checkpoint) -> dict[str, Completion]:
    completions = make_engine(kind, checkpoint, speculation=None, slots=4).generate(_REQUESTS)
    return {completion.id: completion for completion in completions}


def _engine(kind: Kind, checkpoint: Checkpoint, proposer: Any, **options: Any) -> Engine:
    engine = make_engine(kind, checkpoint, speculation=proposer, **options)
    assert engine.batcher.speculator is not None
    engine.batcher.speculator.costs = Free()
    return engine


def _forced(plain: dict[str, Completion], right: Sequence[int], **options: Any) -> Forced:
    return Forced({name: completion.ids or () for name, completion in plain.items()}, right, **options)


@pytest.mark.parametrize(
    ("right", "slots"),
    [
        ((9,), 1),
        ((0,), 5),
        (_ANY, 5),
        *slow(((9,), 5), ((0,), 1), (_ANY, 1), *itertools.product([(4,), (0, 9)], (1, 5))),
    ],
)
def test_no_token_depends_on_what_was_guessed(kind: Kind, checkpoint, plain, right: Sequence[int], slots: int) -> None:
    proposer = _forced(plain, right)
    engine = _engine(kind, checkpoint, proposer, slots=slots)
    for completion in engine.generate(_REQUESTS):
        assert_same(completion, plain[completion.id], kind)
        tokens, expected = completion.tokens or (), plain[completion.id].tokens or ()
        for token, other in zip(tokens, expected, strict=True):
            assert [one[0] for one in token.alternatives] == [one[0] for one in other.alternatives]
    assert engine.cache_usage == 0
    assert sorted(proposer.gone) == sorted(_SAMPLINGS)
    assert engine.batcher.speculator is not None and engine.batcher.speculator.proposed > 0


def test_guesses_preempt_nobody_and_survive_preemption(kind: Kind, checkpoint, plain) -> None:
    sizes = {"slots": 4, "context_length": 128, "cache_tokens": 128}
    engine = _engine(kind, checkpoint, _forced(plain, (9, 3)), **sizes)
    for completion in engine.generate(_REQUESTS):
        assert_same(completion, plain[completion.id], kind)
    assert engine.cache_usage == 0


def test_looking_up_repeats_nothing_but_the_truth(kind: Kind, checkpoint: Checkpoint, plain) -> None:
    engine = _engine(kind, checkpoint, PromptLookup(), slots=3)
    completions = {completion.id: completion for completion in engine.generate(_REQUESTS)}
    for name, completion in completions.items():
        assert_same(completion, plain[name], kind)
    assert sum(completion.proposed_tokens for completion in completions.values()) > 20


def test_right_guesses_save_forwards_and_are_counted(kind: Kind, checkpoint: Checkpoint, plain) -> None:
    engine = _engine(kind, checkpoint, _forced(plain, (9,), beyond=False))
    (completion,) = engine.generate([replace(_REQUESTS[0])])
    speculator = engine.batcher.speculator
    assert speculator is not None
    # The first token is the prompt's; then each step gives its guesses, eight at most, and the token after them.
    assert completion.accepted_tokens == completion.proposed_tokens == speculator.accepted == speculator.proposed
    assert completion.accepted_tokens + speculator.steps + 1 == 40
    assert speculator.steps <= 8


@pytest.mark.parametrize(("right", "share"), [(0, 0.0), (2, 0.25), *slow((4, 0.5))])
def test_wrong_guesses_are_counted_as_proposed_alone(kind: Kind, checkpoint, plain, right: int, share: float) -> None:
    engine = _engine(kind, checkpoint, _forced(plain, (right,)))
    assert engine.batcher.speculator is not None
    engine.batcher.speculator._lengths = lambda requests, most, rows: list(most)  # type: ignore[method-assign]
    (completion,) = engine.generate([_REQUESTS[0]])
    steps = engine.batcher.speculator.steps
    assert completion.accepted_tokens <= right * steps <= completion.accepted_tokens + right
    assert completion.accepted_tokens / completion.proposed_tokens == pytest.approx(share, abs=0.06)


def test_a_request_without_speculation_gets_no_guesses(kind: Kind, checkpoint: Checkpoint, plain) -> None:
    engine = _engine(kind, checkpoint, _forced(plain, (9,)), slots=20)
    for completion in engine.generate([replace(r, sampling=replace(r.sampling, speculate=False)) for r in _REQUESTS]):
        assert (completion.proposed_tokens, completion.accepted_tokens) == (0, 0)
        assert_same(completion, plain[completion.id], kind)


@for_each("asked", ["proposal", "copy"])
def test_a_constraint_that_can_guess_no_further_fails_nobody(
    kind: Kind, checkpoint: Checkpoint, plain, monkeypatch, asked: str
) -> None:
    """What becomes too complex may do so while it guesses; only its mask decides what becomes of its request."""

    def too_complex(matcher: Matcher) -> Any:
        raise ConstraintError("the constraint cannot be followed any further")

    monkeypatch.setattr(Matcher, asked, too_complex)
    engine = _engine(kind, checkpoint, _forced(plain, [8]), slots=4)
    for completion in engine.generate([r for r in _REQUESTS if r.id in ("greedy", "an expression")]):
        assert_same(completion, plain[completion.id], kind)


def test_a_draft_model_guesses_for_no_text_that_is_longer_than_it_reads(
    kind: Kind, checkpoint: Checkpoint, plain
) -> None:
    draft = draft_model(checkpoint, context_length=70, weights="float32")
    (completion,) = _engine(kind, checkpoint, draft).generate(_REQUESTS[:1])  # 60 tokens, and 40
    assert_same(completion, plain[completion.id], kind)
    assert 0 < completion.accepted_tokens <= 10


@for_each("length", [0, 5])
def test_a_models_own_layers_guess_behind_a_prefix_as_without_one(checkpoint: Checkpoint, length: int) -> None:
    model = add_adapter(checkpoint.model, PrefixConfig(length), seed=1) if length else checkpoint.model
    adapted = checkpoint.with_model(model)
    expected = make_engine("fused", adapted, speculation=None).generate(_REQUESTS[:2])
    found = _engine("fused", adapted, LayerSkip((0,))).generate(_REQUESTS[:2])
    assert [one.ids for one in found] == [one.ids for one in expected]
    assert sum(one.proposed_tokens for one in found) > 0


@pytest.mark.parametrize("guess", ["likely", "unlikely"])
@pytest.mark.parametrize("count", [600, *slow(1500)])
def test_the_distribution_of_guessed_tokens_is_the_models(checkpoint: Checkpoint, guess: str, count: int) -> None:
    """Over many seeds, two tokens that were guessed come as often as the model's probabilities say."""

    class Same:
        seconds = 0.0

        def propose(self, requests: Sequence[RequestState], most: Sequence[int]) -> list[list[int]]:
            return [list(guessed[len(r.ids) - 1 :][:limit]) for r, limit in zip(requests, most, strict=True)]

        def forget(self, request: RequestState) -> None: ...

    text, kept = (*prompt(8, 3), 5), 3
    with torch.inference_mode():
        second = checkpoint.model(torch.tensor([text]))[0, -1].topk(kept)
        thirds = checkpoint.model(torch.tensor([[*text, token] for token in second.indices.tolist()]))[:, -1].topk(kept)
    joint = second.values.softmax(-1)[:, None] * thirds.values.softmax(-1)
    expected = {
        (a, b): joint[i, j].item()
        for i, a in enumerate(second.indices.tolist())
        for j, b in enumerate(thirds.indices[i].tolist())
    }
    guessed = max(expected, key=expected.__getitem__) if guess == "likely" else min(expected, key=expected.__getitem__)
    engine = _engine("fused", checkpoint, Same(), slots=32)
    assert engine.batcher.speculator is not None
    engine.batcher.speculator._lengths = lambda requests, most, rows: list(most)  # type: ignore[method-assign]
    sampling = SamplingParameters(max_tokens=3, temperature=1.0, top_k=kept, forced_tokens=(5,), ignore_eos=True)
    completions = engine.generate([Request(text[:-1], sampling=replace(sampling, seed=n)) for n in range(count)])
    found = Counter((c.ids or ())[1:] for c in completions)
    assert set(found) <= set(expected)
    likely = [pair for pair, probability in expected.items() if probability * count >= 5]
    rest = count - sum(found[pair] for pair in likely)
    observed, wanted = [found[pair] for pair in likely], [expected[pair] * count for pair in likely]
    if count - sum(wanted) >= 5:
        observed, wanted = [*observed, rest], [*wanted, count - sum(wanted)]
    else:
        wanted = [value * sum(observed) / sum(wanted) for value in wanted]
    assert len(observed) > 2 and chisquare(observed, wanted).pvalue > 1e-3
    if guess == "likely":
        # there is one guess, beside no prompt, and about every third is right
        assert sum(completion.accepted_tokens for completion in completions) > count / 10


# ---------------------------------------------------------------------------------------------------------------------
# Looking up


def _live(name: str, ids: Sequence[int], prompt_ids: Sequence[int] = (1,)) -> RequestState:
    unused: Any = None
    live = RequestState(name, tuple(prompt_ids), SamplingParameters(), 0, set(), 99, unused, unused, unused)
    live.ids = list(ids)
    return live


@given(
    st.lists(st.integers(0, 2), min_size=1, max_size=40), st.integers(0, 30), st.lists(st.integers(1, 6), max_size=9)
)
def test_a_look_up_is_what_followed_the_longest_suffix_when_it_last_came_before(
    text: list[int], given_at_once: int, steps: list[int]
) -> None:
    lookup, live = PromptLookup(), _live("a", [], text[: given_at_once + 1])
    rest = text[given_at_once + 1 :]
    for step in [0, *steps]:
        live.ids += rest[:step]
        rest = rest[step:]
        (found,) = lookup.propose([live], [5])
        seen = [*live.prompt_ids, *live.ids]
        expected: list[int] = []
        for n in (4, 3, 2):
            ends = [end for end in range(n, len(seen)) if seen[end - n : end] == seen[-n:] and len(seen) >= n]
            if ends:
                expected = seen[ends[-1] :][:5]
                break
        assert found == expected
    lookup.forget(live)
    assert lookup._indices == {}


# ---------------------------------------------------------------------------------------------------------------------
# How many guesses


class Costs(StepCosts):
    def __init__(self, each: float) -> None:
        super().__init__()
        self.each = each

    def seconds(self, rows: int) -> float:
        return 1 + self.each * rows


def _rounds(speculator: Speculator, right: bool, count: int, requests: int = 1, rows: int | None = None) -> list[int]:
    """The lengths that are chosen, round by round, for guesses that are all right or all wrong."""
    lives = [_live(str(n), []) for n in range(requests)]
    lengths = []
    for _ in range(count):
        guesses = speculator.guess(lives, [8] * requests, rows or requests)
        lengths.append(sum(map(len, guesses)))
        for live, guess in zip(lives, guesses, strict=True):
            speculator.observe(live, len(guess), [*guess, 7] if right else [9])
    return lengths


@dataclass
class Eights:
    seconds: float = 0.0

    def propose(self, requests: Sequence[RequestState], most: Sequence[int]) -> list[list[int]]:
        return [[8] * limit for limit in most]

    def forget(self, request: RequestState) -> None: ...


def test_it_guesses_far_where_that_is_free_and_right_and_not_at_all_where_it_cannot_pay() -> None:
    assert _rounds(Speculator(Eights(), costs=Costs(0.0)), True, 40)[-1] == 8
    assert _rounds(Speculator(Eights(), costs=Costs(10.0)), True, 40) == [0] * 40, "a guess doubles the step"
    assert _rounds(Speculator(Eights(), costs=Costs(0.1)), False, 60)[-1] == 0
    assert _rounds(Speculator(Eights(), costs=Costs(0.1)), True, 60)[-1] == 8


def test_a_guess_that_takes_longer_than_a_step_is_hardly_ever_asked_for() -> None:
    asked = _rounds(Speculator(Eights(seconds=3.0), costs=Costs(0.0)), True, 96)
    assert sum(length > 0 for length in asked) == 3, "every 32nd time, in case that has changed"


def test_among_requests_the_predictable_ones_are_guessed() -> None:
    speculator = Speculator(Eights(), costs=Costs(0.25))
    lives = [_live("right", []), _live("wrong", [])]
    for _ in range(40):
        guesses = speculator.guess(lives, [8, 8], 2)
        for live, guess in zip(lives, guesses, strict=True):
            speculator.observe(live, len(guess), [*guess, 7] if live.id == "right" else [9])
    right, wrong = map(len, speculator.guess(lives, [8, 8], 2))
    assert right > 0 and wrong == 0


def test_speculation_comes_back_when_a_text_becomes_predictable() -> None:
    """What was not sent is compared all the same."""
    speculator = Speculator(Eights(), costs=Costs(0.2))
    assert _rounds(speculator, False, 60)[-1] == 0
    live = _live("0", [])
    lengths = []
    for _ in range(40):
        (guess,) = speculator.guess([live], [8], 1)
        lengths.append(len(guess))
        speculator.observe(live, len(guess), [*guess, 8])
    assert lengths[-1] > 0


def test_the_end_of_a_completion_is_no_wrong_guess() -> None:
    speculator = Speculator(Eights(), costs=Costs(0.0))
    live = _live("0", [])
    (guess,) = speculator.guess([live], [4], 1)
    speculator.observe(live, len(guess), guess[:2])  # the second token was the last one
    assert speculator._everybody.right == speculator._everybody.checked == 2
    assert (speculator.proposed, speculator.accepted) == (len(guess), 2)


def test_costs_are_interpolated_never_fall_and_grow_beyond_what_was_measured() -> None:
    costs = StepCosts()
    assert costs.seconds(2) > costs.seconds(1)
    for rows, seconds in ((1, 1.0), (5, 3.0), (9, 2.0)):
        costs.observe(rows, seconds)
    assert [costs.seconds(rows) for rows in (1, 3, 5)] == pytest.approx([1.0, 2.0, 3.0])
    assert costs.seconds(7) == pytest.approx(3.0), "less for more rows is noise"
    assert costs.seconds(20) > costs.seconds(10) > 2.0
    for _ in range(30):
        costs.observe(1, 0.5)
    assert costs.seconds(1) == pytest.approx(0.5, abs=0.01)
    costs.observe(1, 50.0)
    assert costs.seconds(1) < 4, "one slow step"


def test_a_step_that_was_slow_when_it_was_first_tried_is_tried_again() -> None:
    costs = StepCosts()
    costs.observe(2, 100.0)
    for _ in range(100):
        costs.observe(1, 1.0)
    assert costs.seconds(2) < 2
