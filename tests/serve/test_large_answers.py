"""Answers of megabytes: what is made of them is made on threads, while the event loop answers others."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from lmworks.serve.openai.errors import LargeJson

TURN = {"model": "tiny", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 4, "logprobs": True}


@pytest.mark.parametrize(
    ("made_by", "path"),
    [
        ("pages.page_templates.environment", "/chat/turn/{}"),
        ("pages.page_templates.environment", "/log"),
        ("interactions_endpoint.to_mapping", "/api/interactions/{}"),
    ],
)
def test_others_are_answered_while_an_answer_is_made(language, monkeypatch, made_by, path):
    identifier = language.http().post("/v1/chat/completions", json=TURN).json()["lmworks"]["interaction"]
    module, _, name = f"lmworks.serve.{made_by}".rpartition(".")
    begun, answered = threading.Event(), threading.Event()
    made = getattr(__import__(module, fromlist=[name]), name)

    def slow(*values):
        begun.set()
        assert answered.wait(30)
        return made(*values)

    monkeypatch.setattr(f"{module}.{name}", slow)
    with ThreadPoolExecutor(1) as threads:
        shown = threads.submit(language.http().get, path.format(identifier))
        assert begun.wait(30)
        try:
            assert language.http().get("/health", timeout=10).status_code == 200
        finally:
            answered.set()
        assert shown.result().status_code == 200


def test_json_in_parts_is_the_same_json():
    value = {"a": [], "b": [[1.5, None], {}], "c": list(range(25_000)), "ü\ud800": {"d": [True, {"e": "\n"}], "f": ""}}
    assert LargeJson(value).body == json.dumps(value, separators=(",", ":")).encode()
