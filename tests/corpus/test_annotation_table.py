"""Annotations on disk: what is written is read back, whatever is asked for first, and little of it is held."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmworks.corpus.attributes import (
    Attributes,
    DocumentAttributes,
    TaggedSpan,
    of_rules,
    read_attributes,
    write_attributes,
)
from lmworks.records import Edit

WORDS = st.text(st.characters(codec="utf-8"), max_size=8)
NAMES = st.sampled_from(["a", "b", "long name", "ä"])
RANGES = st.tuples(st.integers(0, 50), st.integers(0, 50)).map(lambda ends: (min(ends), max(ends)))
MARKS = st.builds(lambda rule, ends, score: TaggedSpan(rule, *ends, score), NAMES, RANGES, st.floats(0, 1))
EDITS = st.builds(lambda ends, text, rule: Edit(*ends, text, rule), RANGES, WORDS, NAMES)
ATTRIBUTES = st.builds(
    Attributes,
    st.dictionaries(NAMES, st.floats(allow_nan=False), max_size=3),
    st.lists(MARKS, max_size=4).map(tuple),
    st.dictionaries(NAMES, WORDS, max_size=3),
)
DOCUMENTS = st.builds(
    DocumentAttributes,
    uri=WORDS,
    hash=WORDS,
    kind=st.sampled_from(["web", "chat"]),
    characters=st.integers(0, 2**40),
    bytes=st.integers(0, 2**40),
    annotations=ATTRIBUTES,
    edits=st.lists(EDITS, max_size=4).map(tuple),
)


@given(st.lists(DOCUMENTS, max_size=6), st.integers(1, 2))
def test_what_is_written_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, rows: list[DocumentAttributes], repeats: int
) -> None:
    rows = rows * repeats * 60  # more than are written together
    path = tmp_path_factory.mktemp("table") / "a.parquet"
    write_attributes(path, iter(rows))
    table = read_attributes(path)
    assert len(table) == len(rows)
    for name in ("uri", "hash", "source", "kind", "characters", "bytes"):
        column = getattr(table, f"{name}s" if name in ("uri", "source", "kind") else {"hash": "hashes"}.get(name, name))
        assert list(column) == [getattr(row, name) for row in rows]
    assert list(table.edits) == [row.edits for row in rows] and table.edits == [row.edits for row in rows]
    assert list(table.spans) == [row.attributes.spans for row in rows]
    assert set(table.scores) == {name for row in rows for name in row.attributes.scores}
    for name in table.scores:
        expected = [row.attributes.scores.get(name, np.nan) for row in rows]
        np.testing.assert_array_equal(table.scores[name], expected)
    assert set(table.labels) == {name for row in rows for name in row.attributes.labels}
    for name in table.labels:
        assert table.labels[name] == [row.attributes.labels.get(name) for row in rows]
    assert "none" not in table.scores and table.labels.get("none") is None
    with pytest.raises(KeyError):
        table.scores["none"]


@given(st.lists(DOCUMENTS, min_size=1, max_size=6), st.data())
def test_one_document_and_some_are_those_of_all(
    tmp_path_factory: pytest.TempPathFactory, rows: list[DocumentAttributes], data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("table") / "a.parquet"
    write_attributes(path, rows)
    table = read_attributes(path)
    place = data.draw(st.integers(-len(rows), len(rows) - 1))
    assert table.spans[place] == rows[place].attributes.spans and table.edits[place] == rows[place].edits
    assert table.hashes[place] == rows[place].hash
    some = data.draw(st.slices(len(rows)))
    assert table.edits[some] == [row.edits for row in rows][some]
    with pytest.raises(IndexError):
        table.edits[len(rows)]
    rules = [mark.rule for row in rows for mark in row.attributes.spans]
    assert table.spans.rules() == {rule: rules.count(rule) for rule in rules}
    some_rules = set(rules[:1])
    expected = of_rules([row.attributes.spans for row in rows], some_rules)
    assert list(of_rules(table.spans, some_rules)) == list(expected)
    assert table.edits.filled() == sum(bool(row.edits) for row in rows)


def test_another_file_of_the_same_name_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    for rule in ("one", "another"):
        write_attributes(path, [document((TaggedSpan(rule, 0, 1),))])
        assert [mark.rule for mark in read_attributes(path).spans[0]] == [rule]


def document(marks: tuple[TaggedSpan, ...], measures: int = 0) -> DocumentAttributes:
    values = {f"measure {number}": number / 7 for number in range(measures)}
    return DocumentAttributes("a/b", "0" * 64, "chat", 100, 100, Attributes(values, marks, {"language": "en"}))


def test_a_table_that_is_held_takes_little_memory(tmp_path: Path) -> None:
    """The names of documents, and no more: here a fiftieth of what all marks take as objects."""
    marks = tuple(TaggedSpan("chat.line", start, start + 40) for start in range(0, 8000, 40))
    paths = [tmp_path / f"{number}.parquet" for number in range(12)]
    for path in paths:
        write_attributes(path, (document(marks, 50) for _ in range(100)))
    tracemalloc.start()
    try:
        tables = [read_attributes(path) for path in paths]
        assert sum(sum(table.spans.rules().values()) for table in tables) == 12 * 100 * 200
        for table in tables:
            assert len(table.spans[99]) == 200 and table.scores["measure 49"][0] == 7
        held = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert held < 12 * 100 * 200 * 150 / 50  # 150 bytes: a mark and its numbers
