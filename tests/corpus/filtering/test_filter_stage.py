"""From a messy folder to clean documents, through the stages: what stays, why, and always the same bytes."""

import json
from pathlib import Path

import pytest

from lmworks.artefact import read_manifest, read_rows, verify
from lmworks.build import run_alone
from lmworks.corpus.documents import REJECTED, DocumentStore
from lmworks.corpus.edits import apply_edits
from lmworks.corpus.filtering.ledger import LEDGER, read_ledger
from lmworks.records import Edit, RejectedRecord

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
    build(folder, texts)
    return folder


def run(use: str, out: Path, inputs: list[Path], *settings: str) -> None:
    run_alone(use, out, inputs, [], list(settings))


def build(folder: Path, texts: Path, *settings: str) -> None:
    made = [folder / name for name in ("documents", "annotations", "duplicates", "cleaned")]
    run("corpus.read", made[0], [], f'sources=["{texts}"]', *settings)
    run("corpus.tag", made[1], made[:1], *settings)
    run("corpus.dedup", made[2], made[:2], "near.threshold=0.6", *settings)
    run("corpus.filter", made[3], made[:3], f"policy={texts.parent / 'policy.toml'}", *settings)


def test_what_stays_and_why_the_rest_does_not(folder):
    kept = {document.uri: document for document in DocumentStore(folder / "cleaned")}
    assert list(kept) == ["texts/a.txt", "texts/d.txt"]
    assert kept["texts/a.txt"].text == PROSE
    assert kept["texts/d.txt"].text == OTHER + "Write to <EMAIL> for more.\n"
    dropped = {
        entry.document: (entry.step, entry.reasons[0].kind, entry.reasons[0].rule, entry.reasons[0].kept_duplicate)
        for entry in read_ledger(folder / "cleaned" / LEDGER)
        if entry.verdict == "dropped"
    }
    assert dropped.pop("texts/b.txt") == ("equal", "exact", "exact", "texts/a.txt")
    assert dropped.pop("texts/c.txt") == ("alike", "near", "near", "texts/a.txt")
    assert dropped == {f"texts/short{number}.txt": ("quality", "score", "words", None) for number in range(6)}
    assert [item.uri for item in read_rows(RejectedRecord, folder / "cleaned" / REJECTED)] == ["texts/e.png"]
    manifest = read_manifest(folder / "cleaned")
    assert manifest.config.keys() == {"policy", "steps", "alarm"}  # who does the work is no part of it
    assert [manifest.metrics[name] for name in ("documents_before", "documents", "rejected")] == [10, 2, 1]


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


def test_the_bytes_do_not_depend_on_who_does_the_work(folder, tmp_path):
    build(tmp_path, folder / "texts", "execution.workers=2")
    for name in ("documents", "annotations", "duplicates", "cleaned"):
        assert bytes_of(tmp_path / name) == bytes_of(folder / name), name


def bytes_of(folder: Path) -> dict[str, bytes]:
    beside = ("manifest.json", "sections.json", "report.html")
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in beside
    }


def test_duplicates_of_documents_in_another_order_are_refused(tmp_path):
    for name, count in (("x", 3), ("y", 2)):
        (tmp_path / name).mkdir()
        for number in range(count):
            (tmp_path / name / f"{number}.txt").write_text(PROSE * (1 + number))
        run("corpus.read", tmp_path / f"read_{name}", [], f'sources=["{tmp_path / name}"]')
    x, y = tmp_path / "read_x", tmp_path / "read_y"
    for name, inputs in (("xy", [x, y]), ("yx", [y, x])):
        run("corpus.tag", tmp_path / name, inputs)
        run("corpus.dedup", tmp_path / f"duplicates_{name}", [*inputs, tmp_path / name])
    steps = 'steps=[{name="alike", duplicates="near"}]'
    with pytest.raises(ValueError, match="duplicates"):
        run("corpus.filter", tmp_path / "wrong", [x, y, tmp_path / "xy", tmp_path / "duplicates_yx"], steps)
    with pytest.raises(ValueError, match="attributes"):
        run("corpus.filter", tmp_path / "wrong", [x, y, tmp_path / "yx", tmp_path / "duplicates_yx"], steps)
    run("corpus.filter", tmp_path / "right", [x, y, tmp_path / "xy", tmp_path / "duplicates_xy"], steps)


def test_the_artefact_is_whole_and_tells_what_took_them(folder, tmp_path):
    nothing = tmp_path / "cleaned"
    steps = (
        '{name="few", limits={words={at_least=20}}}, {name="more", limits={words={at_least=10000}}}, '
        '{name="pages", kinds=["web"], limits={words={at_least=1}}}'
    )
    run("corpus.filter", nothing, [folder / "documents", folder / "annotations"], f"steps=[{steps}]")
    manifest = read_manifest(nothing)
    verify(nothing, manifest)
    assert len(DocumentStore(nothing)) == manifest.metrics["documents"] == manifest.metrics["bytes"] == 0
    assert manifest.metrics["documents_before"] == 10
    assert manifest.metrics["without_effect"] == [
        "The step pages looks at no document: none has its sources, kinds and languages"
    ]
    page = (nothing / "report.html").read_text("utf-8")
    assert "No document is left: few words 6, more words 4." in page
    assert "| more | words | 4 |" in (nothing / "data_card.md").read_text("utf-8")
