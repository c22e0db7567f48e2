"""The chat page over HTTP: without JavaScript, and with hostile content."""

import re
import secrets
import time
from collections import Counter
from dataclasses import replace
from io import StringIO
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from rich.console import Console
from small_system import Page, inert

from kit.tables import for_each
from lmworks.cli.ask_command import show_answer
from lmworks.ground.answer_record import to_answer
from lmworks.ground.conformal_risk_control import certainty_phrase, certainty_sentence
from lmworks.records import Interaction, Message, Retrieved, Span, Verdict
from lmworks.serve.events import BusyError
from lmworks.serve.pages import chat_page
from lmworks.serve.pages.chat_turns import calibrated, messages_of

LOST_LAPTOP = "By when must I report a lost laptop?"
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(1)>\"'><b>&amp; {{ 191*7 }} \ud800\x00 [7]"
LONG_AGO = 1.0


@pytest.fixture
def http(grounded):
    with grounded.http() as client:
        yield client


@pytest.fixture
def forgetting(grounded):
    """The log is shared: what cites documents that do not exist is taken out of it again."""
    yield
    grounded.service.log.prune(LONG_AGO + 1)


def ask(http: httpx.Client, question: str, *, model: str = "assistant", conversation: str = "", parent: str = ""):
    fields = {"question": question, "model": model, "conversation": conversation, "parent": parent}
    return http.post("/chat", data=fields)


def logged(grounded, conversation: str) -> list[Interaction]:
    return grounded.service.log.reader.conversation(conversation)


def asked(http, grounded, question: str) -> tuple[Interaction, Page]:
    """The turn of a question that was asked by a form, and the page that shows it."""
    conversation = secrets.token_hex(8)
    answer = ask(http, question, conversation=conversation)
    assert (answer.status_code, answer.headers["location"]) == (303, f"/chat/{conversation}#last")
    (turn,) = logged(grounded, conversation)
    return turn, Page(http.get(f"/chat/{conversation}").text)


def recorded(grounded, **fields) -> Interaction:
    """A turn of long ago in the log."""
    name = secrets.token_hex(8)
    given = {"time": LONG_AGO, "messages": (Message("user", "How?"),), "response": "", "conversation": f"h-{name}"}
    turn = Interaction(id=name, **{**given, **fields})
    grounded.service.log.record(turn).result(timeout=30)
    return turn


# ---------------------------------------------------------------------------------------------------------------------
# Without JavaScript


def test_an_empty_page_says_what_the_system_knows_and_offers_its_question(http, grounded, monkeypatch):
    current = replace(grounded.service.current, question="What <is> leave?", description="Three pages")
    monkeypatch.setattr(grounded.service.grounding, "current", current)
    page = Page(http.get("/").text)
    assert "Three pages." in page.text and re.search(r"Documents\s*3\s*Passages", page.text)
    examples = page.all("a", "data-example")
    assert examples[0]["data-example"] == "What <is> leave?"
    for link in examples:
        assert parse_qs(urlsplit(link["href"] or "").query) == {"q": [link["data-example"]]}
    before = grounded.service.log.reader.count()
    text = http.get("/", params={"q": "Who <are> you?"}).text  # stands in the field and is not asked
    assert re.search(r"<textarea[^>]*>Who &lt;are&gt; you\?</textarea>", text)
    assert grounded.service.log.reader.count() == before


def test_a_form_asks_and_shows_the_answer_with_its_source(http, grounded):
    turn, page = asked(http, grounded, LOST_LAPTOP)
    assert not turn.abstained and turn.citations
    for number, citation in enumerate(turn.citations, start=1):
        assert " ".join(citation.text.split()) in page.text
        (mark,) = page.all("a", "data-source", f"s-{turn.id}-{number}")
        assert mark["href"] == f"#s-{turn.id}-{number}"
        assert len(page.all("li", "id", f"s-{turn.id}-{number}")) == 1
        span = citation.evidence
        address = f"/documents/{span.document}?start={span.start}&end={span.end}#cite"
        assert address in [link["href"] for link in page.all("a", "class", "place")]
    (copied,) = page.all("button", "data-copy")
    assert copied["data-copy"] == f"{turn.response}\n\n" + "\n".join(
        f"[{number}] {citation.uri}" for number, citation in enumerate(turn.citations, start=1)
    )
    assert f"Confidence {turn.confidence or 0:.2f}" in page.text  # why it was answered
    assert re.search(r"answers from \d\.\d\d on", page.text)
    for name in (*turn.timings, *{verdict.verdict for verdict in turn.verdicts[:8]}):
        assert name in page.text


def test_an_abstention_offers_the_nearest_passages(http, grounded):
    turn, page = asked(http, grounded, "What is the capital of Mongolia?")
    assert turn.abstained and turn.response in page.text
    assert len(page.all("li", "class", "source")) == min(3, len(turn.retrieved))
    assert not page.all("a", "class", "cite") and "cited" not in page.text


def test_a_language_model_hears_the_turns_before_but_not_their_other_branches(http, grounded, monkeypatch):
    monkeypatch.setattr(chat_page, "SAMPLING", {"max_tokens": 8})  # all three fit into the context of the tiny model
    conversation = secrets.token_hex(8)
    ask(http, "First", model="tiny", conversation=conversation)
    (first,) = logged(grounded, conversation)
    ask(http, "Second", model="tiny", conversation=conversation, parent=first.id)
    second = logged(grounded, conversation)[-1]
    ask(http, "Second, edited", model="tiny", conversation=conversation, parent=second.parent or "")
    edited = logged(grounded, conversation)[-1]
    history = (Message("user", "First"), Message("assistant", first.response)) if first.response else ()
    assert second.messages == (*history, Message("user", "Second"))
    assert edited.messages == (*history, Message("user", "Second, edited"))
    assert [turn.parent for turn in logged(grounded, conversation)] == [None, first.id, first.id]


def test_a_long_conversation_is_shown_by_the_page_and_heard_where_it_goes_on(http, grounded, forgetting, monkeypatch):
    name = secrets.token_hex(8)
    ids = [f"{name}-{number}" for number in range(120)]
    turns = [
        Interaction(
            identifier, number / 1000, (Message("user", f"Q{number}?"),), f"A{number}.",
            route="tiny", conversation=name, parent=ids[number - 1] if number else None,
        )
        for number, identifier in enumerate(ids)
    ]  # fmt: skip
    for future in [grounded.service.log.record(turn) for turn in turns]:
        future.result(timeout=30)
    address, shown, pages = f"/chat/{name}", [], 0
    while address:
        page = Page(http.get(address).text)
        numbers = [int((part["id"] or "").rpartition("-")[2]) for part in page.all("article", "id")]
        assert 0 < len(numbers) <= 50
        shown, pages = [*numbers, *shown], pages + 1
        address = next((link["href"] for link in page.all("a", "rel", "prev")), None)
    assert (shown, pages) == (list(range(120)), 3)
    assert http.get(f"/chat/{name}", params={"before": "nonsense"}).status_code == 400
    heard = []

    async def listen(turn):
        heard.append([message.content for message in turn.messages])
        return
        yield

    monkeypatch.setattr(grounded.service, "chat", listen)
    for parent in (119, 60, 30):
        ask(http, "New", model="tiny", conversation=name, parent=f"{name}-{parent}")
        first = max(0, parent - 49)
        assert heard[-1] == [text for n in range(first, parent + 1) for text in (f"Q{n}?", f"A{n}.")] + ["New"]


def test_a_circle_of_parents_ends():
    circle = [
        Interaction("a", 0, (Message("user", "A"),), "x", parent="b"),
        Interaction("b", 1, (Message("user", "B"),), "y", parent="a"),
    ]
    assert [m.content for m in messages_of(circle, "b", "C")] == ["A", "x", "B", "y", "C"]


def test_thumbs_and_their_reason_reach_the_log_by_plain_forms(http, grounded):
    turn, _ = asked(http, grounded, LOST_LAPTOP)
    back = f"/chat/{turn.conversation}#t-{turn.id}"
    fields = {"value": "down", "reason": "incomplete", "text": "by telephone", "back": back}
    answer = http.post(f"/log/{turn.id}/feedback", data=fields)
    assert (answer.status_code, answer.headers["location"]) == (303, back)
    (feedback,) = grounded.service.log.reader.get(turn.id).feedback
    assert (feedback.value, feedback.text) == ("down", "incomplete: by telephone")
    (down,) = Page(http.get(back).text).all("button", "data-thumb-down")
    assert down["aria-pressed"] == "true"
    http.post(f"/log/{turn.id}/feedback", data={"value": ""})
    (down,) = Page(http.get(back).text).all("button", "data-thumb-down")
    assert down["aria-pressed"] == "false"


@for_each(
    ("path", "fields", "status"),
    [
        ("/chat", {"question": "  "}, 400),
        ("/chat", {"question": "x", "model": "gpt"}, 400),
        ("/chat", {"question": "x", "model": "tiny-embedder"}, 400),
        ("/chat", None, 400),
        ("/log/0000000000000000/feedback", {"value": "up"}, 404),
        ("/log/0000000000000000/feedback", {"value": "sideways"}, 400),
        ("/log/0000000000000000/notes", {"text": "  "}, 400),
    ],
)
def test_what_is_wrong_with_a_form_is_said_on_a_page(http, path, fields, status):
    answer = http.post(path, data=fields) if fields else http.post(path, json={"question": "x"})
    assert (answer.status_code, answer.headers["content-type"]) == (status, "text/html; charset=utf-8")


def test_a_busy_server_keeps_the_question_and_says_when_to_come_again(http, grounded, monkeypatch):
    async def busy(turn):
        raise BusyError(7)
        yield

    monkeypatch.setattr(grounded.service, "chat", busy)
    answer = ask(http, "Keep <this>")
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "7")
    assert "Keep &lt;this&gt;</textarea>" in answer.text


def test_a_server_that_loads_or_has_failed_or_has_no_documents_says_so(grounded, language, http, monkeypatch):
    for path in ("/chat/no-such-conversation", "/chat/turn/0000000000000000"):
        assert http.get(path).status_code == 404
    monkeypatch.setattr(grounded.service, "state", "starting")
    answer = http.get("/")
    assert (answer.status_code, answer.headers["refresh"]) == (200, "5")  # comes back by itself
    monkeypatch.setattr(grounded.service, "state", "failed")
    monkeypatch.setattr(grounded.service, "failure", "no <weights>")
    answer = http.get("/")
    assert "no <weights>" in Page(answer.text).text and "refresh" not in answer.headers
    page = Page(language.http().get("/").text)
    assert [option["value"] for option in page.all("option")] == ["tiny"] and "not checked" in page.text


# ---------------------------------------------------------------------------------------------------------------------
# Content that nobody may trust


@for_each(("cites", "abstained"), [(True, False), (True, True), (False, False)])
def test_hostile_text_is_text_and_only_a_real_citation_is_a_link(http, grounded, forgetting, cites, abstained):
    span = Span("0" * 64, 3, 9)
    verdict = Verdict(HOSTILE, "quoted", span, f"javascript:{HOSTILE}", 0.9, None, "cited")
    passage = Retrieved("c", span, f"javascript:{HOSTILE}", HOSTILE, {HOSTILE: 1.0})
    turn = recorded(
        grounded,
        messages=(Message("user", HOSTILE),),
        response=f"{HOSTILE} [1]",
        verdicts=(verdict,) if cites else (),
        retrieved=(passage,) if cites else (),
        timings={HOSTILE: 1.0, "total": 1.0},
        route=HOSTILE.replace("\ud800", "").replace("\x00", ""),
        confidence=0.9 if cites else None,
        abstained=abstained,
    )
    for path in (f"/chat/{turn.conversation}", f"/chat/turn/{turn.id}", "/"):
        answer = http.get(path)
        assert answer.status_code == 200
        page = inert(answer.text)
        assert "<script>alert(1)</script>" in page.text and not page.all("img")
        assert all(re.match(r"[/#]", attributes.get("href") or "") for attributes in page.all("a"))
        assert "1337" not in page.text
    page = Page(http.get(f"/chat/turn/{turn.id}").text)
    marks = [f"#s-{turn.id}-1"] if cites and not abstained else []
    assert [link["href"] for link in page.all("a", "class", "cite")] == marks and "[7]" in page.text
    assert not page.all("a", "class", "place")  # its document is not there


@for_each("conversation", ["a b/../c?d#e", '"><script>', "ü\ud800"])
def test_any_name_of_a_conversation_can_be_shown(http, grounded, conversation):
    turn = recorded(grounded, time=time.time(), conversation=conversation)
    page = Page(http.get("/").text)
    links = [link["href"] or "" for link in page.all("a") if (link.get("href") or "").startswith("/chat/")]
    texts = [http.get(link).text for link in links if http.get(link).status_code == 200]
    assert any(turn.id in text for text in texts) or "\ud800" in conversation


def test_ids_and_labels_are_sound(http, grounded):
    conversation = secrets.token_hex(8)
    for model in ("assistant", "tiny"):
        assert ask(http, LOST_LAPTOP, model=model, conversation=conversation).status_code == 303
    page = Page(http.get(f"/chat/{conversation}").text)
    ids = Counter(attributes["id"] for _, attributes in page.elements if "id" in attributes)
    assert max(ids.values()) == 1
    for label in page.all("label", "for"):
        assert label["for"] in ids
    for _, attributes in page.elements:
        for name in ("aria-labelledby", "aria-describedby", "popovertarget"):
            assert attributes.get(name, next(iter(ids))) in ids


def test_code_keeps_its_lines_and_what_was_measured_stands_beside_the_confidence(http, grounded, forgetting):
    calibration = calibrated(grounded.service)
    assert calibration is not None
    quote = Verdict("a = 1\n  b < 2", "quoted", Span("d" * 64, 0, 13), "a.md", 0.9, None, "cited")
    turn = recorded(
        grounded, response="So:\n```\na = 1\n  b < 2\n```\n[1]", verdicts=(quote,), confidence=0.9,
        lineage={calibration.stage: calibration.digest},
    )  # fmt: skip
    texts = [http.get(path).text for path in (f"/chat/{turn.conversation}", f"/log/{turn.id}")]
    assert all("<code>a = 1\n  b &lt; 2</code>" in text and ">So:</p>" in text for text in texts)
    assert certainty_phrase(calibration.certainty) in texts[0]
    assert Page(texts[0]).all("a", "title", certainty_sentence(calibration.certainty))


def test_the_words_that_answer_by_themselves_come_first(http, grounded, forgetting):
    text, span = "Roma opened <it> in 1911.", Span("d" * 64, 10, 35)
    quote = Verdict(text, "quoted", span, "a.md", 0.9, None, "cited", short=Span(span.document, 30, 34))
    turn = recorded(grounded, response=f"{text} [1]", verdicts=(quote,), confidence=0.9)
    for path in (f"/chat/{turn.conversation}", f"/log/{turn.id}"):
        shown = http.get(path).text
        assert 0 < shown.index("<strong>1911</strong>") < shown.index('said">Roma opened &lt;it&gt;')
    printed = Console(file=StringIO(), width=80)
    show_answer(printed, to_answer(turn), "roma", {})
    assert printed.file.getvalue().split()[:3] == ["1911", "Roma", "opened"]  # type: ignore[attr-defined]


def test_a_follow_up_is_read_with_the_turn_before_it_and_logged_as_it_was_asked(http, grounded):
    first, _ = asked(http, grounded, LOST_LAPTOP)
    ask(http, "And where is it?", conversation=first.conversation, parent=first.id)
    without, _ = asked(http, grounded, "And where is it?")
    follow_up = logged(grounded, first.conversation)[-1]
    assert follow_up.messages[-1].content == without.messages[-1].content == "And where is it?"
    assert follow_up.query_embedding != without.query_embedding
    assert follow_up.retrieved[0].uri.endswith("security.md")
