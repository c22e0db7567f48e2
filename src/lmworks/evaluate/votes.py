"""Votes of people on pairs of answers: a file that loses none, and the pairs that two runs give.

`votes.jsonl` of a workspace holds a `Vote` a line and is only appended to: one that changes or takes back an earlier
vote is a further line.
"""

import fcntl
import json
import os
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lmworks.artefact import hash_json, sync_folder
from lmworks.config import from_mapping, to_mapping
from lmworks.evaluate.results import Result
from lmworks.records import Preference, TextOrMessages, Vote

VOTES = "votes.jsonl"


@dataclass(frozen=True, slots=True)
class Pair:
    """Two answers to one prompt; `source` says where they are from: the artefacts or interactions, and the item."""

    id: str
    prompt: TextOrMessages
    completions: tuple[str, str]
    systems: tuple[str, str]
    source: str

    def first_is_right(self, annotator: str) -> bool:
        """Whether this annotator sees the first completion on the right: a hash of both draws, so that it is chance,
        stays when the page is loaded again, and needs no field in the page that would give it away."""
        return int(hash_json([self.id, annotator])[:8], 16) % 2 == 1


def pair_of(prompt: TextOrMessages, completions: tuple[str, str], systems: tuple[str, str], source: str) -> Pair:
    return Pair(hash_json([prompt, completions, systems, source])[:16], prompt, completions, systems, source)


def run_pairs(names: tuple[str, str], hashes: tuple[str, str], runs: Sequence[Sequence[Result]]) -> list[Pair]:
    """The generated answers of two runs to the same item of the same task, where they differ; in the order of their
    hashes, so that those voted on when a person stops are a random sample."""
    second = {(one.task, one.item.id): one for one in runs[1]}
    pairs = []
    for one in runs[0]:
        other = second.get((one.task, one.item.id))
        if other is None or one.item.choices or one.item.prompt != other.item.prompt:
            continue
        texts = (one.response.text, other.response.text)
        if texts[0].strip() != texts[1].strip():
            places = " and ".join(f"{name}@{digest[:12]}" for name, digest in zip(names, hashes, strict=True))
            pairs.append(pair_of(one.item.prompt, texts, names, f"{one.task}/{one.item.id} of {places}"))
    return sorted(pairs, key=lambda pair: pair.id)


class VoteFile:
    """The votes of a workspace. `append` returns when the vote is on the disk; several processes may write."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.unreadable = 0  # lines that are no vote, such as the half of one that a power cut left
        self._lock = threading.Lock()
        self._read = 0  # bytes
        self._standing: dict[tuple[str, str], Vote] = {}

    def append(self, vote: Vote) -> None:
        line = json.dumps(to_mapping(vote), ensure_ascii=False, allow_nan=False).encode("utf-8", "surrogatepass")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        is_new = not self.path.exists()
        with self._lock, self.path.open("ab+") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            if stream.seek(0, os.SEEK_END):
                stream.seek(-1, os.SEEK_END)
                line = line if stream.read() == b"\n" else b"\n" + line  # after the half of one
            stream.write(line + b"\n")
            stream.flush()
            os.fsync(stream.fileno())
        if is_new:
            sync_folder(self.path.parent)

    def standing(self) -> list[Vote]:
        """The newest vote of each annotator on each pair, but for those taken back; the latest voted last."""
        with self._lock:
            if self.path.exists():
                with self.path.open("rb") as stream:
                    stream.seek(self._read)
                    whole = stream.read()
                lines = whole[: whole.rfind(b"\n") + 1]  # what follows is being written
                self._read += len(lines)
                for line in filter(None, lines.split(b"\n")):
                    self._take(line)
            return list(self._standing.values())

    def _take(self, line: bytes) -> None:
        try:
            vote = from_mapping(Vote, json.loads(line.decode("utf-8", "surrogatepass")))
        except ValueError:
            self.unreadable += 1
            return
        key = (vote.pair, vote.provenance.annotator or "")
        self._standing.pop(key, None)
        if vote.choice is not None:
            self._standing[key] = vote


def preferences(votes: Iterable[Vote]) -> list[Preference]:
    """The decided votes as pairs for alignment and for the calibration of judges; ties are none."""
    return [one for vote in votes if (one := vote.preference) is not None]
