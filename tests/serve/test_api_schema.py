"""The OpenAPI document against the server: requests made from it never break it, and answers are what it says."""

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from kit.tables import for_each

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    negative_data_rejection,
    unsupported_method,
]
OPERATIONS = [
    ("POST", "/v1/chat/completions"),
    ("POST", "/v1/completions"),
    ("POST", "/v1/embeddings"),
    ("POST", "/v1/responses"),
    ("GET", "/v1/responses/{identifier}"),
    ("DELETE", "/v1/responses/{identifier}"),
    ("GET", "/v1/responses/{identifier}/input_items"),
    ("POST", "/v1/score"),
    ("POST", "/v1/rerank"),
    ("POST", "/v1/outcomes"),
    ("POST", "/tokenize"),
    ("POST", "/detokenize"),
    ("GET", "/v1/models"),
    ("GET", "/v1/models/{name}"),
    ("GET", "/api/interactions/{identifier}"),
    ("POST", "/api/interactions/{identifier}/feedback"),
    ("POST", "/api/interactions/{identifier}/notes"),
    ("GET", "/health"),
    ("GET", "/ready"),
    ("GET", "/metrics"),
]
CASES = [(GenerationMode.POSITIVE, *operation) for operation in OPERATIONS] + [
    (GenerationMode.NEGATIVE, *operation) for operation in OPERATIONS if operation[0] == "POST"
]
MODELS = {
    **dict.fromkeys(("/v1/chat/completions", "/v1/completions", "/v1/responses", "/tokenize", "/detokenize"), "tiny"),
    **dict.fromkeys(("/v1/embeddings", "/v1/score", "/v1/rerank"), "embedder"),
}
GENERATING = ("/v1/chat/completions", "/v1/completions", "/v1/responses")
QUIET = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]


@pytest.fixture(scope="module")
def document(language):
    return schemathesis.openapi.from_url(f"{language.url}/openapi.json")


def steer(case):
    """Names of models are drawn at random; most shall reach a real one, and none shall write a novel."""
    if isinstance(case.body, dict) and isinstance(case.body.get("model"), str) and case.path in MODELS:
        case.body["model"] = MODELS[case.path]
        for name in ("max_tokens", "max_completion_tokens", "max_output_tokens"):
            value = case.body.get(name)
            if type(value) is int and value > 3:
                case.body[name] = 3
        length = "max_output_tokens" if case.path == "/v1/responses" else "max_tokens"
        if case.path in GENERATING and case.body.get("max_completion_tokens") is None:
            case.body[length] = 3 if case.body.get(length) is None else case.body[length]
        for name in ("n", "best_of"):
            if type(case.body.get(name)) is int and 2 < case.body[name] <= 16:
                case.body[name] = 2
    return case


def check(document, method, path, mode, examples):
    """Draw requests that keep to the document, or break it, and hold the answers against it."""

    @settings(max_examples=examples, deadline=None, derandomize=True, database=None, suppress_health_check=QUIET)
    @given(case=document[path][method].as_strategy(generation_mode=mode))
    def conforms(case):
        steer(case).call_and_validate(checks=CHECKS, timeout=60)

    conforms()


@for_each(("mode", "method", "path"), CASES)
def test_answers_conform(document, mode, method, path):
    check(document, method, path, mode, 5)


@pytest.mark.slow
@for_each(("mode", "method", "path"), CASES)
def test_answers_conform_for_long(document, mode, method, path):
    check(document, method, path, mode, 200)


def test_the_document_names_every_path_of_the_api(language):
    document = language.http().get("/openapi.json").json()
    told = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    assert told == set(OPERATIONS)
    answers = document["paths"]["/v1/chat/completions"]["post"]["responses"]
    assert {"200", "400", "401", "404", "413", "429", "500", "503", "504"} <= set(answers) and "422" not in answers
    assert "lmworks" in document["components"]["schemas"]["ChatCompletion"]["properties"]
