"""Artefacts appear whole or not at all, and their hashes depend on content alone."""

import fcntl
import json
import multiprocessing
import os
import signal
import subprocess
import sys

import pytest

from lmworks.artefact import (
    DamagedError,
    LockedError,
    StageContext,
    content_digests,
    content_hash,
    hash_json,
    lock,
    read_manifest,
    verify,
    write_json,
    write_manifest,
    write_text,
    writing,
)


def test_a_finished_folder_appears_and_a_failed_one_leaves_nothing(tmp_path):
    with writing(tmp_path / "done") as folder:
        (folder / "sub").mkdir()
        (folder / "sub" / "file").write_text("x")
        assert not (tmp_path / "done").exists()
    assert (tmp_path / "done" / "sub" / "file").read_text() == "x"
    with pytest.raises(RuntimeError), writing(tmp_path / "failed") as folder:
        (folder / "file").write_text("x")
        raise RuntimeError("stop")
    assert [path.name for path in tmp_path.iterdir()] == ["done"]


def test_an_existing_artefact_is_never_overwritten(tmp_path):
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").write_text("old")
    with pytest.raises(FileExistsError, match="kept"), writing(tmp_path / "kept") as folder:
        (folder / "file").write_text("new")
    assert (tmp_path / "kept" / "file").read_text() == "old"


def test_a_kill_while_writing_leaves_no_artefact(tmp_path):
    script = (
        "import os, signal, sys; from pathlib import Path; from lmworks.artefact import writing\n"
        "with writing(Path(sys.argv[1])) as folder:\n"
        "    (folder / 'half').write_text('x'); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    result = subprocess.run([sys.executable, "-c", script, str(tmp_path / "artefact")], check=False)
    assert result.returncode == -signal.SIGKILL
    assert not (tmp_path / "artefact").exists()
    with writing(tmp_path / "artefact") as folder:  # and the next run starts from an empty folder
        assert list(folder.iterdir()) == []


def test_write_text_replaces_whole_files_and_keeps_lone_surrogates(tmp_path):
    write_text(tmp_path / "deep" / "file", "first")
    write_text(tmp_path / "deep" / "file", "caf\u00e9 \udcff")
    assert (tmp_path / "deep" / "file").read_bytes() == "caf\u00e9 \udcff".encode("utf-8", "surrogatepass")
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["file"]


def test_hash_json_ignores_key_order_and_tells_values_apart():
    assert hash_json({"a": 1, "b": [1, 2]}) == hash_json({"b": (1, 2), "a": 1})
    assert hash_json({"a": 1}) != hash_json({"a": "1"})
    with pytest.raises(ValueError):
        hash_json(float("nan"))


def test_content_leaves_out_times_and_takes_logical_digests(tmp_path):
    for name, text in {"data": "x", "base.sqlite": "pages", "times": "1.0", "manifest.json": "{}"}.items():
        (tmp_path / name).write_text(text)
    digests = content_digests(tmp_path, {"base.sqlite": "logical", "times": None})
    assert set(digests) == {"data", "base.sqlite"}
    assert digests["base.sqlite"] == "logical"
    same = content_hash("s", {"a": 1}, {}, digests)
    assert same == content_hash("s", {"a": 1}, {}, json.loads(json.dumps(digests)))
    assert same != content_hash("s", {"a": 2}, {}, digests)
    assert same != content_hash("s", {"a": 1}, {}, digests | {"data": "other"})


def _hold(path, held, release):
    with lock(path):
        held.set()
        release.wait(10)


def test_the_second_writer_is_refused_and_a_dead_one_does_not_block(tmp_path):
    context = multiprocessing.get_context("spawn")
    held, release = context.Event(), context.Event()
    process = context.Process(target=_hold, args=(tmp_path / "build.lock", held, release))
    process.start()
    assert held.wait(30)
    with pytest.raises(LockedError, match=f"process {process.pid}"), lock(tmp_path / "build.lock"):
        pass
    process.kill()
    process.join()
    with lock(tmp_path / "build.lock"):
        pass


def test_a_lock_on_a_file_that_its_holder_deletes_is_none(tmp_path, monkeypatch):
    """Between opening it and locking it; a third process would make it anew, and lock that."""
    path, flock = tmp_path / "work" / "stage.lock", fcntl.flock

    def too_late(stream, operation):
        path.unlink()
        flock(stream, operation)

    monkeypatch.setattr(fcntl, "flock", too_late)
    with pytest.raises(LockedError, match="was in use until this moment"), lock(path):
        pass


def test_a_stage_finds_its_input_by_the_file_it_needs(tmp_path):
    for name, file in {"one": "a", "two": "b"}.items():
        (tmp_path / name).mkdir()
        write_json(tmp_path / name / file, {})
    context = StageContext({"one": tmp_path / "one", "two": tmp_path / "two"}, tmp_path, tmp_path)
    assert context.input("b") == tmp_path / "two"
    with pytest.raises(ValueError, match="found 0 among: one, two"):
        context.input("c")


# ---------------------------------------------------------------------------------------------------------------------
# Artefacts that are not what they were


@pytest.fixture
def artefact(tmp_path):
    folder = tmp_path / "made"
    (folder / "deep").mkdir(parents=True)
    for name, text in {"rows.txt": "abc", "deep/more.txt": "def", "base.sqlite": "pages", "clock": "1.0"}.items():
        (folder / name).write_text(text)
    digests = {"base.sqlite": "logical", "clock": None, "gone": None}
    write_manifest(folder, "a.stage", 1, {"x": 1.5}, {}, digests, "key")
    write_json(folder / "sections.json", [])
    return folder


def test_an_artefact_as_it_was_made_is_whole(artefact):
    manifest = read_manifest(artefact)
    assert manifest.unhashed == ("base.sqlite", "clock")
    told = []
    verify(artefact, manifest, lambda done, total, unit, kept=0: told.append((done, total)))
    assert told == [(3, 6), (6, 6)]
    (artefact / "base.sqlite").write_text("the same rows on other pages")
    (artefact / "clock").write_text("2.0")
    (artefact / ".DS_Store").write_text("put there by a file manager")
    verify(artefact, manifest)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda folder: (folder / "rows.txt").write_text("abd"), r"rows\.txt is not what it was .* the stage a\.stage"),
        (lambda folder: (folder / "deep" / "more.txt").write_text("de"), r"more\.txt is not what it was"),
        (lambda folder: (folder / "rows.txt").unlink(), r"rows\.txt is missing: copy the folder again"),
        (lambda folder: (folder / "clock").unlink(), "clock is missing"),
        (
            lambda folder: (folder / "deep" / "new.txt").write_text(""),
            r"new\.txt is no part of what the stage",
        ),
        (
            lambda folder: (folder / "manifest.json").write_text(
                (folder / "manifest.json").read_text().replace('"x": 1.5', '"x": 2.5')
            ),
            r"manifest\.json does not have the hash that it records",
        ),
    ],
)
def test_a_changed_artefact_is_noticed(artefact, change, problem):
    times = [(path, path.stat()) for path in artefact.rglob("*") if path.is_file()]
    change(artefact)
    for path, before in times:  # neither size nor time need to tell
        if path.exists():
            os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(DamagedError, match=problem):
        verify(artefact, read_manifest(artefact))


def test_files_are_as_readable_as_their_folder(tmp_path):
    with writing(tmp_path / "made") as folder:
        (folder / "inner").mkdir()
        for path in (folder / "private", folder / "inner" / "open"):
            path.write_text("text")
        (folder / "private").chmod(0o600)
    expected = (tmp_path / "made").stat().st_mode & 0o666
    for path in (tmp_path / "made" / "private", tmp_path / "made" / "inner" / "open"):
        assert path.stat().st_mode & 0o777 == expected
