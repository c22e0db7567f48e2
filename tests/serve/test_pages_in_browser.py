"""The log, the evaluation and a passage in a real browser: by mouse and by keyboard, in light and dark."""

import json
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import replace

import httpx
import pytest
from small_system import write_run

from lmworks.config import to_mapping
from lmworks.evaluate.metric import Metric, each
from lmworks.evaluate.rankings import RANKINGS, read_rankings
from lmworks.evaluate.votes import VOTES, read_votes
from lmworks.monitor.config import ReviewConfig, ReviewRule
from lmworks.monitor.drift import SignalRow
from lmworks.monitor.experiment import assign, change_course, start
from lmworks.monitor.review_sampling import fill
from lmworks.records import Experiment, Outcome
from slow_cases import slow

playwright = pytest.importorskip("playwright.sync_api", reason="the browser tests need the package playwright")
CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="the browser tests need the program chromium")

OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
QUESTIONS = (
    "By when must I report a lost laptop?",
    "How many days are carried over?",
    "Who won the football world cup?",
    "<script>document.title = 'run'</script> and how much may a hotel cost?",
)
WATCH_POLICY = "addEventListener('securitypolicyviolation', e => console.error('refused: ' + e.violatedDirective))"


@pytest.fixture(scope="module")
def browser() -> Iterator:
    with playwright.sync_playwright() as started:
        one = started.chromium.launch(executable_path=CHROMIUM, args=OPTIONS)
        yield one
        one.close()


@pytest.fixture(scope="module")
def asked(grounded) -> str:
    """The address of a server that has answered a few questions."""
    for question in QUESTIONS:
        ask(grounded.url, question)
    return grounded.url


def ask(url: str, question: str) -> None:
    body = {"model": "assistant", "messages": [{"role": "user", "content": question}]}
    httpx.post(f"{url}/v1/chat/completions", json=body, timeout=60).raise_for_status()


@pytest.fixture(params=["light", *slow("dark")])
def page(request, browser, asked) -> Iterator:
    """A page that fails its test for any error, any refusal of the policy, any request off this machine."""
    context = browser.new_context(
        base_url=asked, color_scheme=request.param, viewport={"width": 1280, "height": 800}, service_workers="block"
    )
    context.add_init_script(WATCH_POLICY)
    wrong: list[str] = []
    one = context.new_page()
    one.on("console", lambda message: wrong.append(message.text) if message.type in ("error", "warning") else None)
    one.on("pageerror", lambda error: wrong.append(str(error)))
    one.on("request", lambda sent: None if sent.url.startswith((asked, "data:")) else wrong.append(sent.url))
    yield one
    context.close()
    assert wrong == []


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


def test_a_citation_leads_to_its_passage_in_sight(page):
    page.goto("/log?filter=laptop")
    page.locator("#log a.question").last.click()
    link = page.locator("#panel .evidence a").first
    link.wait_for()
    link.click()
    page.wait_for_url("**/documents/*#cite")
    assert page.locator("#cite").evaluate(
        "one => { const box = one.getBoundingClientRect(); return box.top >= 0 && box.bottom <= innerHeight; }"
    )


def test_a_table_is_sorted_by_a_click_on_its_head(page):
    page.goto("/evaluation")
    table = page.locator("table.sortable:has(tbody tr:nth-child(2)):has(td[data-key])").first
    column = table.evaluate(
        "one => [...one.tBodies[0].rows[0].cells].findIndex(cell => cell.dataset.key !== undefined)"
    )

    def keys() -> list[float]:
        read = "(one, column) => [...one.tBodies[0].rows].map(row => row.cells[column].dataset.key)"
        return [float(key) for key in table.evaluate(read, column) if key is not None]

    head = table.locator("th").nth(column)
    head.locator("a").click()
    assert head.get_attribute("aria-sort") == "ascending" and keys() == sorted(keys())
    head.locator("a").click()
    assert head.get_attribute("aria-sort") == "descending" and keys() == sorted(keys(), reverse=True)
    page.reload()
    assert keys() == sorted(keys(), reverse=True)


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
        assert page.evaluate("document.activeElement.id") == "pair-title" and page.evaluate("scrollY") == 0
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
    assert (vote.pair, vote.choice, vote.reason) == (undone, "both bad", "both are lengthy")
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
        one = read_rankings(file)[0][-1]
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
    *_, third, last = ranks()
    box = cards.nth(0).bounding_box()
    cards.nth(3).drag_to(cards.nth(0), target_position={"x": 200, "y": 3})
    wanted = dict.fromkeys("abcd", 2) | {last: 1}
    assert ranks() == wanted
    cards.filter(has_text=third).first.drag_to(cards.nth(0), target_position={"x": 200, "y": box["height"] / 2})
    wanted[third] = 1
    assert ranks() == wanted
    page.get_by_role("button", name="Skip").focus()
    page.keyboard.press("Enter")  # is the button's, not the ranking's
    progress.filter(has_text="2 of 4").wait_for()
    assert read_rankings(file)[0][-1].ranks == ()
    page.keyboard.press("u")
    progress.filter(has_text="1 of 4").wait_for()


@pytest.mark.parametrize("page", ["light", "dark"], indirect=True)
def test_no_page_is_wider_than_a_telephone(page):
    page.set_viewport_size({"width": 390, "height": 844})
    for path in (
        "/documents",
        "/documents?q=hotel",
        "/log",
        "/evaluation",
        "/compare",
        "/compare/results",
        "/rank",
        "/system",
    ):
        page.goto(path)
        assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth"), path


def test_without_javascript_everything_can_be_read_and_said(browser, asked):
    context = browser.new_context(base_url=asked, java_script_enabled=False)
    page = context.new_page()
    page.goto("/log?filter=laptop")
    page.locator("#log a.question").last.click()
    page.wait_for_url("**/log/*")
    if page.locator("details.add-note[open]").count() == 0:
        page.locator("summary", has_text="Add a note").click()
    page.get_by_placeholder("What should the next reader know?").fill("said without a script")
    page.get_by_role("button", name="Add note").click()
    page.locator(".note", has_text="said without a script").first.wait_for()
    context.close()


@pytest.mark.slow
def test_the_pages_around_the_loop_show_what_they_are_about(page, grounded, request):
    log, now, name = grounded.service.log, time.time(), request.node.name[:64]
    fill(log, ReviewConfig({"random": ReviewRule(1.0)}), now)
    (one, other, *_) = log.reader.find("route:assistant")
    found = {"p": 1e-4, "adjusted": 1e-3, "effect": 0.2, "value": 0.3, "expected": 0.1, "low": 0.05, "high": 0.15}
    rows = [
        SignalRow("topic", "input", "category", now - day * 86400, "alarm", examples=(one.id, other.id), **found)
        for day in (1, 0)
    ]
    log.append("drift", [{"time": row.time, "signal": row.signal, "record": to_mapping(row)} for row in rows])
    alert = {"rule": "drift", "signal": "topic", "time": now, "level": "alarm", "state": "open"}
    log.append("alerts", [{**alert, "evidence": to_mapping(rows[1])}]).result()
    spec = Experiment(name, {arm: {"share": 0.5} for arm in ("control", "candidate")}, "click", window_days=1.0)
    start(log, replace(spec, route="nobody asks"), now, "a test")
    units = [assign(spec, f"u{number}", 1.0, now - 2 * 86400) for number in range(400)]
    log.append("assignments", [to_mapping(unit) for unit in units])
    clicks = [Outcome(unit.unit, "click", unit.time + 1) for unit in units if unit and unit.arm == "candidate"]
    log.append("outcomes", [to_mapping(click) for click in clicks]).result()

    page.goto("/review")
    page.locator("#by").fill(name)
    page.get_by_role("button", name="Begin").click()
    page.wait_for_url("**/review/next*")  # until its script listens
    page.locator("#ballot").wait_for()
    page.keyboard.press("1")
    page.locator("form[aria-label='Send the one before']").wait_for()
    page.goto("/experiments")
    page.get_by_role("link", name=name).click()
    page.locator("svg.plot").wait_for()
    assert "candidate is better" in page.locator("main").inner_text()
    page.goto("/drift")
    page.locator("table tr[aria-current=true]", has_text="topic").wait_for()
    assert page.locator("svg.plot polygon.band").count() == 1
    page.goto("/alarms")
    page.get_by_role("link", name="drift of topic").first.click()
    page.get_by_role("button", name="Send 2 to review").click()
    page.get_by_text("more in the queue of reviews").wait_for()
    page.goto("/overview")
    assert page.locator("main dt").all_inner_texts() == ["Traffic", "Quality", "Experiments", "Alarms", "Version"]
    change_course(log, name, "stopped", now, "a test")
