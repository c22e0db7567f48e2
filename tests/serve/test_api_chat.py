"""Chat completions through the official client, against the engine itself."""

import math

import openai
import pytest

from lmworks.generate.engine import Engine
from lmworks.generate.protocol import Request, SamplingParameters
from lmworks.records import Message

MESSAGES = [{"role": "user", "content": "hello"}]
CALL = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
BROKEN = {**CALL, "function": {"name": "f", "arguments": '{"a": '}}


@pytest.fixture(scope="module")
def engine(tiny):
    return Engine(tiny)


def ask(running, **options):
    return running.client().chat.completions.create(model="tiny", messages=MESSAGES, **options)


def expected(engine, **sampling):
    request = Request(messages=(Message("user", "hello"),), sampling=SamplingParameters(**sampling))
    return engine.generate([request])[0]


@pytest.mark.parametrize(
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


def test_a_stream_joins_to_the_answer(language):
    whole = ask(language, seed=11, max_tokens=30)
    chunks = list(ask(language, seed=11, max_tokens=30, stream=True, stream_options={"include_usage": True}))
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


def test_streamed_log_probabilities_are_those_of_the_answer(language):
    options = {"seed": 5, "max_tokens": 15, "logprobs": True, "top_logprobs": 1}
    whole = ask(language, **options).choices[0].logprobs.content
    chunks = [chunk.choices[0] for chunk in ask(language, **options, stream=True)]
    parts = [token for choice in chunks if choice.logprobs for token in choice.logprobs.content]
    assert [(t.token, t.bytes) for t in parts] == [(t.token, t.bytes) for t in whole]


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


def test_choices_of_a_stream_keep_apart(language):
    whole = ask(language, n=3, seed=2, max_tokens=8)
    texts = ["", "", ""]
    for chunk in ask(language, n=3, seed=2, max_tokens=8, stream=True):
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
    assert texts == [choice.message.content for choice in whole.choices]


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


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"tools": [{"type": "custom", "custom": {"name": "f"}}]}, "tools.0"),
        ({"tools": [{"type": "function", "function": {"name": "no spaces"}}]}, "tools.0.function.name"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}] * 2}, "tools"),
        ({"tool_choice": "auto"}, "tool_choice"),
        ({"functions": [{"name": "f"}]}, "functions"),
        ({"tool_choice": {"type": "function", "function": {"name": "f"}}}, "tool_choice"),
        ({"response_format": {"type": "xml"}}, "response_format"),
        ({"response_format": {"type": "json_schema"}}, "response_format"),
        ({"parallel_tool_calls": True}, "parallel_tool_calls"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"audio": {"voice": "alloy", "format": "mp3"}}, "audio"),
        ({"reasoning_effort": "low"}, "reasoning_effort"),
        ({"store": True}, "store"),
        ({"temperature": 2.5}, "temperature"),
        ({"temperature": "1"}, "temperature"),
        ({"temperature": 1e-30}, "temperature"),
        ({"repetition_penalty": 1e-30}, "repetition_penalty"),
        ({"top_p": 0}, "top_p"),
        ({"n": 0}, "n"),
        ({"n": 100}, "n"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**63}, "seed"),
        ({"stop": ["a"] * 33}, "stop"),
        ({"stop": ""}, "stop"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"logit_bias": {"x": 1}}, "logit_bias"),
        ({"logit_bias": {"1": 101}}, "logit_bias"),
        ({"metadata": {"topic": "x"}}, "metadata.topic"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages.0.tool_call_id"),
        ({"messages": [{"role": "user", "content": "x", "tool_call_id": "y"}]}, "messages.0.tool_call_id"),
        ({"messages": [{"role": "user", "content": "x", "tool_calls": [CALL]}]}, "messages.0.tool_calls"),
        ({"messages": [{"role": "assistant", "tool_calls": [BROKEN]}]}, "messages.0.tool_calls.0.function.arguments"),
        ({"messages": [{"role": "user"}]}, "messages.0.content"),
        ({"messages": [{"role": "user", "content": None}]}, "messages.0.content"),
        ({"messages": [{"role": "user", "content": "x", "name": "x" * 65}]}, "messages.0.name"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]}, "messages.0.content"),
        ({"best_of": 2}, "best_of"),
        ({"min_p": 1.1}, "min_p"),
        ({"typical_p": 0}, "typical_p"),
        ({"priority": 0.5}, "priority"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(language, options, param):
    body = {"model": "tiny", "messages": MESSAGES, **options}
    answer = language.http().post("/v1/chat/completions", json=body)
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert error["param"].startswith(param), error
    assert error["type"] == "invalid_request_error" and param.split(".")[-1] in error["message"]


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"top_logprobs": 2}, "logprobs"),
        ({"messages": [{"role": "tool", "content": "x", "tool_call_id": "never"}]}, "no message before"),
        (
            {"response_format": {"type": "json_object"}, "extra_body": {"structured_outputs": {"regex": "a"}}},
            "not both",
        ),
        ({"extra_body": {"structured_outputs": {"regex": "a", "choice": ["a"]}}}, "exactly one"),
        ({"stream_options": {"include_usage": True}}, "stream"),
        ({"max_tokens": 1, "max_completion_tokens": 1}, "max_completion_tokens"),
        ({"logit_bias": {"99999": 1}}, "logit_bias"),
        ({"logit_bias": {"5": 1, "05": -100}}, "logit_bias"),
        ({"user": "ada", "extra_body": {"safety_identifier": "eve"}}, "safety_identifier"),
        ({"messages": [{"role": "user", "content": "x" * 2000}]}, "context"),
    ],
)
def test_what_does_not_go_together_is_refused(language, options, word):
    with pytest.raises(openai.BadRequestError, match=word):
        language.client().chat.completions.create(**{"model": "tiny", "messages": MESSAGES, **options})
    with pytest.raises(openai.BadRequestError, match=word):  # before the stream begins, with its own status
        stream = {} if "stream_options" in options else {"stream": True}
        language.client().chat.completions.create(**{"model": "tiny", "messages": MESSAGES, **options, **stream})


NULL = "tools tool_choice response_format stop n seed logprobs user metadata stream_options".split()


@pytest.mark.parametrize("absent", [dict.fromkeys(NULL), {"tools": [], "functions": [], "stop": []}])
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


def test_an_unknown_model_is_not_found(language):
    with pytest.raises(openai.NotFoundError) as caught:
        language.client().chat.completions.create(model="nobody", messages=MESSAGES)
    assert caught.value.code == "model_not_found" and caught.value.param == "model"
    assert "tiny" in caught.value.message
    with pytest.raises(openai.NotFoundError, match="embedding"):
        language.client().chat.completions.create(model="embedder", messages=MESSAGES)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (
            "chat/completions",
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "What is it?"}, None]}]},
        ),
        ("responses", {"input": [{"role": "user", "content": [{"type": "input_text", "text": "What is it?"}, None]}]}),
    ],
)
def test_an_image_is_refused_as_one(language, path, body):
    address = "data:image/png;base64,iVBORw0KGgo="
    image = {"type": "image_url", "image_url": {"url": address}}
    image = image if path != "responses" else {"type": "input_image", "image_url": address, "detail": "auto"}
    (messages,) = body.values()
    messages[0]["content"][1] = image
    answer = language.http().post(f"/v1/{path}", json={"model": "tiny", **body})
    error = answer.json()["error"]
    assert answer.status_code == 400 and error["type"] == "invalid_request_error"
    assert "images are not supported by this model" in error["message"] and ".content.1" in error["param"]
