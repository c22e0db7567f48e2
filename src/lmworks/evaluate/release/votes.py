"""Votes of people on answers to one prompt, two side by side or several in order, in files that lose none.

`votes.jsonl` (the page Compare) and `rankings.jsonl` (the page Rank) of a workspace hold a `Vote` a line and are only
appended to: one that changes or takes back an earlier vote is a further line.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

from lmworks.artefact import hash_json
from lmworks.config import from_mapping
from lmworks.data.conversations import columns_of, rows_of
from lmworks.data.training_rows import PROVENANCE, row_of
from lmworks.evaluate.results import Result
from lmworks.records import Preference, Provenance, TextOrMessages

VOTES, RANKINGS = "votes.jsonl", "rankings.jsonl"
MOST = 9  # answers to a prompt: a key each
_COLUMNS = ("prompt", "completions", "systems", "provenance")


@dataclass(frozen=True, slots=True)
class Vote:
    """Completions of a prompt, and a person's judgement on them, who did not see the names of their systems.

    systems   who wrote each completion; () where that is not known
    ranks     of each completion, 1 is the best and equal ones tie; () skips the prompt. None: nobody judged yet, or the
              judgement is taken back. The newest of an annotator on the same completions counts.
    shown     the place, from 0, at which each completion was shown
    bad       none of them is any good
    time      seconds since the epoch

    ValueError for more or fewer systems than completions.
    """

    prompt: TextOrMessages
    completions: tuple[str, ...] = ()
    systems: tuple[str, ...] = ()
    ranks: tuple[int, ...] | None = None
    shown: tuple[int, ...] = ()
    bad: bool = False
    reason: str = ""
    time: float = 0.0
    provenance: Provenance = field(default_factory=Provenance)

    def __post_init__(self) -> None:
        if self.systems and len(self.systems) != len(self.completions):
            raise ValueError(f"{len(self.completions)} completions and {len(self.systems)} systems: name each, or none")

    @property
    def id(self) -> str:
        """Hash of what is judged, the same for all annotators."""
        return hash_json([self.prompt, self.completions, self.systems])[:16]

    @property
    def pairs(self) -> list["Vote"]:
        """The vote on each two of the completions, none where the prompt is skipped."""
        if not self.ranks or len(self.completions) == 2:
            return [self] if self.ranks else []

        def two(values: tuple[Any, ...], *places: int) -> tuple[Any, ...]:
            return tuple(values[place] for place in places) if values else ()

        columns = ("completions", "systems", "ranks", "shown")
        places = combinations(range(len(self.completions)), 2)
        return [replace(self, **{name: two(getattr(self, name), *both) for name in columns}) for both in places]

    @property
    def choice(self) -> Literal["first", "second", "tie", "both bad"] | None:
        """The verdict on two completions."""
        if not self.ranks:
            return None
        first, second = self.ranks
        return "both bad" if self.bad else "tie" if first == second else "first" if first < second else "second"

    @property
    def share(self) -> float:
        """Wins of the first of two: 1, 0, or a half for a tie, and where both are bad (Bradley & Terry 1952)."""
        return {"first": 1.0, "second": 0.0}.get(self.choice or "", 0.5)

    @property
    def preference(self) -> Preference | None:
        """Two completions as they were decided; `rubric` is the reason, `order` says whether the chosen one was shown
        before the other (0) or after it (1)."""
        if self.choice not in ("first", "second"):
            return None
        chosen, rejected = (0, 1) if self.choice == "first" else (1, 0)
        order = int(self.shown[chosen] > self.shown[rejected]) if self.shown else None
        made = replace(self.provenance, order=order, rubric=self.reason or None)
        return Preference(self.prompt, self.completions[chosen], self.completions[rejected], made)

    @property
    def preferences(self) -> list[Preference]:
        """All strictly ordered pairs."""
        return [row for pair in self.pairs if (row := pair.preference)]


def run_pairs(first: Sequence[Result], second: Sequence[Result], systems: tuple[str, str], source: str) -> list[Vote]:
    """The generated answers of two runs to the same item of the same task, where they differ; in the order of their
    hashes, so that those voted on when a person stops are a random sample. `source` names the runs."""
    others = {(row.task, row.item.id): row for row in second}
    pairs = []
    for row in (row for row in first if (row.task, row.item.id) in others and not row.item.choices):
        other = others[row.task, row.item.id]
        texts = (row.response.text, other.response.text)
        if row.item.prompt == other.item.prompt and texts[0].strip() != texts[1].strip():
            provenance = Provenance(f"{row.task}/{row.item.id} of {source}")
            pairs.append(Vote(row.item.prompt, texts, systems, provenance=provenance))
    return sorted(pairs, key=lambda pair: pair.id)


def order_shown(vote: Vote, annotator: str | None) -> list[int]:
    """The completions in the order in which this annotator sees them: a hash draws it, so that it is chance, stays when
    the page is loaded again, and needs no field in the page that would give it away."""
    name = vote.id
    return sorted(range(len(vote.completions)), key=lambda number: hash_json([name, annotator, number]))


def read_votes(path: Path) -> tuple[list[Vote], int]:
    """The newest vote of each annotator on the same completions, but for those taken back, the latest last; and the
    number of lines that are no vote, such as the half of one that a power cut left."""
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []  # the rest is being written
    rows = [_parsed(line) for line in lines if line]
    standing: dict[tuple[str, str | None], Vote] = {}
    for row in filter(None, rows):
        key = row[0], row[1].provenance.annotator
        standing.pop(key, None)
        standing[key] = row[1]
    return [vote for vote in standing.values() if vote.ranks is not None], rows.count(None)


@lru_cache(maxsize=50_000)
def _parsed(line: bytes) -> tuple[str, Vote] | None:
    """A vote with its id."""
    try:
        vote = from_mapping(Vote, json.loads(line.decode("utf-8", "surrogatepass")))
    except ValueError:
        return None
    return vote.id, vote


def read_candidates(path: Path, least: int = 2) -> list[Vote]:
    """Rows of a .jsonl, .json or .parquet file, to be voted on: `prompt` with `completions` (and `systems`), or with
    `chosen` and `rejected`. Equal completions are one. ValueError for another row, or one with fewer than `least`."""
    rows = []
    for where, given in rows_of(path):
        columns = columns_of(given, where)
        pair = [columns[name] for name in ("chosen", "rejected") if name in columns]
        known = {name: columns[name] for name in (*_COLUMNS, *PROVENANCE) if name in columns}
        row = row_of(Vote, {"completions": pair, **known}, where)
        different = [n for n, text in enumerate(row.completions) if text not in row.completions[:n]]
        if not least <= len(different) <= MOST:
            raise ValueError(f"{where}: {len(different)} different completions: give {least} to {MOST}")
        systems = tuple(row.systems[n] for n in different if row.systems)
        rows.append(replace(row, completions=tuple(row.completions[n] for n in different), systems=systems))
    return rows
