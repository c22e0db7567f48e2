"""From a messy folder to clean documents, through the stages: what stays, why, and always the same bytes."""

import json
from pathlib import Path

import pytest

from lmworks.build import run_alone
from lmworks.corpus.documents import DocumentStore
from lmworks.corpus.edits import apply_edits
from lmworks.corpus.filtering.ledger import LEDGER, read_ledger
from lmworks.records import Edit

PROSE = (
    "The council met on Tuesday to talk about the new bridge over the river, and most of those who came were in favour "
    "of it. The engineer said that the old one would have to be closed within a few years, and that a new one could be "
    "built beside it. A farmer asked who would pay for the road, and the mayor said that the county had promised to. "
)
OTHER = (
    "Whoever bakes bread at home knows that the dough needs time, and that a warm kitchen is worth more than a good "
    "oven. My grandmother put the bowl under the blanket of her bed, and nobody was to sit there before evening. "
    "She said that bread can be hurried like a child can be hurried, which is to say that it ends in tears. "
)
POLICY = """
[[steps]]
name = "quality"
limits = { words = { at_least = 20 } }

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
    """Ten documents: prose, the same again, nearly the same, another one with an address, and what is too short."""
    folder = tmp_path_factory.mktemp("messy")
    texts = folder / "texts"
    texts.mkdir()
    (texts / "a.txt").write_text(PROSE)
    (texts / "b.txt").write_text(PROSE.strip())
    (texts / "c.txt").write_text(PROSE.replace("Tuesday", "Friday"))
    (texts / "d.txt").write_text(OTHER + "Write to jane.miller@bakery-miller.com for more.\n")
    for number in range(6):
        (texts / f"short{number}.txt").write_text(f"Only a few words here, number {number}.")
    (texts / "e.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (folder / "policy.toml").write_text(POLICY)
    run("data.read", folder / "documents", [], [f'sources=["{texts}"]'])
    run("data.annotate", folder / "annotations", [folder / "documents"], [])
    run(
        "data.duplicates", folder / "duplicates", [folder / "documents", folder / "annotations"], ["near.threshold=0.6"]
    )
    clean(folder, folder / "cleaned")
    return folder


def run(use, out, inputs, settings):
    return run_alone(use, out, inputs, [], settings)


def clean(folder: Path, out: Path, *settings: str):
    inputs = [folder / name for name in ("documents", "annotations", "duplicates")]
    return run("data.clean", out, inputs, [f"policy={folder}/policy.toml", *settings])


def test_what_stays_and_why_the_rest_does_not(folder):
    kept = {document.uri: document for document in DocumentStore(folder / "cleaned")}
    assert list(kept) == ["texts/a.txt", "texts/d.txt"]
    assert kept["texts/a.txt"].text == PROSE
    assert kept["texts/d.txt"].text == OTHER + "Write to <EMAIL> for more.\n"
    dropped = {
        entry.document: (entry.step, entry.first.rule, entry.first.twin)
        for entry in read_ledger(folder / "cleaned" / LEDGER)
        if entry.verdict == "dropped"
    }
    assert dropped.pop("texts/b.txt") == ("equal", "exact", "texts/a.txt")
    assert dropped.pop("texts/c.txt") == ("alike", "near", "texts/a.txt")
    assert dropped == {f"texts/short{number}.txt": ("quality", "words", None) for number in range(6)}
    assert [item.uri for item in DocumentStore(folder / "cleaned").rejected()] == ["texts/e.png"]


def test_in_is_out_and_dropped_and_cut(folder):
    entries = list(read_ledger(folder / "cleaned" / LEDGER))
    first, last = entries[0].step, entries[-1].step
    came = sum(entry.bytes_before for entry in entries if entry.step == first)
    stays = sum(entry.bytes_after for entry in entries if entry.step == last and entry.verdict in ("kept", "cut"))
    dropped = sum(entry.bytes_before for entry in entries if entry.verdict == "dropped")
    cut = sum(entry.bytes_before - entry.bytes_after for entry in entries if entry.verdict == "cut")
    assert came == sum(path.stat().st_size for path in (folder / "texts").glob("*.txt"))
    assert stays == sum(len(document.text.encode()) for document in DocumentStore(folder / "cleaned"))
    assert came == stays + dropped + cut and cut == len("jane.miller@bakery-miller.com") - len("<EMAIL>")


def test_the_edits_lead_from_what_was_extracted_to_what_stays(folder):
    extracted = {document.hash: document.text for document in DocumentStore(folder / "documents")}
    cleaned = {document.uri: document for document in DocumentStore(folder / "cleaned")}
    rows = [json.loads(line) for line in (folder / "cleaned" / "edits.jsonl").read_text().splitlines()]
    assert {row["uri"] for row in rows} == cleaned.keys()
    for row in rows:
        document = cleaned[row["uri"]]
        assert row["hash"] == document.hash and row["extracted"] == document.metadata["extracted"]
        made = apply_edits(extracted[row["extracted"]], [Edit(*edit) for edit in row["edits"]])
        assert made.text == document.text


def test_another_threshold_is_another_decision_and_nothing_else(folder):
    """Looked at: annotations and duplicates are inputs as they were; only the last stage runs."""
    clean(folder, folder / "looser", 'steps=[{name="quality", limits={words={at_least=3}}}]')
    assert len(DocumentStore(folder / "looser")) == 10


@pytest.mark.parametrize("workers", [1, 2])
def test_the_bytes_do_not_depend_on_who_does_the_work(folder, tmp_path, workers):
    settings = [f"execution.workers={workers}"]
    run("data.read", tmp_path / "documents", [], [f'sources=["{folder / "texts"}"]', *settings])
    run("data.annotate", tmp_path / "annotations", [tmp_path / "documents"], settings)
    inputs = [tmp_path / "documents", tmp_path / "annotations"]
    run("data.duplicates", tmp_path / "duplicates", inputs, ["near.threshold=0.6", *settings])
    run(
        "data.clean",
        tmp_path / "cleaned",
        [*inputs, tmp_path / "duplicates"],
        [f"policy={folder}/policy.toml", *settings],
    )
    for stage in ("documents", "annotations", "duplicates", "cleaned"):
        assert bytes_of(tmp_path / stage) == bytes_of(folder / stage), stage


def bytes_of(folder: Path) -> dict[str, bytes]:
    beside = ("manifest.json", "sections.json", "report.html")
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in beside
    }


def test_who_does_the_work_is_no_part_of_what_is_made(folder):
    manifest = json.loads((folder / "cleaned" / "manifest.json").read_text())
    assert manifest["config"].keys() == {"policy", "steps", "alarm"}
