"""What is told of long work, under a clock that the tests move."""

import re
from io import StringIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from kit.tables import for_each
from lmworks import progress
from lmworks.progress import MEASURED, readable_duration, stage_progress


class Moved:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch) -> Moved:
    moved = Moved()
    monkeypatch.setattr(progress, "time", moved)
    return moved


def rate(told: str) -> float | None:
    found = re.search(r"([\d,.]+)/s", told)
    return float(found[1].replace(",", "")) if found else None


def test_a_rate_counts_from_the_first_word_about_a_unit(clock):
    timed = progress._Clock()
    clock.now += 100  # a model was loaded meanwhile
    assert timed.describe(10, 30, "texts", 0) == "10 of 30 texts"
    clock.now += 5
    assert timed.describe(20, 30, "texts", 0) == "20 of 30 texts, 2.0/s, about 5 s left"
    clock.now += 500
    assert timed.describe(1, None, "files", 0) == "1 files"
    clock.now += 4
    assert timed.describe(1_003, None, "files", 0) == "1,003 files, 250.5/s"


def test_what_an_earlier_run_made_is_counted_but_has_no_rate(clock):
    timed = progress._Clock()
    for done in range(0, 2_000, 8):
        assert rate(timed.describe(done, 3_000, "questions", done)) is None
        clock.now += 0.00001
    clock.now += 10
    assert timed.describe(2_000, 3_000, "questions", 2_000) == "2,000 of 3,000 questions (2,000 from before)"
    clock.now += 10
    told = timed.describe(2_020, 3_000, "questions", 2_000)
    assert told == "2,020 of 3,000 questions (2,000 from before), 1.0/s, about 16 min left"


@given(
    st.lists(st.tuples(st.floats(0, 60), st.integers(0, 50), st.integers(0, 50)), min_size=1, max_size=20),
    st.integers(0, 100),
)
def test_no_rate_exceeds_what_this_run_made_in_the_time(steps, earlier):
    moved = Moved()
    done = kept = earlier
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(progress, "time", moved)
        timed = progress._Clock()
        timed.describe(done, None, "texts", kept)
        made = seconds = 0
        for passed, found, computed in steps:
            moved.now, seconds = moved.now + passed, seconds + passed
            done, kept, made = done + found + computed, kept + found, made + computed
            told = rate(timed.describe(done, None, "texts", kept))
            if made and seconds >= MEASURED:
                assert told == pytest.approx(made / seconds, abs=0.051)  # it has one decimal
            elif seconds < MEASURED * 0.99 or not made:
                assert told is None


def test_plain_lines_are_ten_seconds_apart(clock):
    stream = StringIO()
    with stage_progress(Console(file=stream, force_terminal=False, width=40), "stage 2 of 3 · index  ") as report:
        for done in range(60):
            report(done, 60, "[b]texts")
            clock.now += 1
    lines = stream.getvalue().splitlines()
    assert lines[0] == "stage 2 of 3 · index: 10 of 60 [b]texts, 1.0/s, about 50 s left"
    assert len(lines) == 5 and lines[-1].startswith("stage 2 of 3 · index: 50 of 60")


@for_each("width", [80, 120])
def test_a_terminal_shows_all_that_is_told_in_lines_that_fit(clock, width):
    stream = StringIO()
    console = Console(file=stream, force_terminal=True, width=width, color_system=None)
    with stage_progress(console, "stage 2 of 5 · calibration") as report:
        report(0, 200, "questions searched", 0)
        clock.now += 10
        report(50, 200, "questions searched", 0)
    shown = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", stream.getvalue())
    lines = [line.rstrip() for line in re.split(r"[\r\n]+", shown)]
    assert all(len(line) <= width and ("━" in line) == (width == 120) for line in lines if "stage 2" in line)
    words = re.sub(r"[━\s]+|0:00:\d\d", "", shown)
    assert "stage2of5·calibration50of200questionssearched,5.0/s,about30sleft" in words


@for_each("terminal", [True, False])
@for_each(("kept", "note"), [(3, "continues from [step 3]"), (0, "restarts: [nothing] was saved")])
def test_how_earlier_work_is_gone_on_with_stays_to_be_read(clock, terminal, kept, note):
    stream = StringIO()
    console = Console(file=stream, force_terminal=terminal, width=60, color_system=None)
    with stage_progress(console, "tuned ") as report:
        report(kept, 9, "batches", kept)
        report(kept, 9, "batches", kept, note)
        report(kept + 1, 9, "batches", kept, "loss 3.000")
    lines = re.split(r"[\r\n]+", re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", stream.getvalue()))
    assert [line.strip() for line in lines if line.startswith("tuned:")] == [f"tuned: {note}"]


@for_each(
    ("seconds", "told"), [(0, "0 s"), (95, "95 s"), (100, "2 min"), (5_700, "95 min"), (6_000, "2 h"), (2e5, "2 days")]
)
def test_durations_are_in_the_unit_that_suits(seconds, told):
    assert readable_duration(seconds) == told
