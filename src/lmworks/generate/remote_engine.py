"""An OpenAI-compatible endpoint as an engine, with the standard library alone."""

import json
import os
import secrets
import time
import urllib.error
import urllib.request
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from lmworks.generate.constraint import Choice, Constraint, Grammar, JsonSchema, Regex
from lmworks.generate.protocol import (
    Capabilities,
    Completion,
    Delta,
    EngineProtocol,
    Request,
    Role,
    Score,
    Timings,
    Token,
    UnsupportedError,
)
from lmworks.records import Message

# Sampling parameters beyond OpenAI's, by the names that vLLM and SGLang give them (typical_p: TGI), and where each is
# off.
_BEYOND = {"top_k": 0, "min_p": 0.0, "typical_p": 1.0, "repetition_penalty": 1.0, "ignore_eos": False}
# What leaves the distribution as the model gives it, so that its log-probabilities are those of sampling.
_PLAIN = {"temperature": 1.0, "top_p": 1.0, "frequency_penalty": 0.0, "presence_penalty": 0.0, "logit_bias": {},
          "constraint": None, **{name: off for name, off in _BEYOND.items() if name != "ignore_eos"}}  # fmt: skip
_PASSING = (429, 500, 502, 503, 504)
EXTENSIONS = (*_BEYOND, "structured_outputs", "priority")

_MISSING = {
    "token_ids": "an OpenAI-compatible endpoint returns text; where it returns ids, too (`return_token_ids`, as in "
    "vLLM), make the engine with token_ids=True, or run the model in the local Engine",
    "log_probabilities": "they were not asked for; make the engine with log_probabilities=True",
    "sampled_log_probabilities": "the endpoint does not return them; make the engine with token_ids=True and "
    "log_probabilities=True where it returns ids, or run the model in the local Engine",
    "score": "the endpoint does not return the log-probabilities of prompt tokens; where it does (`echo` with "
    "`logprobs`, as in vLLM), make the engine with prompt_log_probabilities=True, or run the model in the local Engine",
    "score_alternatives": "an endpoint returns texts, and scores are of ids; run the model in the local Engine",
    "adapters": "an endpoint serves an adapter under a name of its own; give it as `model`",
}


def request_body(
    request: Request, model: str, extensions: Collection[str], logprobs: bool
) -> tuple[str, dict[str, Any]]:
    """Path and body of a request; `logprobs` asks for those of the tokens.

    UnsupportedError for what has no place in the format, or is an extension that is not among `extensions`.
    """
    sampling = request.sampling
    no_part = {
        "tools": (request.tools, "the endpoint parses calls out of the text; use the openai client"),
        "adapter": (request.adapter, _MISSING["adapters"]),
        "deadline": (request.deadline, "give the engine a `timeout`"),
        "banned_tokens": (sampling.banned_tokens, "use logit_bias with -100"),
        "forced_tokens": (sampling.forced_tokens, "put the beginning of the answer into the prompt"),
    }
    for name, (value, instead) in no_part.items():
        if value:
            raise UnsupportedError(f"{name} is no part of OpenAI's format: {instead}, or the local Engine")
    beyond = {name: getattr(sampling, name) for name, off in _BEYOND.items() if getattr(sampling, name) != off}
    if sampling.constraint is not None:
        beyond["structured_outputs"] = _structured(sampling.constraint)
    if request.priority:
        beyond["priority"] = request.priority
    for name in beyond:
        if name not in extensions:
            raise UnsupportedError(
                f"{name} is no part of OpenAI's format; if the endpoint understands it, make the engine with "
                f"extensions=({name!r},)"
            )
    optional = {
        "stop": list(sampling.stop),
        "frequency_penalty": sampling.frequency_penalty,
        "presence_penalty": sampling.presence_penalty,
        "logit_bias": {str(token): bias for token, bias in sampling.logit_bias.items()},
        "user": request.client,
    }
    body = {
        "model": model,
        "max_tokens": sampling.max_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "seed": secrets.randbits(31) if sampling.seed is None else sampling.seed,
        **{name: value for name, value in optional.items() if value},
        **beyond,
    }
    if not request.messages:
        count = {"logprobs": sampling.alternatives} if logprobs else {}
        return "/completions", {**body, **count, "prompt": request.text or list(request.prompt_ids)}
    chosen: dict[str, Any] = {"logprobs": True} if logprobs else {}
    if sampling.alternatives:
        chosen["top_logprobs"] = sampling.alternatives
    return "/chat/completions", {**body, **chosen, "messages": [_message(message) for message in request.messages]}


def _structured(constraint: Constraint) -> Mapping[str, Any]:
    match constraint:
        case JsonSchema(schema, compact):
            return {"json": json.loads(schema), **({} if compact else {"disable_any_whitespace": False})}
        case Regex(pattern):
            return {"regex": pattern}
        case Choice(options):
            return {"choice": list(options)}
        case Grammar(source):
            return {"grammar": source}
    raise UnsupportedError(f"{type(constraint).__name__} is a constraint of the local Engine alone")


def _message(message: Message) -> dict[str, Any]:
    """OpenAI's format has the arguments of a call as JSON text."""
    calls = [
        {**call, "function": {**call["function"], "arguments": json.dumps(call["function"]["arguments"])}}
        for call in message.tool_calls
    ]
    optional = {"tool_calls": calls or None, "name": message.name, "tool_call_id": message.tool_call_id}
    return {
        "role": message.role,
        "content": message.content,
        **{name: value for name, value in optional.items() if value is not None},
    }


class RemoteError(RuntimeError):
    """The endpoint could not be reached, refused, or answered something else than its format says."""


class NoLogProbabilitiesError(RemoteError):
    """The endpoint answered without the log-probabilities that were asked for."""


@dataclass(frozen=True, slots=True)
class RemoteEngine:
    """Speaks to `url` (such as "http://localhost:8000/v1") about one of its models; implements `EngineProtocol`.

    extensions                  sampling parameters beyond OpenAI's that the endpoint understands, by the name it takes:
                                those of `EXTENSIONS`, such as "top_k" or "structured_outputs". A request that
                                needs one which is not listed is refused: many endpoints ignore what they do not know.
    log_probabilities           ask for the log-probability of each generated token, also without `alternatives`, which
                                imply it. `Completion.tokens` are there where the endpoint gives the tokens' texts.
    prompt_log_probabilities    the endpoint returns log-probabilities of prompt tokens (`echo`), so that `score` works.
    prefixes                    put before the texts of a role, as in `TextEncoder`.
    concurrency                 requests in flight at a time in `generate` and `score`.
    token_ids                   the endpoint returns the ids of prompt and completion where `return_token_ids` asks for
                                them (vLLM), so that it can roll out; log-probabilities are then of the model's own
                                distribution, which is what is sampled from at temperature 1 without truncation.
    runtime_adapters            it loads adapters from folders that it shares (vLLM's /load_lora_adapter).
    timeout                     seconds without an answer after which a request fails.
    retries                     times that a request is sent again where the endpoint is busy or fails for the moment
                                (status 429, 500, 502, 503, 504): after the seconds of its Retry-After, or 0.5 s, 1 s, …

    Errors of the network and of the endpoint raise `RemoteError` with what the endpoint said.
    """

    url: str
    model: str
    api_key: str | None = field(default=None, repr=False)
    extensions: tuple[str, ...] = ()
    log_probabilities: bool = False
    prompt_log_probabilities: bool = False
    token_ids: bool = False
    runtime_adapters: bool = False
    prefixes: Mapping[Role, str] = field(default_factory=dict)
    concurrency: int = 8
    timeout: float = 600.0
    retries: int = 4

    @property
    def capabilities(self) -> Capabilities:
        able = {
            "generate": True,
            "embed": True,
            "token_ids": self.token_ids,
            "log_probabilities": self.log_probabilities,
            "sampled_log_probabilities": self.token_ids and self.log_probabilities,
            "score": self.prompt_log_probabilities,
            "score_alternatives": False,
            "adapters": self.runtime_adapters,
        }
        missing = {name: _MISSING[name] for name, can in able.items() if not can}
        return Capabilities(**able, context_length=None, missing=missing)

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """The completions, in the order of the requests, `concurrency` at a time."""
        calls = [self._completion_call(request) for request in requests]
        with ThreadPoolExecutor(self.concurrency) as pool:
            return list(pool.map(self._complete, requests, calls))

    def stream(self, request: Request) -> Iterator[Delta]:
        """The completion piece by piece. Closing the iterator closes the connection, by which the endpoint knows."""
        path, body = self._completion_call(request)
        return self._deltas(request, path, {**body, "stream": True, "stream_options": {"include_usage": True}})

    def score(
        self,
        context_ids: Sequence[Sequence[int]],
        continuation_ids: Sequence[Sequence[int]],
        alternatives: int = 0,
        adapter: str = "",
    ) -> list[Score]:
        """ln p of each continuation token; ids are those of the endpoint's tokenizer, contexts must not be empty."""
        for capability, asked in (("score", True), ("score_alternatives", alternatives), ("adapters", adapter)):
            if asked:
                self.capabilities.require(capability)
        if not all(context_ids):
            raise UnsupportedError("the token that starts a document is not known here: give a context that holds it")
        if len(context_ids) != len(continuation_ids):
            raise ValueError(
                f"{len(context_ids)} contexts for {len(continuation_ids)} continuations: give one for each"
            )
        with ThreadPoolExecutor(self.concurrency) as pool:
            return list(pool.map(self._score_pair, context_ids, continuation_ids))

    def embed(self, texts: Sequence[str], role: Role) -> np.ndarray:
        """(n, width) float32, L2-normalised here."""
        if not texts:
            raise ValueError("no texts: the width of the endpoint's vectors is not known without one")
        prefix = self.prefixes.get(role, "")
        body = {"model": self.model, "input": [prefix + text for text in texts], "encoding_format": "float"}
        rows = sorted(self._call("/embeddings", body)["data"], key=lambda row: row["index"])
        if len(rows) != len(texts):
            raise RemoteError(f"{self.url} returned {len(rows)} vectors for {len(texts)} texts")
        vectors = np.array([row["embedding"] for row in rows], dtype=np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def load_adapter(self, name: str, folder: Path) -> None:
        """Let requests name the adapter of this folder, which the endpoint reads. UnsupportedError where it loads
        none."""
        self.capabilities.require("adapters")
        self._open("/load_lora_adapter", {"lora_name": name, "lora_path": str(folder.absolute())}).close()

    def unload_adapter(self, name: str) -> None:
        """Let the endpoint forget an adapter that it was given."""
        self.capabilities.require("adapters")
        self._open("/unload_lora_adapter", {"lora_name": name}).close()

    def _completion_call(self, request: Request) -> tuple[str, dict[str, Any]]:
        name = request.adapter if self.runtime_adapters else ""
        given = replace(request, adapter="") if name else request
        logprobs = self.log_probabilities or request.sampling.alternatives > 0
        path, body = request_body(given, name or self.model, self.extensions, logprobs)
        return path, {**body, "return_token_ids": True} if self.token_ids else body

    def _complete(self, request: Request, call: tuple[str, dict[str, Any]]) -> Completion:
        started = time.perf_counter()
        path, body = call
        answer = self._call(path, body)
        partial = _PartialCompletion(request.sampling.alternatives)
        partial.add(_only_choice(answer))
        timings = Timings(queued=None, first_token=None, total=time.perf_counter() - started)
        return self._completion(request, body["seed"], partial, answer, timings)

    def _deltas(self, request: Request, path: str, body: dict[str, Any]) -> Iterator[Delta]:
        """Server-sent events: one JSON object for each piece, the last one with the usage, then "[DONE]"."""
        started = time.perf_counter()
        first_token, usage = None, {}
        partial = _PartialCompletion(request.sampling.alternatives)
        with closing(self._open(path, body)) as response:
            for line in response:
                if not line.startswith(b"data:") or line.strip() == b"data: [DONE]":
                    continue
                event = json.loads(line[len(b"data:") :])
                if "error" in event:
                    raise RemoteError(f"{self.url}{path}: {event['error']}")
                usage = event if event.get("usage") else usage
                if not event.get("choices"):
                    continue
                delta = partial.add(_only_choice(event))
                if delta.text or delta.tokens:
                    first_token = first_token or time.perf_counter() - started
                    yield delta
        timings = Timings(queued=None, first_token=first_token, total=time.perf_counter() - started)
        yield Delta("", self._completion(request, body["seed"], partial, usage, timings))

    def _completion(
        self, request: Request, seed: int, partial: "_PartialCompletion", answer: Mapping[str, Any], timings: Timings
    ) -> Completion:
        if "usage" not in answer:
            raise RemoteError(f"{self.url} did not say how many tokens were used (`usage` is missing)")
        usage = answer["usage"]
        asked = self.log_probabilities or request.sampling.alternatives > 0
        count = usage["completion_tokens"]
        if asked and len(partial.log_probabilities) != count:
            raise NoLogProbabilitiesError(
                f"{self.url} returned {len(partial.log_probabilities)} log-probabilities for {count} tokens; make the "
                "engine with log_probabilities=False, and ask for no alternatives"
            )
        ids = tuple(partial.ids) if self.token_ids else None
        if ids is not None and len(ids) != count:
            raise RemoteError(
                f"{self.url} returned {len(ids)} ids for {count} tokens: it does not know `return_token_ids`, so make "
                "the engine with token_ids=False; it cannot roll out"
            )
        if partial.finish_reason not in ("stop", "length"):
            raise RemoteError(f"the endpoint ended the completion for a reason unknown here: {partial.finish_reason!r}")
        plain = all(getattr(request.sampling, name) == off for name, off in _PLAIN.items())
        return Completion(
            id=request.id or secrets.token_hex(8),
            text="".join(partial.pieces),
            ids=ids,
            log_probabilities=tuple(partial.log_probabilities) if asked else None,
            sampled_log_probabilities=tuple(partial.log_probabilities) if asked and ids and plain else None,
            prompt_ids=request.prompt_ids or partial.prompt_ids,
            finish_reason=partial.finish_reason,
            policy_version=None,
            prompt_tokens=usage["prompt_tokens"],
            completion_tokens=count,
            seed=seed,
            timings=timings,
            tokens=tuple(partial.tokens) if asked and len(partial.tokens) == count else None,
        )

    def _score_pair(self, context: Sequence[int], continuation: Sequence[int]) -> Score:
        """The legacy completions call that repeats its prompt: one token is generated and thrown away."""
        prompt = {"model": self.model, "prompt": [*context, *continuation]}
        body = {**prompt, "max_tokens": 1, "temperature": 0, "echo": True, "logprobs": 0}
        rows = _token_rows(_only_choice(self._call("/completions", body)))
        values = [value for _, value, _ in rows[len(context) : len(context) + len(continuation)]]
        if len(values) != len(continuation):
            raise RemoteError(
                f"{self.url} did not return the log-probabilities of the prompt; it does not support `echo`"
            )
        return Score(tuple(values))

    def _call(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        with closing(self._open(path, body)) as response:
            content = response.read()
        try:
            return json.loads(content)
        except ValueError as error:
            raise RemoteError(f"{self.url}{path} did not answer in JSON: {content[:200]!r}") from error

    def _open(self, path: str, body: Mapping[str, Any]) -> Any:
        headers = {"Content-Type": "application/json"}
        if self.api_key is not None:
            headers["Authorization"] = f"Bearer {self.api_key}"
        request = urllib.request.Request(self.url.rstrip("/") + path, json.dumps(body).encode(), headers)
        for attempt in range(self.retries + 1):
            try:
                return urllib.request.urlopen(request, timeout=self.timeout)
            except urllib.error.HTTPError as error:
                if error.code not in _PASSING or attempt == self.retries:
                    answer = error.read()[:1000].decode("utf-8", "replace")
                    raise RemoteError(f"{self.url}{path} refused with status {error.code}: {answer}") from error
                named = error.headers.get("Retry-After", "")
                time.sleep(min(float(named), 60.0) if named.isdecimal() else 0.5 * 2**attempt)
            except OSError as error:
                raise RemoteError(
                    f"{self.url} cannot be reached ({error}): is it running, and is the URL right?"
                ) from error
        return None


def is_address(source: str) -> bool:
    return source.startswith(("http://", "https://"))


def open_engine(source: str, concurrency: int = 8) -> EngineProtocol:
    """The engine of a model's name or folder, with @int4, @int8, @bfloat16 or @float32 for other weights; or that of an
    endpoint's URL#NAME, such as http://localhost:8000/v1#qwen, whose key is in the environment variable OPENAI_API_KEY.

    ValueError for an address without the name of a model.
    """
    if is_address(source):
        url, _, name = source.partition("#")
        if not name:
            raise ValueError(f"{url}: which of its models? Write {url}#NAME; {url.rstrip('/')}/models lists the names")
        return RemoteEngine(url, name, os.environ.get("OPENAI_API_KEY") or None, concurrency=concurrency)
    from lmworks.adapt.adapter import load
    from lmworks.generate.engine import Engine

    name, _, form = source.partition("@")
    return Engine(load(name), weights=form or "auto", device="auto")  # type: ignore[arg-type] - it refuses others


@dataclass(slots=True)
class _PartialCompletion:
    """A completion as received so far; `tokens` stay behind where the endpoint does not give their texts."""

    alternatives: int
    pieces: list[str] = field(default_factory=list)
    log_probabilities: list[float] = field(default_factory=list)
    tokens: list[Token] = field(default_factory=list)
    ids: list[int] = field(default_factory=list)
    prompt_ids: tuple[int, ...] | None = None
    finish_reason: str | None = None

    def add(self, choice: Mapping[str, Any]) -> Delta:
        """Take a whole choice, or a streamed piece of one."""
        message = choice if "text" in choice else choice.get("message") or choice.get("delta") or {}
        text = message.get("text") or message.get("content") or ""
        rows = _token_rows(choice)
        tokens = [
            Token(
                None,
                text,
                value,
                tuple((None, *o) for o in sorted(alternatives, key=lambda o: -o[1])[: self.alternatives]),
            )
            for text, value, alternatives in rows
            if text is not None
        ]
        if self.alternatives and not all(token.alternatives for token in tokens):
            raise NoLogProbabilitiesError(
                "the endpoint did not return the most probable tokens: ask for no alternatives"
            )
        self.pieces.append(text)
        self.log_probabilities += [value for _, value, _ in rows]
        self.tokens += tokens
        self.ids += choice.get("token_ids") or ()
        self.prompt_ids = tuple(choice.get("prompt_token_ids") or ()) or self.prompt_ids
        self.finish_reason = choice.get("finish_reason") or self.finish_reason
        return Delta(text, tokens=tuple(tokens))


def _only_choice(answer: Mapping[str, Any]) -> dict[str, Any]:
    choices = answer.get("choices", [])
    if len(choices) != 1:
        raise RemoteError(f"expected one choice, the endpoint returned {len(choices)}: {json.dumps(answer)[:200]}")
    return choices[0]


def _token_rows(choice: Mapping[str, Any]) -> list[tuple[str | None, float, list[tuple[str, float]]]]:
    """Text, log-probability and most probable tokens of each token, of a completions choice (lists side by side) or a
    chat choice (`content`). A text that is not given is None."""
    logprobs = choice.get("logprobs") or {}
    if "token_logprobs" in logprobs:
        values = logprobs["token_logprobs"]
        texts, best = (logprobs.get(name) or [None] * len(values) for name in ("tokens", "top_logprobs"))
        return [
            (text, value, [*(alternatives or {}).items()])
            for text, value, alternatives in zip(texts, values, best, strict=False)
        ]
    return [
        (row.get("token"), row["logprob"], [(o["token"], o["logprob"]) for o in row.get("top_logprobs") or ()])
        for row in logprobs.get("content") or ()
    ]
