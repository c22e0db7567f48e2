"""The chat page over HTTP: without JavaScript, with hostile content, and the design's promises that can be computed."""

import html.parser
import re
import secrets
import time
from collections import Counter
from dataclasses import replace
from importlib import resources
from urllib.parse import parse_qs, urlencode, urljoin, urlsplit

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmworks.records import Interaction, Message, Retrieved, Span, Verdict
from lmworks.serve.events import BusyError
from lmworks.serve.pages import chat
from lmworks.serve.pages.forms import local_path
from lmworks.serve.pages.rendering import relative, seconds
from lmworks.serve.pages.turns import messages_of, split_code

LOST_LAPTOP = "By when must I report a lost laptop?"
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(1)>\"'><b>&amp; {{ 191*7 }} \ud800\x00 [7]"


class Page(html.parser.HTMLParser):
    """Elements, their attributes and their text, as a browser would read them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data

    def all(self, tag: str, name: str = "", value: str | None = None) -> list[dict[str, str | None]]:
        """Attributes of the elements of this tag that have an attribute (of that value; a class among others)."""
        found = [attrs for element, attrs in self.elements if element == tag and (not name or name in attrs)]
        return [a for a in found if value is None or value in (a[name] or "").split() or a[name] == value]


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
    monkeypatch.setattr(grounded.service, "current", replace(grounded.service.current, question="What <is> leave?"))
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
    assert "too unsure" in page.text or not turn.verdicts
    assert "cited" not in page.text


def test_why_shows_the_verdicts_the_threshold_and_the_time(http, grounded):
    conversation = secrets.token_hex(8)
    ask(http, LOST_LAPTOP, conversation=conversation)
    (turn,) = logged(grounded, conversation)
    page = Page(http.get(f"/chat/{conversation}").text)
    assert f"Confidence {100 * (turn.confidence or 0):.0f} %" in page.text
    assert re.search(r"answers from \d+ % on", page.text)
    for name in (*turn.timings, *{verdict.verdict for verdict in turn.verdicts[:8]}):
        assert name in page.text


def test_a_language_model_hears_the_turns_before_but_not_their_other_branches(http, grounded, monkeypatch):
    monkeypatch.setattr(chat, "SAMPLING", {"max_tokens": 8})  # all three fit into the context of the tiny model
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
        ("/chat", {"question": "x", "model": "all-minilm-l6-v2"}, 400),
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


# ---------------------------------------------------------------------------------------------------------------------
# Parts


PIECES = st.sampled_from(["/", "\\", "//", "evil.example", "\t", "\n", ":", "@", "a"])


@given(st.text() | st.lists(PIECES).map("".join))
def test_no_path_leads_to_another_site(path):
    """As a browser resolves it: by RFC 3986, with backslashes as slashes, and without tabs and line breaks."""
    target = re.sub(r"[\t\r\n]", "", local_path(path)).replace("\\", "/")
    assert urlsplit(urljoin("http://here.example/log", target)).netloc == "here.example"


@given(st.dictionaries(st.sampled_from(["question", "model", "a b", "ü"]), st.text(st.characters(codec="utf-8"))))
def test_a_form_is_read_as_it_was_written(fields):
    import asyncio

    from starlette.requests import Request

    from lmworks.serve.pages.forms import read_form

    async def receive():
        return {"type": "http.request", "body": urlencode(fields).encode(), "more_body": False}

    headers = [(b"content-type", b"application/x-www-form-urlencoded; charset=utf-8")]
    request = Request({"type": "http", "method": "POST", "headers": headers}, receive)
    assert asyncio.run(read_form(request)) == fields


def test_code_is_told_from_text():
    text = "Before\n\n```python\na = 1\n\nb = 2\n```\nbetween `x`\n```\nopen <b>"
    assert [(part.text, part.code) for part in split_code(text)] == [
        ("Before", False),
        ("a = 1\n\nb = 2", True),
        ("between `x`", False),
        ("open <b>", True),
    ]


@given(st.lists(st.sampled_from(["```", "```py", "\n", "a", " ", "`"])).map("".join))
def test_no_letter_of_an_answer_is_lost_in_code_blocks(text):
    shown = "".join(part.text for part in split_code(text))
    assert shown.count("a") >= text.count("a") - text.count("```")  # the word behind a fence names its language
    assert all(part.text.strip() for part in split_code(text))


def test_times_and_durations_are_said_in_words():
    assert [relative(1000.0 - past, 1000.0) for past in (0, 60, 7200, 86400, 3 * 86400)] == [
        "just now",
        "1 min ago",
        "2 h ago",
        "yesterday",
        "3 days ago",
    ]
    durations = (0.0000123, 0.0123, 4.56, 150, 7200)
    assert [seconds(value) for value in durations] == ["12 µs", "12 ms", "4.6 s", "2 min", "2 h"]


# ---------------------------------------------------------------------------------------------------------------------
# The design's promises


def tokens() -> tuple[dict[str, str], dict[str, str]]:
    """The colours of the light and of the dark mode."""
    text = (resources.files("lmworks.serve") / "static" / "style.css").read_text("utf-8")
    light, dark = (dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", part)) for part in text.split("@media", 2)[:2])
    return light, dark


def contrast(one: str, other: str) -> float:
    """WCAG 2.2: (L1 + 0.05) / (L2 + 0.05) with the relative luminances of the two colours."""

    def luminance(colour: str) -> float:
        channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


TEXT = [
    *((ink, ground) for ink in ("ink", "muted", "accent", "accent-strong") for ground in ("paper", "surface", "wash")),
    *((f"{tone}", f"{tone}-wash") for tone in ("good", "caution", "bad")),
    *((tone, "paper") for tone in ("good", "caution", "bad")),
    ("on-accent", "accent"),
    ("on-accent", "accent-strong"),
    ("accent-strong", "accent-wash"),
    ("ink", "accent-wash"),
    ("muted", "accent-wash"),
    ("ink", "mark"),
    ("paper", "ink"),
    *(("ink", f"{tone}-wash") for tone in ("caution", "bad")),
]
CONTROLS = [("edge", "paper"), ("edge", "surface"), ("accent", "paper"), ("accent", "surface"), ("accent", "line")]


@pytest.mark.parametrize("mode", [0, 1], ids=["light", "dark"])
def test_colours_contrast_enough(mode):
    """WCAG AA: 4.5 for text, 3 for the parts of controls."""
    colours = tokens()[mode]
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    weak = [(pair, contrast(colours[pair[0]], colours[pair[1]])) for pair in TEXT]
    assert [found for found in weak if found[1] < 4.5] == []
    weak = [(pair, contrast(colours[pair[0]], colours[pair[1]])) for pair in CONTROLS]
    assert [found for found in weak if found[1] < 3] == []


def test_both_modes_define_the_same_colours_and_no_rule_uses_another():
    light, dark = tokens()
    assert light.keys() == dark.keys()
    assert len(light) >= 18
    for name in ("style.css", "chat.css"):
        rules = (resources.files("lmworks.serve") / "static" / name).read_text("utf-8")
        rules = rules.split("@media print")[0]
        assert set(re.findall(r"#[0-9a-f]{3,8}\b", rules)) <= set(light.values()) | set(dark.values())
        assert "url(" not in rules
        sizes = {int(size) for size in re.findall(r"font(?:-size)?:[^;]*?(\d+)px", rules)}
        assert sizes <= {13, 14, 16, 20, 28, 40}
