"""Answers of megabytes: what is made of them is made on threads, while the event loop answers others."""

import threading
from concurrent.futures import ThreadPoolExecutor

from kit.tables import for_each
from lmworks.serve.openai.response_bodies import (
    AnswerMessage,
    ChatChoice,
    ChatCompletion,
    ChatLogprobs,
    TokenLogprob,
    TopLogprob,
    as_json,
    token_usage,
)

TURN = {"model": "tiny", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 4, "logprobs": True}


@for_each(
    ("made_by", "path"),
    [
        ("pages.page_templates.environment", "/chat/turn/{}"),
        ("pages.page_templates.environment", "/log"),
        ("interactions_endpoint.to_mapping", "/api/interactions/{}"),
        ("openai.chat_completions.usage", "/v1/chat/completions"),
        ("openai.tokenize_endpoint.Tokens", "/tokenize"),
    ],
)
def test_others_are_answered_while_an_answer_is_made(language, monkeypatch, made_by, path):
    identifier = language.http().post("/v1/chat/completions", json=TURN).json()["lmworks"]["interaction"]
    module, _, name = f"lmworks.serve.{made_by}".rpartition(".")
    begun, answered = threading.Event(), threading.Event()
    made = getattr(__import__(module, fromlist=[name]), name)

    def slow(*values, **named):
        begun.set()
        assert answered.wait(30)
        return made(*values, **named)

    monkeypatch.setattr(f"{module}.{name}", slow)
    monkeypatch.setattr("lmworks.serve.thread_offload.SHORT", -1)  # as if all were long
    body = {"/v1/chat/completions": TURN, "/tokenize": {"prompt": "hello"}}.get(path)
    with ThreadPoolExecutor(1) as threads:
        shown = threads.submit(language.http().request, "POST" if body else "GET", path.format(identifier), json=body)
        assert begun.wait(30)
        try:
            assert language.http().get("/health", timeout=10).status_code == 200
        finally:
            answered.set()
        assert shown.result().status_code == 200


def test_a_large_answer_is_written_as_a_small_one():
    bytes_ = [TopLogprob(token="ü", logprob=-1.5, bytes=[195, 188])] * 2
    rows = [TokenLogprob(**bytes_[0].model_dump(), top_logprobs=bytes_)] * 40
    choice = ChatChoice(
        index=0, message=AnswerMessage(content="ü" * 40), logprobs=ChatLogprobs(content=rows), finish_reason="stop"
    )
    for extra in (None, {"seed": 1}):
        answer = ChatCompletion(
            id="x",
            created=1,
            model="m",
            choices=[choice] * 3,
            usage=token_usage(1, 40),
            system_fingerprint="f",
            lmworks=extra,
        )
        assert as_json(answer, large=True).body == as_json(answer, large=False).body
