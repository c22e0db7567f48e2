"""`lmworks data why` and `lmworks data card`: the explanation of a document as a person asks for it."""

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from kit.tables import for_each
from lmworks.build import run_alone
from lmworks.cli.main import app, main
from lmworks.corpus.documents import open_documents
from lmworks.corpus.filtering.ledger import LEDGER, read_ledger
from lmworks.lineage import trace

WORDS = (
    "The council met on Tuesday to talk about the new bridge over the river, and most of those who came were in favour "
    "of it. The engineer said that the old one would have to be closed within a few years, and that a new one could be "
    "built beside it. A farmer asked who would pay for the road, and the mayor said that the county had promised it. "
)
POLICY = """
[[steps]]
name = "pages"
kinds = ["web"]
limits = { words = { at_least = 1 } }

[[steps]]
name = "length"
limits = { words = { at_least = 60 } }

[[steps]]
name = "personal"
marks = { "pii.*" = { action = "redact", at_least = 0.5 } }

[[steps]]
name = "contamination"
limits = { contamination = { at_most = 0.5 } }

[[steps]]
name = "equal"
duplicates = "exact"

[[steps]]
name = "alike"
duplicates = "near"
similarity = 0.6
"""
QUESTION = (
    "Which of the seven old bridges over the river was built by the grandfather of the present mayor of the town?"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """`old/twin` has the text of `old/plan`, which is like that of `plan`."""
    folder = tmp_path_factory.mktemp("why")
    notes = folder / "notes"
    (notes / "old").mkdir(parents=True)
    (notes / "plan.md").write_text(WORDS + "Write to jane.miller@bakery-miller.com for more.")
    (notes / "old" / "plan.md").write_text(WORDS.replace("Tuesday", "Friday"))
    (notes / "old" / "twin.md").write_text(WORDS.replace("Tuesday", "Friday"))
    (notes / "short.md").write_text("Too short, and [red]no markup[/red] \x1b[31m\u202e.")
    (notes / "test.md").write_text(f"{QUESTION} " + "Nobody in the whole town remembers it any more today. " * 9)
    (notes / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (folder / "items.jsonl").write_text(json.dumps({"question": QUESTION, "id": 7}) + "\n")
    (folder / "policy.toml").write_text(POLICY)
    made("corpus.read", folder / "documents", [], f'sources=["{notes}"]')
    made("corpus.tag", folder / "annotations", [folder / "documents"], f'evaluation=["{folder / "items.jsonl"}"]')
    inputs = [folder / "documents", folder / "annotations"]
    made("corpus.dedup", folder / "duplicates", inputs, "near.threshold=0.6")
    made("corpus.filter", folder / "cleaned", [*inputs, folder / "duplicates"], f"policy={folder / 'policy.toml'}")
    return folder


def made(use, out, inputs, *settings):
    return run_alone(use, out, inputs, [], settings)


def explained(folder: Path, *arguments: str) -> str:
    """What it prints, its lines as one."""
    found = CliRunner().invoke(app, ["data", "why", *arguments, "--workspace", str(folder / "cleaned")])
    assert found.exit_code == 0, found.output
    return " ".join(found.output.split())


GOLDEN = """
notes/old/twin.md
dropped by equal: exact 1, threshold 1, duplicate of notes/old/plan.md
hash {digest}…, source notes, kind text, language en

step           verdict       characters
repair         kept          339
pages          out of scope  339
length         kept          339
personal       kept          339
contamination  kept          339
equal          dropped       339 → 0
alike          gone
nothing_left   gone

Why
  equal: exact 1, threshold 1, duplicate of notes/old/plan.md

Passed with the least margin
  length: words 70, at least 60 (17% away)
  contamination: contamination 0, at most 0.5 (100% away)

Kept duplicate (equal, 1.000): notes/old/plan.md
  which was dropped itself by alike: near {similarity}, threshold 0.6, duplicate of notes/plan.md
"""


def test_the_golden_story_of_a_duplicate_of_one_that_went_later(folder):
    found = CliRunner().invoke(app, ["data", "why", "old/twin.md", "--workspace", str(folder / "cleaned")])
    (first, *_) = read_ledger(folder / "cleaned" / LEDGER, document=["notes/old/twin.md"])
    entries = read_ledger(folder / "cleaned" / LEDGER, document=["notes/old/plan.md"])
    (dropped,) = (entry for entry in entries if entry.verdict == "dropped")
    expected = GOLDEN.format(digest=first.hash[:16], similarity=f"{dropped.reasons[0].value:.4g}")
    assert [line.rstrip() for line in found.output.splitlines()] == expected.splitlines()


@for_each(
    ("name", "lines"),
    [
        (
            "notes/plan.md",
            [
                "notes/plan.md stays, 366 of 388 characters of it",
                "personal: pii.email cut, 1 place, 29 characters",
                "Write to [-jane.miller@bakery-miller.com-]{+<EMAIL>+} for more.",
                "Passed with the least margin length: words 78, at least 60 (30% away)",
                "Dropped in its place: 1 notes/old/plan.md: alike: near 0.",
            ],
        ),
        (
            "old/plan.md",
            [
                "notes/old/plan.md dropped by alike: near 0.",
                "threshold 0.6, duplicate of notes/plan.md",
                "): notes/plan.md which stays",
                "it has The council met on [-Tuesday-] to talk",
                "this one has The council met on {+Friday+} to talk",
                "Dropped in its place: 1 notes/old/twin.md: equal: exact 1, threshold",
            ],
        ),
        ("short.md", ["dropped by length: words 8, threshold 60"]),
        ("test.md", ["dropped by contamination: contamination 1, threshold 0.5", "the evaluation item items/7"]),
        ("picture.png", ["notes/picture.png became no document: no reader for .png"]),
    ],
)
def test_why_each_stays_or_went(folder, name, lines):
    text = explained(folder, name)
    assert all(line in text for line in lines), text
    assert "\x1b" not in text and "\u202e" not in text


def test_a_hash_before_or_after_cleaning_or_its_beginning(folder):
    """The later one is what shards of tokens and citations give."""
    (first, *_) = read_ledger(folder / "cleaned" / LEDGER, document=["notes/plan.md"])
    (cleaned,) = (each for each in open_documents(folder / "cleaned") if each.uri == "notes/plan.md")
    assert cleaned.hash != first.hash
    for digest in (first.hash, first.hash[:8], cleaned.hash, cleaned.hash[:8].upper()):
        assert explained(folder, digest) == explained(folder, "notes/plan.md")


@for_each(
    ("name", "message"),
    [
        ("plan.md", "plan.md may be notes/old/plan.md, notes/plan.md: give more of it"),
        ("notes/plan", "next to it in the alphabet are notes/old/twin.md, notes/plan.md, notes/short.md"),
        ("", "Give its uri, which begins with the name of the source's folder, the last parts of it, or the first 8"),
    ],
)
def test_a_name_that_means_none_or_several(folder, capsys, monkeypatch, name, message):
    monkeypatch.setattr("sys.argv", ["lmworks", "data", "why", name, "--workspace", str(folder / "cleaned")])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 2 and message in capsys.readouterr().err


def test_for_programs(folder):
    found = CliRunner().invoke(app, ["data", "why", "old/twin.md", "--json", "--workspace", str(folder / "cleaned")])
    (document,) = json.loads(found.output)["documents"]
    (kept,) = document["kept_duplicates"]
    assert document["stays"] is False and document["went"] == []
    assert (kept["reason"]["kept_duplicate"], kept["reason"]["value"]) == ("notes/old/plan.md", 1.0)
    assert [entry["step"] for entry in kept["then"]] == ["alike"]
    assert document["entries"][5]["reasons"][0]["kind"] == "exact"
    found = CliRunner().invoke(app, ["data", "why", "picture.png", "--json", "--workspace", str(folder / "cleaned")])
    rejected = [{"uri": "notes/picture.png", "reason": "no reader for .png", "count": 1}]
    assert json.loads(found.output) == {"documents": [], "rejected": rejected}


def test_what_it_was_made_from_may_be_elsewhere(folder, tmp_path):
    """As it is where `lmworks stage corpus.filter --from WORKSPACE` wrote to another folder."""
    for name in ("documents", "annotations", "duplicates"):  # a folder of a workspace is called by its key
        shutil.copytree(folder / name, tmp_path / "made" / "stages" / name / "0123")
    shutil.copytree(folder / "cleaned", tmp_path / "away" / "cleaned")
    whole = explained(folder, "old/plan.md")
    assert "it has The council" in whole
    assert explained(tmp_path / "away", "old/plan.md", "--from", str(tmp_path / "made")) == whole
    inputs = [f"--from={next((tmp_path / 'made').glob(f'stages/{name}/*'))}" for name in ("documents", "annotations")]
    assert explained(tmp_path / "away", "old/plan.md", inputs[0]) != whole
    assert explained(tmp_path / "away", "old/plan.md", *inputs, f"--from={folder}") == whole


def test_a_card_is_printed_or_written_once(folder, tmp_path):
    cleaned = ["--workspace", str(folder / "cleaned")]
    card = (folder / "cleaned" / "data_card.md").read_text("utf-8")
    assert CliRunner().invoke(app, ["data", "card", *cleaned]).output == card
    path = tmp_path / "README.md"
    named = CliRunner().invoke(app, ["data", "card", *cleaned, "--name", "Town: notes", "--out", str(path)])
    assert named.output.strip() == str(path)
    assert path.read_text("utf-8") == card.replace('"notes"', '"Town: notes"', 1).replace("# notes", "# Town: notes", 1)
    again = CliRunner().invoke(app, ["data", "card", *cleaned, "--out", str(path)])
    assert isinstance(again.exception, FileExistsError) and "README.md" in str(again.exception)


def test_a_manifest_that_is_none_is_left_out_and_told(folder, tmp_path):
    for name in ("documents", "annotations", "duplicates", "cleaned"):
        shutil.copytree(folder / name, tmp_path / name)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "manifest.json").write_text('{"stage": 1}')
    text = explained(tmp_path, "old/plan.md")
    assert "it has The council" in text and "Texts and near values are not shown" not in text
    assert "other/manifest.json is no manifest that can be read: it was left out" in text
    tree = trace(None, str(tmp_path / "cleaned"))
    assert any("manifest.json is no manifest that can be read" in str(branch.label) for branch in tree.children)


def test_relative_paths_of_settings_are_those_of_the_current_folder(folder, tmp_path, monkeypatch):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "test.md").write_text(f"{QUESTION} {WORDS}")
    shutil.copy(folder / "items.jsonl", tmp_path / "q.jsonl")
    monkeypatch.chdir(tmp_path)
    found = CliRunner().invoke(app, ["data", "build", "notes", "--set", 'annotations.evaluation=["q.jsonl"]'])
    assert "q.jsonl" not in str(found.exception), found.exception
    (manifest,) = (tmp_path / ".lmworks" / "clean" / "stages" / "annotations").glob("*/manifest.json")
    assert json.loads(manifest.read_text())["metrics"]["evaluation_items"]["contaminated"] == 1


def test_a_name_of_a_document_does_nothing_to_the_terminal(tmp_path, monkeypatch, capsys):
    """In the message of an error it is told as it is, but for what would act on a terminal."""

    def refuse(*_):
        raise LookupError("x may be a/\x1b[31m[red]x:key:, b\\[x\u202e")

    monkeypatch.setattr("lmworks.corpus.report.why.why", refuse)
    monkeypatch.setattr("lmworks.cli.data_command._cleaned", lambda _: tmp_path)
    monkeypatch.setattr("sys.argv", ["lmworks", "data", "why", "x"])
    with pytest.raises(SystemExit):
        main()
    told = capsys.readouterr().err
    assert "\x1b" not in told and "\u202e" not in told
    assert "x may be a/\ufffd[31m[red]x:key:, b\\[x" in told
