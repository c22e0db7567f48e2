"""Attributes on disk: what is written is read back, by name or all; files of several stages are one or are refused."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmworks.corpus.attributes import (
    ATTRIBUTES,
    Attributes,
    CorpusAttributes,
    DocumentAttributes,
    TaggedSpan,
    attribute_files,
    read_attributes,
    read_joined,
    write_attributes,
)
from lmworks.records import Edit

WORDS = st.text(st.characters(codec="utf-8"), max_size=8)
NAMES = st.sampled_from(["a", "b", "long name", "ä"])
RANGES = st.tuples(st.integers(0, 50), st.integers(0, 50)).map(sorted)
SPANS = st.lists(
    st.builds(lambda rule, ends, score: TaggedSpan(rule, ends[0], ends[1], score), NAMES, RANGES, st.floats(0, 1)),
    max_size=4,
).map(tuple)
EDITS = st.lists(
    st.builds(lambda ends, text, rule: Edit(ends[0], ends[1], text, rule), RANGES, WORDS, NAMES), max_size=4
).map(tuple)
SCORES = st.dictionaries(NAMES, st.floats(allow_nan=False), max_size=3)
DOCUMENTS = st.builds(
    DocumentAttributes,
    uri=WORDS,
    hash=WORDS,
    kind=st.sampled_from(["web", "chat"]),
    characters=st.integers(0, 2**40),
    bytes=st.integers(0, 2**40),
    attributes=st.builds(Attributes, SCORES, SPANS, st.dictionaries(NAMES, WORDS, max_size=3)),
    edits=EDITS,
    source=WORDS,
)


@given(st.lists(DOCUMENTS, min_size=1, max_size=9))
def test_what_is_written_is_read_back(tmp_path_factory, rows: list[DocumentAttributes]) -> None:
    path = tmp_path_factory.mktemp("table") / "a.parquet"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lmworks.corpus.attributes._ROWS", 4)  # fewer than there are
        write_attributes(path, iter(rows))
    table = read_attributes(path)
    for name, column in (("uri", table.uris), ("hash", table.hashes), ("source", table.sources), ("kind", table.kinds)):
        assert list(column) == [getattr(row, name) for row in rows]
    assert table.characters.tolist() == [row.characters for row in rows] and len(table) == len(rows)
    assert list(table.edits) == [row.edits for row in rows]
    spans = [row.attributes.spans for row in rows]
    assert list(table.spans) == spans and table.spans.rules() == Counter(s.rule for row in spans for s in row)
    assert list(table.spans.of_rules({"a", "ä"})) == [
        (place, span) for place, row in enumerate(spans) for span in row if span.rule in ("a", "ä")
    ]
    assert set(table.scores) == {name for row in rows for name in row.attributes.scores}
    for name, column in table.scores.items():
        np.testing.assert_array_equal(column, [row.attributes.scores.get(name, np.nan) for row in rows])
    assert set(table.labels) == {name for row in rows for name in row.attributes.labels}
    for name, column in table.labels.items():
        assert column == [row.attributes.labels.get(name) for row in rows]
    some = read_attributes(path, ["score.a", "label.b", "edits"])
    assert set(some.scores) <= {"a"} and set(some.labels) <= {"b"} and not some.spans and not some.uris
    assert list(some.edits) == list(table.edits) and list(some.kinds) == list(table.kinds)


ROWS = st.lists(
    st.tuples(SPANS.map(sorted), SPANS.map(sorted), st.floats(0, 1), st.none() | st.floats(0, 1)),
    min_size=1,
    max_size=4,
)


def row(number: int, scores=None, labels=None, spans=(), edits=()) -> DocumentAttributes:
    attributes = Attributes(scores or {}, tuple(spans), labels or {})
    return DocumentAttributes(f"a/{number}", f"hash{number}", "text", 9, 9, attributes, edits)


def write(folder: Path, rows: list[DocumentAttributes], shard: str = "00000-abc") -> Path:
    (folder / ATTRIBUTES).mkdir(parents=True)
    write_attributes(folder / ATTRIBUTES / f"{shard}.parquet", rows)
    return folder


@given(ROWS)
def test_scores_labels_and_spans_of_both_are_there(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("joined")
    one = [row(n, {"a": a}, {"same": "x"}, mine) for n, (mine, _, a, _) in enumerate(rows)]
    more = {"same": "x", "language": "und", "declared_language": "en-US"}
    two = [row(n, {} if b is None else {"b": b}, more, theirs) for n, (_, theirs, _, b) in enumerate(rows)]
    files = attribute_files({"one": write(folder / "one", one), "two": write(folder / "two", two), "documents": folder})
    (found,) = CorpusAttributes(files)
    assert found.scores.keys() == {"a"} | ({"b"} if any(b is not None for *_, b in rows) else set())
    assert found.scores["a"].tolist() == [a for _, _, a, _ in rows]
    assert found.labels["same"] == ["x"] * len(rows) and found.labels["language"] == ["en"] * len(rows)
    assert [set(spans) for spans in found.spans] == [{*mine, *theirs} for mine, theirs, _, _ in rows]
    (some,) = CorpusAttributes(files).only("label.language")
    assert some.labels["language"] == ["en"] * len(rows) and not some.scores and not some.spans


def test_what_contradicts_is_refused(tmp_path):
    plain = write(tmp_path / "plain", [row(0, {"a": 1.0})])
    for name, other, told in (
        ("value", [row(0, {"a": 2.0})], "both have a, and not the same"),
        ("edit", [row(0, {"b": 2.0}, edits=(Edit(0, 1, "", "r"),))], "repaired in different ways"),
        ("document", [row(1, {"b": 2.0})], "of other documents"),
    ):
        (files,) = attribute_files({"plain": plain, name: write(tmp_path / name, other)})
        with pytest.raises(ValueError, match=told):
            read_joined(files)
    with pytest.raises(ValueError, match=r"plain.*shard"):
        attribute_files({"plain": plain, "shard": write(tmp_path / "shard", [row(0)], "00000-def")})
    with pytest.raises(ValueError, match="documents"):
        attribute_files({"documents": tmp_path})
