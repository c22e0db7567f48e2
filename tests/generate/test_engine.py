"""The engine against a naive loop, and against itself with other neighbours, orders, slots and interruptions."""

from dataclasses import replace

import pytest
import torch
from engine_cases import prompt

from kit.tables import for_each
from lmworks.generate.constraint import Choice
from lmworks.generate.engine import Engine
from lmworks.generate.protocol import Request, SamplingParameters
from lmworks.generate.runner import default_dtype
from lmworks.generate.sampling import uniform
from lmworks.records import Message

# float32, three layers, logits of magnitude 10: another batch size or cached prefix changes the order of sums, which
# moves a log-probability by about 1e-5; a neighbour's token or a wrong position moves it by more than 0.1.
_TOLERANCE = 5e-5


_SAMPLINGS = (
    SamplingParameters(max_tokens=12),
    SamplingParameters(max_tokens=20, temperature=1.0, seed=1),
    SamplingParameters(max_tokens=5, temperature=0.8, top_k=10, seed=2),
    SamplingParameters(max_tokens=16, temperature=1.2, top_p=0.9, seed=3, ignore_eos=True),
    SamplingParameters(max_tokens=9, temperature=1.0, repetition_penalty=1.3, seed=4),
    SamplingParameters(max_tokens=1),
)
_REQUESTS = [Request(prompt(3 + 11 * n, n), sampling=sampling) for n, sampling in enumerate(_SAMPLINGS)]


@pytest.fixture(scope="module")
def engine(tiny_llama) -> Engine:
    return Engine(tiny_llama, slots=4, weights="float32")


def _assert_equal(one, other) -> None:
    assert (one.ids, one.text, one.finish_reason) == (other.ids, other.text, other.finish_reason)
    assert one.log_probabilities == pytest.approx(other.log_probabilities, abs=_TOLERANCE)
    assert one.sampled_log_probabilities == pytest.approx(other.sampled_log_probabilities, abs=_TOLERANCE)


@torch.inference_mode()
def test_greedy_is_the_naive_loop_without_a_cache(engine, tiny_llama) -> None:
    prompts = [prompt(length, length) for length in (1, 2, 40, 100)]
    completions = engine.generate(
        [Request(ids, sampling=SamplingParameters(max_tokens=30, ignore_eos=True)) for ids in prompts]
    )
    for start, completion in zip(prompts, completions, strict=True):
        ids = list(start)
        expected = []
        for _ in range(30):
            log_probabilities = tiny_llama.model(torch.tensor([ids]))[0, -1].log_softmax(-1)
            ids.append(int(log_probabilities.argmax()))
            expected.append(log_probabilities.max().item())
        assert completion.ids == tuple(ids[len(start) :])
        assert completion.log_probabilities == pytest.approx(expected, abs=_TOLERANCE)
        assert completion.sampled_log_probabilities == (0.0,) * 30
        assert (completion.prompt_tokens, completion.completion_tokens) == (len(start), 30)


def test_a_completion_reports_the_seed_that_repeats_it(engine) -> None:
    request = Request(prompt(5, 0), sampling=SamplingParameters(max_tokens=20, temperature=1.0))
    first, second = engine.generate([request, request])
    assert first.seed != second.seed and first.ids != second.ids
    again = replace(request, sampling=replace(request.sampling, seed=first.seed))
    _assert_equal(engine.generate([again])[0], first)


def test_streams_in_turns_join_to_the_completions(engine) -> None:
    requests = [Request((*"été 日本".encode(),), sampling=replace(s, max_tokens=30)) for s in _SAMPLINGS[:4]]
    expected = engine.generate(requests)
    streams = [engine.stream(request) for request in requests]
    texts, completions = [""] * 4, {}
    while len(completions) < 4:
        for number, stream in enumerate(streams):
            for delta in [next(stream, None)]:
                if delta is not None:
                    assert number not in completions, "nothing follows the delta that carries the completion"
                    texts[number] += delta.text
                    if delta.completion is not None:
                        completions[number] = delta.completion
    for number in range(4):
        assert texts[number] == completions[number].text
        _assert_equal(completions[number], expected[number])


def _spell(monkeypatch: pytest.MonkeyPatch, engine: Engine, tokenizer, text: str) -> None:
    """Make the model say `text`, byte by byte: each byte is a token, so that every character of it is cut."""
    ids = [*tokenizer.encode(text), tokenizer.eos_id]
    written = []

    def logits(hidden: torch.Tensor) -> torch.Tensor:
        written.append(ids[len(written)])
        return torch.nn.functional.one_hot(torch.tensor([written[-1]] * len(hidden)), 260) * 50.0

    monkeypatch.setattr(engine.batcher.runner.model, "logits", logits)  # type: ignore[attr-defined] - of its modules


@for_each(
    ("says", "stop", "text", "reason", "tokens"),
    [
        ("naïve 日本語", (), "naïve 日本語", "stop", 17),
        ("naïve 日本語", ("本",), "naïve 日", "stop", 13),
        ("one\n\ntwo", ("\n\n",), "one", "stop", 5),
        ("one\n\ntwo", ("\n\nthree",), "one\n\ntwo", "stop", 9),
        ("x" * 40, ("y",), "x" * 20, "length", 20),
        ("x" * 19 + "é", (), "x" * 19 + "\ufffd", "length", 20),
    ],
)
def test_stop_strings_and_characters_across_tokens(
    tiny_llama, monkeypatch, says: str, stop: tuple[str, ...], text: str, reason: str, tokens: int
) -> None:
    engine = Engine(tiny_llama, weights="float32", lowered=False, speculation=None)
    _spell(monkeypatch, engine, tiny_llama.tokenizer, says)
    deltas = list(engine.stream(Request((1, 2), sampling=SamplingParameters(max_tokens=20, stop=stop))))
    completion = deltas[-1].completion
    assert completion is not None
    assert "".join(delta.text for delta in deltas) == completion.text == text
    assert (completion.finish_reason, completion.completion_tokens) == (reason, tokens)
    assert "\ufffd" not in "".join(delta.text for delta in deltas[:-1])


def test_cancelling_and_closing_free_the_slot_while_others_go_on(tiny_llama) -> None:
    engine = Engine(tiny_llama, slots=2, weights="float32")
    long = SamplingParameters(max_tokens=60, ignore_eos=True)
    expected = engine.generate([Request(prompt(9, 9), sampling=long)])[0]
    closed = engine.stream(Request(prompt(4, 1), sampling=long, id="closed"))
    cancelled = engine.stream(Request(prompt(5, 2), sampling=long, id="cancelled"))
    waiting = engine.stream(Request(prompt(9, 9), sampling=long, id="waiting"))
    assert next(closed).completion is None and next(cancelled).completion is None
    closed.close()  # type: ignore[attr-defined]
    assert engine.cancel("closed") is False, "it is gone already"
    next(waiting)  # has got the slot of the closed one
    assert engine.cancel("cancelled") is True
    completion = list(cancelled)[-1].completion
    assert completion is not None and completion.finish_reason == "cancelled"
    assert completion.ids and len(completion.ids) < 60
    _assert_equal(list(waiting)[-1].completion, expected)
    engine.stream(Request((1,), id="never read"))  # takes no slot
    assert len(engine.generate([Request((1,), sampling=_SAMPLINGS[0])] * 5)) == 5
    assert engine.batcher.idle


def test_what_does_not_fit_is_refused_before_any_work(tiny_llama) -> None:
    engine = Engine(tiny_llama, context_length=50, weights="float32")
    fits = Request((1,) * 49, sampling=SamplingParameters(max_tokens=100, ignore_eos=True))
    assert engine.generate([fits])[0].finish_reason == "length"
    for call in (lambda r: engine.generate([fits, r]), engine.stream):
        with pytest.raises(ValueError, match=r"50 tokens, .* length is 50 .*up to 256"):
            call(Request((1,) * 50))
        with pytest.raises(ValueError, match=r"outside \[0, 260\)"):
            call(Request((260,)))
    with pytest.raises(ValueError, match="in use"):
        engine.generate([Request((1,), id="same"), Request((1,), id="same")])
    assert engine.batcher.idle
    with pytest.raises(ValueError, match="257 is more than the 256"):
        Engine(tiny_llama, context_length=257)
    with pytest.raises(ValueError, match="one of prompt_ids, messages or text"):
        Request()


def test_messages_go_through_the_chat_template(engine, tiny_llama) -> None:
    messages = (Message("user", "Hi <|im_end|>"),)
    rendered = tiny_llama.chat.render(messages, add_generation_prompt=True)
    one, other = engine.generate([Request(messages=messages), Request(rendered.ids)])
    _assert_equal(one, other)
    assert one.prompt_tokens == len(rendered.ids)


def test_bfloat16_is_close_and_leaves_the_checkpoint_alone(tiny_llama) -> None:
    engine = Engine(tiny_llama, weights="bfloat16")
    sampled = engine.generate(_REQUESTS)
    assert tiny_llama.model.embedding.tokens.weight.dtype == torch.float32
    exact = Engine(tiny_llama, weights="float32").score(
        [request.prompt_ids for request in _REQUESTS], [completion.ids for completion in sampled]
    )
    # bfloat16 has 8 bits: logits of magnitude 10 are off by a few hundredths, as are sums along three layers
    for completion, score in zip(sampled, exact, strict=True):
        assert completion.log_probabilities == pytest.approx(score.log_probabilities, abs=0.5)


def test_default_dtype_follows_the_processor(tmp_path) -> None:
    cpu = torch.device("cpu")
    for text, dtype in (
        ("processor : 0\nflags : fpu avx512f avx512_bf16\n", torch.bfloat16),
        ("processor : 0\nFeatures : asimd bf16 sve\n", torch.bfloat16),
        ("processor : 0\nflags : fpu avx2\n", torch.float32),
        ("no flags here", torch.float32),
    ):
        (tmp_path / "cpuinfo").write_text(text)
        assert default_dtype(cpu, tmp_path / "cpuinfo") == dtype
    assert default_dtype(cpu, tmp_path / "absent") == torch.float32
    assert default_dtype(torch.device("cuda")) == torch.bfloat16


def test_the_engines_draws_follow_the_distribution_it_reports(engine) -> None:
    """Over many seeds, a first token comes as often as its reported probability says."""
    request = Request(prompt(6, 6), sampling=SamplingParameters(max_tokens=1, temperature=1.0, top_k=4))
    completions = engine.generate([replace(request, sampling=replace(request.sampling, seed=n)) for n in range(400)])
    reported = {c.ids[0]: torch.tensor(c.sampled_log_probabilities[0]).exp().item() for c in completions}
    counted = {token: sum(c.ids[0] == token for c in completions) / 400 for token in reported}
    # 400 draws: a share has a standard error of at most 0.025, so 0.1 is four of them
    assert all(abs(counted[token] - reported[token]) < 0.1 for token in reported)
    assert uniform(0, 0) != uniform(1, 0)


@for_each("speculation", ["auto", None])
def test_a_completion_has_its_prompt_and_the_mask_of_sampled_tokens(tiny_llama, speculation) -> None:
    engine = Engine(tiny_llama, weights="float32", speculation=speculation)
    free = SamplingParameters(max_tokens=4, temperature=1.0, seed=1)
    choice = replace(free, max_tokens=20, constraint=Choice(("red wine", "red ink")))
    requests = [
        Request((1, 2, 3), sampling=free),
        Request((1, 2, 3), sampling=replace(free, forced_tokens=(70, 71))),
        Request(messages=(Message("user", "Hi"),), sampling=choice),
    ]
    plain, forced, constrained = engine.generate(requests)
    assert plain.prompt_ids == forced.prompt_ids == (1, 2, 3) and plain.sampled == (True,) * len(plain.sampled or ())
    assert forced.sampled == (False, False, True, True)
    rendered = tiny_llama.chat.render((Message("user", "Hi"),), add_generation_prompt=True)
    assert constrained.prompt_ids == rendered.ids
    assert constrained.text in ("red wine", "red ink")
    assert constrained.sampled == tuple(place == len("red ") for place in range(len(constrained.ids or ())))
