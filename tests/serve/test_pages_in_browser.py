"""The log, the evaluation and a passage in a real browser: by mouse and by keyboard, in light and dark."""

import json
import re
import time
from collections.abc import Iterator

import httpx
import pytest
from small_system import write_run

from kit.browser import launched, needs_chromium, playwright, watched_page
from lmworks.evaluate.metric import Metric, each
from lmworks.evaluate.release.votes import RANKINGS, VOTES, read_votes
from lmworks.monitor.config import ReviewConfig, ReviewRule
from lmworks.monitor.review_sampling import fill

pytestmark = needs_chromium

QUESTIONS = (
    "By when must I report a lost laptop?",
    "How many days are carried over?",
    "Who won the football world cup?",
    "<script>document.title = 'run'</script> and how much may a hotel cost?",
)


@pytest.fixture(scope="module")
def browser() -> Iterator:
    with launched() as started:
        yield started


@pytest.fixture(scope="module")
def asked(grounded) -> str:
    """The address of a server that has answered a few questions."""
    for question in QUESTIONS:
        ask(grounded.url, question)
    return grounded.url


def ask(url: str, question: str) -> None:
    body = {"model": "assistant", "messages": [{"role": "user", "content": question}]}
    httpx.post(f"{url}/v1/chat/completions", json=body, timeout=60).raise_for_status()


@pytest.fixture
def page(browser, asked) -> Iterator:
    with watched_page(browser, asked) as (page, _):
        yield page


def test_filter_the_log_open_a_row_and_add_a_note(page):
    page.goto("/log")
    page.keyboard.press("/")
    page.keyboard.type("laptop")
    page.keyboard.press("Enter")
    page.wait_for_url("**/log?filter=laptop")
    rows = page.locator("#log tbody tr")
    assert rows.count() >= 1
    assert all("laptop" in text for text in rows.locator(".what").all_inner_texts())
    # Other files of tests ask this server too, and what they were answered may be about laptops.
    rows.filter(has=page.locator("a.question", has_text="lost laptop")).last.click()
    panel = page.locator("#panel")
    panel.locator("h1", has_text="lost laptop").wait_for()
    assert re.search(r"/log/[0-9a-f]{16}\?filter=laptop$", page.url)
    panel.get_by_placeholder("What should the next reader know?").or_(
        panel.locator("summary", has_text="Add a note")
    ).first.wait_for()
    if not panel.locator("details.add-note").evaluate("one => one.open"):
        panel.locator("summary", has_text="Add a note").click()
    notes = panel.locator(".note").count()
    panel.get_by_placeholder("What should the next reader know?").fill("seen <b>here</b>")
    panel.get_by_role("button", name="Add note").click()
    panel.locator(".note", has_text="seen <b>here</b>").nth(notes).wait_for()
    page.go_back()
    panel.wait_for(state="hidden")
    assert page.url.endswith("/log?filter=laptop")


def test_keys_move_through_the_rows_and_the_address_can_be_reloaded(page):
    page.goto("/log")
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    article = page.locator("#panel article")
    article.wait_for()
    first = article.get_attribute("data-id")
    page.keyboard.press("j")
    page.locator(f"#panel article:not([data-id='{first}'])").wait_for()
    second = page.locator("#panel article").get_attribute("data-id")
    assert second and second in page.url
    page.keyboard.press("k")
    page.locator(f"#panel article[data-id='{first}']").wait_for()
    page.keyboard.press("Escape")
    page.locator("#panel").wait_for(state="hidden")
    page.goto(f"/log/{second}")
    assert page.locator("article#interaction").get_attribute("data-id") == second


def test_what_is_new_announces_itself(page, asked):
    page.clock.install()
    page.goto("/log")
    before = page.locator("#log tbody tr").count()
    ask(asked, "Who books trains?")
    page.clock.run_for(10_000)  # it looks every few seconds
    page.locator("#newer:not([hidden])").wait_for(timeout=60_000)
    assert page.locator("#newer").inner_text() == "1 new"
    page.locator("#newer").click()
    playwright.expect(page.locator("#log tbody tr")).to_have_count(before + 1, timeout=60_000)


def test_a_table_is_sorted_by_a_click_on_its_head(page):
    page.goto("/evaluation")
    table = page.locator(".report-section table.data:has(tbody tr:nth-child(2)):has(td[data-key])").first
    column = table.evaluate(
        "one => [...one.tBodies[0].rows[0].cells].findIndex(cell => cell.dataset.key !== undefined)"
    )

    def keys() -> list[float]:
        read = "(one, column) => [...one.tBodies[0].rows].map(row => row.cells[column].dataset.key)"
        return [float(key) for key in table.evaluate(read, column) if key is not None]

    head = table.locator("th").nth(column)
    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "ascending" and keys() == sorted(keys())
    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "descending" and keys() == sorted(keys(), reverse=True)


def test_pairs_are_voted_on_by_the_keyboard(page, grounded, request):
    folder, file = grounded.service.workspace.parent / "runs", grounded.service.workspace / VOTES
    length = Metric("length", each(lambda item, response: float(len(response.text))))
    for name in () if folder.exists() else ("one", "other"):
        write_run(folder / name, {str(n): f"{name} says {n} {'at length ' * 40}" for n in range(7)}, length)
    page.goto("/compare")
    page.locator("#runs-by").fill(request.node.name)
    page.get_by_role("button", name="Begin").click()
    page.wait_for_url("**/compare/runs/*/*")  # until its script listens
    progress, announced = page.locator("#progress"), page.locator("#toasts")
    for number, key in enumerate(("ArrowLeft", "ArrowRight", "t", "b"), start=1):
        sides = [text.strip() for text in page.locator(".side .text").all_inner_texts()]
        page.keyboard.press(key)
        progress.filter(has_text=f"{number} of 7").wait_for()
        announced.filter(has_text=f"{number} of 7").wait_for()
        assert page.evaluate("document.activeElement.id") == "pair-title"
        vote = read_votes(file)[0][-1]
        chosen = vote.preference.chosen.strip() if vote.preference else vote.choice  # type: ignore[union-attr]
        assert chosen == {"ArrowLeft": sides[0], "ArrowRight": sides[1], "t": "tie", "b": "both bad"}[key]
    pair = page.locator("#ballot input[name=pair]")
    page.keyboard.press("u")
    progress.filter(has_text="3 of 7").wait_for()
    undone = pair.get_attribute("value")
    page.keyboard.press("r")
    page.keyboard.type("both are lengthy")
    page.keyboard.press("Escape")
    page.keyboard.press("b")
    progress.filter(has_text="4 of 7").wait_for()
    vote = read_votes(file)[0][-1]
    assert (vote.id, vote.choice, vote.reason) == (undone, "both bad", "both are lengthy")
    before = pair.get_attribute("value")
    page.keyboard.press("n")
    page.locator(f"#ballot input[name=pair]:not([value='{before}'])").wait_for(state="attached")
    page.reload()
    assert "4 of 7" in progress.inner_text()


def test_answers_are_ranked_by_keys_and_by_dragging(page, grounded, request):
    folder, file = grounded.service.workspace / "rank", grounded.service.workspace / RANKINGS
    folder.mkdir(exist_ok=True)
    rows = [{"prompt": f"Why {n}?", "completions": [f"{one} {n}" for one in "abcd"]} for n in range(4)]
    (folder / "four.jsonl").write_text("\n".join(map(json.dumps, rows)))

    def ranks() -> dict[str, int]:
        return {one.locator(".text").inner_text()[0]: int(one.locator("select").input_value()) for one in cards.all()}

    def kept() -> dict[str, int]:
        one = read_votes(file)[0][-1]
        return {text[0]: rank for text, rank in zip(one.completions, one.ranks or (), strict=False)}

    page.goto("/rank")
    page.locator("#file-1").fill(request.node.name)
    page.get_by_role("button", name="Begin with four.jsonl").click()
    page.wait_for_url("**/rank/file/four.jsonl*")
    cards, progress = page.locator("#ranked > li"), page.locator("#progress")
    first, *_, last = ranks()
    assert set(ranks().values()) == {1}
    for key in ("j", "ArrowUp", "j", "j", "j", "4"):  # the first alone on top, the last below all
        page.keyboard.press(key)
    wanted = dict.fromkeys("abcd", 2) | {first: 1, last: 3}
    assert ranks() == wanted
    page.keyboard.press("ArrowUp")  # into the tie, and out of it again
    assert ranks()[last] == 2
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    progress.filter(has_text="1 of 4").wait_for()
    assert kept() == wanted and len(ranks()) == 4
    *_, last = ranks()
    cards.nth(3).drag_to(cards.nth(0), target_position={"x": 200, "y": 3})
    assert ranks() == dict.fromkeys("abcd", 2) | {last: 1}
    page.get_by_role("button", name="Skip").focus()
    page.keyboard.press("Enter")  # is the button's, not the ranking's
    progress.filter(has_text="2 of 4").wait_for()
    assert read_votes(file)[0][-1].ranks == ()
    page.keyboard.press("u")
    progress.filter(has_text="1 of 4").wait_for()


def test_answers_are_reviewed_by_the_keyboard(page, grounded, request):
    fill(grounded.service.log, ReviewConfig({"random": ReviewRule(1.0)}), time.time())
    page.goto("/review")
    page.locator("#by").fill(request.node.name[:64])
    page.get_by_role("button", name="Begin").click()
    page.wait_for_url("**/review/next*")  # until its script listens
    page.locator("#ballot").wait_for()
    page.keyboard.press("1")
    page.locator("form[aria-label='Send the one before']").wait_for()
    page.goto("/overview")
    assert page.locator("main dt").all_inner_texts() == ["Traffic", "Quality", "Experiments", "Alarms", "Version"]
