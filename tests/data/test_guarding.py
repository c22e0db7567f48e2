"""An extractor that hangs, dies or fills the memory costs its own file a reason."""

import ctypes
import os
import time

import pytest

from lmworks.data.extract import Extracted, UnusableError
from lmworks.data.guarding import Guard, GuardConfig


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
