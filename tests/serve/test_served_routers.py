"""A router through the real server: rules, prompts, the log of what was decided, and a cascade."""

from contextlib import contextmanager
from dataclasses import replace

import pytest

from lmworks.artefact import write_json
from lmworks.evaluate.release.promotion import Gate
from lmworks.prompt.prompt_file import parse_prompt, prompt_hash
from lmworks.prompt.prompt_store import PROMPTS, PromptStore
from lmworks.prompt.router import ROUTERS, LearnedRouter
from lmworks.serve.config import ServeConfig
from lmworks.serve.service import Service
from lmworks.statistics.logistic_regression import Logistic

SORTER = parse_prompt(
    'name = "sorter"\ninstruction = "Sort."\ninput = "It says: {text}"\n[slots.text]\n[format]\n'
    'options = ["yes", "no"]\n[examples]\nrows = [{ text = "good", answer = "yes" }]\n', "sorter.toml",
)  # fmt: skip
ROUTER = """
name = "auto"
fallback = "plain"
[targets.sorted]
model = "tiny"
prompt = "sorter"
[targets.plain]
model = "tiny"
[[rules]]
target = "sorted"
why = "it asks to be sorted"
contains = ["sort"]
"""


@pytest.fixture
def routed(tiny_folder, tmp_path, serve):
    """`with routed(text, learned) as running:` serves `tiny` with a router."""

    @contextmanager
    def begin(text=ROUTER, learned=None):
        store = PromptStore(tmp_path / PROMPTS)
        store.add(SORTER, "a test")
        if not store.labels("sorter"):
            store.move("sorter", "production", "", "a test")
        (tmp_path / ROUTERS).mkdir(exist_ok=True)
        (tmp_path / ROUTERS / "auto.toml").write_text(text, "utf-8")
        if learned is not None:
            write_json(tmp_path / ROUTERS / "auto.json", learned)
        service = Service(tmp_path, ServeConfig(drain_seconds=5.0), {"tiny": str(tiny_folder)})
        try:
            service.load()
        except ValueError:
            service.close()
            raise
        with serve(service) as running:
            yield running

    return begin


def ask(running, text, **fields):
    body = {"model": "auto", "messages": [{"role": "user", "content": text}], "max_tokens": 8, **fields}
    with running.http() as http:
        response = http.post("/v1/chat/completions", json=body)
    assert response.status_code == 200, response.text
    key = response.json()["id"].removeprefix("chatcmpl-")
    return response.json(), running.service.log.reader.get(key)


def test_a_router_answers_by_its_rules_and_the_log_says_why(routed):
    with routed() as running:
        answer, logged = ask(running, "please sort this")
        assert answer["choices"][0]["message"]["content"] in ("yes", "no") and answer["model"] == "auto"
        assert logged.decision == {"router": "auto", "target": "sorted", "reason": "rule 1: it asks to be sorted"}
        assert (logged.route, logged.prompt) == ("auto", prompt_hash(SORTER))
        parts = [logged.messages[one.message].content[one.start : one.end] for one in logged.prompt_parts]
        assert parts == ["Sort.", "It says: good", "yes", "It says: please sort this"]
        with running.http() as http:
            page = http.get(f"/log/{logged.id}").text
        labels = [word for word in ("instruction", "examples", "input") if f'<span class="label">{word}</span>' in page]
        assert labels == ["instruction", "examples", "input"] and "rule 1: it asks to be sorted" in page
        _, logged = ask(running, "anything")
        assert logged.decision["reason"] == "fallback: no rule holds" and not logged.prompt_parts
        with running.http() as http:
            assert "auto" in [one["id"] for one in http.get("/v1/models").json()["data"]]
            refused = http.post("/v1/completions", json={"model": "auto", "prompt": "x"})
            assert refused.status_code == 400 and http.get("/system").status_code == 200


def test_a_cascade_answers_by_its_first_target_or_says_what_it_tried(routed):
    def learned(bias):
        first = Logistic(("0", "1", "2"), (0.0,) * 3, (1.0,) * 3, (0.0,) * 3, bias)
        second = Logistic(("0",), (0.0,), (1.0,), (0.0,), 0.0)
        return LearnedRouter("cascade", {"sorted": first, "plain": second}, {"sorted": 1.0, "plain": 2.0}, 0.0)

    text = ROUTER.partition("[[rules]]")[0]
    with routed(text, learned(3.0)) as running:
        answer, logged = ask(running, "this")
        assert answer["choices"][0]["message"]["content"] in ("yes", "no")
        assert logged.decision["target"] == "sorted" and logged.decision["reason"].startswith("cascade: P(sorted) 0.95")
        assert running.service.log.reader.count() == 1
    with routed(text, learned(-3.0)) as running:
        _, logged = ask(running, "this")
        tried = running.service.log.reader.get(f"{logged.id}-tried")
        assert logged.decision["target"] == "plain" and logged.decision["reason"].startswith("cascade: P(sorted) 0.05")
        assert tried.prompt == prompt_hash(SORTER) and tried.response in ("yes", "no")


def test_a_target_that_cannot_be_asked_is_refused_before_the_server_runs(routed, tmp_path):
    with pytest.raises(ValueError, match="huge, which is not served: tiny"), routed(ROUTER.replace("tiny", "huge", 1)):
        pass
    with pytest.raises(ValueError, match="name the router differently"), routed(ROUTER.replace('"auto"', '"tiny"')):
        pass
    store, similar = (
        PromptStore(tmp_path / PROMPTS),
        replace(SORTER, examples=replace(SORTER.examples, select="similar")),
    )
    store.add(similar, "a test")
    store.move("sorter", "production", "", "a test", gate=Gate(True, "", {}))
    with pytest.raises(ValueError, match="name an embedding model"), routed():
        pass
