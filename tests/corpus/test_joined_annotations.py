"""Annotations of several stages as one: nothing is lost, and what contradicts is refused."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmworks.corpus.attributes import (
    ATTRIBUTES,
    Attributes,
    DocumentAttributes,
    TaggedSpan,
    attribute_files,
    read_attributes,
    read_joined,
    write_attributes,
)
from lmworks.records import Edit

MARKS = st.lists(st.builds(TaggedSpan, st.sampled_from("ab"), st.just(1), st.integers(1, 4)), max_size=3).map(sorted)
ROWS = st.lists(st.tuples(MARKS, MARKS, st.floats(0, 1), st.none() | st.floats(0, 1)), min_size=1, max_size=4)


def row(number: int, measures=None, labels=None, marks=(), edits=()) -> DocumentAttributes:
    return DocumentAttributes(
        f"a/{number}", f"hash{number}", "text", 9, 9, Attributes(measures or {}, tuple(marks), labels or {}), edits
    )


def write(folder: Path, rows: list[DocumentAttributes], shard: str = "00000-abc") -> Path:
    (folder / ATTRIBUTES).mkdir(parents=True)
    write_attributes(folder / ATTRIBUTES / f"{shard}.parquet", rows)
    return folder


@given(ROWS)
def test_measures_labels_and_marks_of_both_are_there(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("joined")
    one = [row(n, {"a": a}, {"same": "x"}, mine) for n, (mine, _, a, _) in enumerate(rows)]
    two = [
        row(n, {} if b is None else {"b": b}, {"same": "x", "more": "y"}, theirs)
        for n, (_, theirs, _, b) in enumerate(rows)
    ]
    inputs = {"one": write(folder / "one", one), "two": write(folder / "two", two), "documents": folder}
    (files,) = attribute_files(inputs)
    found = read_joined(files)
    first, second = (read_attributes(path) for path in files)
    assert found.scores.keys() == first.scores.keys() | second.scores.keys()
    assert list(found.scores["a"]) == [a for _, _, a, _ in rows]
    assert found.labels == {"same": ["x"] * len(rows), "more": ["y"] * len(rows)}
    assert list(found.spans) == [tuple(sorted({*mine, *theirs})) for mine, theirs, _, _ in rows]
    assert list(read_joined(files[:1]).scores["a"]) == list(first.scores["a"])


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
    with pytest.raises(ValueError, match="plain and shard are annotations of other documents"):
        attribute_files({"plain": plain, "shard": write(tmp_path / "shard", [row(0)], "00000-def")})
    with pytest.raises(ValueError, match=r"no input holds annotations.*among: documents"):
        attribute_files({"documents": tmp_path})
