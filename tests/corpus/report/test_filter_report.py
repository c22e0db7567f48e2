"""The report and the data card of a filtering: their numbers are those of the ledger and of the documents, they show
what is nearest to each threshold, and text of documents does nothing to the page."""

import json
import re
from collections import Counter
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmworks.artefact import read_manifest
from lmworks.build import run_alone
from lmworks.corpus.documents import DocumentStore
from lmworks.corpus.filtering.filter_policy import EMPTY, REPAIR, Policy, Step
from lmworks.corpus.filtering.ledger import LEDGER, Flow, read_ledger
from lmworks.corpus.report.card import renamed
from lmworks.corpus.report.examples import side_by_side
from lmworks.corpus.report.funnel import rule_tables, section_by, steps_table, thresholds_table
from lmworks.corpus.report.queries import Filtered, alarms

WORDS = (
    "The council met on Tuesday to talk about the new bridge over the river, and most of those who came were in favour "
    "of it. The engineer said that the old one would have to be closed within a few years, and that a new one could be "
    "built beside it. A farmer asked who would pay for the road, and the mayor said that the county had promised it. "
)
QUESTION = "Which of the first bridges over the river was built by the first grandfather of the mayor of the town?"
HOSTILE = (
    "<script>document.title='run'</script> <img src=http://example.org/x> \u202egnirts\u202c " + "w" * 400 + " \x1b[31m"
)
STEPS = """steps = [
  {name = "length", limits = {words = {at_least = 50}}},
  {name = "personal", marks = {"pii.*" = {action = "redact", at_least = 0.5}}},
  {name = "alike", duplicates = "near", similarity = 0.6},
]"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Two sources: one of which half is too short, and one with duplicates, an address and texts that are hostile."""
    folder = tmp_path_factory.mktemp("reported")
    (folder / "prose").mkdir()
    (folder / "shorts").mkdir()
    (folder / "prose" / "a.txt").write_text(f"{WORDS}{QUESTION}")
    (folder / "prose" / "other.txt").write_text(WORDS.replace("Tuesday", "Friday"))
    (folder / "prose" / "hostile.txt").write_text(f"{HOSTILE}{WORDS}Write to jane.miller@bakery-miller.com.", "utf-8")
    (folder / "prose" / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (folder / "shorts" / "<b>.txt").write_text("Too short, " + HOSTILE, "utf-8")
    (folder / "shorts" / "nearly.txt").write_text(" ".join(f"word{number}" for number in range(52)))
    (folder / "items.txt").write_text(f"{QUESTION}\nWho?\n")
    made = [folder / name for name in ("documents", "annotations", "duplicates", "cleaned")]
    sources = json.dumps([str(folder / "prose"), str(folder / "shorts")])
    run_alone("corpus.read", made[0], [], [], [f"sources={sources}", 'licence="MIT"'])
    run_alone("corpus.tag", made[1], made[:1], [], [f'evaluation=["{folder / "items.txt"}"]'])
    run_alone("corpus.dedup", made[2], made[:2], [], ["near.threshold=0.6"])
    run_alone("corpus.filter", made[3], made[:3], [], [" ".join(STEPS.split("\n"))])
    return folder


@pytest.fixture
def found(folder) -> Filtered:
    return Filtered(folder / "cleaned", {name: folder / name for name in ("documents", "annotations", "duplicates")})


def test_the_numbers_are_those_of_the_ledger_counted_row_by_row(found):
    entries = list(read_ledger(found.folder / LEDGER))
    for row in steps_table(found).rows:
        mine = [entry for entry in entries if entry.step == row[0] and entry.verdict != "gone"]
        dropped, cut = ([entry for entry in mine if entry.verdict == verdict] for verdict in ("dropped", "cut"))
        sizes = (sum(entry.bytes_before for entry in some) for some in (mine, dropped))
        less = sum(entry.bytes_before - entry.bytes_after for entry in cut)
        assert row[1:] == (len(mine), len(dropped), len(cut), *sizes, less)
    first = Counter((entry.step, entry.reasons[0].rule) for entry in entries if entry.verdict == "dropped")
    assert {row[:2]: row[2] for row in rule_tables(found)[1].rows} == first
    cuts = Counter((entry.step, cut.rule) for entry in entries for cut in entry.cuts)
    assert {row[:2]: row[3] for row in rule_tables(found)[2].rows} == cuts
    stay = Counter(document.source for document in DocumentStore(found.folder))
    assert {row[0]: row[2] for row in section_by(found, "source").tables[0].rows} == stay
    assert thresholds_table(found).rows == (("length", "words", "≥ 50", 5, 1, "52", "16"),)


def test_the_golden_card(folder):
    """But for its hashes: each number was counted by hand. It holds no time and nothing of the machine."""
    card = (folder / "cleaned" / "data_card.md").read_text("utf-8")
    stay = sum(len(document.text.encode()) for document in DocumentStore(folder / "cleaned"))
    came = sum(len(document.text.encode()) for document in DocumentStore(folder / "documents"))
    for line in (
        f"2 documents of {stay:,} bytes from prose, shorts, of 5 documents of {came:,} bytes that were read",
        "Licences: MIT (2).",
        "| no reader for .png | 1 |",
        "| length | all | words ≥ 50 |",
        "| personal | all | pii.\\*: redact ≥ 0.5 |",
        "| length | 5 | 1 | 0 |",
        "| personal | 4 | 0 | 1 |",
        "| alike | near | 2 |",
        "| personal | pii.email | 1 | 1 | 29 | 7 |",
        "| length | words | ≥ 50 | 5 | 1 | 52 | 16 |",
        "- alike took 67% of the documents",
        "- length took 50% of the documents",
        "- Personal data in texts: 1 places, 1 of them in documents that stay; cut or redacted: pii.email (1).",
        "- Evaluation items that were looked for: 2, of them too short or too common to decide: 1. Documents that hold "
        "some of one: 1, of which 0 stay.",
        f"| input documents | {read_manifest(folder / 'documents').content_hash} |",
    ):
        assert line in card, line
    assert not re.search(r"\d\d:\d\d", card) and str(folder) not in card
    for before, line in pairwise(card.splitlines()):
        if before.startswith("|") and line.startswith("|"):
            assert len(re.findall(r"(?<!\\)\|", before)) == len(re.findall(r"(?<!\\)\|", line))


def test_the_hub_s_own_library_reads_the_head(folder):
    hub = pytest.importorskip("huggingface_hub", reason="the card is read by the hub's library")
    card = (folder / "cleaned" / "data_card.md").read_text("utf-8")
    data = hub.DatasetCard(renamed(card, 'A "name": with\nall & sundry')).data.to_dict()
    assert data == {
        "pretty_name": 'A "name": with all & sundry',
        "license": ["mit"],
        "language": ["en", "zxx"],
        "size_categories": ["n<1K"],
        "task_categories": ["text-generation"],
        "tags": ["lmworks"],
        "configs": [{"config_name": "default", "data_files": "documents/*.jsonl"}],
    }


def test_text_from_outside_is_shown_and_does_nothing(folder):
    card = (folder / "cleaned" / "data_card.md").read_text("utf-8")
    hostile = renamed(card, "*bold* [link](javascript:x) $x$ \u202e\x1b | <img src=x>").split("\n---\n", 1)[1]
    assert "<img" not in hostile and "\u202e" not in hostile and "\x1b" not in hostile
    page = pytest.importorskip("markdown_it").MarkdownIt("commonmark").enable("table").render(hostile)
    assert "*bold* [link](javascript:x)" in page and "&lt;U+202E&gt;" in page and "href" not in page
    report = (folder / "cleaned" / "report.html").read_text("utf-8")
    assert not re.search(r"<(script|img|link|iframe)\b|url\((?!#)", report)
    assert "\u202e" not in report and "\x1b" not in report and "&lt;U+202E&gt;gnirts&lt;U+202C&gt;" in report


def test_an_alarm_is_of_what_came_in_and_of_parts_that_matter():
    def flows(source: str, language: str, came: int, left: int) -> list[Flow]:
        rows = [Flow(source, "text", language, step, "kept", "", left, left, left) for step in ("s", EMPTY)]
        dropped = Flow(source, "text", language, "s", "dropped", "x", came - left, came - left, 0)
        return [Flow(source, "text", language, REPAIR, "kept", "", came, came, came), dropped, *rows]

    every = [*flows("pages", "de", 20, 5), *flows("pages", "en", 80, 80), *flows("pages", "fr", 9, 0)]
    every += flows("notes", "en", 10, 6)
    found = SimpleNamespace(flows=every, policy=Policy((Step("s", duplicates="exact"),), alarm=0.3))
    assert [(each.source, each.step, each.documents) for each in alarms(found)] == [  # type: ignore[arg-type]
        ("notes", "s", 0.4),
        ("the language de in pages", "all steps", 0.75),  # of nine pages in French a share says nothing
    ]


TEXTS = st.lists(st.sampled_from(["one", "two", " ", "\n", "é", ".", "longer"]), max_size=25).map("".join)


@given(TEXTS, TEXTS)
def test_what_two_texts_share_stands_on_both_sides(first, second):
    left, right = side_by_side(first, second, context=1000)
    assert "".join(piece.text for piece in left) == first and "".join(piece.text for piece in right) == second
    shared = ["".join(piece.text for piece in side if not piece.change) for side in (left, right)]
    assert shared[0] == shared[1]
