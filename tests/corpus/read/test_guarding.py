"""An extractor that hangs, dies or fills the memory costs its own file a reason."""

import ctypes
import os
import resource
import time
from pathlib import Path

import pytest

from lmworks.corpus.documents import Extracted, UnusableError
from lmworks.corpus.read import sandbox as guarding
from lmworks.corpus.read.sandbox import Guard, GuardConfig


def good(raw: bytes) -> Extracted:
    return Extracted(raw.decode(), "good", "1")


def refusing(raw: bytes) -> Extracted:
    raise UnusableError("no text")


def hanging(raw: bytes) -> Extracted:
    time.sleep(60)
    raise AssertionError


def crashing(raw: bytes) -> Extracted:
    ctypes.string_at(0)
    raise AssertionError


def leaving(raw: bytes) -> Extracted:
    os._exit(3)


def filling(raw: bytes) -> Extracted:
    return Extracted(str(len(bytearray(1 << 30))), "filling", "1")


def own_process(raw: bytes) -> Extracted:
    return Extracted(str(os.getpid()), "own", "1")


def surprised(raw: bytes) -> Extracted:
    return Extracted(str({}["key"]), "surprised", "1")


def deep(raw: bytes) -> Extracted:
    return deep(raw)


@pytest.fixture(scope="module")
def guard():
    with Guard(GuardConfig(seconds=2.0, megabytes=512)) as found:
        yield found


@pytest.mark.parametrize(
    ("extractor", "reason"),
    [
        (refusing, "^no text$"),
        (hanging, "took longer than 2 s"),
        (crashing, r"crashed \(SIGSEGV\)"),
        (leaving, r"crashed \(status 3\)"),
        (filling, "too much memory"),
        (surprised, "KeyError: 'key'"),
        (deep, "nested too deeply"),
    ],
)
def test_what_goes_wrong_is_a_reason_and_the_next_file_is_read(guard, extractor, reason):
    with pytest.raises(UnusableError, match=reason):
        guard.extract(extractor, b"x")
    assert guard.extract(good, b"text").text == "text"


def test_large_files_go_in_and_out(guard):
    assert guard.extract(good, b"x" * 5_000_000).text == "x" * 5_000_000


def test_bounds_that_bound_nothing_are_refused():
    for settings in ({"seconds": 0}, {"megabytes": 1}):
        with pytest.raises(ValueError, match="a guard needs"):
            GuardConfig(**settings)


def test_a_system_without_bounds_on_memory_is_told_of_and_extracts_all_the_same(monkeypatch):
    """As on macOS, which has no /proc and lets no process bound its memory."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    assert guarding.memory_is_bounded()
    monkeypatch.setattr(guarding, "_MAPPED", Path("/proc/none/statm"))
    assert not guarding.memory_is_bounded()
    guarding._limit_memory(64)
    assert resource.getrlimit(resource.RLIMIT_AS) == before


def test_one_process_serves_until_it_is_closed():
    with Guard(GuardConfig()) as guard:
        processes = {guard.extract(own_process, b"").text for _ in range(5)}
        assert len(processes) == 1
        (process,) = map(int, processes)
        os.kill(process, 0)
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)
