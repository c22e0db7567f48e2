"""Annotations of several stages as one: nothing is lost, and what contradicts is refused."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmworks.corpus.attribute_table import DocumentAttributes, read_annotations, write_annotations
from lmworks.corpus.attributes import Attributes, TaggedSpan
from lmworks.corpus.joined_attributes import annotation_files, read_joined
from lmworks.records import Edit

MARKS = st.lists(st.builds(TaggedSpan, st.sampled_from("ab"), st.just(1), st.integers(1, 4)), max_size=3).map(sorted)
ROWS = st.lists(st.tuples(MARKS, MARKS, st.floats(0, 1), st.none() | st.floats(0, 1)), min_size=1, max_size=4)


def row(number: int, measures=None, labels=None, marks=(), edits=()) -> DocumentAttributes:
    return DocumentAttributes(
        f"a/{number}", f"hash{number}", "text", 9, 9, Attributes(measures or {}, tuple(marks), labels or {}), edits
    )


def write(folder: Path, rows: list[DocumentAttributes], shard: str = "00000-abc") -> Path:
    (folder / "annotations").mkdir(parents=True)
    write_annotations(folder / "annotations" / f"{shard}.parquet", rows)
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
    (files,) = annotation_files(inputs)
    found = read_joined(files)
    first, second = (read_annotations(path) for path in files)
    assert found.measures.keys() == first.measures.keys() | second.measures.keys()
    assert list(found.measures["a"]) == [a for _, _, a, _ in rows]
    assert found.labels == {"same": ["x"] * len(rows), "more": ["y"] * len(rows)}
    assert list(found.marks) == [tuple(sorted({*mine, *theirs})) for mine, theirs, _, _ in rows]
    assert list(read_joined(files[:1]).measures["a"]) == list(first.measures["a"])


def test_what_contradicts_is_refused(tmp_path):
    plain = write(tmp_path / "plain", [row(0, {"a": 1.0})])
    for name, other, told in (
        ("value", [row(0, {"a": 2.0})], "both have a, and not the same"),
        ("edit", [row(0, {"b": 2.0}, edits=(Edit(0, 1, "", "r"),))], "repaired in different ways"),
        ("document", [row(1, {"b": 2.0})], "of other documents"),
    ):
        (files,) = annotation_files({"plain": plain, name: write(tmp_path / name, other)})
        with pytest.raises(ValueError, match=told):
            read_joined(files)
    with pytest.raises(ValueError, match="plain and shard are annotations of other documents"):
        annotation_files({"plain": plain, "shard": write(tmp_path / "shard", [row(0)], "00000-def")})
    with pytest.raises(ValueError, match=r"no input holds annotations.*among: documents"):
        annotation_files({"documents": tmp_path})
