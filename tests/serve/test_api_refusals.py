"""What no API can do is refused by the name of its parameter: one table, beside the bodies that schemathesis draws."""

import json

from kit.tables import for_each

CALL = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
TOOL = {"type": "function", "function": {"name": "f", "description": "does", "parameters": {"type": "object"}}}
DEEP = '{"a":[' * 51 + "]}" * 51
LONG = "long " * 300
PICTURE = "data:image/png;base64,iVBORw0KGgo="
GOOD = {
    "/v1/chat/completions": {"model": "tiny", "messages": [{"role": "user", "content": "hello"}]},
    "/v1/completions": {"model": "tiny", "prompt": "a"},
    "/v1/responses": {"model": "tiny", "input": "x"},
    "/v1/embeddings": {"model": "embedder", "input": "a"},
    "/v1/score": {"model": "embedder", "text_1": "a", "text_2": "b"},
    "/v1/rerank": {"model": "embedder", "query": "a", "documents": ["b"]},
    "/v1/outcomes": {"name": "click", "unit": "u"},
    "/tokenize": {},
    "/detokenize": {"tokens": []},
    "/api/interactions/0123456789abcdef/feedback": {},
    "/api/interactions/0123456789abcdef/notes": {},
}
CHAT, TEXT, RESPONSE, EMBEDDING, SCORE, RANKING, OUTCOME, TOKENS, IDS, FEEDBACK, NOTE = GOOD


def user(content: object, **fields: object) -> dict[str, object]:
    return {"messages": [{"role": "user", "content": content, **fields}]}


def calling(arguments: str) -> dict[str, object]:
    """A conversation that goes on after a call with these arguments."""
    call = {**CALL, "function": {"name": "f", "arguments": arguments}}
    result = {"role": "tool", "tool_call_id": "call_1", "content": "22"}
    return {"messages": [*user("x")["messages"], {"role": "assistant", "tool_calls": [call]}, result]}  # type: ignore


def formed(schema: dict[str, object]) -> dict[str, object]:
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}}


def tool(**function: object) -> dict[str, object]:
    return {"tools": [{"type": "function", "function": {"name": "f", **function}}]}


ARGUMENTS = "messages.1.tool_calls.0.function.arguments"
REFUSED = [  # path, what is changed, the parameter, and words of the message
    (CHAT, {"tools": [{"type": "custom", "custom": {"name": "f"}}]}, "tools.0"),
    (CHAT, tool(name="no spaces"), "tools.0.function.name"),
    (CHAT, {"tools": [TOOL] * 2}, "tools"),
    (CHAT, tool(parameters={"type": "string"}), "tools arguments"),
    (CHAT, tool(parameters={"type": ["array", "null"]}), "tools arguments"),
    (CHAT, tool(parameters={"type": "object", "not": {}}), "tools schema"),
    (CHAT, {"tool_choice": "auto"}, "tool_choice"),
    (CHAT, {"tools": [TOOL], "structured_outputs": {"regex": "a"}}, "structured_outputs"),
    (CHAT, {"functions": [{"name": "f"}]}, "functions"),
    (CHAT, {"parallel_tool_calls": True}, "parallel_tool_calls"),
    (CHAT, {"response_format": {"type": "xml"}}, "response_format"),
    (CHAT, {"response_format": {"type": "json_schema"}}, "response_format"),
    (CHAT, formed({"type": "object", "not": {}}), "response_format schema"),
    (CHAT, formed({"type": "object", "minProperties": "x"}), "response_format minProperties"),
    (CHAT, {"structured_outputs": {"regex": "("}}, "structured_outputs regular"),
    (CHAT, {"response_format": {"type": "json_object"}, "structured_outputs": {"regex": "a"}}, "structured_outputs"),
    (CHAT, {"structured_outputs": {"regex": "a", "choice": ["a"]}}, "structured_outputs"),
    (CHAT, {"audio": {"voice": "alloy", "format": "mp3"}}, "audio"),
    (CHAT, {"reasoning_effort": "low"}, "reasoning_effort"),
    (CHAT, {"store": True}, "store"),
    (CHAT, {"temperature": 1e-30}, "temperature"),
    (CHAT, {"repetition_penalty": 1e-30}, "repetition_penalty"),
    (CHAT, {"max_tokens": True}, "max_tokens"),
    (CHAT, {"max_tokens": 1, "max_completion_tokens": 1}, "max_completion_tokens"),
    (CHAT, {"seed": 2**63}, "seed"),
    (CHAT, {"stop": ["a"] * 33}, "stop"),
    (CHAT, {"stop": ""}, "stop"),
    (CHAT, {"top_logprobs": 2}, "top_logprobs"),
    (CHAT, {"logit_bias": {"x": 1}}, "logit_bias"),
    (CHAT, {"logit_bias": {"1": 101}}, "logit_bias"),
    (CHAT, {"logit_bias": {"99999": 1}}, "logit_bias"),
    (CHAT, {"logit_bias": {"5": 1, "05": -100}}, "logit_bias"),
    (CHAT, {"metadata": {"topic": "x"}}, "metadata.topic"),
    (CHAT, {"user": "ada", "safety_identifier": "eve"}, "safety_identifier"),
    (CHAT, {"stream_options": {"include_usage": True}}, "stream_options"),
    (CHAT, {"best_of": 2}, "best_of"),
    (CHAT, {"messages": []}, "messages"),
    (CHAT, {"messages": [{"role": "tool", "content": "x"}]}, "messages.0.tool_call_id"),
    (CHAT, {"messages": [{"role": "tool", "content": "x", "tool_call_id": "never"}]}, "messages never"),
    (CHAT, {"messages": [{"role": "user"}]}, "messages.0.content"),
    (CHAT, user(None), "messages.0.content"),
    (CHAT, user(5), "messages.0.content"),
    (CHAT, user("x", tool_call_id="y"), "messages.0.tool_call_id"),
    (CHAT, user("x", tool_calls=[CALL]), "messages.0.tool_calls"),
    (CHAT, user("x", name="x" * 65), "messages.0.name"),
    (CHAT, user([{"type": "image_url", "image_url": {"url": PICTURE}}]), "messages.0.content.0"),
    *((CHAT, calling(text), ARGUMENTS) for text in ("", "[1]", '{"a": ', '{"a": NaN}', '{"a": 1e999}', DEEP)),
    (CHAT, calling(r'{"\ud800": 1}'), ARGUMENTS),
    (TEXT, {"suffix": "end"}, "suffix"),
    (TEXT, {"n": 3, "best_of": 2}, "best_of"),
    (TEXT, {"best_of": 3, "stream": True}, "best_of"),
    (TEXT, {"logprobs": 6}, "logprobs"),
    (TEXT, {"max_tokens": 0}, "max_tokens echo"),
    (TEXT, {"prompt": []}, "prompt"),
    (TEXT, {"prompt": [""] * 1000}, "prompt"),
    (TEXT, {"prompt": [[1], "a"]}, "prompt"),
    (TEXT, {"prompt": [1, "a"]}, "prompt.1"),
    (TEXT, {"prompt": [999_999]}, "prompt"),
    (TEXT, {"prompt": list(range(120_000))}, "prompt"),
    (TEXT, {"messages": []}, "messages"),
    (RESPONSE, {"background": True}, "background"),
    (RESPONSE, {"conversation": "conv_1"}, "conversation"),
    (RESPONSE, {"include": ["reasoning.encrypted_content"]}, "include"),
    (RESPONSE, {"reasoning": {"effort": "low"}}, "reasoning"),
    (RESPONSE, {"truncation": "auto"}, "truncation"),
    (RESPONSE, {"tools": [{"type": "web_search"}]}, "tools.0"),
    (RESPONSE, {"tool_choice": "required"}, "tool_choice"),
    (RESPONSE, {"text": {"format": {"type": "grammar"}}}, "text.format"),
    (
        RESPONSE,
        {"text": {"format": {"type": "json_object"}}, "structured_outputs": {"regex": "a"}},
        "structured_outputs",
    ),
    (
        RESPONSE,
        {"text": {"format": {"type": "json_schema", "schema": {"type": "object", "not": {}}}}},
        "text.format schema",
    ),
    (RESPONSE, {"input": []}, "input"),
    (RESPONSE, {"input": [{"type": "reasoning", "summary": []}]}, "input.0.type"),
    (RESPONSE, {"input": [{"type": "function_call_output", "call_id": "c", "output": "x"}]}, "input"),
    (RESPONSE, {"input": [{"role": "user", "content": [{"type": "x"}]}]}, "input.0.content.0.type"),
    (
        RESPONSE,
        {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": PICTURE}]}]},
        "input.0.content.0",
    ),
    (RESPONSE, {"stop": "x"}, "stop"),
    (RESPONSE, {"top_logprobs": 2}, "top_logprobs include"),
    (RESPONSE, {"stream_options": {"include_obfuscation": False}}, "stream_options"),
    (EMBEDDING, {"dimensions": 128}, "dimensions"),
    (EMBEDDING, {"input": [[1, 2], [3]]}, "input"),
    (EMBEDDING, {"input": ["a", ""]}, "input"),
    (EMBEDDING, {"input": ["a"] * 3000}, "input"),
    (EMBEDDING, {"encoding_format": "hex"}, "encoding_format"),
    (EMBEDDING, {"prefix": "x"}, "prefix"),
    (SCORE, {"text_1": ["a", "b"], "text_2": ["a", "b", "c"]}, "text_2"),
    (SCORE, {"model": "tiny", "text_1": "a" * 600}, "None context"),
    (RANKING, {"model": None}, "model"),
    (RANKING, {"top_n": 0}, "top_n"),
    (RANKING, {"instruct": "x"}, "instruct"),
    (OUTCOME, {"unit": None}, "unit"),
    (OUTCOME, {"unit": ""}, "unit"),
    (OUTCOME, {"name": "two words"}, "name two words"),
    (OUTCOME, {"time": 1e12}, "time"),
    (TOKENS, {}, "prompt"),
    (TOKENS, {"prompt": "a", **user("b")}, "prompt"),
    (TOKENS, {"prompt": "a", "tools": [TOOL]}, "tools"),
    (TOKENS, {"prompt": "a", "add_generation_prompt": True}, "add_generation_prompt"),
    (TOKENS, {**user("b"), "add_special_tokens": True}, "add_special_tokens"),
    (TOKENS, {"prompt": "a", "chat_template": "{{ 1 }}"}, "chat_template"),
    (IDS, {"tokens": [99999]}, "tokens"),
    (FEEDBACK, {"value": "sideways"}, "value"),
    (FEEDBACK, {"value": "up", "stars": 5}, "stars"),
    (NOTE, {"text": "  "}, "text"),
    (NOTE, {"text": "x" * 10_001}, "text"),
]


@for_each(("path", "changed", "param"), REFUSED)
def test_what_is_not_supported_is_refused_by_name(language, path, changed, param):
    """Also before a stream begins, with its own status."""
    streams = path in (CHAT, TEXT, RESPONSE) and "stream" not in changed and "stream_options" not in changed
    for more in ({}, {"stream": True}) if streams else ({},):
        answer = language.http().post(path, json={**GOOD[path], **changed, **more})
        assert answer.status_code == 400, answer.text
        error = answer.json()["error"]
        name, *words = param.split()
        assert str(error["param"]).startswith(name) and error["type"] == "invalid_request_error", error
        assert all(word in error["message"] for word in words or name.split(".")[-1:]), error
        assert "Value error" not in error["message"] and len(answer.content) < 2000, error


@for_each(
    ("path", "changed", "param"),
    [
        (CHAT, user(LONG), "messages"),
        (TEXT, {"prompt": ["a", LONG], "echo": True}, "prompt"),
        (RESPONSE, {"input": LONG}, "input"),
        (EMBEDDING, {"input": ["a", LONG]}, "input"),
        (CHAT, {"model": "assistant", **user(LONG)}, "messages"),
        (RESPONSE, {"model": "assistant", "input": LONG}, "input"),
    ],
)
def test_a_prompt_beyond_the_context_has_the_code_that_clients_know(language, grounded, path, changed, param):
    body = {**GOOD[path], **changed}
    running = grounded if body["model"] == "assistant" else language
    for more in ({}, {"stream": True}) if path != EMBEDDING else ({},):
        answer = running.http().post(path, json={**body, **more})
        error = answer.json()["error"]
        assert (answer.status_code, error["code"], error["param"]) == (400, "context_length_exceeded", param)


@for_each(
    ("path", "changed", "param"),
    [
        *((path, {"model": "nobody"}, "model") for path in GOOD if "model" in GOOD[path]),
        (CHAT, {"model": "embedder"}, "model"),
        (EMBEDDING, {"model": "tiny"}, "model"),
        (TOKENS, {"model": "nobody", "prompt": "a"}, "model"),
        (OUTCOME, {"unit": "", "interaction": "nobody"}, "interaction"),
        (RESPONSE, {"previous_response_id": "resp_nothing"}, "previous_response_id"),
        (FEEDBACK, {"value": "up"}, None),
        (NOTE, {"text": "x"}, None),
    ],
)
def test_what_is_not_there_is_not_found(language, path, changed, param):
    answer = language.http().post(path, json={**GOOD[path], **changed})
    error = answer.json()["error"]
    print(path, changed, answer.status_code, error)
    assert (answer.status_code, error["param"]) == (404, param) and error["code"].endswith("_not_found"), error
    assert param != "model" or "tiny" in error["message"] or "embedder" in error["message"], error  # what there is


BOMBS = {
    "nested lists": "[" * 100_000,
    "nested lists, closed": "[" * 100_000 + "]" * 100_000,
    "nested objects": '{"a":' * 50_000 + "1" + "}" * 50_000,
    "nested content": '{"model":"tiny","messages":[{"role":"user","content":' + "[" * 900 + "]" * 900 + "}]}",
    "a long number": '{"model":"tiny","messages":[{"role":"user","content":"a"}],"seed":' + "9" * 100_000 + "}",
    "a large exponent": '{"model":"tiny","messages":[{"role":"user","content":"a"}],"temperature":1e999}',
    "not a number": '{"model":"tiny","messages":[{"role":"user","content":"a"}],"temperature":NaN}',
    "a lone surrogate": '{"model":"tiny","messages":[{"role":"user","content":"\\ud800"}]}',
    "a lone surrogate as key": '{"model":"tiny","messages":[{"role":"user","content":"a"}],"\\ud800":1}',
    "a lone surrogate as model": '{"model":"\\ud800","messages":[{"role":"user","content":"a"}]}',
    "many messages": json.dumps({"model": "tiny", "messages": [{"role": "user"}] * 50_000}),
    "many wrong items": json.dumps({"model": "tiny", "messages": [1] * 300_000}),
    "many biases": json.dumps({"model": "tiny", "messages": [], "logit_bias": {f"k{n}": 1 for n in range(50_000)}}),
    "many keys": json.dumps({f"k{number}": 1 for number in range(50_000)}),
    "no JSON": "\x00\xff",
    "no object": '"text"',
    "nothing": "",
}


@for_each("path", [CHAT, TEXT, EMBEDDING])
@for_each("name", BOMBS)
def test_no_body_breaks_the_server(language, name, path):
    content, headers = BOMBS[name].encode("utf-8", "surrogatepass"), {"Content-Type": "application/json"}
    answer = language.http().post(path, content=content, headers=headers)
    assert answer.status_code in (400, 404) and answer.json()["error"]["message"], answer.text
    assert len(answer.content) < 2000  # what was sent is not sent back


@for_each("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", None])
def test_only_json_is_taken(language, kind):
    """The three kinds that a form on another site can send are refused, whatever they hold."""
    headers = {"Content-Type": kind} if kind else {}
    answer = language.http().post(CHAT, content=json.dumps(GOOD[CHAT]).encode(), headers=headers)
    assert answer.status_code == 400 and "application/json" in answer.json()["error"]["message"]
