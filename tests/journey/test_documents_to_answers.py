"""The main path, end to end with the real weights: a folder in, grounded answers out, an edit, a kill, the lineage."""

import json
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

import command_line
import lmworks
from kit.tables import for_each
from lmworks.build import build
from lmworks.lineage import trace
from lmworks.recipe import find, load
from lmworks.system import System

pytestmark = pytest.mark.weights

PAGES = {
    "leave.md": """\
# Leave

Every employee has twenty-eight days of paid leave a year. Leave is asked for in the calendar, at least two weeks ahead.

## Carrying over

At most five days are carried over into the next year, and they expire at the end of March. The team lead can make
exceptions for parents.
""",
    "travel.rst": """\
Travel
======

Trains are booked by the office; ask at least three days before you travel. Flights need the approval of the head of
department.

Expenses
--------

Receipts are handed in within thirty days. Meals are paid up to forty euros a day, hotels up to one hundred and fifty.
""",
    "security.html": """\
<html><head><title>Security</title></head><body><nav>Home | About</nav><main><h1>Security</h1>
<p>Laptops are locked whenever you leave your desk. A lost laptop is reported to the security desk within one hour, by
telephone, at any time of the day.</p>
<p>Passwords live in the password manager and nowhere else. They are never sent by mail or chat, not even to
administrators.</p></main></body></html>
""",
    "tool.py": """\
'''Sends the weekly report.

The report goes out every Friday at noon.'''


def send(dry=False):
    '''Send the report; with dry, only print it.'''
""",
    "empty.txt": "",
    "picture.png": "not text",
}
OVERRIDES = ('name="handbook"',)


@pytest.fixture(scope="module")
def handbook(tmp_path_factory: pytest.TempPathFactory, smollm2: Path, minilm: Path) -> Path:
    """A folder with `docs` and a workspace built over it."""
    del smollm2, minilm  # they are pulled
    root = tmp_path_factory.mktemp("handbook")
    (root / "docs").mkdir()
    for name, text in PAGES.items():
        (root / "docs" / name).write_text(text, "utf-8")
    rebuild(root)
    return root


@pytest.fixture(scope="module")
def system(handbook: Path) -> System:
    return lmworks.open(handbook / "workspace")


def rebuild(root: Path, workspace: str = "workspace"):
    recipe = load(find("documents"), [f"documents.sources={json.dumps([str(root / 'docs')])}", *OVERRIDES])
    return {outcome.name: outcome for outcome in build(recipe, root / workspace)}


@for_each(
    ("question", "source", "words"),
    [
        ("How many days of leave can I take with me into the next year?", "leave.md", "At most five days"),
        ("By when must I report a lost laptop?", "security.html", "within one hour"),
        ("How much may a hotel cost per night?", "travel.rst", "one hundred and fifty"),
        ("When is the weekly report sent?", "tool.py", "every Friday at noon"),
    ],
)
def test_the_sentence_that_answers_ranks_high_and_what_is_cited_stands_in_its_document(system, question, source, words):
    """The encoder was not trained for this: the sentence must be among the first three, the quotes must be exact."""
    answer = system.ask(question)
    likely = [(verdict.uri, " ".join(verdict.text.split())) for verdict in answer.verdicts[:3]]
    assert any(uri.endswith(source) and words in text for uri, text in likely), likely
    for number, citation in enumerate(answer.citations, start=1):
        document = system.answerer.finder.index.document(citation.evidence.document)
        assert document.quote(citation.evidence) == citation.text
        assert f"[{number}]" in answer.text
    assert answer.abstained == (not answer.citations)


def test_what_is_left_out_has_its_reason_in_the_report(handbook):
    report = (handbook / "workspace" / "report.html").read_text("utf-8")
    assert "empty.txt" in report and "picture.png" in report
    assert "WARNING: nothing was calibrated on these documents" in report


def test_one_changed_file_embeds_only_itself(handbook):
    before = rebuild(handbook)
    assert all(outcome.cached for outcome in before.values())
    page = handbook / "docs" / "travel.rst"
    page.write_text(PAGES["travel.rst"].replace("forty euros", "fifty euros"), "utf-8")
    changed = rebuild(handbook)["index"].manifest.metrics
    assert (changed["replaced"], changed["added"], changed["removed"]) == (1, 0, 0)
    assert 0 < changed["embedded"] < changed["chunks"]
    answer = lmworks.open(handbook / "workspace").ask("How much is paid for meals per day while travelling?")
    assert "fifty euros" in " ".join(verdict.text for verdict in answer.verdicts)
    assert not any("forty euros" in verdict.text for verdict in answer.verdicts)
    page.write_text(PAGES["travel.rst"], "utf-8")
    after = rebuild(handbook)
    assert after["index"].manifest.content_hash == before["index"].manifest.content_hash


def test_an_answer_is_made_again_and_leads_to_source_weights_and_settings(handbook, system):
    answer = system.ask("By when must I report a lost laptop?")
    replayed = command_line.lmworks("log", "replay", answer.id, "--workspace", handbook / "workspace")
    assert replayed.stdout.startswith("same: "), replayed
    stream = StringIO()
    Console(file=stream, width=200).print(trace(handbook / "workspace", answer.id))
    shown = stream.getvalue()
    assert system.lineage["index"][:12] in shown and "made by" in shown and "model embedder" in shown
    if answer.citations:
        assert "security.html" in shown and "still says so" in shown and "web-page" in shown
    with pytest.raises(FileNotFoundError, match="answer, stage or artefact"):
        trace(handbook / "workspace", "nothing")
