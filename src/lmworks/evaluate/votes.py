"""Votes of people on pairs of answers: a file that loses none, and the pairs that two runs give.

`votes.jsonl` of a workspace holds a `Vote` a line and is only appended to: one that changes or takes back an earlier
vote is a further line.
"""

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, TypeVar

from lmworks.artefact import hash_json, sync_folder
from lmworks.config import from_mapping, to_mapping
from lmworks.evaluate.results import Result
from lmworks.records import Preference, Provenance, TextOrMessages

VOTES = "votes.jsonl"
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Vote:
    """Judgement of a person on two completions of a prompt, shown side by side without the names of their systems.

    `completions` and `systems` keep one order whatever was shown; `provenance.order` is the place of the first: 0 left,
    1 right. The newest vote of an annotator on a pair counts, and None takes it back.
    """

    pair: str  # what identifies prompt, completions and systems
    time: float  # seconds since the epoch
    prompt: TextOrMessages
    completions: tuple[str, str]
    systems: tuple[str, str]
    choice: Literal["first", "second", "tie", "both bad"] | None
    reason: str = ""
    provenance: Provenance = field(default_factory=Provenance)

    @property
    def share(self) -> float:
        """Wins of the first system: 1, 0, or a half for a tie, and where both are bad (Bradley & Terry 1952)."""
        return {"first": 1.0, "second": 0.0}.get(self.choice or "", 0.5)

    @property
    def prompt_id(self) -> str:
        """The part of `pair` that all pairs of one ranking share, which are resampled together."""
        return self.pair.partition("/")[0]

    @property
    def preference(self) -> Preference | None:
        """The pair as it was decided; `order` is the place at which the chosen one was shown, `rubric` the reason."""
        if self.choice not in ("first", "second"):
            return None
        swap, order = self.choice == "second", self.provenance.order
        shown = order if order is None or not swap else 1 - order
        chosen, rejected = self.completions[::-1] if swap else self.completions
        made = replace(self.provenance, order=shown, rubric=self.reason or None)
        return Preference(self.prompt, chosen, rejected, made)


def open_vote(prompt: TextOrMessages, completions: tuple[str, str], systems: tuple[str, str], source: str) -> Vote:
    """A pair of answers before anybody voted on it; `source` says where they are from: artefacts and item."""
    pair = hash_json([prompt, completions, systems, source])[:16]
    return Vote(pair, 0.0, prompt, completions, systems, None, provenance=Provenance(source))


def run_pairs(first: Sequence[Result], second: Sequence[Result], systems: tuple[str, str], source: str) -> list[Vote]:
    """The generated answers of two runs to the same item of the same task, where they differ; in the order of their
    hashes, so that those voted on when a person stops are a random sample."""
    others = {(one.task, one.item.id): one for one in second}
    pairs = []
    for one in (row for row in first if (row.task, row.item.id) in others and not row.item.choices):
        other = others[one.task, one.item.id]
        texts = (one.response.text, other.response.text)
        if one.item.prompt == other.item.prompt and texts[0].strip() != texts[1].strip():
            pairs.append(open_vote(one.item.prompt, texts, systems, f"{one.task}/{one.item.id} of {source}"))
    return sorted(pairs, key=lambda one: one.pair)


def first_is_right(pair: str, annotator: str | None) -> bool:
    """Whether this annotator sees the first completion on the right: a hash of both draws, so that it is chance, stays
    when the page is loaded again, and needs no field in the page that would give it away."""
    return int(hash_json([pair, annotator])[:8], 16) % 2 == 1


def append_vote(path: Path, vote: Any) -> None:
    """Returns when the vote, or the ranking, is on the disk; several processes may write."""
    import fcntl  # POSIX only, and only writers need it

    line = json.dumps(to_mapping(vote), ensure_ascii=False, allow_nan=False).encode("utf-8", "surrogatepass")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab+") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        if end := stream.seek(0, os.SEEK_END):
            stream.seek(end - 1)
            line = line if stream.read() == b"\n" else b"\n" + line  # after the half of one
        stream.write(line + b"\n")
        stream.flush()
        os.fsync(stream.fileno())
    if not end:
        sync_folder(path.parent)


def read_votes(path: Path) -> tuple[list[Vote], int]:
    """`read_standing` of votes."""
    return read_standing(path, Vote, lambda vote: (vote.pair, vote.provenance.annotator), lambda vote: vote.choice)


def read_standing(
    path: Path, kind: type[T], key: Callable[[T], Any], decided: Callable[[T], Any]
) -> tuple[list[T], int]:
    """The newest row of each key (an annotator on a pair of answers), but for those taken back, which decide None, the
    latest last; and the number of lines that are no such row, such as the half of one that a power cut left."""
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []  # the rest is being written
    rows = [_parsed(kind, line) for line in lines if line]
    standing: dict[Any, T] = {}
    for row in filter(None, rows):
        standing.pop(key(row), None)
        standing[key(row)] = row
    return [row for row in standing.values() if decided(row) is not None], rows.count(None)


@lru_cache(maxsize=50_000)
def _parsed(kind: type[T], line: bytes) -> T | None:
    try:
        return from_mapping(kind, json.loads(line.decode("utf-8", "surrogatepass")))
    except ValueError:
        return None
