"""Orders, ratios and the table of a comparison; what others take of the machine; the pipe to a contender."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from contenders.bystanders import Watch
from contenders.client import Contender
from contenders.comparison import Measurements, in_turns, ratios, table
from hypothesis import given
from hypothesis import strategies as st

_SPEEDS = st.lists(st.tuples(st.floats(1, 1e4), st.floats(1, 1e4)), min_size=1, max_size=7)


@given(_SPEEDS)
def test_the_ratio_the_other_way_round_is_its_inverse(speeds) -> None:
    peer, ours = zip(*speeds, strict=True)
    there, back = ratios(peer, ours), ratios(ours, peer)
    assert there.least == pytest.approx(1 / back.most)
    if len(speeds) % 2:  # a median of an even number lies between two rounds
        assert there.median == pytest.approx(1 / back.median)


@given(_SPEEDS, st.lists(st.floats(0.1, 10), min_size=7, max_size=7))
def test_a_machine_that_is_slower_in_a_round_changes_no_ratio(speeds, factors) -> None:
    peer, ours = zip(*speeds, strict=True)
    slower = [[value * factor for value, factor in zip(side, factors, strict=False)] for side in (peer, ours)]
    assert ratios(*slower).median == pytest.approx(ratios(peer, ours).median)


def test_a_missing_round_is_an_error() -> None:
    with pytest.raises(ValueError):
        ratios([1.0, 2.0], [1.0])


@given(st.integers(1, 6), st.integers(0, 9))
def test_everybody_runs_once_in_each_round_and_is_first_as_often_as_last(count, rounds) -> None:
    names = [str(number) for number in range(count)]
    orders = [order for _, order in in_turns(names, 2 * rounds)]
    assert all(sorted(order) == names for order in orders)
    assert sum(order[0] == names[0] for order in orders) == (2 * rounds if count == 1 else rounds)


def test_the_table_shows_medians_and_paired_ratios() -> None:
    measured = Measurements()
    for peer, ours in ((100, 300), (200, 400), (1000, 1500)):
        measured.add("peer", "prefill", peer)
        measured.add("ours", "prefill", ours)
    lines = table(measured.values, [("peer", "ours")]).splitlines()
    assert lines[0].split() == ["prefill"]
    assert lines[1].split() == ["peer", "200"]
    assert lines[2].split() == ["ours", "400"]
    assert lines[3].split() == ["ratio", "×2.00", "(1.50–3.00)"]  # the median of ratios, not the ratio of medians
    assert len({len(line) for line in lines if line}) == 1


def test_others_are_counted_and_our_own_are_not() -> None:
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    stranger, own, began = Watch([]), Watch([process.pid]), time.perf_counter()
    time.sleep(0.4)
    seconds = (stranger.share() - own.share()) * (time.perf_counter() - began) * (os.cpu_count() or 1)
    process.kill()
    _, _, usage = os.wait4(process.pid, 0)
    # Ticks of 10 ms, and what the process took before the watch began and after it ended.
    assert seconds == pytest.approx(usage.ru_utime + usage.ru_stime, abs=0.1)
    assert seconds > 0.05


def test_a_contender_answers_until_it_is_closed(tmp_path) -> None:
    worker = tmp_path / "echo_worker.py"
    folder = Path(__file__).parents[2] / "benchmarks" / "contenders"
    worker.write_text(
        f"import sys; sys.path.insert(0, {str(folder)!r})\n"
        "from worker import resident_bytes, serve\n"
        "def run(prompts, new):\n"
        "    print('what a library prints is no answer')\n"
        "    return {'prefill': sum(map(sum, prompts)), 'decode': new}\n"
        "serve(run, resident_bytes() - 4096)\n"
    )
    contender = Contender("echo", [sys.executable, str(worker)])
    for new in (3, 4):
        answer = contender.run([[1, 2], [3]], new)
        assert (answer["prefill"], answer["decode"]) == (6, new)
        assert answer["peak"] >= answer["resident"] >= 4096
    contender.close()


def test_a_contender_that_ends_is_an_error(tmp_path) -> None:
    with pytest.raises(RuntimeError, match="broken ended"):
        Contender("broken", [sys.executable, "-c", "raise SystemExit('no model')"])
