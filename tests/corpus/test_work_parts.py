"""Work in parts: the same whoever does it, and only what is missing."""

import os
from pathlib import Path

import pytest

from kit.tables import for_each
from lmworks.corpus.work_parts import ExecutionConfig, Part, carry_out, do_part


def square(given: int, path: Path) -> None:
    path.write_text(str(given**2))
    with (path.parent / "ran").open("a") as stream:
        stream.write(f"{given}\n")


def folder_of(given: int, path: Path) -> None:
    path.mkdir()
    (path / "a").write_text(str(given))
    if given == 3:
        raise ValueError("three")


def parts(folder: Path, count: int = 5) -> list[Part[int]]:
    return [Part(number, folder / "done" / str(number)) for number in range(count)]


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in (folder / "done").iterdir() if path.name != "ran"}


@for_each("workers", [1, 2])
def test_all_parts_are_done_and_only_once(tmp_path, workers):
    (tmp_path := tmp_path / str(workers)).mkdir()
    told = []
    for _ in range(2):
        carry_out(square, parts(tmp_path), ExecutionConfig(workers), lambda *given: told.append(given))
    assert contents(tmp_path) == {str(number): str(number**2) for number in range(5)}
    assert sorted((tmp_path / "done" / "ran").read_text().split()) == ["0", "1", "2", "3", "4"]
    assert told == [(done, 5, "parts", 0) for done in range(6)] + [(5, 5, "parts", 5)]


@for_each("workers", [1, 2])
def test_a_part_that_fails_leaves_nothing_and_the_others(tmp_path, workers):
    (tmp_path := tmp_path / str(workers)).mkdir()
    with pytest.raises(ValueError, match="three"):
        carry_out(folder_of, parts(tmp_path), ExecutionConfig(workers))
    done = {path.name for path in (tmp_path / "done").iterdir()}
    assert "3" not in done and done >= {"0", "1", "2"} - ({"1", "2"} if workers == 2 else set())
    assert not any(name.startswith(".") for name in done)


def test_what_a_killed_process_left_half_is_not_taken(tmp_path):
    (tmp_path / "done").mkdir()
    (tmp_path / "done" / f".2.{os.getpid() + 1}.tmp").write_text("half")
    (tmp_path / "done" / ".3.0123.tmp").mkdir()
    carry_out(square, parts(tmp_path), ExecutionConfig(1))
    assert contents(tmp_path)["2"] == "4"
    assert not list((tmp_path / "done").glob(".*"))


@for_each("workers", [1, 2])
def test_parts_that_are_made_on_the_way(tmp_path, workers):
    (tmp_path := tmp_path / str(workers)).mkdir()
    told = []
    for _ in range(2):
        made = (Part(part.given, part.done, 1, file_for(tmp_path / f"for-{part.given}")) for part in parts(tmp_path))
        carry_out(square, made, ExecutionConfig(workers), lambda *given: told.append(given), total=5)
        assert all((tmp_path / f"for-{number}").exists() == bool(told[6:]) for number in range(5))
    assert contents(tmp_path) == {str(number): str(number**2) for number in range(5)}
    assert told[:6] == [(done, 5, "parts", 0) for done in range(6)] and told[-1] == (5, 5, "parts", 5)


def file_for(path):
    path.touch()
    return path


def test_a_part_that_another_process_had_done_is_left_as_it_is(tmp_path):
    part = Part(7, tmp_path / "done")
    part.done.write_text("first")
    do_part(square, part)
    assert part.done.read_text() == "first" and not (tmp_path / "ran").exists()

    def slower(given, path):
        path.mkdir()
        (path / "text").write_text("second")
        late.done.mkdir()
        (late.done / "text").write_text("first")

    late = Part(7, tmp_path / "late")
    do_part(slower, late)
    assert (late.done / "text").read_text() == "first" and not list(tmp_path.glob(".*"))
