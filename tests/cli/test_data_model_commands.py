"""`lmworks data classifier`: what it makes, tells and refuses."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lmworks.cli.main import app
from lmworks.corpus.taggers.classifier import load_classifier


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """Where the command is run: `good`, a folder of texts, and `bad.jsonl`; `rows.jsonl` has both, with labels."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    good = [f"A proof of lemma {number} by induction." for number in range(120)]
    bad = [f"Buy cheap pills, offer {number}!" for number in range(120)]
    (tmp_path / "good").mkdir()
    for number, text in enumerate(good):
        (tmp_path / "good" / f"{number}.txt").write_text(text)
    (tmp_path / "good" / "photo.png").write_bytes(b"\x89PNG")
    write(tmp_path / "bad.jsonl", [{"text": text} for text in bad])
    rows = [{"body": text, "topic": sort} for sort, texts in (("maths", good), ("shop", bad)) for text in texts]
    write(tmp_path / "rows.jsonl", rows)
    return tmp_path


def write(path: Path, rows: list[dict[str, str]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def run(*arguments: str):
    return CliRunner().invoke(app, ["data", *arguments])


def test_a_classifier_of_folders_and_tables(folder):
    done = run("classifier", "good", "--against", "bad.jsonl", "--out", "made/good.npz", "--set", "bits=12")
    assert done.exit_code == 0, done.output
    told = " ".join(done.output.split())
    for expected in ("AUC 1.000 [", "n-gram", "limits = { good = { at_least = 0."):
        assert expected in told, expected
    assert "left out because no reader for .png: 1 file, such as good/photo.png" in told
    assert "proof" in told and "pills" in told
    assert f'annotations.classifiers={{good="{folder / "made" / "good.npz"}"}}' in told
    classifier = load_classifier(folder / "made" / "good.npz")
    assert classifier.positive == "good" and classifier.bits == 12
    assert [each.name for each in (folder / "made").iterdir()] == ["good.npz"]


def test_labels_of_rows_make_the_same_classifier(folder):
    run("classifier", "good", "--against", "bad.jsonl", "--out", "one.npz")
    done = run(
        *("classifier", "rows.jsonl", "--text", "body", "--label", "topic", "--positive", "maths"), "--out", "two.npz"
    )
    assert done.exit_code == 0, done.output
    one, two = load_classifier(folder / "one.npz"), load_classifier(folder / "two.npz")
    assert two.positive == "maths"
    assert one.weights.tolist() == pytest.approx(two.weights.tolist(), abs=1e-4)  # examples came in another order
