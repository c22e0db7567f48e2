"""Votes: none is lost by a kill or half a line, the newest counts, and the order shown is chance that stays."""

import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from kit.tables import for_each
from lmworks.artefact import append_row
from lmworks.evaluate.metric import Item, Response
from lmworks.evaluate.release.vote_results import FEWEST, summary
from lmworks.evaluate.release.votes import Vote, order_shown, read_votes, run_pairs
from lmworks.evaluate.results import Result
from lmworks.records import Provenance
from lmworks.report import Table

APPEND = """
import sys; from pathlib import Path; from lmworks.artefact import append_row
from lmworks.evaluate.release.votes import Vote
for n in range(10**6):
    append_row(Path(sys.argv[1]), Vote(sys.argv[2] + str(n), ("x" * 5000, "y"), ("a", "b"), (1, 1)))
    print(n, flush=True)
"""


def vote(
    pair: str = "p", choice: str | None = "first", annotator: str = "ann", order: int = 0, reason: str = ""
) -> Vote:
    ranks = {"first": (1, 2), "second": (2, 1), None: None}.get(choice, (1, 1))
    shown, made, bad = ((1, 0) if order else (0, 1)), Provenance("s", annotator), choice == "both bad"
    return Vote(pair, ("one", "other"), ("a", "b"), ranks, shown, bad, reason, provenance=made)


def run(texts: Sequence[str], prompt: str = "Why?", **fields) -> list[Result]:
    return [Result("task", Item(str(n), prompt, **fields), Response(text), {}) for n, text in enumerate(texts)]


def duel(votes: Sequence[Vote]) -> tuple[int, float, float, str]:
    """The row of two systems: pairs of answers, share of the first, width of its interval, and who is better."""
    _, table = summary(votes).tables
    assert isinstance(table, Table)
    ((_, _, pairs, share, better),) = table.rows
    value, low, high = (float(part.strip("[,]")) for part in str(share).split()[:3])
    return int(pairs), value, high - low, str(better)


def test_the_newest_vote_of_each_annotator_counts_and_half_a_line_costs_no_other(tmp_path):
    path = tmp_path / "votes.jsonl"
    for one in (vote("p"), vote("q"), vote("p", "tie"), vote("p", annotator="ben"), vote("q", None)):
        append_row(path, one)
    assert read_votes(path) == ([vote("p", "tie"), vote("p", annotator="ben")], 0)
    append_row(path, vote("p", None, "ben"))
    with path.open("ab") as stream:
        stream.write(b'{"prompt": "q", "ti')
    assert read_votes(path) == ([vote("p", "tie")], 0)
    append_row(path, vote("r", reason="line\nbreak \u2028 \ud800"))
    assert read_votes(path) == ([vote("p", "tie"), vote("r", reason="line\nbreak \u2028 \ud800")], 1)


def test_a_kill_loses_no_vote_that_was_acknowledged(tmp_path):
    path = tmp_path / "votes.jsonl"
    command = [sys.executable, "-c", APPEND, str(path)]
    writers = {name: subprocess.Popen([*command, name], stdout=subprocess.PIPE, text=True) for name in "xy"}
    acknowledged = {name: [writer.stdout.readline() for _ in range(20)] for name, writer in writers.items()}  # type: ignore[union-attr]
    for name, writer in writers.items():
        writer.send_signal(signal.SIGKILL)
        acknowledged[name] += [line for line in writer.communicate()[0].splitlines(True) if line.endswith("\n")]
    kept = {one.prompt for one in read_votes(path)[0]}
    assert kept >= {f"{name}{int(n)}" for name, lines in acknowledged.items() for n in lines}


@for_each("order", [0, 1])
def test_a_preference_has_the_chosen_answer_and_its_place(order):
    first, second = (vote(choice=choice, order=order, reason="kind").preference for choice in ("first", "second"))
    assert first and second and first.provenance.rubric == "kind"
    assert (first.chosen, first.rejected, first.provenance.order) == ("one", "other", order)
    assert (second.chosen, second.rejected, second.provenance.order) == ("other", "one", 1 - order)
    assert vote(choice="tie").preference is vote(choice="both bad").preference is None


def test_pairs_are_generated_answers_to_one_prompt_that_differ():
    (pair,) = run_pairs(run(["same", "x", ""]), run(["same ", "y", ""]), ("a", "b"), "runs")
    assert pair.completions == ("x", "y") and pair.provenance.source == "task/1 of runs"
    assert not run_pairs(run(["x"]), run(["y"], "How?"), ("a", "b"), "runs")
    assert not run_pairs(run(["x"], choices=("1", "2")), run(["y"], choices=("1", "2")), ("a", "b"), "runs")


def test_the_order_is_drawn_evenly_for_each_pair_and_annotator_and_stays():
    names = "ann", "ben", "ann"
    ann, ben, again = ([order_shown(vote(str(n)), name) == [1, 0] for n in range(1000)] for name in names)
    equal = sum(one == other for one, other in zip(ann, ben, strict=True))
    assert 420 < sum(ann) < 580 and 420 < equal < 580 and ann == again  # five standard deviations


def test_what_cannot_be_told_yet_is_said_so_with_the_votes_that_it_takes():
    def better(wins: int, losses: int) -> str:
        choices = ["first"] * wins + ["second"] * losses
        return duel([vote(str(n), choice) for n, choice in enumerate(choices)])[-1]

    assert better(30, 5) == "a is preferred" and better(5, 30) == "b is preferred"
    assert better(FEWEST - 3, 0) == "cannot tell yet: 3 more pairs at least"
    assert "nothing points to either" in better(20, 20)
    # A proportion of 0.6 is told from 0.5 with a power of 0.8 by (2.802 / 0.1)^2 x 0.24 = 189 items.
    assert "about 169 more pairs, if a stays ahead" in better(12, 8)


def test_votes_on_one_pair_do_not_count_as_independent():
    alone = [vote(str(n), ("second", "first", "tie", "both bad")[n % 4]) for n in range(40)]
    repeated = [vote(str(one.prompt), one.choice, f"annotator {k}") for one in alone for k in range(4)]
    one, four = duel(alone), duel(repeated)
    assert one[:2] == four[:2] == (40, 0.5) and one[2] == pytest.approx(four[2], rel=0.1)
    systems = summary(repeated).tables[0].rows
    assert all(row[2:] == (40, 40, 40, 40) for row in systems)
    *agreement, alpha = summary(repeated).text.splitlines()
    assert (
        "Of all 4: Krippendorff's alpha 1.000" in alpha
        and len(agreement) == 6
        and all("agree on 40 of 40" in line and "kappa 1.000" in line for line in agreement)
    )
    assert np.allclose([float(str(row[1]).split()[0]) for row in systems], 0)


def test_systems_that_never_met_others_leave_the_strengths_of_those_as_they_were():
    votes = [vote(str(n), ("second", "first", "tie")[n % 3]) for n in range(12)]
    asked = replace(vote("asked"), systems=("x", "y"))
    tables, figures = summary([*votes, asked]).tables, summary([*votes, asked]).figures
    assert len(tables) == 3 and tables[0].rows == summary(votes).tables[0].rows and len(figures) == 1
    assert [row[0] for row in tables[1].rows] == ["x", "y"]
