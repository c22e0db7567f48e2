"""Chat completions through the official client, against the engine itself."""

import math

import pytest

from kit.tables import for_each
from lmworks.generate.engine import Engine
from lmworks.generate.protocol import Request, SamplingParameters
from lmworks.records import Message

MESSAGES = [{"role": "user", "content": "hello"}]


@pytest.fixture(scope="module")
def engine(tiny):
    return Engine(tiny)


def ask(running, **options):
    return running.client().chat.completions.create(model="tiny", messages=MESSAGES, **options)


def expected(engine, **sampling):
    request = Request(messages=(Message("user", "hello"),), sampling=SamplingParameters(**sampling))
    return engine.generate([request])[0]


@for_each(
    ("options", "sampling"),
    [
        ({"temperature": 0, "max_tokens": 12}, {"temperature": 0, "max_tokens": 12}),
        ({"seed": 7, "max_tokens": 12}, {"temperature": 1, "seed": 7, "max_tokens": 12}),
        (
            {"seed": 7, "max_completion_tokens": 9, "top_p": 0.5},
            {"temperature": 1, "seed": 7, "max_tokens": 9, "top_p": 0.5},
        ),
        (
            {"temperature": 0, "max_tokens": 12, "frequency_penalty": 2, "presence_penalty": 1.5},
            {"temperature": 0, "max_tokens": 12, "frequency_penalty": 2, "presence_penalty": 1.5},
        ),
        (
            {"temperature": 0, "max_tokens": 6, "logit_bias": {"75": 100}},
            {"temperature": 0, "max_tokens": 6, "logit_bias": {75: 100}},
        ),
        (
            {"seed": 3, "max_tokens": 40, "extra_body": {"top_k": 2, "repetition_penalty": 1.5, "ignore_eos": True}},
            {"temperature": 1, "seed": 3, "max_tokens": 40, "top_k": 2, "repetition_penalty": 1.5, "ignore_eos": True},
        ),
    ],
)
def test_parameters_reach_the_engine(language, engine, options, sampling):
    answer, wanted = ask(language, **options), expected(engine, **sampling)
    assert answer.choices[0].message.content == wanted.text
    assert answer.choices[0].finish_reason == wanted.finish_reason
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (
        wanted.prompt_tokens,
        wanted.completion_tokens,
    )
    assert answer.usage.total_tokens == wanted.prompt_tokens + wanted.completion_tokens
    assert answer.object == "chat.completion" and answer.system_fingerprint.startswith("fp_")


def test_stop_strings_end_the_text(language, engine):
    whole = expected(engine, temperature=0, max_tokens=30).text
    stop = whole[3:5]
    answer = ask(language, temperature=0, max_tokens=30, stop=[stop, "never said"])
    assert answer.choices[0].message.content == whole[: whole.index(stop)]
    assert answer.choices[0].finish_reason == "stop"


class NOTHING:
    content = ()


def test_a_stream_joins_to_the_answer(language):
    options = {"seed": 11, "max_tokens": 30, "logprobs": True, "top_logprobs": 1}
    whole = ask(language, **options)
    chunks = list(ask(language, **options, stream=True, stream_options={"include_usage": True}))
    tokens = [token for chunk in chunks if chunk.choices for token in (chunk.choices[0].logprobs or NOTHING).content]
    wanted = [(token.token, token.bytes) for token in whole.choices[0].logprobs.content]
    assert [(token.token, token.bytes) for token in tokens] == wanted
    assert len({chunk.id for chunk in chunks}) == 1
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == whole.choices[0].message.content
    assert chunks[-2].choices[0].finish_reason == whole.choices[0].finish_reason
    assert chunks[-1].choices == [] and chunks[-1].usage == whole.usage
    assert all(chunk.usage is None for chunk in chunks[:-1])
    assert chunks[0].id == f"chatcmpl-{chunks[-2].lmworks['interaction']}"


def test_log_probabilities_are_the_models_own(language, engine):
    answer = ask(language, seed=5, max_tokens=15, logprobs=True, top_logprobs=4)
    wanted = expected(engine, temperature=1, seed=5, max_tokens=15, alternatives=4)
    content = answer.choices[0].logprobs.content
    # In bfloat16 a neighbour in the batch moves ln p by a few 1e-5 at most, see `Engine`.
    assert [token.logprob for token in content] == pytest.approx(wanted.log_probabilities, abs=1e-3)
    assert len(content) == answer.usage.completion_tokens
    for token, own in zip(content, wanted.tokens, strict=True):
        assert [other.logprob for other in token.top_logprobs] == pytest.approx(
            [value for _, _, value in own.alternatives], abs=1e-3
        )
        assert len(token.top_logprobs) == 4
        assert all(other.logprob <= token.top_logprobs[0].logprob for other in token.top_logprobs)


def test_bytes_of_tokens_join_to_the_text(language, tiny):
    """Tokens of a byte-level vocabulary that are parts of characters still tell their bytes."""
    answer = ask(language, seed=5, max_tokens=40, logprobs=True, extra_body={"ignore_eos": True})
    special = set(tiny.tokenizer.special_ids)
    content = [token for token in answer.choices[0].logprobs.content if token.token not in special]
    joined = bytes(byte for token in content for byte in token.bytes).decode("utf-8", "replace")
    assert joined == answer.choices[0].message.content
    assert any(token.token == "\ufffd" for token in content)  # the case that this is about occurs


def test_choices_differ_and_are_logged_each(language):
    answer = ask(language, n=3, seed=2, max_tokens=8)
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert len({choice.message.content for choice in answer.choices}) == 3
    assert answer.usage.completion_tokens <= 24
    own = [one["interaction"] for one in answer.lmworks["choices"]]
    assert own == [answer.id.removeprefix("chatcmpl-") + suffix for suffix in ("", "-1", "-2")]
    for identifier, choice in zip(own, answer.choices, strict=True):
        logged = language.http().get(f"/api/interactions/{identifier}").json()
        assert logged["response"] == choice.message.content
    texts = ["", "", ""]
    for chunk in ask(language, n=3, seed=2, max_tokens=8, stream=True):
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
    assert texts == [choice.message.content for choice in answer.choices]


def test_content_may_be_parts_and_the_developer_is_the_system(language):
    create = language.client().chat.completions.create
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    one = create(model="tiny", messages=[{"role": "developer", "content": parts}], temperature=0, max_tokens=8)
    two = create(model="tiny", messages=[{"role": "system", "content": "a\nb"}], temperature=0, max_tokens=8)
    assert one.choices[0].message.content == two.choices[0].message.content


def test_an_answer_can_be_sent_back(language):
    """Clients append the message object they got, with all its empty fields."""
    first = ask(language, seed=1, max_tokens=4)
    history = [*MESSAGES, first.choices[0].message.model_dump(), {"role": "user", "content": "go on"}]
    create = language.client().chat.completions.create
    assert create(model="tiny", messages=history, max_tokens=4).choices[0].finish_reason in ("stop", "length")


def test_an_answer_without_content_is_an_empty_one(language):
    texts = []
    for said in ({"content": ""}, {"content": None}, {}):
        history = [*MESSAGES, {"role": "assistant", **said}, {"role": "user", "content": "go on"}]
        body = {"model": "tiny", "messages": history, "temperature": 0, "max_tokens": 6}
        texts.append(language.http().post("/v1/chat/completions", json=body).json()["choices"][0]["message"]["content"])
    assert texts[0] == texts[1] == texts[2]


def test_the_name_of_who_speaks_is_passed_on(language):
    body = {"model": "tiny", "messages": [{**MESSAGES[0], "name": "ada"}], "max_tokens": 2}
    answer = language.http().post("/v1/chat/completions", json=body).json()
    logged = language.http().get(f"/api/interactions/{answer['lmworks']['interaction']}").json()
    assert [message["name"] for message in logged["messages"]] == ["ada"]


def test_the_log_keeps_what_metadata_says(language):
    answer = ask(language, max_tokens=3, metadata={"conversation": "talk", "parent": "abc", "unit": "someone"})
    logged = language.http().get(f"/api/interactions/{answer.lmworks['interaction']}").json()
    assert (logged["conversation"], logged["parent"], logged["unit"]) == ("talk", "abc", "someone")
    answer = ask(language, max_tokens=3, user="somebody else")
    logged = language.http().get(f"/api/interactions/{answer.lmworks['interaction']}").json()
    assert logged["unit"] == "somebody else"
    assert logged["seed"] == answer.lmworks["seed"]  # drawn by the server, so that it can be repeated
    assert math.isclose(sum(v for k, v in logged["timings"].items() if k != "total"), logged["timings"]["total"])


NULL = "tools tool_choice response_format stop n seed logprobs user metadata stream_options".split()


@for_each("absent", [dict.fromkeys(NULL), {"tools": [], "functions": [], "stop": []}])
def test_null_and_empty_lists_are_absent(language, engine, absent):
    body = {"model": "tiny", "messages": MESSAGES, "temperature": 0, "max_tokens": 5, **absent}
    answer = language.http().post("/v1/chat/completions", json=body)
    assert answer.json()["choices"][0]["message"]["content"] == expected(engine, temperature=0, max_tokens=5).text


def test_what_is_cached_of_a_prompt_is_told(start):
    """The second time, most of the prompt is found; without kernels, whole chunks of it, hence so long a one."""
    messages = [{"role": "user", "content": "a long question, " * 28}]
    with start() as running:
        first, second = (
            running.client().chat.completions.create(model="tiny", messages=messages, max_tokens=2).usage
            for _ in range(2)
        )
    assert first.prompt_tokens_details.cached_tokens == 0
    assert 0 < second.prompt_tokens_details.cached_tokens < second.prompt_tokens == first.prompt_tokens
