"""Texts as they are: files, globs, rows; large files in pieces that cut no word."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmworks.corpus.sources.files import NoSourceError
from lmworks.data.plain_texts import _last_cut, plain_texts, required_texts
from lmworks.records import RejectedRecord
from lmworks.tokenizer.pre_tokenizer import WordRule


def test_folders_files_and_globs_in_a_fixed_order(tmp_path):
    for name, text in (("b.py", "b\r\n"), ("a.txt", "a"), ("inner/c.md", "c")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(text.encode())
    assert list(plain_texts([str(tmp_path)])) == ["a", "b\r\n", "c"]
    assert list(plain_texts(["*.py", "a.txt"], tmp_path)) == ["b\r\n", "a"]
    with pytest.raises(NoSourceError, match=r"nowhere"):
        list(plain_texts(["nowhere"], tmp_path))


def test_rows_of_jsonl(tmp_path):
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"text": "one"}\n\n{"text": "two", "id": 2}\n', "utf-8")
    assert list(plain_texts([str(rows)])) == ["one", "two"]
    for bad in ('{"txt": "one"}', "[", '{"text": 3}', '"text"'):
        rows.write_text(f'{{"text": "one"}}\n{bad}\n', "utf-8")
        with pytest.raises(ValueError, match="line 2"):
            list(plain_texts([str(rows)]))


def test_where_there_is_no_text_it_is_said_what_there_is(tmp_path):
    (tmp_path / "a.png").write_bytes(b"\x89PNG\xff")
    (tmp_path / "b.png").write_bytes(b"\x89PNG\xff")
    (tmp_path / "c.txt").write_bytes(b"")
    with pytest.raises(NoSourceError, match=r"no text in .*: 2 × not UTF-8, such as .*/a\.png"):
        list(required_texts([str(tmp_path)]))
    with pytest.raises(NoSourceError, match="all files are empty"):
        list(required_texts([str(tmp_path / "*.txt")]))
    (tmp_path / "d.txt").write_text("text")
    assert list(required_texts([str(tmp_path)])) == ["text"]


def test_a_conversation_is_no_text(tmp_path):
    (tmp_path / "talks.jsonl").write_text('{"messages": []}\n')
    with pytest.raises(ValueError, match=r'line 1: not a JSON object with a "text"; .* data\.tokenize takes those'):
        list(plain_texts([str(tmp_path)]))
    with pytest.raises(NoSourceError, match=r'no text in .*: 1 × not a JSON object with a "text"; a conversation'):
        list(required_texts([str(tmp_path)]))


def test_a_file_of_other_rows_among_texts_is_left_out_and_told(tmp_path):
    (tmp_path / "a.txt").write_text("text")
    (tmp_path / "settings.jsonl").write_text('{"question": "why"}\n')
    left_out: list[RejectedRecord] = []
    assert list(plain_texts([str(tmp_path)], left_out=left_out)) == ["text"]
    assert [(each.uri, each.reason) for each in left_out] == [
        (f"{tmp_path.name}/settings.jsonl", 'not a JSON object with a "text"')
    ]
    (tmp_path / "settings.jsonl").write_text('{"text": "one"}\n{"question": "why"}\n')  # half a file is an error
    with pytest.raises(ValueError, match="line 2"):
        list(plain_texts([str(tmp_path)], left_out=left_out))


def test_a_large_file_comes_in_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr("lmworks.data.plain_texts._PIECE", 100)
    text = "".join(f"line {number}\n" for number in range(200)) + "x" * 300
    (tmp_path / "large.txt").write_text(text, "utf-8")
    pieces = list(plain_texts([str(tmp_path / "large.txt")]))
    assert "".join(pieces) == text and len(pieces) > 10


@given(st.text(st.sampled_from("ab1 \n\r.'s\u0301世"), min_size=1))
def test_a_cut_goes_between_words(text):
    cut = _last_cut(text)
    for rule in (WordRule("gpt2", "run"), WordRule("gpt4", "three"), WordRule("metaspace", "run")):
        assert rule.cut(text[:cut]) + rule.cut(text[cut:]) == rule.cut(text)
