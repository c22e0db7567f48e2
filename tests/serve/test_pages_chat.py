"""The chat page over HTTP: without JavaScript, with hostile content, and the design's promises that can be computed."""

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
from small_system import Page

from lmworks.cli.ask_command import show_answer
from lmworks.ground.answer_record import to_answer
from lmworks.ground.certainty import certainty_phrase, certainty_sentence
from lmworks.records import Interaction, Message, Retrieved, Span, Verdict
from lmworks.serve.events import BusyError
from lmworks.serve.pages import chat_page
from lmworks.serve.pages.chat_turns import calibrated, messages_of

LOST_LAPTOP = "By when must I report a lost laptop?"
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(1)>\"'><b>&amp; {{ 191*7 }} \ud800\x00 [7]"


@pytest.fixture
def http(grounded):
    with grounded.http() as client:
        yield client


def ask(http: httpx.Client, question: str, *, model: str = "assistant", conversation: str = "", parent: str = ""):
    fields = {"question": question, "model": model, "conversation": conversation, "parent": parent}
    return http.post("/chat", data=fields)


def logged(grounded, conversation: str) -> list[Interaction]:
    return grounded.service.log.reader.conversation(conversation)


# ---------------------------------------------------------------------------------------------------------------------
# Without JavaScript


def test_an_empty_page_says_what_the_system_knows_and_offers_its_question(http, grounded, monkeypatch):
    current = replace(grounded.service.current, question="What <is> leave?", description="Three pages")
    monkeypatch.setattr(grounded.service, "current", current)
    page = Page(http.get("/").text)
    assert "What would you like to know?" in page.text
    assert "Three pages." in page.text
    assert re.search(r"What it knows\s*Documents\s*3\s*Passages", page.text)
    examples = page.all("a", "data-example")
    assert examples[0]["data-example"] == "What <is> leave?"
    for link in examples:
        assert parse_qs(urlsplit(link["href"] or "").query) == {"q": [link["data-example"]]}
    assert [a["href"] for a in page.all("a", "aria-current", "page")] == ["/"]


def test_a_question_in_the_address_stands_in_the_field_and_is_not_asked(http, grounded):
    before = grounded.service.log.reader.count()
    text = http.get("/", params={"q": "Who <are> you?"}).text
    assert re.search(r"<textarea[^>]*>Who &lt;are&gt; you\?</textarea>", text)
    assert grounded.service.log.reader.count() == before


def test_a_form_asks_and_shows_the_answer_with_its_source(http, grounded):
    conversation = secrets.token_hex(8)
    answered = ask(http, LOST_LAPTOP, conversation=conversation)
    assert (answered.status_code, answered.headers["location"]) == (303, f"/chat/{conversation}#last")
    page = Page(http.get(answered.headers["location"]).text)
    (turn,) = logged(grounded, conversation)
    assert not turn.abstained
    assert turn.citations
    for number, citation in enumerate(turn.citations, start=1):
        assert " ".join(citation.text.split()) in page.text
        (mark,) = page.all("a", "data-source", f"s-{turn.id}-{number}")
        assert mark["href"] == f"#s-{turn.id}-{number}"
        assert len(page.all("li", "id", f"s-{turn.id}-{number}")) == 1
        span = citation.evidence
        address = f"/documents/{span.document}?start={span.start}&end={span.end}#cite"
        assert address in [link["href"] for link in page.all("a", "class", "place")]
    assert [link["href"] for link in page.all("a", "aria-current", "page")] == ["/", f"/chat/{conversation}"]
    (copied,) = page.all("button", "data-copy")
    assert copied["data-copy"] == f"{turn.response}\n\n" + "\n".join(
        f"[{number}] {citation.uri}" for number, citation in enumerate(turn.citations, start=1)
    )


def test_an_abstention_offers_the_nearest_passages(http, grounded):
    conversation = secrets.token_hex(8)
    ask(http, "What is the capital of Mongolia?", conversation=conversation)
    (turn,) = logged(grounded, conversation)
    page = Page(http.get(f"/chat/{conversation}").text)
    assert turn.abstained
    assert turn.response in page.text
    assert "Nearest passages" in page.text
    assert len(page.all("li", "class", "source")) == min(3, len(turn.retrieved))
    assert not page.all("a", "class", "cite")
    assert "cited" not in page.text


def test_why_shows_the_verdicts_the_threshold_and_the_time(http, grounded):
    conversation = secrets.token_hex(8)
    ask(http, LOST_LAPTOP, conversation=conversation)
    (turn,) = logged(grounded, conversation)
    page = Page(http.get(f"/chat/{conversation}").text)
    assert f"Confidence {turn.confidence or 0:.2f}" in page.text
    assert re.search(r"answers from \d\.\d\d on", page.text)
    for name in (*turn.timings, *{verdict.verdict for verdict in turn.verdicts[:8]}):
        assert name in page.text


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


@pytest.fixture
def long_conversation(grounded):
    """The id of a conversation of 120 turns, each after the one before it; taken out of the log again."""
    name = secrets.token_hex(8)
    ids = [f"{name}-{number}" for number in range(120)]
    futures = [
        grounded.service.log.record(
            Interaction(
                identifier, number / 1000, (Message("user", f"Q{number}?"),), f"A{number}.",
                route="tiny", conversation=name, parent=ids[number - 1] if number else None,
            )
        )
        for number, identifier in enumerate(ids)
    ]  # fmt: skip
    for future in futures:
        future.result(timeout=30)
    yield name
    grounded.service.log.prune(1.0)


def test_a_long_conversation_is_shown_by_the_page(http, long_conversation):
    address, shown, pages = f"/chat/{long_conversation}", [], 0
    while address:
        page = Page(http.get(address).text)
        articles = [part["id"] or "" for part in page.all("article", "id")]
        turns = [int(name.rpartition("-")[2]) for name in articles]
        assert 0 < len(turns) <= 50
        shown, pages = [*turns, *shown], pages + 1
        address = next((link["href"] for link in page.all("a", "rel", "prev")), None)
    assert (shown, pages) == (list(range(120)), 3)
    assert http.get(f"/chat/{long_conversation}", params={"before": "nonsense"}).status_code == 400


@pytest.mark.parametrize("parent", [119, 30])
def test_a_language_model_hears_what_leads_to_the_turn_wherever_it_is(
    http, grounded, long_conversation, parent, monkeypatch
):
    heard = []

    async def listen(turn):
        heard.append(turn)
        return
        yield

    monkeypatch.setattr(grounded.service, "chat", listen)
    ask(http, "New", model="tiny", conversation=long_conversation, parent=f"{long_conversation}-{parent}")
    said = [message.content for message in heard[0].messages]
    first = max(0, parent - 49)
    assert said == [text for n in range(first, parent + 1) for text in (f"Q{n}?", f"A{n}.")] + ["New"]


def test_a_circle_of_parents_ends():
    circle = [
        Interaction("a", 0, (Message("user", "A"),), "x", parent="b"),
        Interaction("b", 1, (Message("user", "B"),), "y", parent="a"),
    ]
    assert [m.content for m in messages_of(circle, "b", "C")] == ["A", "x", "B", "y", "C"]


def test_thumbs_and_their_reason_reach_the_log_by_plain_forms(http, grounded):
    conversation = secrets.token_hex(8)
    ask(http, LOST_LAPTOP, conversation=conversation)
    (turn,) = logged(grounded, conversation)
    back = f"/chat/{conversation}#t-{turn.id}"
    fields = {"value": "down", "reason": "incomplete", "text": "by telephone", "back": back}
    answer = http.post(f"/log/{turn.id}/feedback", data=fields)
    assert (answer.status_code, answer.headers["location"]) == (303, back)
    (given_back,) = grounded.service.log.reader.get(turn.id).feedback
    assert (given_back.value, given_back.text) == ("down", "incomplete: by telephone")
    (down,) = Page(http.get(back).text).all("button", "data-thumb-down")
    assert down["aria-pressed"] == "true"
    http.post(f"/log/{turn.id}/feedback", data={"value": ""})
    (down,) = Page(http.get(back).text).all("button", "data-thumb-down")
    assert down["aria-pressed"] == "false"


def test_a_note_is_kept_with_its_author(http, grounded):
    conversation = secrets.token_hex(8)
    ask(http, LOST_LAPTOP, conversation=conversation)
    (turn,) = logged(grounded, conversation)
    http.post(f"/log/{turn.id}/notes", data={"text": " look here ", "author": "me"})
    (note,) = grounded.service.log.reader.get(turn.id).feedback
    assert (note.kind, note.text, note.author) == ("note", "look here", "me")
    assert http.post(f"/log/{turn.id}/notes", data={"text": "  "}).status_code == 400


@pytest.mark.parametrize(
    ("path", "fields", "status"),
    [
        ("/chat", {"question": "  "}, 400),
        ("/chat", {"question": "x", "model": "gpt"}, 400),
        ("/chat", {"question": "x", "model": "tiny-embedder"}, 400),
        ("/log/0000000000000000/feedback", {"value": "up"}, 404),
        ("/log/0000000000000000/feedback", {"value": "sideways"}, 400),
    ],
)
def test_what_is_wrong_with_a_form_is_said_on_a_page(http, path, fields, status):
    answer = http.post(path, data=fields)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "text/html; charset=utf-8"


def test_a_body_that_is_no_form_is_refused(http):
    assert http.post("/chat", json={"question": "x"}).status_code == 400


def test_a_busy_server_keeps_the_question_and_says_when_to_come_again(http, grounded, monkeypatch):
    async def busy(turn):
        raise BusyError(7)
        yield

    monkeypatch.setattr(grounded.service, "chat", busy)
    answer = ask(http, "Keep <this>")
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "7")
    assert "Keep &lt;this&gt;</textarea>" in answer.text
    assert "try again in 7 s" in Page(answer.text).text


def test_what_is_not_there_is_404(http):
    for path in ("/chat/no-such-conversation", "/chat/turn/0000000000000000"):
        answer = http.get(path)
        assert answer.status_code == 404
        assert Page(answer.text).all("a", "href", "/")


def test_while_loading_the_page_says_so_and_comes_back_by_itself(grounded, http, monkeypatch):
    monkeypatch.setattr(grounded.service, "state", "starting")
    answer = http.get("/")
    assert answer.status_code == 200
    assert answer.headers["refresh"] == "5"
    assert "The models are being loaded." in Page(answer.text).text
    monkeypatch.setattr(grounded.service, "state", "failed")
    monkeypatch.setattr(grounded.service, "failure", "no <weights>")
    answer = http.get("/")
    assert "no <weights>" in Page(answer.text).text
    assert "refresh" not in answer.headers


def test_a_server_without_documents_offers_its_language_model(language):
    with language.http() as http:
        page = Page(http.get("/").text)
        assert [option["value"] for option in page.all("option")] == ["tiny"]
        assert "not checked" in page.text


# ---------------------------------------------------------------------------------------------------------------------
# Content that nobody may trust


LONG_AGO = 1.0


@pytest.fixture
def forgetting(grounded):
    """The log is shared: what cites documents that do not exist is taken out of it again."""
    yield
    grounded.service.log.prune(LONG_AGO + 1)


def hostile_turn(identifier: str, *, grounded: bool, abstained: bool = False) -> Interaction:
    span = Span("0" * 64, 3, 9)
    cited = Verdict(HOSTILE, "quoted", span, f"javascript:{HOSTILE}", 0.9, None, "cited")
    passage = Retrieved("c", span, f"javascript:{HOSTILE}", HOSTILE, {HOSTILE: 1.0})
    return Interaction(
        id=identifier,
        time=LONG_AGO,
        messages=(Message("user", HOSTILE),),
        response=f"{HOSTILE} [1]",
        verdicts=(cited,) if grounded else (),
        retrieved=(passage,) if grounded else (),
        timings={HOSTILE: 1.0, "total": 1.0},
        route=HOSTILE.replace("\ud800", "").replace("\x00", ""),
        conversation=f"h-{identifier}",
        confidence=0.9 if grounded else None,
        abstained=abstained,
    )


@pytest.mark.parametrize(("grounded_turn", "abstained"), [(True, False), (True, True), (False, False)])
@pytest.mark.usefixtures("forgetting")
def test_hostile_text_is_text(http, grounded, grounded_turn, abstained):
    turn = hostile_turn(secrets.token_hex(8), grounded=grounded_turn, abstained=abstained)
    grounded.service.log.record(turn).result(timeout=30)
    for path in (f"/chat/{turn.conversation}", f"/chat/turn/{turn.id}", "/"):
        answer = http.get(path)
        assert answer.status_code == 200
        page = Page(answer.text)
        assert "<script>alert(1)</script>" in page.text
        assert all((attrs.get("src") or "").startswith("/static/") for attrs in page.all("script"))
        assert not page.all("img")
        assert not page.all("b")
        assert not [name for _, attrs in page.elements for name in attrs if name.startswith("on") or name == "style"]
        assert not [attrs for attrs in page.all("a") if not re.match(r"[/#]", attrs.get("href") or "")]
        assert "1337" not in page.text
        assert "\x00" not in answer.text


@pytest.mark.usefixtures("forgetting")
def test_only_a_real_citation_is_a_link(http, grounded):
    turn = hostile_turn(secrets.token_hex(8), grounded=True)
    grounded.service.log.record(turn).result(timeout=30)
    page = Page(http.get(f"/chat/turn/{turn.id}").text)
    assert [link["href"] for link in page.all("a", "class", "cite")] == [f"#s-{turn.id}-1"]
    assert "[7]" in page.text
    assert "no longer among the documents" in page.text  # and so it is no link either
    assert not page.all("a", "class", "place")


@pytest.mark.parametrize("conversation", ["a b/../c?d#e", '"><script>', "ü\ud800"])
def test_any_name_of_a_conversation_can_be_shown(http, grounded, conversation):
    messages = (Message("user", "named"),)
    turn = Interaction(secrets.token_hex(8), time.time(), messages, "yes", route="tiny", conversation=conversation)
    grounded.service.log.record(turn).result(timeout=30)
    page = Page(http.get("/").text)
    links = [link["href"] or "" for link in page.all("a") if (link.get("href") or "").startswith("/chat/")]
    assert all(http.get(link).status_code in (200, 404) for link in links)
    if "\ud800" not in conversation:
        assert any(turn.id in http.get(link).text for link in links)


def test_every_answer_carries_the_policy_and_no_page_needs_more(http):
    for path in ("/", "/chat/no-such-conversation", "/?q=%3Cscript%3E"):
        answer = http.get(path)
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        page = Page(answer.text)
        assert not page.all("style")
        assert not [attrs for _, attrs in page.elements if "style" in attrs]
        fetched = [a.get("src") or a.get("href") or "" for tag in ("script", "link", "img") for a in page.all(tag)]
        assert fetched
        assert all(address.startswith("/static/") and http.get(address).status_code == 200 for address in fetched)


def test_ids_and_labels_are_sound(http, grounded):
    conversation = secrets.token_hex(8)
    for model in ("assistant", "tiny"):
        assert ask(http, LOST_LAPTOP, model=model, conversation=conversation).status_code == 303
    page = Page(http.get(f"/chat/{conversation}").text)
    ids = Counter(attrs["id"] for _, attrs in page.elements if "id" in attrs)
    assert max(ids.values()) == 1
    for label in page.all("label", "for"):
        assert label["for"] in ids
    for _, attrs in page.elements:
        for name in ("aria-labelledby", "aria-describedby", "popovertarget"):
            assert attrs.get(name, next(iter(ids))) in ids
    assert len(page.all("h1")) <= 1
    assert page.all("a", "class", "skip")[0]["href"] == "#main"


def test_code_keeps_its_lines_and_what_was_measured_stands_beside_the_confidence(http, grounded, forgetting):
    calibration = calibrated(grounded.service)
    assert calibration is not None
    quote = Verdict("a = 1\n  b < 2", "quoted", Span("d" * 64, 0, 13), "a.md", 0.9, None, "cited")
    turn = Interaction(
        secrets.token_hex(8), LONG_AGO, (Message("user", "How?"),), "So:\n```\na = 1\n  b < 2\n```\n[1]",
        verdicts=(quote,), confidence=0.9, conversation=secrets.token_hex(8),
        lineage={calibration.stage: calibration.digest},
    )  # fmt: skip
    grounded.service.log.record(turn).result()
    texts = [http.get(path).text for path in (f"/chat/{turn.conversation}", f"/log/{turn.id}")]
    assert all("<code>a = 1\n  b &lt; 2</code>" in text and ">So:</p>" in text for text in texts)
    assert certainty_phrase(calibration.certainty) in texts[0]
    assert Page(texts[0]).all("a", "title", certainty_sentence(calibration.certainty))


def test_the_words_that_answer_by_themselves_come_first(http, grounded, forgetting):
    text, span = "Roma opened <it> in 1911.", Span("d" * 64, 10, 35)
    quote = Verdict(text, "quoted", span, "a.md", 0.9, None, "cited", short=Span(span.document, 30, 34))
    turn = Interaction(
        secrets.token_hex(8), LONG_AGO, (Message("user", "When?"),), f"{text} [1]", verdicts=(quote,), confidence=0.9,
        conversation=secrets.token_hex(8),
    )  # fmt: skip
    grounded.service.log.record(turn).result()
    for path in (f"/chat/{turn.conversation}", f"/log/{turn.id}"):
        shown = http.get(path).text
        assert 0 < shown.index("<strong>1911</strong>") < shown.index('said">Roma opened &lt;it&gt;')
    printed = Console(file=StringIO(), width=80)
    show_answer(printed, to_answer(turn), "roma", {})
    assert printed.file.getvalue().split()[:3] == ["1911", "Roma", "opened"]  # type: ignore[attr-defined]


def test_a_follow_up_is_read_with_the_turn_before_it_and_logged_as_it_was_asked(http, grounded):
    conversation, alone = secrets.token_hex(8), secrets.token_hex(8)
    ask(http, LOST_LAPTOP, conversation=conversation)
    (first,) = logged(grounded, conversation)
    ask(http, "And where is it?", conversation=conversation, parent=first.id)
    ask(http, "And where is it?", conversation=alone)
    found, without = logged(grounded, conversation)[-1], logged(grounded, alone)[-1]
    assert found.messages[-1].content == without.messages[-1].content == "And where is it?"
    assert found.query_embedding != without.query_embedding
    assert found.retrieved[0].uri.endswith("security.md")
