"""Log-probabilities of responses through the official client: of the words alone, at once and as they come."""

import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted import scripted

from lmworks.generate.engine import Engine
from lmworks.generate.protocol import Request, SamplingParameters, Token
from lmworks.records import Message
from lmworks.serve.openai.logprobs import TokenBytes
from lmworks.serve.openai.responses_api.response_events import MessageLogprobs
from lmworks.tokenizer.tool_calls import OWN_FORM

WEATHER = {"type": "function", "name": "get_weather", "parameters": None, "strict": True}
CALL = OWN_FORM.write("get_weather", "{}")
INCLUDE = ["message.output_text.logprobs"]


def respond(running, **options):
    return running.client().responses.create(model="tiny", input="hello", include=INCLUDE, **options)


def told(events) -> list:
    return [one for event in events if event.type == "response.output_text.delta" for one in event.logprobs]


def test_they_are_the_models_own(served, tiny):
    response = respond(served, top_logprobs=3, temperature=0, max_output_tokens=12)
    sampling = SamplingParameters(max_tokens=12, alternatives=3)
    (wanted,) = Engine(tiny).generate([Request(messages=(Message("user", "hello"),), sampling=sampling)])
    (text,) = response.output[0].content
    assert response.top_logprobs == 3 and len(text.logprobs) == response.usage.output_tokens == len(wanted.tokens)
    for one, token in zip(text.logprobs, wanted.tokens, strict=True):
        assert one.token == token.text
        # other matrix shapes round differently: float32, and logits of magnitude 10
        assert one.logprob == pytest.approx(token.log_probability, abs=1e-4)
        assert [other.token for other in one.top_logprobs] == [other for _, other, _ in token.alternatives]
        assert one.top_logprobs[0].logprob == pytest.approx(token.alternatives[0][2], abs=1e-4)
    spelled = b"".join(bytes(one.bytes) for one in text.logprobs)
    assert spelled.decode("utf-8", "replace").removesuffix("<|im_end|>") == text.text


def test_a_stream_tells_the_same(served):
    options = {"top_logprobs": 2, "extra_body": {"seed": 7}, "max_output_tokens": 40}
    whole = respond(served, **options)
    events = list(respond(served, **options, stream=True))
    (text,) = events[-1].response.output[0].content
    assert text.model_dump() == whole.output[0].content[0].model_dump()
    deltas = told(events)
    assert [(one.token, one.logprob) for one in deltas] == [(one.token, one.logprob) for one in text.logprobs]
    assert all(len(one.top_logprobs) == 2 and not hasattr(one, "bytes") for one in deltas)
    (done,) = (event for event in events if event.type == "response.output_text.done")
    assert [one.to_dict() for one in done.logprobs] == [one.to_dict() for one in deltas]
    with served.client().responses.stream(model="tiny", input="hello", include=INCLUDE, **options) as stream:
        assert stream.get_final_response().output[0].content[0].logprobs == text.logprobs


def test_the_tokens_of_calls_are_no_words(served):
    pieces = ["Let", " me", " see", ".", "\n<tool", CALL[5:], ""]
    with scripted(served, pieces):
        whole = respond(served, tools=[WEATHER])
        events = list(respond(served, tools=[WEATHER], stream=True))
    assert [one.token for one in whole.output[0].content[0].logprobs] == ["Let", " me", " see", "."]
    assert [one.token for one in told(events)] == ["Let", " me", " see", "."]
    assert events[-1].response.output[0] == next(e.item for e in events if e.type == "response.output_item.done")
    with scripted(served, [CALL]):
        events = list(respond(served, tools=[WEATHER], stream=True))
    assert told(events) == [] and [item.type for item in events[-1].response.output] == ["function_call"]


def test_nobody_gets_what_was_not_asked_for(served):
    create = served.client().responses.create
    response = create(model="tiny", input="x", max_output_tokens=3)
    assert response.output[0].content[0].logprobs == [] and response.top_logprobs == 0
    events = list(create(model="tiny", input="x", max_output_tokens=3, stream=True))
    assert told(events) == []
    with pytest.raises(openai.BadRequestError, match="include"):
        create(model="tiny", input="x", top_logprobs=3)


@given(text=st.text(st.sampled_from("ab é日🙂"), max_size=12), data=st.data())
def test_each_token_is_told_once_when_the_text_has_reached_it(tiny, text, data):
    """However the text is cut, also inside of characters; the token that ends the text comes with the rest."""
    tokenizer = tiny.tokenizer
    ids = [*tokenizer.encode(text), tokenizer.eos_ids[0]]
    tokens = [Token(token, tokenizer.decode([token], skip_special=False), -0.5) for token in ids]
    taken = sorted(data.draw(st.lists(st.integers(0, len(tokens)), max_size=4)))
    logprobs, spelled, length = MessageLogprobs(TokenBytes(tokenizer), 0), b"", 0
    for start, end in zip([0, *taken], [*taken, len(tokens)], strict=True):
        logprobs.take(tokens[start:end])
        length = data.draw(st.integers(length, len(text)))
        spelled += b"".join(bytes(one.bytes) for one in logprobs.until(length))
        whole = spelled.decode("utf-8", "ignore")  # of a character whose other tokens are to come
        assert text.startswith(whole) and len(whole) <= length + 1  # a token may hold "ab"
    spelled += b"".join(bytes(one.bytes) for one in logprobs.until(len(text)))
    assert spelled == text.encode()
    assert [one.token for one in logprobs.rest()] == ["<|im_end|>"] and logprobs.rest() == []
