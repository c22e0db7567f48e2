"""What the clients of the mixed soak send: good requests of every endpoint, hopeless ones, and hostile ones.

What is completed comes from a small pool, greedy or with a seed, so that the same request comes often, beside others
each time, and must be answered alike each time.
"""

import json
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

FINE = frozenset({200, 429, 504})  # done; refused for now, since the queue is full; not finished before the deadline
_QUESTIONS = tuple(f"Count from {start} in steps of {start % 3 + 1}:" for start in range(1, 6))
_LONG = tuple(
    f"{' '.join(f'Fact {n}: {n} and {n} are {n + n}.' for n in range(of, of + 40))} And?" for of in (0, 7, 50)
)
_CITY = {"type": "object", "properties": {"city": {"type": "string", "maxLength": 12}, "year": {"type": "integer"}}}
_CITY |= {"required": ["city", "year"], "additionalProperties": False}
_TOOL = {"type": "function", "function": {"name": "look_up", "description": "Looks a city up.", "parameters": _CITY}}


@dataclass(frozen=True, slots=True)
class Ask:
    """One request. `content` is the body as it is sent; `statuses` are those that may answer it."""

    kind: str
    path: str
    content: bytes
    statuses: frozenset[int] = FINE
    streams: bool = False


def draw(generator: random.Random, languages: tuple[str, ...], embedder: str) -> Ask:
    """A request: mostly a good one."""
    if generator.random() < 0.12:
        return _hostile(generator, languages[0])
    kinds, weights = zip(*_GOOD.items(), strict=True)
    (kind,) = generator.choices(kinds, weights)
    model = embedder if kind in (_embedding, _ranking) else generator.choice(languages)
    path, body = kind(generator, model)
    streams = path in ("/v1/chat/completions", "/v1/completions", "/v1/responses") and generator.random() < 0.5
    if streams:
        body["stream"] = True
    return Ask(kind.__name__.strip("_"), path, json.dumps({"model": model, **body}).encode(), FINE, streams)


Made = tuple[str, dict[str, Any]]  # path and body


def _settings(generator: random.Random, tokens: int = 24) -> dict[str, Any]:
    drawn = generator.choice(({"temperature": 0}, {"temperature": 0.9, "seed": 7}, {"temperature": 0.7, "seed": 8}))
    return {**drawn, "max_tokens": tokens, "priority": generator.choice((-1, 0, 0, 1)), "user": generator.choice("abc")}


def _messages(question: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": question}]


def _chat(generator: random.Random, model: str) -> Made:
    several = {"n": 2} if generator.random() < 0.2 else {}
    question = generator.choice(_QUESTIONS)
    return "/v1/chat/completions", {"messages": _messages(question), **_settings(generator), **several}


def _completion(generator: random.Random, model: str) -> Made:
    prompts = generator.sample(_QUESTIONS, generator.choice((1, 1, 3)))
    return "/v1/completions", {"prompt": prompts, "logprobs": 2, **_settings(generator, 12)}


def _response(generator: random.Random, model: str) -> Made:
    settings = _settings(generator)
    told = {"include": ["message.output_text.logprobs"], "top_logprobs": 2} if generator.random() < 0.3 else {}
    return "/v1/responses", {
        "input": generator.choice(_QUESTIONS), "max_output_tokens": settings.pop("max_tokens"), **settings, **told
    }  # fmt: skip


def _long_prompt(generator: random.Random, model: str) -> Made:
    """A third of the cache for each: with several, somebody is preempted."""
    return "/v1/chat/completions", {"messages": _messages(generator.choice(_LONG)), **_settings(generator, 40)}


def _tool(generator: random.Random, model: str) -> Made:
    question = f"When was {generator.choice(('Graz', 'Oslo', 'Lima'))} founded?"
    choice = generator.choice(("auto", "required"))
    body = {"messages": _messages(question), "tools": [_TOOL], "tool_choice": choice, **_settings(generator, 40)}
    return "/v1/chat/completions", body


def _schema(generator: random.Random, model: str) -> Made:
    format_ = {"type": "json_schema", "json_schema": {"name": "city", "schema": _CITY}}
    body = {"messages": _messages("Name a city, as JSON."), "response_format": format_, **_settings(generator, 40)}
    return "/v1/chat/completions", body


def _scored_prompt(generator: random.Random, model: str) -> Made:
    return "/v1/completions", {"prompt": generator.choice(_LONG), "echo": True, "logprobs": 1, "max_tokens": 0}


def _score(generator: random.Random, model: str) -> Made:
    return "/v1/score", {"text_1": generator.choice(_QUESTIONS), "text_2": ["1, 2, 3", "4"]}


def _ranking(generator: random.Random, model: str) -> Made:
    return "/v1/rerank", {"query": generator.choice(_QUESTIONS), "documents": list(_QUESTIONS)}


def _embedding(generator: random.Random, model: str) -> Made:
    return "/v1/embeddings", {"input": generator.sample(_QUESTIONS, 4)}


def _tokens(generator: random.Random, model: str) -> Made:
    return "/tokenize", {"messages": _messages(generator.choice(_QUESTIONS)), "return_token_strs": True}


def _hopeless(generator: random.Random, model: str) -> Made:
    """More than is made before the deadline, behind everybody else."""
    settings = {"temperature": 0, "max_tokens": 900, "priority": 9, "ignore_eos": True}
    return "/v1/chat/completions", {"messages": _messages("Tell me everything."), **settings}


_GOOD: Mapping[Callable[[random.Random, str], Made], float] = {
    _chat: 5, _completion: 3, _response: 3, _long_prompt: 2, _tool: 1, _schema: 1, _scored_prompt: 1, _score: 1,
    _ranking: 1, _embedding: 1, _tokens: 1, _hopeless: 0.5,
}  # fmt: skip

# ---------------------------------------------------------------------------------------------------------------------
# What is refused


def _hostile(generator: random.Random, model: str) -> Ask:
    refused = frozenset({400})
    name, path, content, statuses = generator.choice(
        [
            ("no JSON", "/v1/chat/completions", b'{"model": "a", "messages": [', refused),
            ("no object", "/v1/completions", b"[1, 2]", refused),
            ("no UTF-8", "/v1/responses", b'{"model": "\xff\xfe"}', refused),
            ("nested", "/v1/chat/completions", b'{"a":' * 20_000 + b"1" + b"}" * 20_000, refused),
            ("too large", "/v1/completions", json.dumps({"model": model, "prompt": "a" * 1_100_000}).encode(),
             frozenset({413})),
            ("unknown model", *_bad({"model": "gpt-5"}, 404)),
            ("no such path", "/v1/nothing", b"{}", frozenset({404})),
            ("n", *_bad({"model": model, "n": 10**9})),
            ("type", *_bad({"model": model, "max_tokens": "many"})),
            ("negative", *_bad({"model": model, "max_tokens": -1})),
            ("NaN", "/v1/completions", json.dumps({"model": model, "prompt": "a", "top_p": float("nan")}).encode(),
             refused),
            ("unknown field", *_bad({"model": model, "best_friend": True})),
            ("role", *_bad({"model": model, "messages": [{"role": "king", "content": "a"}]})),
            ("too long", *_bad({"model": model, "messages": _messages("long " * 3000)})),
            *((name, *_bad({"model": model, "max_tokens": 8, **form}, 200, 400, 429, 504))
              for name, form in _FORMS.items()),
        ]
    )  # fmt: skip
    return Ask(f"hostile: {name}", path, content, statuses | {429} if path == "/v1/chat/completions" else statuses)


def _bad(fields: dict[str, Any], *statuses: int) -> tuple[str, bytes, frozenset[int]]:
    body = {"messages": _messages("a"), **fields}
    return "/v1/chat/completions", json.dumps(body).encode(), frozenset(statuses or (400,))


def _schema_of(schema: dict[str, Any]) -> dict[str, Any]:
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}}


def _deep(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "integer"}
    for _ in range(depth):
        schema = {"type": "object", "properties": {"a": schema}, "required": ["a"], "additionalProperties": False}
    return schema


_FORMS: dict[str, dict[str, Any]] = {
    "deep schema": _schema_of(_deep(40)),
    "endless schema": _schema_of({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}}),
    "impossible schema": _schema_of({"type": "integer", "minimum": 5, "maximum": 4}),
    "unknown keyword": _schema_of({"type": "object", "if": {"required": ["a"]}, "then": {"required": ["b"]}}),
    "wide schema": _schema_of({"enum": [f"value {number}" for number in range(5000)]}),
    "backtracking": {"structured_outputs": {"regex": "(a+)+$"}},
    "large repetition": {"structured_outputs": {"regex": "((a{1,100}){1,100}){1,100}"}},
    "broken grammar": {"structured_outputs": {"grammar": "start: start start"}},
    "open quotes": {"structured_outputs": {"grammar": "start: " + '\\"' * 50_000}},
}
