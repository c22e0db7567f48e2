"""`lmworks tokenizer explain`: what cannot be seen is legible, and a damaged `merges.tsv` is named."""

import sys

import pytest
from typer.testing import CliRunner

from lmworks.cli.main import app, main
from lmworks.tokenizer import BpeConfig, UnigramConfig, train_bpe, train_unigram
from lmworks.tokenizer.merge_history import TRACE

TEXT = "low lower lowest\r\n\tnew newer newest\r\n\r\n" * 30


def run(*arguments: str) -> str:
    done = CliRunner().invoke(app, ["tokenizer", "explain", *arguments])
    assert done.exit_code == 0, done.output
    return done.output


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vocabulary")
    trained = train_bpe([TEXT], BpeConfig(vocabulary_size=320, words="metaspace"))
    trained.tokenizer.save(folder)
    (folder / TRACE).write_text(trained.trace(), "utf-8")
    return folder


def test_line_breaks_and_tabs_are_shown_as_escapes(vocabulary, tmp_path):
    shown = run("lower\r\n\tnewest", "--tokenizer", str(vocabulary))
    assert r"\r\n" in shown and r"\r + \n" in shown and r"\t" in shown and "\ufffd" not in shown
    train_unigram([TEXT], UnigramConfig(vocabulary_size=60)).tokenizer.save(tmp_path)
    shown = run("lower\r\n\tnewest", "--tokenizer", str(tmp_path))
    assert r"\r\n" in shown and r"\t" in shown and "\ufffd" not in shown


def test_a_missing_trace_is_told(vocabulary, tmp_path):
    assert "not known" not in run("lowest", "--tokenizer", str(vocabulary))
    (tmp_path / "tokenizer.json").write_bytes((vocabulary / "tokenizer.json").read_bytes())
    shown = " ".join(run("lowest", "--tokenizer", str(tmp_path)).split())
    assert "how often pairs were seen is not known: no merges.tsv lies beside this tokenizer" in shown


def test_a_damaged_trace_is_named_with_its_line(vocabulary, tmp_path, monkeypatch, capsys):
    (tmp_path / "tokenizer.json").write_bytes((vocabulary / "tokenizer.json").read_bytes())
    (tmp_path / TRACE).write_bytes((vocabulary / TRACE).read_bytes()[:-3])
    monkeypatch.setattr(sys, "argv", ["lmworks", "tokenizer", "explain", "lowest", "--tokenizer", str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        main()
    lines = (vocabulary / TRACE).read_text().count("\n")
    assert ended.value.code == 2
    assert f"merges.tsv, line {lines}:" in " ".join(capsys.readouterr().err.split())
