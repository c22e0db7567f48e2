"""Repositories of code that are copies of others, and their files: forks, mirrors, vendored trees.

A repository is the set of its files, each known by its content, near duplicates being one; a copy is one most of whose
files another has (containment, Broder 1997). Which of two is the original is decided by a stated priority, and only the
one that is contained can be the copy: a small library is not an original of the program that carries it along. Of a
copy the files go that the original has, each with its kept duplicate there; what the copy has of its own stays.

Which repository a file belongs to is known by where it was found, in this order: what its own metadata say, as rows of
tables of code do; the folder that held a `.git`, which readers leave out and tell of; the archive it was packed in,
with the one folder that archives of repositories begin with; and else the first parts of its path, source and folder,
which fits a source that holds a repository in each folder.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray

from lmworks.corpus.dedup.hashes import HashRows
from lmworks.corpus.dedup.kept_duplicates import (
    Kept,
    Similarity,
    Standings,
    kept_duplicates,
    same_words,
    star_clusters,
)
from lmworks.corpus.dedup.match_tables import Crowds, Pairs
from lmworks.corpus.dedup.minhash import buckets, pairs_within
from lmworks.corpus.dedup.shingles import common_counts
from lmworks.records import RejectedRecord

NAMED_BY = ("repository", "repo", "repo_name", "repository_name", "max_stars_repo_name")
ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst")
PARTS = 2
_GIT = "/.git/"

LEAST_CHARACTERS = 100  # of a file that says anything: not an empty __init__.py
LEAST_FILES = 3  # that a copy shares with its original
CROWD = 64  # repositories with one file, all of whose pairs are compared

# ---------------------------------------------------------------------------------------------------------------------
# What belongs together


def git_roots(left_out: Iterable[RejectedRecord]) -> frozenset[str]:
    """The folders, as uris, that held the data of Git."""
    return frozenset(item.uri.removesuffix(_GIT) for item in left_out if item.uri.endswith(_GIT))


def repository_of(
    uri: str, metadata: Mapping[str, str] | None = None, roots: Collection[str] = (), parts: int = PARTS
) -> str:
    """The name of the repository of the file with this uri."""
    if named := next((metadata[name] for name in NAMED_BY if metadata.get(name)), None) if metadata else None:
        return named
    folders = [folder.as_posix() for folder in PurePosixPath(uri).parents][:-1]  # the innermost first
    if root := next((folder for folder in folders if folder in roots), None):
        return root
    for place, folder in reversed(list(enumerate(folders))):  # the outermost archive
        if folder.lower().endswith(ARCHIVES):
            return folders[max(place - 1, 0)]
    return folders[max(len(folders) - parts, 0)] if folders else uri


# ---------------------------------------------------------------------------------------------------------------------
# Copies


@dataclass(frozen=True, slots=True, eq=False)
class Repository:
    """Its name, its files by their content, (n,) uint64, sorted, each once, and whether it is known what they may be
    used for."""

    name: str
    files: NDArray[np.uint64]
    licensed: bool = False

    @property
    def priority(self) -> tuple[bool, int, str]:
        """The lowest is the original: a known licence, more files, the name."""
        return not self.licensed, -len(self.files), self.name


@dataclass(frozen=True, slots=True)
class Copy:
    """A repository of whose files the original has this share."""

    copy: str
    original: str
    share: float


def copied_repositories(repositories: Sequence[Repository], share: float) -> tuple[Copy, ...]:
    """The copies, each with the best original that stays, by name; what is not named stays.

    A copy shares at least `LEAST_FILES` files with its original, which are at least `share` of its own. A file that
    more than `CROWD` repositories have is a reason to compare each of them with the best of those alone. So that a
    large family is not lost when that one goes, the search is repeated among those that stay, until it finds nothing
    new.
    """
    ordered = sorted(repositories, key=lambda repository: repository.priority)
    number = len(ordered)
    sizes = np.array([len(repository.files) for repository in ordered], np.int64)
    files = HashRows(
        np.concatenate([np.empty(0, np.uint64), *(repository.files for repository in ordered)]), np.cumsum(sizes)
    )
    looked_at, stars = np.empty(0, np.int64), Kept(np.arange(number), np.ones(number))
    while True:
        staying = stars.document == np.arange(number)
        candidates = np.unique(np.concatenate((looked_at, _candidates(files, staying))))
        if len(candidates) == len(looked_at):
            break
        looked_at = candidates
        first, second = np.divmod(candidates, number)
        common = common_counts(files, np.stack((first, second), axis=1))
        shares = common / sizes[second]
        enough = (shares >= share) & (common >= LEAST_FILES)
        stars = star_clusters(np.arange(number), Pairs(first[enough], second[enough], shares[enough]))
    copies = [
        Copy(ordered[copy].name, ordered[stars.document[copy]].name, float(stars.similarity[copy]))
        for copy in stars.removed.tolist()
    ]
    return tuple(sorted(copies, key=lambda copy: copy.copy))


def _candidates(files: HashRows, staying: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Pairs of repositories that stay and share a file, each as the better one's number times all, plus the other's;
    some more than once."""
    owners = np.repeat(np.arange(len(files)), files.lengths)
    mine = staying[owners]
    owners = owners[mine]
    order, starts, ends = buckets(files.values[mine])
    few = ends - starts <= CROWD
    found = [np.empty(0, np.int64)]
    for pairs in pairs_within(order, starts[few], ends[few]):
        found.append(np.unique(owners[pairs[:, 0]] * len(files) + owners[pairs[:, 1]]))
    for start, end in zip(starts[~few].tolist(), ends[~few].tolist(), strict=True):
        found.append(owners[order[start]] * len(files) + owners[order[start + 1 : end]])
    return np.concatenate(found)


# ---------------------------------------------------------------------------------------------------------------------
# Their files


@dataclass(frozen=True, slots=True)
class CopiedFile:
    """A document that goes with its repository, and the one that stays in its place."""

    document: int
    kept: int
    repository: Copy


def copied_files(
    repositories: Sequence[str | None],
    pairs: Pairs,
    crowds: Crowds,
    standings: Standings,
    there: NDArray[np.bool_],
    share: float,
    similarity: Similarity,
) -> list[CopiedFile]:
    """What goes of repositories at least that `share` of whose files another one has.

    `repositories` has the repository of each document, None for what is no file of one. Only documents that are `there`
    count. Files of few characters say nothing of a repository, and go all the same where it is a copy.
    """
    files = there & np.array([name is not None for name in repositories], bool)
    best_first = standings.order[files[standings.order]].tolist()
    contents = kept_duplicates(pairs, crowds, crowds.threshold, standings.rank, files, similarity).document.copy()
    first: dict[str, int] = {}
    members: dict[str, list[int]] = defaultdict(list)
    for document in best_first:
        members[str(repositories[document])].append(document)
        key = standings.keys[document]
        if key is not None and contents[document] == document:  # texts without a word are alike to none
            contents[document] = first.setdefault(key, document)
    known = [_repository(name, np.array(mine), contents, standings) for name, mine in sorted(members.items())]
    finder = _Finder(pairs, standings, repositories, best_first)
    return [
        CopiedFile(document, kept, copy)
        for copy in copied_repositories(known, share)
        for document in members[copy.copy]
        if (kept := finder.in_repository(document, copy.original)) is not None
    ]


def _repository(name: str, files: NDArray[np.int64], contents: NDArray[np.int64], standings: Standings) -> Repository:
    telling = files[standings.characters[files] >= LEAST_CHARACTERS]
    return Repository(name, np.unique(contents[telling]).astype(np.uint64), bool(standings.licensed[files].any()))


class _Finder:
    """Finds the file of a repository that has the text or the words of another file, or was found similar to it."""

    def __init__(
        self, pairs: Pairs, standings: Standings, repositories: Sequence[str | None], best_first: Sequence[int]
    ) -> None:
        self._standings = standings
        self._labels = same_words(pairs, len(standings))
        self._by_words: dict[tuple[str, int], int] = {}
        self._by_key: dict[tuple[str, str], int] = {}
        self._near: dict[int, set[int]] = defaultdict(set)  # labels of documents that were compared
        for first, second in zip(self._labels[pairs.first].tolist(), self._labels[pairs.second].tolist(), strict=True):
            if first != second:
                self._near[first].add(second)
                self._near[second].add(first)
        for document in best_first:
            name = str(repositories[document])
            self._by_words.setdefault((name, int(self._labels[document])), document)
            if (key := standings.keys[document]) is not None:
                self._by_key.setdefault((name, key), document)

    def in_repository(self, document: int, name: str) -> int | None:
        """The best such file of the repository of this name; one with the same text before all others."""
        key = self._standings.keys[document]
        if key is not None and (name, key) in self._by_key:
            return self._by_key[name, key]
        label = int(self._labels[document])
        if (name, label) in self._by_words:
            return self._by_words[name, label]
        others = [self._by_words[name, near] for near in self._near.get(label, ()) if (name, near) in self._by_words]
        return min(others, key=lambda other: int(self._standings.rank[other]), default=None)
