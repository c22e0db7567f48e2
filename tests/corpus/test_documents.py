"""Documents on disk: every field comes back, and nothing that was not written is accepted."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.tables import for_each
from lmworks.artefact import read_rows
from lmworks.corpus.documents import (
    DOCUMENTS,
    REJECTED,
    DocumentStore,
    check_sources,
    corpus_shards,
    document_from_json,
    document_to_json,
    join_shards,
    shard_paths,
    write_documents,
)
from lmworks.records import Document, RejectedRecord

WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
DOCUMENT = st.builds(
    Document,
    text=WORDS,
    uri=WORDS,
    media_type=st.just("text/plain"),
    extractor=st.just("plain"),
    extractor_version=st.just("1"),
    source_hash=WORDS,
    title=WORDS,
    licence=st.none() | WORDS,
    date=st.none() | st.just("2024-01-01"),
    source=WORDS,
    kind=WORDS,
    metadata=st.dictionaries(WORDS, WORDS, max_size=3),
)


def document(text: str, uri: str = "u", source: str = "s") -> Document:
    metadata = {"source": "a column"}
    return Document(text, uri, "text/plain", "plain", "1", "0" * 64, source=source, metadata=metadata)


@given(DOCUMENT)
def test_a_line_is_one_line_and_comes_back_equal(value: Document) -> None:
    line = document_to_json(value)
    assert "\n" not in line and line == json.dumps(json.loads(line), ensure_ascii=False)
    assert document_from_json(line, "here") == value


def test_a_document_is_found_by_its_hash_the_first_of_equal_texts(tmp_path: Path) -> None:
    documents = [document("ä" * (n % 40), f"uri {n}") for n in range(50)]
    write_documents(tmp_path, [documents[0], RejectedRecord("x", "why", 3), *documents[1:]], 2000)
    store = DocumentStore(tmp_path)
    assert list(store) == documents and len(store) == 50 and len(store.shards) > 2
    assert list(store.hashes()) == [each.hash for each in documents]
    for number, value in enumerate(documents):
        assert value.hash in store and store.get(value.hash) == documents[number % 40]
    assert read_rows(RejectedRecord, store.folder / REJECTED) == [RejectedRecord("x", "why", 3)]
    for missing in ("0" * 64, "no hash"):
        with pytest.raises(KeyError, match="no document"):
            store.get(missing)
    with pytest.raises(FileNotFoundError, match=r"corpus\.read"):
        DocumentStore(tmp_path / "none")


def test_a_changed_text_no_longer_has_its_hash() -> None:
    row = json.loads(document_to_json(document("text")))
    for change in ({"text": "other"}, {"unknown": 1}, {"uri": 3}):
        with pytest.raises(ValueError, match="here: "):
            document_from_json(json.dumps(row | change), "here")
    del row["uri"]
    with pytest.raises(ValueError, match="uri"):
        document_from_json(json.dumps(row), "here")


@for_each("damage", [b'{"uri": "x"}\n', b"\n", b"not json\n", b'{"hash": "' + b"0" * 64 + b'", "text'])
def test_a_damaged_file_is_refused(tmp_path: Path, damage: bytes) -> None:
    folder = tmp_path / str(len(damage))
    folder.mkdir()
    write_documents(folder, [document("text")])
    (path,) = (folder / DOCUMENTS).iterdir()
    path.write_bytes(path.read_bytes() + damage)
    with pytest.raises(ValueError, match="line 2"):
        DocumentStore(folder)
    path.write_bytes(path.read_bytes()[:40])  # a torn write
    with pytest.raises(ValueError, match="line 1"):
        DocumentStore(folder)


def test_a_small_corpus_has_small_shards_wherever_its_parts_were_cut(tmp_path: Path) -> None:
    lines = [document_to_json(document(f"{number} " * 5000)) + "\n" for number in range(200)]
    names = []
    for count in (1, 7):
        (tmp_path / str(count)).mkdir()
        parts = [tmp_path / str(count) / f"part-{number}" for number in range(count)]
        for number, part in enumerate(parts):
            part.write_text("".join(lines[number * 200 // count : (number + 1) * 200 // count]))
        join_shards(parts, tmp_path / str(count))
        names.append([path.name for path in shard_paths(tmp_path / str(count))])
    assert names[0] == names[1] and len(names[0]) > 2


def test_inputs_with_a_source_of_one_name_are_refused(tmp_path: Path) -> None:
    for name, source in (("a", "notes"), ("b", "notes"), ("c", "talks")):
        (tmp_path / name).mkdir()
        write_documents(tmp_path / name, [document("text", source=source)])
    check_sources(corpus_shards({name: tmp_path / name for name in "ac"}))
    with pytest.raises(ValueError, match="notes"):
        check_sources(corpus_shards({name: tmp_path / name for name in "ab"}))
