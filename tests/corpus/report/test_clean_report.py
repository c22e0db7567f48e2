"""The report of a cleaning as people read it: in a browser, of documents that try to act on the page."""

import json
import re
import shutil
from pathlib import Path

import pytest

from lmworks.build import run_alone, stage_sections

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
WORDS = (
    "The council met on Tuesday to talk about the new bridge over the river, and most of those who came were in favour "
    "of it. The engineer said that the old one would have to be closed within a few years, and that a new one could be "
    "built beside it. A farmer asked who would pay for the road, and the mayor said that the county had promised it. "
)
HOSTILE = (
    "<script>document.title='run'</script> <img src=http://example.org/x> \u202egnirts\u202c " + "w" * 400 + " \x1b[31m"
)
POLICY = """
[[steps]]
name = "length"
limits = { words = { at_least = 50 } }

[[steps]]
name = "personal"
marks = { "pii.*" = { action = "redact", at_least = 0.5 } }

[[steps]]
name = "equal"
duplicates = "exact"

[[steps]]
name = "alike"
duplicates = "near"
similarity = 0.6
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Two sources: one of which half is too short, and one with a twin, an address and texts that are hostile."""
    folder = tmp_path_factory.mktemp("reported")
    prose = folder / "prose"
    prose.mkdir()
    (prose / "a.txt").write_text(WORDS)
    (prose / "twin.txt").write_text(WORDS.replace("Tuesday", "Friday"))
    (prose / "hostile.txt").write_text(HOSTILE + WORDS + "Write to jane.miller@bakery-miller.com for more.", "utf-8")
    (prose / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    shorts = folder / "shorts"
    shorts.mkdir()
    (shorts / "<b>.txt").write_text("Too short, " + HOSTILE, "utf-8")
    (shorts / "nearly.txt").write_text(" ".join(f"word{number}" for number in range(52)))
    (folder / "policy.toml").write_text(POLICY)
    made("data.read", folder / "documents", [], [f"sources={json.dumps([str(prose), str(shorts)])}"])
    made("data.annotate", folder / "annotations", [folder / "documents"], [])
    made(
        "data.duplicates", folder / "duplicates", [folder / "documents", folder / "annotations"], ["near.threshold=0.6"]
    )
    inputs = [folder / name for name in ("documents", "annotations", "duplicates")]
    made("data.clean", folder / "cleaned", inputs, [f"policy={folder / 'policy.toml'}"])
    return folder


def made(use, out, inputs, settings):
    return run_alone(use, out, inputs, [], settings)


def test_a_step_that_takes_half_of_a_source_is_told_of_everywhere(folder):
    found = json.loads((folder / "cleaned" / "manifest.json").read_text())["metrics"]["alarms"]
    assert [(alarm["source"], alarm["step"], round(alarm["documents"], 2)) for alarm in found] == [
        ("prose", "alike", 0.67),  # the hostile text is the longest of three that are alike
        ("shorts", "length", 0.5),
    ]
    page = (folder / "cleaned" / "report.html").read_text("utf-8")
    assert page.index("length took 50% of the documents") < page.index("<nav>")
    assert "- length took 50% of the documents" in (folder / "cleaned" / "data_card.md").read_text("utf-8")


def test_the_page_fetches_nothing_and_holds_no_document_s_markup(folder):
    page = (folder / "cleaned" / "report.html").read_text("utf-8")
    assert not re.search(r"<(script|img|link|iframe)\b|url\((?!#)", page)
    assert "\u202e" not in page and "\x1b" not in page and "&lt;U+202E&gt;gnirts&lt;U+202C&gt;" in page


def test_what_it_shows_of_each_kind(folder):
    page = (folder / "cleaned" / "report.html").read_text("utf-8")
    assert "<del>jane.miller@bakery-miller.com</del><ins>&lt;EMAIL&gt;</ins>" in page
    assert "length: words (1 dropped, 1 nearly dropped)" in page and "nearly dropped: 52, threshold 50" in page
    assert "<del>Tuesday</del>" in page and "<ins>Friday</ins>" in page
    assert page.count("<svg") == 4  # by source, by language, by kind, one of words


def test_equal_inputs_give_an_equal_card_and_policy(folder, tmp_path):
    inputs = [folder / name for name in ("documents", "annotations", "duplicates")]
    made("data.clean", tmp_path / "again", inputs, [f"policy={folder / 'policy.toml'}", "execution.workers=1"])
    for name in ("data_card.md", "policy.json"):
        assert (tmp_path / "again" / name).read_bytes() == (folder / "cleaned" / name).read_bytes()
    card = (folder / "cleaned" / "data_card.md").read_text("utf-8")
    digest = json.loads((folder / "documents" / "manifest.json").read_text())["content_hash"]
    assert f"| input documents | {digest} |" in card
    assert str(folder) not in card  # it says nothing of the machine


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("chromium is not installed")
    with playwright.sync_playwright() as driver:
        one = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield one
        one.close()


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 1280), ("light", 390)])
def test_the_page_in_a_browser(browser, folder, scheme, width):
    context = browser.new_context(viewport={"width": width, "height": 844}, color_scheme=scheme)
    page = context.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: asked.append(str(error)))
    page.goto(f"file://{folder}/cleaned/report.html")
    page.evaluate("document.querySelectorAll('details').forEach((part) => { part.open = true })")
    assert asked == [page.url] and page.title() == "data.clean: report"
    assert page.evaluate("document.documentElement.scrollWidth") == width  # long lines wrap, wide tables scroll
    alarm = page.locator(".alarm")
    assert "length took 50%" in alarm.inner_text() and alarm.bounding_box()["y"] < 844
    removed = page.locator("del", has_text="jane.miller").first
    assert removed.evaluate("(e) => getComputedStyle(e).textDecorationLine") == "line-through"
    assert contrast(removed) >= 4.5 and contrast(page.locator("ins").first) >= 4.5  # WCAG 2.1, 1.4.3
    assert contrast(page.locator(".alarm li").first) >= 4.5
    texts = page.locator(".text")
    assert texts.evaluate_all("(all) => all.every((e) => e.tabIndex === 0 && e.scrollWidth <= e.clientWidth + 1)")
    context.close()


def contrast(locator) -> float:
    """Of the letters of an element and what is behind them: relative luminances as WCAG 2.1 defines them."""
    ink, paper = locator.evaluate(
        """(element) => {
          const ink = getComputedStyle(element).color;
          while (getComputedStyle(element).backgroundColor === 'rgba(0, 0, 0, 0)') element = element.parentElement;
          return [ink, getComputedStyle(element).backgroundColor];
        }"""
    )
    light, dark = sorted((luminance(ink), luminance(paper)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(colour: str) -> float:
    channels = [int(number) / 255 for number in re.findall(r"\d+", colour)[:3]]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_the_sections_come_back_from_disk(folder):
    """They are kept as JSON beside the artefact, passages and folds too."""
    from lmworks.build import StageOutcome, read_manifest

    sections = stage_sections(
        StageOutcome("cleaned", folder / "cleaned", read_manifest(folder / "cleaned"), cached=True)
    )
    assert [section.title for section in sections][:3] == ["What stays", "By source", "By language"]
    assert sections[0].alarms and any(fold.passages for section in sections for fold in section.folds)
