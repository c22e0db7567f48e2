"""Interactions as OpenTelemetry spans, in the JSON form of OTLP: a file, or posts to a collector that the user names.

Attribute names are those of OpenTelemetry's conventions for generative AI (`gen_ai.*`) where they exist and `lmworks.*`
elsewhere. An interaction is one span, its phases are spans below it, its feedback is events on it.
"""

import hashlib
import json
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from lmworks.artefact import new_file
from lmworks.monitor.export import in_batches
from lmworks.monitor.log import Reader
from lmworks.records import Interaction, Message

_BATCH = 100  # interactions of one post
_INTERNAL, _ERROR = 1, 2  # SpanKind.SPAN_KIND_INTERNAL, Status.STATUS_CODE_ERROR
# Of SamplingParameters, what is gen_ai.request.* of the same name and holds no words.
_PARAMETERS = ("temperature", "top_p", "top_k", "max_tokens", "frequency_penalty", "presence_penalty")
# Attributes lmworks.*, called as the fields are.
_OWN = ("prompt", "index", "parent", "experiment", "unit", "arm", "confidence", "abstained", "redacted")


class ExportError(RuntimeError):
    """The collector could not be reached or did not take everything; the message says how much it has."""


def export_otlp(
    reader: Reader,
    to: Path | str,
    filter: str = "",  # noqa: A002
    content: bool = False,
    timeout: float = 30.0,
) -> int:
    """Post to an endpoint ("http://host:4318", or with a path) or write a new .json file; how many interactions.

    `content` adds messages, answers, stop sequences and reasons; without it only names, numbers and hashes leave the
    log. Raises FilterError, FileExistsError for a file that exists, ValueError for another destination, ExportError.
    """
    interactions = reader.interactions(filter)
    if str(to).startswith(("http://", "https://")):
        return _post_all(str(to), interactions, content, timeout)
    if not str(to).endswith(".json") or "://" in str(to):
        raise ValueError(f"{to} is neither a .json file nor an http:// or https:// endpoint")
    count = 0
    with new_file(Path(to)) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write('{"resourceSpans": [')
        for batch in in_batches(interactions, _BATCH):
            file.write(",\n" if count else "\n")
            file.write(",\n".join(json.dumps(spans) for spans in to_spans(batch, content)["resourceSpans"]))
            count += len(batch)
        file.write("\n]}\n")
    return count


def to_spans(interactions: Iterable[Interaction], content: bool = False) -> dict[str, Any]:
    """An OTLP `ExportTraceServiceRequest` as JSON's types: ids in hexadecimal, 64-bit numbers as texts."""
    spans = [span for interaction in interactions for span in _spans(interaction, content)]
    resource = {"attributes": _attributes({"service.name": "lmworks", "service.version": version("lmworks")})}
    scope = {"name": "lmworks.monitor", "version": version("lmworks")}
    return {"resourceSpans": [{"resource": resource, "scopeSpans": [{"scope": scope, "spans": spans}]}]}


# ---------------------------------------------------------------------------------------------------------------------
# An interaction as spans


def _spans(interaction: Interaction, content: bool) -> Iterator[dict[str, Any]]:
    trace, root = _hex(f"trace {interaction.id}", 32), _hex(f"span {interaction.id}", 16)
    begin = round(interaction.time * 1e9)
    total = interaction.timings.get("total", sum(interaction.timings.values()))
    yield {
        "traceId": trace,
        "spanId": root,
        "name": f"{interaction.operation} {interaction.route}".rstrip(),
        "kind": _INTERNAL,
        "startTimeUnixNano": str(begin),
        "endTimeUnixNano": str(begin + round(total * 1e9)),
        "attributes": _attributes({**_described(interaction), **(_content(interaction) if content else {})}),
        "events": [_event(feedback, content) for feedback in interaction.feedback],
        "status": {"code": _ERROR, "message": interaction.error} if interaction.error else {},
    }
    elapsed = 0.0
    for phase, seconds in interaction.timings.items():
        if phase != "total":
            yield {
                "traceId": trace,
                "spanId": _hex(f"span {interaction.id} {phase}", 16),
                "parentSpanId": root,
                "name": phase,
                "kind": _INTERNAL,
                "startTimeUnixNano": str(begin + round(elapsed * 1e9)),
                "endTimeUnixNano": str(begin + round((elapsed + seconds) * 1e9)),
                "attributes": [],
                "status": {},
            }
            elapsed += seconds


def _described(interaction: Interaction) -> dict[str, Any]:
    """Names, numbers and hashes; empty ones are left out by `_attributes`."""
    timings = interaction.timings
    first = timings["queued"] + timings["prefill"] if {"queued", "prefill"} <= timings.keys() else None
    requested = {f"gen_ai.request.{name}": interaction.parameters.get(name) for name in _PARAMETERS}
    return {
        "gen_ai.operation.name": interaction.operation,
        "gen_ai.provider.name": "lmworks",
        "gen_ai.conversation.id": interaction.conversation,
        "gen_ai.request.model": interaction.route,
        "gen_ai.request.seed": interaction.seed,
        **requested,
        "gen_ai.response.id": interaction.id,
        "gen_ai.response.model": interaction.model,
        "gen_ai.response.finish_reasons": [interaction.finish_reason],
        "gen_ai.response.time_to_first_chunk": first,
        "gen_ai.usage.input_tokens": interaction.input_tokens,
        "gen_ai.usage.output_tokens": interaction.output_tokens,
        "error.type": interaction.error,
        **{f"lmworks.{name}": getattr(interaction, name) for name in _OWN},
        "lmworks.citations": len(interaction.citations),
        **{f"lmworks.lineage.{name}": digest for name, digest in interaction.lineage.items()},
    }


def _content(interaction: Interaction) -> dict[str, Any]:
    questions = [{"role": message.role, "parts": _parts(message)} for message in interaction.messages]
    answer = {
        "role": "assistant",
        "parts": [{"type": "text", "content": interaction.response}],
        "finish_reason": interaction.finish_reason,
    }
    return {
        "gen_ai.input.messages": json.dumps(questions),
        "gen_ai.output.messages": json.dumps([answer]),
        "gen_ai.tool.definitions": json.dumps([dict(tool) for tool in interaction.tools]) if interaction.tools else "",
        "gen_ai.request.stop_sequences": interaction.parameters.get("stop"),
        "lmworks.rendered_prompt": interaction.rendered_prompt,
    }


def _parts(message: Message) -> list[dict[str, Any]]:
    """Text, calls of functions and their results, by the names of the conventions."""
    if message.role == "tool":
        return [{"type": "tool_call_response", "id": message.tool_call_id, "response": message.content}]
    text = [{"type": "text", "content": message.content}] if message.content or not message.tool_calls else []
    return text + [
        {"type": "tool_call", "id": call.get("id"), **dict(call.get("function") or {})} for call in message.tool_calls
    ]


def _event(feedback: Any, content: bool) -> dict[str, Any]:
    """A person's judgement; its words are content."""
    words = {"gen_ai.evaluation.explanation": feedback.text, "lmworks.author": feedback.author} if content else {}
    return {
        "timeUnixNano": str(round(feedback.time * 1e9)),
        "name": "gen_ai.evaluation.result",
        "attributes": _attributes(
            {"gen_ai.evaluation.name": feedback.kind, "gen_ai.evaluation.score.label": feedback.value, **words}
        ),
    }


def _attributes(values: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"key": key, "value": _value(value)} for key, value in values.items() if value not in (None, "", [], ())]


def _value(value: Any) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int) and -(2**63) <= value < 2**63:
        return {"intValue": str(value)}
    if isinstance(value, float):
        finite = value - value == 0
        return {"doubleValue": value if finite else {"inf": "Infinity", "-inf": "-Infinity"}.get(str(value), "NaN")}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return {"arrayValue": {"values": [_value(item) for item in value]}}
    return {"stringValue": str(value).encode("utf-8", "replace").decode()}  # without lone surrogates


def _hex(name: str, length: int) -> str:
    """An id that is the same whenever the interaction is exported, so that a collector can tell repetitions."""
    return hashlib.sha256(name.encode()).hexdigest()[:length]


# ---------------------------------------------------------------------------------------------------------------------
# To a file, to a collector


def _post_all(endpoint: str, interactions: Iterable[Interaction], content: bool, timeout: float) -> int:
    url = f"{endpoint.rstrip('/')}/v1/traces" if urlsplit(endpoint).path in ("", "/") else endpoint
    opener = urllib.request.build_opener(NoRedirects)
    count = 0
    for batch in in_batches(interactions, _BATCH):
        body = json.dumps(to_spans(batch, content)).encode()
        request = urllib.request.Request(url, body, {"Content-Type": "application/json"}, method="POST")
        try:
            with opener.open(request, timeout=timeout) as response:
                body = response.read()
            partial = (json.loads(body) if body.strip() else {}).get("partialSuccess") or {}
            rejected = int(partial.get("rejectedSpans") or 0)
        except (OSError, ValueError) as error:  # the network's, the endpoint's status, an answer that is no JSON
            raise ExportError(f"{url} took {count} interactions, then failed: {error}") from error
        if rejected:
            reason = partial.get("errorMessage", "no reason given")
            raise ExportError(f"{url} took {count} interactions, then rejected spans: {rejected} ({reason})")
        count += len(batch)
    return count


class NoRedirects(urllib.request.HTTPRedirectHandler):
    """Refuse redirects: what is logged goes to the endpoint that was named and nowhere else."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> None:
        return None
