"""`lmworks tokenizer explain`: what cannot be seen is legible, and a damaged `merges.tsv` is named."""

import pytest

from command_line import refused, run
from lmworks.tokenizer import BpeConfig, UnigramConfig, train_bpe, train_unigram
from lmworks.tokenizer.merge_history import TRACE

TEXT = "low lower lowest\r\n\tnew newer newest\r\n\r\n" * 30


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vocabulary")
    trained = train_bpe([TEXT], BpeConfig(vocabulary_size=320, words="metaspace"))
    trained.tokenizer.save(folder)
    (folder / TRACE).write_text(trained.trace(), "utf-8")
    return folder


def test_line_breaks_and_tabs_are_shown_as_escapes(vocabulary, tmp_path):
    shown = run("tokenizer", "explain", "lower\r\n\tnewest", "--tokenizer", str(vocabulary))
    assert r"\r\n" in shown and r"\r + \n" in shown and r"\t" in shown and "\ufffd" not in shown
    train_unigram([TEXT], UnigramConfig(vocabulary_size=60)).tokenizer.save(tmp_path)
    shown = run("tokenizer", "explain", "lower\r\n\tnewest", "--tokenizer", str(tmp_path))
    assert r"\r\n" in shown and r"\t" in shown and "\ufffd" not in shown


def test_a_damaged_trace_is_named_with_its_line(vocabulary, tmp_path):
    (tmp_path / "tokenizer.json").write_bytes((vocabulary / "tokenizer.json").read_bytes())
    (tmp_path / TRACE).write_bytes((vocabulary / TRACE).read_bytes()[:-3])
    lines = (vocabulary / TRACE).read_text().count("\n")
    message = refused("tokenizer", "explain", "lowest", "--tokenizer", tmp_path)
    assert f"merges.tsv, line {lines}:" in message
