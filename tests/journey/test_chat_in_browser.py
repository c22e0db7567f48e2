"""The chat in a real browser, with the real weights: ask, read, open a citation, criticise, find it in the log."""

import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from kit.browser import launched, needs_chromium, watched_page
from kit.servers import serving
from lmworks.build import build
from lmworks.ground.answer_text import answer_parts, markdown_parts
from lmworks.recipe import find, load
from lmworks.records import Span, Verdict
from lmworks.serve.config import ServeConfig
from lmworks.serve.service import Service

pytestmark = [pytest.mark.weights, needs_chromium]

SOURCES = {
    "security.md": "# Security\n\nLaptops are locked whenever you leave your desk. A lost laptop is reported to the "
    "security desk within one hour, by telephone, at any time of the day.\n\n## Passwords\n\nPasswords live in the "
    "password manager and nowhere else. They are never sent by mail or chat, not even to administrators.\n",
    "leave.md": "# Leave\n\nEvery employee has twenty-eight days of paid leave a year. Leave is asked for in the "
    "calendar, at least two weeks ahead.\n\n## Carrying over\n\nAt most five days are carried over into the next "
    "year, and they expire at the end of March. The team lead can make exceptions for parents.\n",
}
QUESTION = "By when must I report a lost laptop?"
LANGUAGE = "smollm2-135m-instruct"
ESCAPE = """() => new MutationObserver((_, observer) => {
  if (!document.querySelector(".live .said")) return;
  observer.disconnect();
  document.activeElement.dispatchEvent(new KeyboardEvent("keydown", {key: "Escape", bubbles: true}));
}).observe(document.body, {childList: true, subtree: true})"""
# Events of an answer reach the page one by one, a twentieth of a second apart, however busy the machine is.
ONE_BY_ONE = r"""() => {
  const fetch = window.fetch;
  window.fetch = async (...args) => {
    const response = await fetch(...args);
    if (!String(args[0]).includes("/v1/chat/completions")) return response;
    const events = new TransformStream({async transform(chunk, controller) {
      for (const event of chunk.split(/(?<=\n\n)/)) {
        await new Promise((resume) => setTimeout(resume, 50));
        controller.enqueue(event);
      }
    }});
    const body = response.body.pipeThrough(new TextDecoderStream()).pipeThrough(events);
    return new Response(body.pipeThrough(new TextEncoderStream()), response);
  };
}"""
COUNT_LENGTHS = """() => {
  window.lengths = new Set();
  const count = () => window.lengths.add(document.querySelector(".live .answer")?.textContent.length ?? 0);
  new MutationObserver(count).observe(document.body, {childList: true, characterData: true, subtree: true});
}"""


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory, smollm2: Path, minilm: Path) -> Iterator[str]:
    """The address of a server over two documents."""
    del smollm2, minilm  # they are pulled
    root = tmp_path_factory.mktemp("chat")
    (root / "docs").mkdir()
    for name, text in SOURCES.items():
        (root / "docs" / name).write_text(text, "utf-8")
    sources = json.dumps([str(root / "docs")])
    build(load(find("documents"), [f"documents.sources={sources}"]), root / "w")
    with serving(Service(root / "w", ServeConfig(drain_seconds=1.0)), load=True) as running:
        yield running.url


@pytest.fixture(scope="module")
def browser() -> Iterator:
    with launched() as started:
        yield started


@pytest.fixture
def watched(browser, url: str) -> Iterator:
    with watched_page(browser, url) as found:
        yield found


@pytest.fixture
def page(watched):
    return watched[0]


def ask(page, question: str, model: str = "assistant") -> None:
    page.select_option("#model", model)
    page.fill("#question", question)
    page.keyboard.press("Enter")


def test_from_a_question_to_the_log(page):
    page.goto("/")
    ask(page, QUESTION)
    page.wait_for_selector(".turn[data-interaction]")
    assert "within one hour" in page.inner_text(".answer")
    assert urlsplit(page.url).path.startswith("/chat/")
    identifier = page.get_attribute(".turn", "data-interaction")

    page.hover(".cite >> nth=0")
    assert "lit" in (page.get_attribute(".source >> nth=0", "class") or "")
    page.click("[data-copy]")
    page.wait_for_selector(".toast")
    assert "within one hour" in page.evaluate("navigator.clipboard.readText()")

    page.click("[data-thumb-down]")
    page.click(".reason .chip:has-text('incomplete')")
    page.fill(".reason textarea", "which number?")
    page.click(".reason button[type=submit]")
    page.wait_for_selector("[data-thumb-down][aria-pressed=true]")
    before = page.inner_html(".answer")
    page.reload()
    assert page.inner_html(".answer") == before  # what the script took over is what the server shows
    assert page.get_attribute("[data-thumb-down]", "aria-pressed") == "true"

    page.goto("/log?q=thumbs:down")
    assert QUESTION in page.inner_text("main")
    page.goto(f"/log/{identifier}")
    assert "incomplete: which number?" in page.inner_text("main")


def test_a_citation_opens_the_document_at_the_passage(page):
    page.goto("/")
    ask(page, QUESTION)
    page.wait_for_selector(".turn[data-interaction]")
    said = page.evaluate("document.querySelector('.answer .said:has(.cite)').firstChild.data")
    page.click(".cite >> nth=0")
    assert page.evaluate("document.activeElement.className") == "place"
    page.keyboard.press("Enter")
    page.wait_for_url("**/documents/**")
    page.wait_for_selector("#cite")
    assert " ".join(page.inner_text("#cite").split()) == " ".join(said.split())


def test_a_language_model_streams_and_hears_the_turn_before(page):
    page.goto("/")
    page.evaluate(ONE_BY_ONE)
    page.evaluate(COUNT_LENGTHS)
    ask(page, "Explain in three paragraphs why the sky is blue.", LANGUAGE)
    page.wait_for_selector(".live .said")
    while page.query_selector(".live") and page.evaluate("window.lengths.size") < 5:
        page.wait_for_timeout(50)
    assert page.evaluate("window.lengths.size") >= 5  # it comes in pieces
    page.keyboard.press("Escape")
    page.wait_for_selector(".turn[data-interaction]")
    ask(page, "And at night?", LANGUAGE)
    page.wait_for_selector(".live .said")
    page.keyboard.press("Escape")
    page.wait_for_selector(".turn[data-interaction] >> nth=1")
    first, second = page.query_selector_all(".turn")
    assert second.get_attribute("data-parent") == first.get_attribute("data-interaction")
    identifier = second.get_attribute("data-interaction")
    sent = page.evaluate("(id) => fetch(`/api/interactions/${id}`).then((r) => r.json())", identifier)
    assert [message["role"] for message in sent["messages"]] == ["user", "assistant", "user"]


def test_stopping_keeps_what_was_written(page):
    page.goto("/")
    page.evaluate(ONE_BY_ONE)
    page.evaluate(ESCAPE)
    ask(page, "Write a very long story about the sea.", LANGUAGE)
    page.wait_for_selector(".turn[data-interaction]")
    assert "stopped" in page.inner_text(".meta")
    assert page.is_visible(".send")
    page.keyboard.press("ArrowUp")
    assert page.input_value("#question") == "Write a very long story about the sea."


def test_a_lost_connection_is_said_and_can_be_tried_again(page, watched):
    page.goto("/")
    page.route("**/v1/chat/completions", lambda route: route.abort())
    ask(page, QUESTION)
    page.wait_for_selector("#problem .notice")
    assert "connection" in page.inner_text("#problem")
    assert page.input_value("#question") == QUESTION
    page.unroute("**/v1/chat/completions")
    watched[1].clear()  # the browser reports the request that was cut off
    page.click("#problem button")
    page.wait_for_selector(".turn[data-interaction]")
    assert page.inner_text("#problem") == ""


def test_a_busy_server_counts_down(page, watched):
    page.goto("/")
    body = json.dumps({"error": {"message": "too many requests are waiting"}})
    answer = {"status": 429, "headers": {"Retry-After": "1"}, "content_type": "application/json", "body": body}
    page.route("**/v1/chat/completions", lambda route: route.fulfill(**answer))
    ask(page, QUESTION)
    page.wait_for_selector("#problem button:disabled")
    assert "Too many requests are waiting." in page.inner_text("#problem")
    page.wait_for_selector("#problem button:not(:disabled)")
    watched[1].clear()  # the browser reports the status


def test_the_keyboard_reaches_everything(page):
    page.goto("/")
    ask(page, QUESTION)
    page.wait_for_selector(".turn[data-interaction]")
    page.focus(".skip")
    reached = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        reached |= set(page.evaluate("[...document.activeElement.attributes].map((a) => `${a.name}=${a.value}`)"))
    for wanted in (
        "class=cite lit",
        "class=place",
        "aria-label=Copy the answer",
        "aria-label=Good answer",
        "id=question",
    ):
        assert wanted in reached
    for wanted in ("aria-label=Bad answer", "aria-label=Ask again", "aria-label=Entry in the log", "aria-label=Send"):
        assert wanted in reached
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "question"
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    assert page.is_visible("#shortcuts")
    page.keyboard.press("Escape")
    assert not page.is_visible("#shortcuts")
    page.keyboard.press("g")
    page.keyboard.press("l")
    page.wait_for_url("**/log")


def test_the_page_works_without_javascript(browser, url: str):
    context = browser.new_context(java_script_enabled=False, base_url=url)
    page = context.new_page()
    page.goto("/")
    page.fill("#question", QUESTION)
    page.click(".send")
    assert urlsplit(page.url).path.startswith("/chat/")
    assert "within one hour" in page.inner_text(".answer")
    page.click(".thumb button")
    assert page.get_attribute(".thumb button", "aria-pressed") == "true"
    page.click("[data-thumb-down]")
    page.click(".reason .chip:has-text('wrong')")
    page.click(".reason button[type=submit]")
    assert page.get_attribute("[data-thumb-down]", "aria-pressed") == "true"
    context.close()


def test_script_and_server_cut_answers_alike(browser, url: str):
    """The script shows while streaming what the server shows afterwards."""
    texts = [
        "plain",
        "a\n\nb\n",
        "```\ncode\n```",
        "x\n```py\na\n\n  b\n```\ny",
        "open\n```\nnever closed\n",
        "  ```\nindented\n  ```\nafter",
        "not ``` a fence\n``\n````",
        "```js\n```\nz",
        "",
    ]
    page = browser.new_page(base_url=url)
    page.goto("/")
    script = "async (texts) => { const m = await import('/static/writing.js'); return texts.map(m.blocks); }"
    cut = page.evaluate(script, texts)
    for text, parts in zip(texts, cut, strict=True):
        assert [(p["text"], p["name"] == "code") for p in parts] == [(p.text, p.code) for p in markdown_parts(text)]
    answer = "A [7] b. [1]\nLook:\n```python\nx[2]\n```\n[2]\nc\n  d. [3]\n````\n```\n````\n[4]\nand [9] st"
    said = page.evaluate("async (text) => (await import('/static/writing.js')).sentences(text)", answer)
    citation = Verdict("what the page does not say", "quoted", Span("d" * 64, 0, 9), "docs:a", 0.9, None, "cited")
    parts = answer_parts(answer, [citation] * 4)
    assert [(p["text"], p["name"] == "code", p.get("number")) for p in said] == [
        (p.text, p.code, p.number) for p in parts
    ]
    assert [p.number for p in parts] == [1, None, 2, 3, 4, None]
    page.close()
