"""Texts as they are: files, globs, rows; large files in pieces that cut no word."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmworks.corpus.sources.files import NoSourceError
from lmworks.data import plain_texts as module
from lmworks.data.plain_texts import plain_texts, required_texts
from lmworks.records import RejectedRecord
from lmworks.tokenizer.pre_tokenizer import WordRule


def test_folders_files_and_globs_in_a_fixed_order(tmp_path):
    for name, text in (("b.py", "b\r\n"), ("a.txt", "a"), ("inner/c.md", "c")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(text.encode())
    assert list(plain_texts([str(tmp_path)], [])) == ["a", "b\r\n", "c"]
    assert list(plain_texts(["*.py", "a.txt"], [], tmp_path)) == ["b\r\n", "a"]
    with pytest.raises(NoSourceError, match=r"nowhere"):
        list(plain_texts(["nowhere"], [], tmp_path))


def test_rows_of_jsonl(tmp_path):
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"text": "one"}\n\n{"text": "two", "id": 2}\n', "utf-8")
    assert list(plain_texts([str(rows)], [])) == ["one", "two"]
    for bad in ('{"txt": "one"}', "[", '{"text": 3}', '"text"'):
        rows.write_text(f'{{"text": "one"}}\n{bad}\n', "utf-8")
        with pytest.raises(ValueError, match="line 2"):
            list(plain_texts([str(rows)], []))  # half a file is an error


def test_what_is_no_text_is_left_out_and_told(tmp_path):
    (tmp_path / "a.png").write_bytes(b"\x89PNG\xff")
    (tmp_path / "b.txt").write_bytes(b"")
    (tmp_path / "c.jsonl").write_text('{"messages": []}\n')
    rejected: list[RejectedRecord] = []
    with pytest.raises(NoSourceError, match=r"1 × .*1 × "):
        list(required_texts([str(tmp_path)], rejected))
    assert [each.uri.rpartition("/")[2] for each in rejected] == ["a.png", "c.jsonl"]
    (tmp_path / "b.txt").write_text("text")
    assert list(required_texts([str(tmp_path)], [])) == ["text"]


@given(st.text(st.sampled_from("ab1 \n\r.'s\u0301世"), min_size=1))
def test_a_large_file_comes_in_pieces_cut_between_words(tmp_path_factory, text):
    folder = tmp_path_factory.mktemp("large")
    (folder / "large.txt").write_bytes(f"one\ntwo{text}\nthree".encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_PIECE", 2)
        pieces = list(plain_texts([str(folder)], []))
    assert len(pieces) > 1
    for rule in (WordRule("gpt2", "run"), WordRule("gpt4", "three"), WordRule("metaspace", "run")):
        assert [word for piece in pieces for word in rule.cut(piece)] == rule.cut("".join(pieces))
    assert "".join(pieces) == f"one\ntwo{text}\nthree"
