"""Text completions through the official client, and the repository's own client of such endpoints."""

import openai
import pytest

from kit.tables import for_each
from lmworks.generate.constraint import Choice, JsonSchema
from lmworks.generate.engine import Engine
from lmworks.generate.protocol import Request, SamplingParameters
from lmworks.generate.remote_engine import EXTENSIONS, RemoteEngine
from lmworks.records import Message


@pytest.fixture(scope="module")
def engine(tiny):
    return Engine(tiny)


def complete(running, prompt, **options):
    return running.client().completions.create(model="tiny", prompt=prompt, **options)


def expected(engine, prompt, **sampling):
    ids = tuple(engine.checkpoint.tokenizer.encode(prompt))
    return engine.generate([Request(prompt_ids=ids, sampling=SamplingParameters(**sampling))])[0]


def test_a_text_and_its_ids_complete_alike(language, engine):
    wanted = expected(engine, "the thing", temperature=0, max_tokens=10)
    ids = engine.checkpoint.tokenizer.encode("the thing")
    for prompt in ("the thing", ids):
        answer = complete(language, prompt, temperature=0, max_tokens=10)
        assert answer.choices[0].text == wanted.text
        assert answer.usage.prompt_tokens == len(ids)


def test_the_default_length_is_openais(language):
    assert complete(language, "a", seed=1, extra_body={"ignore_eos": True}).usage.completion_tokens == 16


def test_prompts_and_choices_are_counted_in_openais_order(language, engine):
    answer = complete(language, ["one", "two", "three"], n=2, seed=4, max_tokens=6)
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3, 4, 5]
    for index, prompt in enumerate(("one", "two", "three")):
        wanted = expected(engine, prompt, temperature=1, seed=4, max_tokens=6)
        assert answer.choices[2 * index].text == wanted.text
    assert answer.usage.prompt_tokens == sum(
        len(engine.checkpoint.tokenizer.encode(p)) for p in ("one", "two", "three")
    )
    assert len({choice["interaction"] for choice in answer.lmworks["choices"]}) == 6


def test_more_prompts_than_slots_and_places_in_line(start, engine):
    """A list is worked off as slots become free; it does not fill the queue that others wait in."""
    with start(slots=2, max_waiting=1) as running:
        prompts = [f"prompt {number}" for number in range(20)]
        answer = complete(running, prompts, temperature=0, max_tokens=3)
    wanted = [expected(engine, prompt, temperature=0, max_tokens=3).text for prompt in prompts]
    assert [choice.text for choice in answer.choices] == wanted


def test_more_choices_than_can_be_in_flight_are_refused(start):
    with start(slots=2, max_waiting=1) as running:
        for path, body in (
            ("completions", {"prompt": "a"}),
            ("chat/completions", {"messages": [{"role": "user", "content": "a"}]}),
        ):
            body |= {"model": "tiny", "max_tokens": 2}
            assert running.http().post(f"/v1/{path}", json={**body, "n": 3}).status_code == 200
            answer = running.http().post(f"/v1/{path}", json={**body, "n": 4})
            assert answer.status_code == 400 and answer.json()["error"]["param"] == "n"
            assert "at most 3 choices" in answer.json()["error"]["message"]


def test_scored_prompts_keep_to_the_context_that_is_served(start):
    """The model was made for 512 tokens, of which 32 are served."""
    with start(context_length=32) as running:
        score = {"echo": True, "logprobs": 0, "max_tokens": 0}
        assert len(complete(running, [5] * 32, **score).choices[0].logprobs.tokens) == 32
        with pytest.raises(openai.BadRequestError) as caught:
            complete(running, [5] * 33, **score)
        assert (caught.value.param, caught.value.code) == ("prompt", "context_length_exceeded")


def test_a_stream_joins_to_the_answer(language):
    options = {"n": 2, "seed": 4, "max_tokens": 20, "logprobs": 2, "stream_options": {"include_usage": True}}
    chunks = list(complete(language, ["one", "two"], stream=True, **options))
    del options["stream_options"]
    whole = complete(language, ["one", "two"], **options)
    for choice in whole.choices:
        parts = [part for chunk in chunks for part in chunk.choices if part.index == choice.index]
        assert "".join(part.text for part in parts) == choice.text
        assert parts[-1].finish_reason == choice.finish_reason
        logprobs = [part.logprobs for part in parts if part.logprobs]
        assert [token for part in logprobs for token in part.tokens] == choice.logprobs.tokens
        assert [offset for part in logprobs for offset in part.text_offset] == choice.logprobs.text_offset
    assert chunks[-1].usage == whole.usage


def test_log_probabilities_and_offsets(language, engine):
    answer = complete(language, "the thing", seed=9, max_tokens=30, logprobs=3, extra_body={"ignore_eos": True})
    wanted = expected(engine, "the thing", temperature=1, seed=9, max_tokens=30, alternatives=3, ignore_eos=True)
    logprobs = answer.choices[0].logprobs
    assert logprobs.token_logprobs == pytest.approx(wanted.log_probabilities, abs=1e-3)
    assert len(logprobs.tokens) == len(logprobs.top_logprobs) == len(logprobs.text_offset) == 30
    for token, value, top in zip(logprobs.tokens, logprobs.token_logprobs, logprobs.top_logprobs, strict=True):
        assert top[token] == value and len(top) in (3, 4)
    for token, offset in zip(logprobs.tokens, logprobs.text_offset, strict=True):
        if not token.startswith("bytes:") and token not in engine.checkpoint.tokenizer.special_ids:
            assert answer.choices[0].text[offset : offset + len(token)] == token


def test_echo_repeats_the_prompt(language, engine):
    wanted = expected(engine, "the thing", temperature=0, max_tokens=5)
    assert complete(language, "the thing", echo=True, temperature=0, max_tokens=5).choices[0].text == (
        "the thing" + wanted.text
    )
    chunks = list(complete(language, "the thing", echo=True, temperature=0, max_tokens=5, stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks) == "the thing" + wanted.text


def test_the_best_of_several_are_told(language, engine):
    made = [expected(engine, "the thing", temperature=1, seed=4 + choice, max_tokens=6) for choice in range(5)]
    ranked = sorted(
        made, key=lambda completion: sum(completion.log_probabilities) / len(completion.log_probabilities), reverse=True
    )
    answer = complete(language, ["one", "the thing"], n=2, best_of=5, seed=4, max_tokens=6)
    assert [choice.text for choice in answer.choices[2:]] == [completion.text for completion in ranked[:2]]
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    alone = complete(language, "the thing", n=2, best_of=5, seed=4, max_tokens=6)
    assert alone.usage.completion_tokens == sum(len(completion.ids) for completion in made)


def test_alternatives_to_a_prompt_are_told(language, engine):
    answer = complete(language, "the thing is", echo=True, max_tokens=0, logprobs=3)
    ids = engine.checkpoint.tokenizer.encode("the thing is")
    (score,) = engine.score([ids[:1]], [ids[1:]], alternatives=3)
    logprobs = answer.choices[0].logprobs
    assert logprobs.token_logprobs[0] is None
    assert logprobs.token_logprobs[1:] == pytest.approx(score.log_probabilities, abs=1e-4)
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (len(ids), 0)
    for top, row, token in zip(logprobs.top_logprobs[1:], score.alternatives, logprobs.tokens[1:], strict=True):
        assert sorted(top.values(), reverse=True)[:3] == pytest.approx([value for _, value in row], abs=1e-3)
        assert token in top and len(top) in (3, 4)


@for_each(
    ("options", "sampling"),
    [
        ({"min_p": 0.2}, {"min_p": 0.2}),
        ({"typical_p": 0.5}, {"typical_p": 0.5}),
        ({"structured_outputs": {"choice": ["one", "two"]}}, {"constraint": Choice(("one", "two"))}),
    ],
)
def test_what_goes_beyond_openai_reaches_the_engine(language, engine, options, sampling):
    answer = complete(language, "the thing", seed=3, max_tokens=12, extra_body=options)
    wanted = expected(engine, "the thing", temperature=1, seed=3, max_tokens=12, **sampling)
    assert (
        answer.choices[0].text
        == wanted.text
        != expected(engine, "the thing", temperature=1, seed=3, max_tokens=12).text
    )


def test_our_own_client_scores_as_the_engine_does(language, engine):
    remote = RemoteEngine(f"{language.url}/v1", "tiny", prompt_log_probabilities=True)
    encode = engine.checkpoint.tokenizer.encode
    contexts = [encode(text) for text in ("the cat", "a", "once upon a time", "\u00e9\u00e8")]
    continuations = [encode(text) for text in (" sleeps", " b c", " there was a queen\n", "\U0001f600")]
    scores, remote_scores = engine.score(contexts, continuations), remote.score(contexts, continuations)
    for one, other in zip(scores, remote_scores, strict=True):
        # In bfloat16, what is computed together moves a score by about 0.03 a token.
        assert other.log_probabilities == pytest.approx(one.log_probabilities, abs=0.05)


def test_our_own_client_asks_for_what_goes_beyond_openai(language, engine):
    remote = RemoteEngine(f"{language.url}/v1", "tiny", extensions=EXTENSIONS)
    sampling = {"max_tokens": 12, "temperature": 0.8, "seed": 6, "min_p": 0.05, "typical_p": 0.9}
    constraints = [None, Choice(("the one", "the other")), JsonSchema('{"type": "integer", "maximum": 99}')]
    requests = [
        Request(messages=(Message("user", "hello"),), sampling=SamplingParameters(constraint=constraint, **sampling))
        for constraint in constraints
    ]
    texts = [completion.text for completion in engine.generate(requests)]
    assert [completion.text for completion in remote.generate(requests)] == texts
    assert texts[1] in constraints[1].options and int(texts[2]) <= 99


def test_one_bad_prompt_refuses_all_and_leaves_nothing_running(language, wait_until):
    with pytest.raises(openai.BadRequestError):
        complete(language, ["good", "x" * 2000, "good"], max_tokens=400)
    worker = language.service.models.language("tiny")
    wait_until(lambda: worker.running == worker.waiting == 0)
