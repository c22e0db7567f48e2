"""The log's pages: what they compute from an interaction, the table and its filter over HTTP, and nothing that runs."""

import asyncio
import html
import json
import math
import re
from contextlib import closing
from dataclasses import replace
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_system import HOSTILE, Page, StandIn, cited, index_of, inert, interaction

from hashing_encoder import make_document
from lmworks.records import Feedback, Interaction, Message, PromptSpan, Retrieved, Span
from lmworks.serve.pages.chat_turns import view_turns
from lmworks.serve.pages.interaction_page import interaction_view
from lmworks.serve.pages.interaction_parts import prompt_parts, waterfall
from lmworks.serve.pages.log_page import PAGE, place_text, read_place

document = make_document('The "with" statement wraps a block. See [1].\nIt is\n  indented [2]\nhere.', "docs:with")

# ---------------------------------------------------------------------------------------------------------------------
# Time

phases = st.dictionaries(st.text(min_size=1).filter(lambda name: name != "total"), st.floats(0, 1e4), max_size=6)


@given(phases, st.none() | st.floats(0, 1e5))
def test_the_bars_of_a_waterfall_sum_to_its_total_and_follow_each_other(seconds, total):
    shown = waterfall(seconds | ({} if total is None else {"total": total}))
    assert math.isclose(sum(bar.seconds for bar in shown.bars), shown.total, rel_tol=2e-3, abs_tol=1e-9)
    assert shown.total >= (total or 0.0)
    assert [bar.name for bar in shown.bars][: len(seconds)] == list(seconds)
    place = 0.0
    for bar in shown.bars:
        assert math.isclose(bar.left, place, abs_tol=1e-6)
        place += bar.width
    assert not shown.bars or shown.total == 0 or math.isclose(place, 100, rel_tol=2e-3)
    named = waterfall({"queued": 1.0, "total": 3.0}).bars  # what no phase accounts for is a bar of its own
    assert [(bar.name, bar.seconds) for bar in named] == [("queued", 1.0), ("other", 2.0)]


# ---------------------------------------------------------------------------------------------------------------------
# The prompt by part

roles = st.sampled_from(["system", "user", "assistant", "tool"])
contents = st.text(max_size=12) | st.sampled_from(["user", "assistant", "<|im_end|>\n", "\n", " user\n", "a", "aa"])
conversations = st.lists(st.builds(Message, roles, contents), max_size=5)


def render(messages, strip=False):
    turns = [f"<|im_start|>{m.role}\n{m.content.strip() if strip else m.content}<|im_end|>\n" for m in messages]
    return "".join(turns) + "<|im_start|>assistant\n"


@given(st.text(max_size=80) | conversations.map(render), conversations, st.booleans())
def test_the_parts_of_any_prompt_join_to_it(prompt, messages, with_template):
    parts = prompt_parts(prompt, messages, render if with_template else None)
    assert "".join(part.text for part in parts) == prompt
    assert all(part.text for part in parts)


@given(conversations, st.booleans())
def test_with_its_template_a_prompt_is_told_apart_exactly(messages, strip):
    def template(given):
        return render(given, strip)

    parts = prompt_parts(template(messages), messages, template)
    written = [m.content.strip() if strip else m.content for m in messages]
    assert [(part.source, part.text) for part in parts if part.source != "template"] == [
        (message.role, text) for message, text in zip(messages, written, strict=True) if text
    ]


def test_without_its_template_contents_are_looked_for_after_their_roles():
    messages = [Message("system", "Be brief."), Message("user", "user"), Message("assistant", "assistant")]
    parts = prompt_parts(render(messages), messages)
    assert [(p.source, p.text) for p in parts if p.source != "template"] == [(m.role, m.content) for m in messages]
    (part,) = prompt_parts("something else", [Message("user", "hello")])
    assert (part.source, part.text) == ("template", "something else")


def test_parts_of_a_versioned_prompt_are_found_where_the_template_strips_its_message():
    message, span = Message("user", "  Sort. good "), PromptSpan("instruction", 0, 2, 7)
    parts = prompt_parts(render([message], strip=True), [message], lambda given: render(given, strip=True), [span])
    assert [(p.text, p.part) for p in parts if p.source == "user"] == [("Sort.", "instruction"), (" good", "")]


def test_the_parts_agree_with_the_renderer_that_made_the_prompt(tiny):
    messages = (Message("system", " be kind "), Message("user", "assistant\n<|im_end|>"), Message("assistant", "ok"))
    prompt = tiny.chat.render(messages, add_generation_prompt=True).text
    logged = Interaction("0" * 16, 1.0, messages, "", rendered_prompt=prompt)
    told = [(p.source, p.text) for p in interaction_view(logged, tiny).prompt if p.source != "template"]
    assert told == [(m.role, m.content) for m in messages]


# ---------------------------------------------------------------------------------------------------------------------
# Tokens and citations


# ---------------------------------------------------------------------------------------------------------------------
# The table over HTTP


@given(st.floats(0, 4e9), st.text("0123456789abcdef-", min_size=1, max_size=18))
def test_a_place_in_the_log_reads_back_the_same(time, identifier):
    assert read_place(place_text((time, identifier))) == (time, identifier)


COUNT = 2 * PAGE + 20


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    root = tmp_path_factory.mktemp("log")
    made = StandIn(root, index_of(root / "index", [document]))
    for number in range(COUNT):
        # Three share each moment, so that the pages must be cut by id as well.
        made.log.record(replace(interaction(number, f"question {number}"), time=1.7e9 + number // 3)).result()
    yield made
    made.close()


@pytest.fixture(scope="module")
def client(service):
    return service.client()


def ids(text: str) -> list[str]:
    return re.findall(r'<tr class="link" data-id="([^"]+)"', text)


def next_link(text: str) -> str:
    found = re.search(r'href="([^"]+)" rel="next"', text)
    return html.unescape(found[1]) if found else ""


def test_the_pages_hold_every_interaction_once_newest_first(client):
    seen, link = [], "/log"
    while link:
        text = client.get(link).text
        inert(text)
        seen += ids(text)
        link = next_link(text)
    wanted = sorted(range(COUNT), key=lambda n: (n // 3, f"{n:016x}"), reverse=True)
    assert seen == [f"{number:016x}" for number in wanted]


def test_a_filter_that_cannot_be_read_says_where_and_keeps_what_was_typed(client):
    answer = client.get("/log", params={"filter": 'confidnce<1 "><script>'})
    page = inert(answer.text)
    assert answer.status_code == 400
    assert "confidence" in page.by_id["filter-error"] and "haracter 1" in page.by_id["filter-error"]
    assert any(attrs.get("value") == 'confidnce<1 "><script>' for tag, attrs in page.elements if tag == "input")


def test_what_is_new_is_counted(client, service):
    newest = max((one.time, one.id) for one in service.log.reader.find("", 5))
    query = urlencode({"after": place_text(newest), "filter": ""})
    assert client.get(f"/log/newer/count?{query}").json() == {"count": 0, "more": False}
    assert client.get("/log/newer/count?after=" + place_text((0.0, "0"))).json() == {"count": PAGE, "more": True}
    third = service.log.reader.find("", 5)[3]
    assert client.get("/log/newer/count?after=" + place_text((third.time, third.id))).json()["count"] == 3
    assert client.get("/log/newer/count?after=x").status_code == 400
    assert client.get("/log/newer/count?filter=a:b").status_code == 400


# ---------------------------------------------------------------------------------------------------------------------
# One interaction over HTTP


@pytest.fixture(scope="module")
def hostile(service) -> str:
    """The id of an interaction in which every text is hostile."""
    passage = Retrieved("c", Span(document.hash, 0, 5), HOSTILE, HOSTILE, {"dense": 0.5, "bm25_rank": 1.0})
    one = replace(
        interaction(0xBAD, HOSTILE, f"{HOSTILE}\n[1]\n{HOSTILE}"),
        messages=(
            Message("system", HOSTILE),
            Message("assistant", HOSTILE),
            Message("tool", HOSTILE),
            Message("user", HOSTILE),
        ),
        rendered_prompt=HOSTILE * 3,
        route=HOSTILE,
        parameters={HOSTILE: HOSTILE, "stop": [HOSTILE]},
        lineage={HOSTILE: HOSTILE, "model:x": HOSTILE},
        timings={HOSTILE: 1.0, "total": 1.0},
        verdicts=tuple(
            replace(cited(document, 0, 9, kind), text=HOSTILE, uri=HOSTILE) for kind in ("cited", "repeated")
        ),
        retrieved=(passage,),
        conversation=HOSTILE,
        unit=HOSTILE,
        arm=HOSTILE,
        error=HOSTILE,
        finish_reason=HOSTILE,
        redacted=("email",),
        model=HOSTILE,
        prompt=HOSTILE,
    )
    service.log.record(one).result()
    for kind, value in (("thumbs", "down"), ("note", None)):
        service.log.attach(Feedback(one.id, 1.8e9, kind, value, HOSTILE, HOSTILE)).result()  # type: ignore[arg-type]
    return one.id


def test_a_hostile_interaction_is_shown_as_text(client, hostile):
    for path in (f"/log/{hostile}", f"/log/{hostile}?filter=%22%3E%3Cscript%3E", "/log", f"/system?answer={hostile}"):
        answer = client.get(path)
        assert answer.status_code == 200
        page = inert(answer.text)
        assert "<script>alert(1)</script>" in page.text


def test_the_page_and_its_json_hold_what_was_logged(client, service, hostile):
    page = inert(client.get(f"/log/{hostile}").text)
    copied = next(attrs["data-copy"] for _, attrs in page.elements if (attrs.get("data-copy") or "").startswith("{"))
    stored = service.log.reader.get(hostile)
    held = json.loads(copied or "")
    assert held["id"] == stored.id and held["lineage"].keys() == stored.lineage.keys()
    assert "lmworks log replay " + hostile in page.text


def test_quotes_are_shown_without_their_marks_and_link_to_the_very_span(tmp_path):
    markdown = make_document("### Use *it*\n\nSee [the `page`](https://a.example/x) first.\n", "docs:a", "markdown")
    start, end = markdown.text.index("See"), markdown.text.index(".\n") + 1
    verdict = cited(markdown, start, end)
    passage = Retrieved("c", Span(markdown.hash, 0, end), markdown.uri, markdown.text[:end], {})
    answered = interaction(response=f"{verdict.text} [1]", verdicts=(verdict,), retrieved=(passage,), confidence=0.9)
    with closing(StandIn(tmp_path, index_of(tmp_path / "index", [markdown]))) as stand_in:
        stand_in.log.record(answered).result()
        page, found = (Page(stand_in.client().get(path).text) for path in (f"/log/{answered.id}", "/documents?q=page"))
        (turn,) = asyncio.run(view_turns(stand_in, [answered]))  # type: ignore[arg-type]
    assert turn.parts[0].text == turn.weighed[0] == turn.sources[0].quote == "See the page first."
    for text, times in ((page.text, 3), (found.text, 1)):
        assert text.count("See the page first.") == times and "](" not in text and "#" not in text
    assert f"/documents/{markdown.hash}?start={start}&end={end}#cite" in page.links()


def test_the_turns_around_one_are_linked_and_no_other_is_read(client, service, monkeypatch):
    ids = [f"{0xCC0 + place:016x}" for place in range(3)]
    for place, identifier in enumerate(ids):
        turn = replace(interaction(0xCC0 + place, "q", "a"), conversation="three", time=50.0 + place)
        assert turn.id == identifier
        service.log.record(turn).result()
    monkeypatch.setattr(service.log.reader, "conversation", None)
    links = [inert(client.get(f"/log/{identifier}").text).links() for identifier in ids]
    linked = [[one for one in ids if f"/log/{one}" in found] for found in links]
    assert linked == [[ids[1]], [ids[0], ids[2]], [ids[1]]]


def test_notes_and_thumbs_are_given_without_javascript(client, service):
    identifier = f"{3:016x}"
    back = f"/log/{identifier}"
    for path, fields in [
        ("notes", {"text": "<b>bold</b>", "author": "\u202eme", "back": back}),
        ("feedback", {"value": "down", "reason": "wrong", "text": HOSTILE.replace("\x00", ""), "back": back}),
    ]:
        answer = client.post(f"/log/{identifier}/{path}", data=fields)
        assert (answer.status_code, answer.headers["location"]) == (303, back)
    page = inert(client.get(back).text)
    assert "<b>bold</b>" in page.text and "wrong: " in page.text
    table = inert(client.get("/log", params={"filter": "thumbs:down notes:yes"}).text)
    assert f"/log/{identifier}?{urlencode({'filter': 'thumbs:down notes:yes'})}".replace("+", "%20") in table.links()


def test_an_answer_of_a_model_shows_its_tokens_with_their_probabilities(language):
    client = language.client()
    said = client.chat.completions.create(
        model="tiny", messages=[{"role": "user", "content": "héllo <b>"}], max_tokens=12, seed=3, temperature=1.0
    )
    identifier = said.id.removeprefix("chatcmpl-")
    logged = language.service.log.reader.get(identifier)
    with language.http() as http:
        page = inert(http.get(f"/log/{identifier}").text)
    shown = [
        attrs["title"] for tag, attrs in page.elements if tag == "span" and (attrs.get("title") or "").startswith("p=")
    ]
    expected = [math.exp(value) for value in logged.token_log_probabilities]
    assert len(shown) == len(expected) == len(logged.token_ids)
    for title, probability in zip(shown, expected, strict=True):
        assert float((title or "").removeprefix("p=")) == pytest.approx(probability, abs=0.006, rel=0.06)
    assert "héllo <b>" in page.text and {"part user", "part template"} <= set(page.classes("div"))


def test_tokens_of_a_model_that_is_not_served_any_more_are_not_guessed(client, service):
    one = replace(
        interaction(0xAAA, "q", "a"), token_ids=(1,), token_log_probabilities=(-1.0,), output_tokens=1, model="m"
    )
    service.log.record(one).result()
    assert "is not served any more" in client.get(f"/log/{one.id}").text
