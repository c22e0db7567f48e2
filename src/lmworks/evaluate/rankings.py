"""Rankings of people: several answers to one prompt from best to worst, with ties, and the pairs that follow from them.

`rankings.jsonl` of a workspace holds a `Ranking` a line and is only appended to, as `votes.jsonl` is.
"""

from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path

from lmworks.artefact import hash_json
from lmworks.data.conversations import columns_of, rows_of
from lmworks.data.training_rows import PROVENANCE, row_of
from lmworks.evaluate.votes import Vote, read_standing
from lmworks.records import Preference, Provenance, TextOrMessages

RANKINGS = "rankings.jsonl"
MOST = 9  # answers to a prompt: a key each
_COLUMNS = ("prompt", "completions", "systems", "provenance")


@dataclass(frozen=True, slots=True)
class Candidates:
    """Answers to one prompt before anybody compared them; `systems` names who wrote each, where that is known.

    ValueError for more or fewer systems than answers.
    """

    prompt: TextOrMessages
    completions: tuple[str, ...] = ()
    systems: tuple[str, ...] = ()
    provenance: Provenance = field(default_factory=Provenance)

    def __post_init__(self) -> None:
        if self.systems and len(self.systems) != len(self.completions):
            raise ValueError(f"{len(self.completions)} completions and {len(self.systems)} systems: name each, or none")

    @property
    def id(self) -> str:
        return hash_json([self.prompt, self.completions, self.systems])[:16]


@dataclass(frozen=True, slots=True)
class Ranking:
    """Judgement of a person on the answers to a prompt.

    ranks    of each completion, 1 is the best and equal ones tie; () skips the prompt. The newest ranking of an
             annotator on an item counts, and None takes it back.
    shown    the place, from 0, at which each completion was shown
    """

    item: str  # `Candidates.id`
    time: float  # seconds since the epoch
    prompt: TextOrMessages
    completions: tuple[str, ...]
    systems: tuple[str, ...]
    ranks: tuple[int, ...] | None
    shown: tuple[int, ...] = ()
    reason: str = ""
    provenance: Provenance = field(default_factory=Provenance)

    @property
    def votes(self) -> list[Vote]:
        """A vote on each two of the completions, with "" for a system without a name."""
        names = self.systems or ("",) * len(self.completions)
        found = []
        for one, two in combinations(range(len(self.ranks or ())), 2):
            assert self.ranks is not None
            difference = self.ranks[one] - self.ranks[two]
            choice = "tie" if difference == 0 else "first" if difference < 0 else "second"
            order = int(self.shown[one] > self.shown[two]) if self.shown else None
            texts, made = (self.completions[one], self.completions[two]), replace(self.provenance, order=order)
            pair, systems = f"{self.item}/{one}-{two}", (names[one], names[two])
            found.append(Vote(pair, self.time, self.prompt, texts, systems, choice, self.reason, made))
        return found

    @property
    def preferences(self) -> list[Preference]:
        """All strictly ordered pairs. `order` says whether the chosen one was shown before the rejected one (0) or
        after it (1)."""
        return [row for vote in self.votes if (row := vote.preference)]


def read_rankings(path: Path) -> tuple[list[Ranking], int]:
    """The standing rankings, those that skip among them, the latest last; and the number of unreadable lines."""
    return read_standing(path, Ranking, lambda one: (one.item, one.provenance.annotator), lambda one: one.ranks)


def order_shown(one: Candidates, annotator: str | None) -> list[int]:
    """The completions in the order in which this annotator sees them, drawn by a hash as `votes.first_is_right` is."""
    return sorted(range(len(one.completions)), key=lambda number: hash_json([one.id, annotator, number]))


def read_candidates(path: Path, least: int = 2) -> list[Candidates]:
    """Rows of a .jsonl, .json or .parquet file: `prompt` with `completions` (and `systems`), or with `chosen` and
    `rejected`. Equal completions are one. ValueError for another row, or one with fewer than `least` completions."""
    rows = []
    for where, found in rows_of(path):
        columns = columns_of(found, where)
        pair = [columns[name] for name in ("chosen", "rejected") if name in columns]
        known = {name: columns[name] for name in (*_COLUMNS, *PROVENANCE) if name in columns}
        one = row_of(Candidates, {"completions": pair, **known}, where)
        kept = [n for n, text in enumerate(one.completions) if text not in one.completions[:n]]
        if not least <= len(kept) <= MOST:
            raise ValueError(f"{where}: {len(kept)} different completions: give {least} to {MOST}")
        texts, systems = tuple(one.completions[n] for n in kept), tuple(one.systems[n] for n in kept if one.systems)
        rows.append(replace(one, completions=texts, systems=systems))
    return rows
