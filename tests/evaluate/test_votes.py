"""Votes: none is lost by a kill or half a line, the newest counts, and the order shown is chance that stays."""

import signal
import subprocess
import sys
from collections.abc import Sequence

import numpy as np
import pytest

from lmworks.evaluate.metric import Item, Response
from lmworks.evaluate.results import Result
from lmworks.evaluate.vote_results import FEWEST, summary
from lmworks.evaluate.votes import VoteFile, pair_of, preferences, run_pairs
from lmworks.records import Message, Provenance, Vote


def vote(pair: str = "p", choice: str | None = "first", annotator: str = "ann", order: int = 0, **fields) -> Vote:
    values = {"prompt": "Why?", "completions": ("one", "other"), "systems": ("a", "b"), "time": 0.0} | fields
    return Vote(pair, choice=choice, provenance=Provenance("s", annotator, order=order), **values)  # type: ignore[arg-type]


def run(texts: Sequence[str], prompt: str = "Why?", **fields) -> list[Result]:
    return [Result("task", Item(str(n), prompt, **fields), Response(text), {}) for n, text in enumerate(texts)]


def test_the_newest_vote_of_each_annotator_counts_and_can_be_taken_back(tmp_path):
    file = VoteFile(tmp_path / "votes.jsonl")
    for one in (vote("p"), vote("q"), vote("p", "tie"), vote("p", annotator="ben"), vote("q", None)):
        file.append(one)
    assert file.standing() == [vote("p", "tie"), vote("p", annotator="ben")]
    file.append(vote("p", None, "ben"))
    assert file.standing() == VoteFile(tmp_path / "votes.jsonl").standing() == [vote("p", "tie")]


def test_half_a_line_costs_no_vote_but_its_own_and_is_counted(tmp_path):
    file = VoteFile(tmp_path / "votes.jsonl")
    file.append(vote("p", reason="line\nbreak \u2028 \ud800"))
    with file.path.open("ab") as stream:
        stream.write(b'{"pair": "q", "ti')
    assert len(file.standing()) == 1
    file.append(vote("r"))
    assert [one.pair for one in file.standing()] == ["p", "r"] and file.unreadable == 1


def test_a_kill_loses_no_vote_that_was_acknowledged(tmp_path):
    script = (
        "import sys; from pathlib import Path; from lmworks.evaluate.votes import VoteFile; "
        "from lmworks.records import Vote\n"
        "file = VoteFile(Path(sys.argv[1]))\n"
        "for n in range(10**6):\n"
        "    file.append(Vote(sys.argv[2] + str(n), 0.0, 'Why?', ('x' * 5000, 'y'), ('a', 'b'), 'tie'))\n"
        "    print(n, flush=True)\n"
    )
    path = tmp_path / "votes.jsonl"
    writers = [
        subprocess.Popen([sys.executable, "-c", script, str(path), name], stdout=subprocess.PIPE, text=True)
        for name in "xy"
    ]
    acknowledged = {}
    for writer, name in zip(writers, "xy", strict=True):
        assert writer.stdout
        for _ in range(20):
            acknowledged[name] = int(writer.stdout.readline())
    for writer, name in zip(writers, "xy", strict=True):
        writer.send_signal(signal.SIGKILL)
        rest = writer.communicate()[0].split()
        acknowledged[name] = max([acknowledged[name], *map(int, rest[-1:])])
    kept = {one.pair for one in VoteFile(path).standing()}
    assert kept >= {f"{name}{n}" for name, last in acknowledged.items() for n in range(last + 1)}


@pytest.mark.parametrize("order", [0, 1])
def test_a_preference_has_the_chosen_answer_and_its_place(order):
    first, second, *rest = preferences(
        [vote(order=order, reason="kind"), vote(choice="second", order=order, prompt=(Message("user", "Why?"),)),
         vote(choice="tie"), vote(choice="both bad")]
    )  # fmt: skip
    assert (first.chosen, first.rejected, first.provenance.order) == ("one", "other", order)
    assert (second.chosen, second.rejected, second.provenance.order) == ("other", "one", 1 - order)
    assert first.provenance.rubric == "kind" and not rest


def test_pairs_are_generated_answers_to_one_prompt_that_differ():
    hashes = ("f" * 64, "0" * 64)
    (pair,) = run_pairs(("a", "b"), hashes, [run(["same", "x", ""]), run(["same ", "y", ""])])
    assert pair.completions == ("x", "y") and pair.source == f"task/1 of a@{'f' * 12} and b@{'0' * 12}"
    assert not run_pairs(("a", "b"), hashes, [run(["x"]), run(["y"], "How?")])
    assert not run_pairs(("a", "b"), hashes, [run(["x"], choices=("1", "2")), run(["y"], choices=("1", "2"))])


def test_the_order_is_drawn_evenly_for_each_pair_and_annotator_and_stays():
    pairs = [pair_of(str(n), ("x", "y"), ("a", "b"), "s") for n in range(1000)]
    ann = [pair.first_is_right("ann") for pair in pairs]
    both = sum(one == pair.first_is_right("ben") for one, pair in zip(ann, pairs, strict=True))
    assert 420 < sum(ann) < 580 and 420 < both < 580  # five standard deviations
    assert ann == [pair.first_is_right("ann") for pair in pairs]


def test_what_cannot_be_told_yet_is_said_so_with_the_votes_that_it_takes():
    def verdict(wins: int, losses: int, ties: int = 0) -> str:
        choices = ["first"] * wins + ["second"] * losses + ["tie"] * ties
        (duel,) = summary([vote(str(n), choice) for n, choice in enumerate(choices)]).duels
        assert duel.share.value == pytest.approx((wins + ties / 2) / len(choices))  # type: ignore[union-attr]
        return duel.verdict

    assert verdict(30, 5) == "a is preferred." and verdict(5, 30) == "b is preferred."
    assert verdict(FEWEST - 3, 0).startswith("Cannot tell yet: 3 more pairs")
    assert verdict(20, 20).startswith("Cannot tell yet, and nothing points to either")
    # A proportion of 0.6 is told from 0.5 with a power of 0.8 by (2.802 / 0.1)^2 x 0.24 = 189 items.
    assert "about 169 more pairs, if a stays ahead" in verdict(12, 8)


def test_votes_on_one_pair_do_not_count_as_independent():
    alone = [vote(str(n), "first" if n % 3 else "second") for n in range(30)]
    repeated = [vote(one.pair, one.choice, f"annotator {k}") for one in alone for k in range(4)]
    (one,), (four,) = summary(alone).duels, summary(repeated).duels
    widths = [np.diff(duel.share.interval)[0] for duel in (one, four)]  # type: ignore[union-attr]
    assert widths[0] == pytest.approx(widths[1], rel=0.1) and four.pairs == 30 and one.verdict == four.verdict
