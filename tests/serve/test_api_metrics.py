"""Metrics as Prometheus reads them, active_request against what was asked."""

import openai
import pytest
from prometheus_client.parser import text_string_to_metric_families

MESSAGES = [{"role": "user", "content": "hello"}]


def scrape(running):
    """(name, labels as sorted pairs) -> value, by Prometheus' own parser."""
    answer = running.http().get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def key(name, **labels):
    return f"lmworks:{name}", tuple(sorted(labels.items()))


def test_what_was_asked_is_counted(start):
    with start(embedder=True) as running:
        client = running.client()
        answers = [
            client.chat.completions.create(model="tiny", messages=MESSAGES, max_tokens=9, seed=seed, n=2)
            for seed in range(3)
        ]
        text = client.completions.create(model="tiny", prompt="a b c", max_tokens=5, temperature=0)
        vectors = client.embeddings.create(model="embedder", input=["one", "two"])
        with pytest.raises(openai.BadRequestError):
            client.chat.completions.create(model="tiny", messages=[])
        seen = scrape(running)
    usages = [answer.usage for answer in answers]
    generated = sum(usage.completion_tokens for usage in usages) + text.usage.completion_tokens
    # Each choice is an interaction of its own, and so counts its prompt.
    prompts = sum(2 * usage.prompt_tokens for usage in usages) + text.usage.prompt_tokens
    model = {"model_name": "tiny"}
    assert seen[key("generation_tokens_total", **model)] == generated
    assert seen[key("prompt_tokens_total", **model)] == prompts
    ended = [seen.get(key("request_success_total", finished_reason=why, **model), 0) for why in ("stop", "length")]
    assert sum(ended) == 7
    for name in (
        "e2e_request_latency_seconds",
        "time_to_first_token_seconds",
        "request_queue_time_seconds",
        "request_prefill_time_seconds",
        "request_decode_time_seconds",
        "request_prompt_tokens",
        "request_generation_tokens",
    ):
        assert seen[key(f"{name}_count", **model)] == 7, name
    assert seen[key("request_generation_tokens_sum", **model)] == generated
    assert seen[key("inter_token_latency_seconds_count", **model)] == generated - 7
    assert seen[key("inter_token_latency_seconds_sum", **model)] == pytest.approx(
        seen[key("request_decode_time_seconds_sum", **model)]
    )
    assert seen[key("prompt_tokens_total", model_name="embedder")] == vectors.usage.prompt_tokens
    posts = {"method": "POST", "path": "/v1/chat/completions"}
    assert seen[key("http_requests_total", status="200", **posts)] == 3
    assert seen[key("http_requests_total", status="400", **posts)] == 1
    assert seen[key("num_requests_running", **model)] == seen[key("num_requests_waiting", **model)] == 0
    assert seen[key("log_pending")] == 0


def test_abstentions_are_counted(grounded):
    before = scrape(grounded).get(key("abstentions_total", model_name="assistant"), 0)
    question = "Which orchestra plays the ninth symphony of Bruckner tonight?"
    answer = grounded.client().chat.completions.create(
        model="assistant", messages=[{"role": "user", "content": question}]
    )
    assert answer.lmworks["abstained"]
    assert scrape(grounded)[key("abstentions_total", model_name="assistant")] == before + 1


def test_paths_are_counted_by_template(language):
    for number in range(3):
        language.http().get(f"/api/interactions/{number}")
        language.http().get(f"/nothing/{number}")
    language.http().request("BREW", "/")
    labels = {dict(labels)["path"] for name, labels in scrape(language) if name == "lmworks:http_requests_total"}
    assert "/api/interactions/{identifier}" in labels and "unmatched" in labels
    assert not any(label.endswith(("/0", "/1", "/2")) for label in labels)


def test_refusals_before_routing_are_unmatched(start):
    with start(max_body_bytes=100) as running:
        running.http().post("/v1/completions", json={"model": "tiny", "prompt": "x" * 200})
        running.http().get("/log", headers={"Host": "evil.example"})
        seen = scrape(running)
    assert seen[key("http_requests_total", method="POST", path="unmatched", status="413")] == 1
    assert seen[key("http_requests_total", method="GET", path="unmatched", status="421")] == 1
