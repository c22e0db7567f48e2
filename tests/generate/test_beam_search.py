"""Beam search against all continuations, against its definition, and in the cache that it shares."""

import itertools
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from engine_cases import Kind, finish, make_engine, tiny_llama, tiny_mistral
from search_oracle import beam_search, decoder_logits

from lmworks.adapt.lora import Lora, LowRank
from lmworks.generate.constraint import Choice, Regex
from lmworks.generate.engine import Engine
from lmworks.generate.paged_cache import OutOfPagesError
from lmworks.generate.protocol import BeamParameters, Completion, Request, SamplingParameters
from slow_cases import slow

_EOS = 258
# float32, three layers: another order of sums moves a log-probability by 1e-5 at most, a wrong beam by more than 0.01.
_TOLERANCE = 5e-5
# beams, groups, diversity penalty, length penalty
_SIZES = [(4, 1, 0.0, 1.0), (3, 1, 0.0, 0.0), (5, 1, 0.0, 2.0), (4, 2, 0.7, 1.0), (6, 3, 2.0, 0.5), (3, 3, 1.0, 1.0)]


@pytest.fixture(scope="module")
def engine(kind: Kind) -> Engine:
    return make_engine(kind, tiny_llama(), slots=2)


@pytest.fixture(autouse=True)
def everything_is_given_back(engine):
    yield
    assert engine.batcher.cache.used == 0


def _request(prompt: Sequence[int], max_tokens: int, **sampling) -> Request:
    return Request(tuple(prompt), sampling=SamplingParameters(max_tokens=max_tokens, **sampling))


def _score(completion: Completion, length_penalty: float, bias: float = 0.0) -> float:
    assert completion.log_probabilities is not None and completion.ids is not None
    total = sum(completion.log_probabilities) + bias * (completion.ids[-1] == _EOS)
    return total / len(completion.ids) ** length_penalty


@torch.inference_mode()
@pytest.mark.parametrize("length_penalty", [-1.0, 1.0, *slow(0.0, 2.5)])
def test_enough_beams_find_the_best_of_all_continuations(engine, length_penalty: float) -> None:
    """Five tokens are allowed, one of them the end: 4 + 16 + 64 texts that end, and as many of three that do not."""
    allowed, depth, prompt = [10, 43, 97, 200, _EOS], 3, [1, 2, 3]
    texts = [
        (*begin, _EOS) for length in range(depth) for begin in itertools.product(allowed[:-1], repeat=length)
    ] + list(itertools.product(allowed[:-1], repeat=depth))
    scores = {}
    for text in texts:
        values = engine.checkpoint.model(torch.tensor([[*prompt, *text]])).log_softmax(-1)[0, len(prompt) - 1 : -1]
        scores[text] = values.gather(1, torch.tensor(text)[:, None]).sum().item() / len(text) ** length_penalty
    best = sorted(texts, key=lambda text: -scores[text])[:40]
    banned = tuple(token for token in range(260) if token not in allowed)
    request = _request(prompt, depth, banned_tokens=banned)
    found = engine.search(request, BeamParameters(80, 40, length_penalty, stopping="bound"))
    assert [completion.ids for completion in found] == best
    for completion in found:
        assert _score(completion, length_penalty) == pytest.approx(scores[completion.ids], abs=_TOLERANCE)
        assert completion.finish_reason == ("stop" if completion.ids[-1] == _EOS else "length")
        assert completion.sampled_log_probabilities == (0.0,) * len(completion.ids)


@pytest.mark.parametrize(
    ("beams", "groups", "diversity", "length_penalty", "stopping", "prompts"),
    [
        (4, 1, 0.0, 1.0, "estimate", 2),
        (3, 1, 0.0, 0.0, "first", 2),
        (5, 1, 0.0, 2.0, "bound", 2),
        (4, 2, 0.7, 1.0, "bound", 2),
        (6, 3, 2.0, 0.5, "estimate", 2),
        *slow(*((*sizes, stopping, 3) for sizes in _SIZES for stopping in ("estimate", "bound", "first"))),
    ],
)
def test_as_the_definition(engine, beams, groups, diversity, length_penalty, stopping, prompts: int) -> None:
    parameters = BeamParameters(beams, beams, length_penalty, groups, diversity, stopping)
    ended = 0
    for prompt in ([1, 2, 3], list(range(100, 140)), [70, 71])[:prompts]:
        for bias in (0.0, 5.0):  # without it, few texts end
            expected = beam_search(decoder_logits(engine.checkpoint.model, prompt), 9, [_EOS], {_EOS: bias}, parameters)
            found = engine.search(_request(prompt, 9, logit_bias={_EOS: bias} if bias else {}), parameters)
            assert [completion.ids for completion in found] == [ids for ids, _ in expected]
            scores = [_score(completion, length_penalty, bias) for completion in found]
            assert scores == pytest.approx([score for _, score in expected], abs=_TOLERANCE)
            assert scores == sorted(scores, reverse=True)
            ended += sum(completion.finish_reason == "stop" for completion in found)
    assert ended >= 3, "else nothing is known of what ends"


def test_beams_drop_what_a_window_has_passed(kind) -> None:
    """The model sees 20 tokens back, so that a beam needs two or three pages however long its text is."""
    engine, prompt, parameters = make_engine(kind, tiny_mistral(), slots=2), list(range(45)), BeamParameters(3, 3)
    expected = beam_search(decoder_logits(engine.checkpoint.model, prompt), 50, [_EOS], {}, parameters)
    job, cache, held = engine.enqueue_search(engine.prepare(_request(prompt, 50)), parameters), engine.batcher.cache, []
    while not engine.batcher.idle:
        engine.step()
        held.append(round(cache.used * cache.pages))
    assert [completion.ids for completion in job.future.result(0)] == [ids for ids, _ in expected]
    assert len(held) >= 49 and max(held) <= 3 * 3 and cache.used == 0


@pytest.mark.parametrize(
    "sampling",
    [
        {"stop": ("\x81", "N")},
        {"repetition_penalty": 1.3, "frequency_penalty": 1.5, "presence_penalty": 0.5},
        {"logit_bias": {_EOS: 6.0, 7: 3.0}, "banned_tokens": (43,)},
        {"forced_tokens": (5, 6, 7), "constraint": None},
        {"constraint": Regex("[a-z ]*")},
        *slow({}),
    ],
    ids=lambda sampling: ", ".join(sampling) or "nothing",
)
@pytest.mark.parametrize("prompt", [[3, 1, 4, 1, 5], *slow([259], list(range(7, 47)))])
def test_one_beam_is_greedy(engine, sampling: dict, prompt: list[int]) -> None:
    request = _request(prompt, 20, **sampling)
    (greedy,), (beam,) = engine.generate([request]), engine.search(request, BeamParameters(1))
    assert (beam.ids, beam.text, beam.finish_reason) == (greedy.ids, greedy.text, greedy.finish_reason)
    assert beam.log_probabilities == pytest.approx(greedy.log_probabilities, abs=_TOLERANCE)
    assert (beam.prompt_tokens, beam.completion_tokens) == (len(prompt), len(beam.ids))
    assert [token.id for token in beam.tokens] == list(beam.ids)


def test_beams_run_with_their_adapter(kind: Kind) -> None:
    """A change of one layer, so large that it changes the texts."""
    engine, generator = make_engine(kind, tiny_llama(), slots=2), torch.Generator().manual_seed(0)
    a, b = (torch.randn(shape, generator=generator) for shape in ((2, 64), (64, 2)))
    engine.load_adapter("loud", Lora({"decoder.blocks.1.attention.output": LowRank(a, b, 0.3)}))
    plain = _request(range(40), 20)
    adapted = replace(plain, adapter="loud")
    texts = [engine.generate([request])[0].ids for request in (plain, adapted)]
    assert texts[0] != texts[1]
    assert [engine.search(request, BeamParameters(1))[0].ids for request in (plain, adapted)] == texts
    with pytest.raises(ValueError, match="no adapter 'other'"):
        engine.search(replace(plain, adapter="other"), BeamParameters())


def test_every_beam_follows_its_constraint(engine) -> None:
    """As many beams as there are beginnings find every choice, ranked by what the model thinks of it."""
    options, prompt = ("yes", "yesterday", "no", "maybe"), [1, 2, 3]
    request = _request(prompt, 20, constraint=Choice(options))
    found = engine.search(request, BeamParameters(6, 6, 0.0, stopping="bound"))
    encode = engine.checkpoint.tokenizer.encode
    scores = engine.score([prompt] * 4, [[*encode(option), _EOS] for option in options])
    ranked = sorted(zip(options, scores, strict=True), key=lambda pair: -pair[1].total)
    assert [completion.text for completion in found] == [option for option, _ in ranked]
    for completion, (_, score) in zip(found, ranked, strict=True):
        assert sum(completion.log_probabilities) == pytest.approx(score.total, abs=_TOLERANCE * 10)
        assert completion.finish_reason == "stop"


def test_a_stop_string_ends_a_beam(engine) -> None:
    """A letter is a token here, so that it ends a text exactly where a token does."""
    (letter,) = engine.checkpoint.tokenizer.encode("x")
    bias, parameters = {letter: 6.0}, BeamParameters(4, 4)
    expected = beam_search(decoder_logits(engine.checkpoint.model, [1, 2, 3]), 9, [_EOS, letter], bias, parameters)
    found = engine.search(_request([1, 2, 3], 9, stop=("x",), logit_bias=bias), parameters)
    assert [completion.ids for completion in found] == [ids for ids, _ in expected]
    assert any(completion.ids[-1] == letter for completion in found)
    for completion in found:
        assert (completion.finish_reason == "stop") == (completion.ids[-1] in (letter, _EOS))
        assert "x" not in completion.text


def test_beams_share_the_pages_of_the_prompt(engine) -> None:
    cache = engine.batcher.cache
    job = engine.enqueue_search(engine.prepare(_request(range(160), 40)), BeamParameters(8, stopping="bound"))
    held = []
    while engine.step() or not job.future.done():
        held.append(round(cache.used * cache.pages))
        assert cache.available + held[-1] == cache.pages
    assert len(held) >= 39 and 10 < max(held) <= 10 + 8 * 3, "ten of the prompt, and three for what a beam has alone"
    assert held[-1] > held[0]


def test_closing_it_in_the_middle_gives_the_pages_back(engine) -> None:
    for steps in (1, 2, 7):
        engine.enqueue_search(engine.prepare(_request(range(50), 40)), BeamParameters(5))
        for _ in range(steps):
            engine.step()
        assert engine.batcher.cache.used > 0
        engine.abort_jobs(RuntimeError("no more of it"))
        assert engine.batcher.cache.used == 0


def test_requests_make_room_and_go_on(kind) -> None:
    engine = make_engine(kind, tiny_llama(), slots=2, cache_tokens=256)
    request, parameters = _request(range(130), 30), BeamParameters(3, 2)
    others = [_request([n] * 90, 30, ignore_eos=True) for n in (3, 4)]
    expected = engine.generate(others), engine.search(request, parameters)
    lives = [engine.submit(other) for other in others]
    job = engine.enqueue_search(engine.prepare(request), parameters)
    finish(engine)
    assert engine.batcher.scheduler.preemptions > 0
    assert [tuple(live.ids) for live in lives] == [completion.ids for completion in expected[0]]
    assert [completion.ids for completion in job.future.result(0)] == [completion.ids for completion in expected[1]]
    with pytest.raises(OutOfPagesError):
        engine.search(_request(range(200), 50), BeamParameters(64, stopping="bound"))
    assert engine.batcher.cache.used == 0


def test_a_deadline_ends_the_beams(engine) -> None:
    request = Request((1, 2), sampling=SamplingParameters(max_tokens=200, banned_tokens=(_EOS,)), deadline=1e-6)
    found = engine.search(request, BeamParameters(3, 3))
    assert [completion.finish_reason for completion in found] == ["deadline"] * 3
    assert len({completion.ids for completion in found}) == 3


def test_what_cannot_be_searched_is_refused(engine) -> None:
    with pytest.raises(ValueError, match="temperature, top_k"):
        engine.search(_request([1], 5, temperature=1.0, top_k=3), BeamParameters())
    with pytest.raises(ValueError, match="no token is allowed"):
        engine.search(_request([1], 5, banned_tokens=tuple(range(260))), BeamParameters())
    with pytest.raises(ValueError, match="context_length"):
        engine.search(_request([1] * 256, 5), BeamParameters())
    for arguments, message in (
        ({"beams": 0}, "n_best"),
        ({"beams": 2, "n_best": 3}, "n_best"),
        ({"beams": 4, "groups": 3, "diversity_penalty": 1.0}, "divide"),
        ({"beams": 4, "groups": 2}, "diversity_penalty"),
        ({"length_penalty": float("inf")}, "finite"),
        ({"stopping": "never"}, "stopping"),
    ):
        with pytest.raises(ValueError, match=message):
            BeamParameters(**arguments)
