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
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
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
from lmworks.corpus.dedup.library import common_counts
from lmworks.corpus.dedup.match_tables import Crowds, Pairs
from lmworks.corpus.dedup.minhash import buckets, pairs_within
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


@dataclass(frozen=True, slots=True)
class Copy:
    """A repository of whose files the original has this share."""

    copy: str
    original: str
    share: float


def copied_repositories(repositories: Sequence[Repository], share: float) -> list[Copy]:
    """The copies, each with the best original that stays, by name; what is not named stays. The best is the one with a
    known licence, then with more files, then by its name.

    A copy shares at least `LEAST_FILES` files with its original, which are at least `share` of its own. A file that
    more than `CROWD` repositories have is a reason to compare each of them with the best of those alone. So that a
    large family is not lost when that one goes, the search is repeated among those that stay, until it finds nothing
    new.
    """
    ordered = sorted(repositories, key=lambda each: (not each.licensed, -len(each.files), each.name))
    number = len(ordered)
    sizes = np.array([len(each.files) for each in ordered], np.int64)
    files = HashRows(np.concatenate([np.empty(0, np.uint64), *(each.files for each in ordered)]), np.cumsum(sizes))
    looked_at, stars = np.empty(0, np.int64), Kept(np.arange(number), np.ones(number))
    while True:
        staying = stars.document == np.arange(number)
        candidates = np.unique(np.concatenate((looked_at, *_candidates(files, staying))))
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
    return sorted(copies, key=lambda copy: copy.copy)


def _candidates(files: HashRows, staying: NDArray[np.bool_]) -> Iterator[NDArray[np.int64]]:
    """Pairs of repositories that stay and share a file, each as the better one's number times all, plus the other's;
    some more than once."""
    owners = np.repeat(np.arange(len(files)), files.lengths)
    mine = staying[owners]
    owners = owners[mine]
    order, starts, ends = buckets(files.values[mine])
    few = ends - starts <= CROWD
    for pairs in pairs_within(order, starts[few], ends[few]):
        yield np.unique(owners[pairs[:, 0]] * len(files) + owners[pairs[:, 1]])
    for start, end in zip(starts[~few].tolist(), ends[~few].tolist(), strict=True):
        yield owners[order[start]] * len(files) + owners[order[start + 1 : end]]


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
    count. Files of few characters say nothing of a repository, and go all the same where it is a copy. In the place of
    a file stays the best of the original that has its text; or its words; or was found similar.
    """
    files = there & np.array([name is not None for name in repositories], bool)
    contents = kept_duplicates(pairs, crowds, crowds.threshold, standings.rank, files, similarity).document
    labels = same_words(pairs, len(standings)).tolist()
    near: defaultdict[int, set[int]] = defaultdict(set)  # labels of documents that were compared
    for first, second in zip(pairs.first.tolist(), pairs.second.tolist(), strict=True):
        near[labels[first]].add(labels[second])
        near[labels[second]].add(labels[first])
    with_text: dict[str, int] = {}
    members: defaultdict[str, list[int]] = defaultdict(list)
    best: dict[tuple[str, str | int], int] = {}  # of a repository, by its text's key or the label of its words
    for document in standings.order[files[standings.order]].tolist():
        name, key = str(repositories[document]), standings.keys[document]
        members[name].append(document)
        best.setdefault((name, labels[document]), document)
        if key is not None:
            best.setdefault((name, key), document)
            if contents[document] == document:  # texts without a word are alike to none
                contents[document] = with_text.setdefault(key, document)

    def kept_in(name: str, document: int) -> int | None:
        for known in (standings.keys[document], labels[document]):
            if known is not None and (name, known) in best:
                return best[name, known]
        others = [best[name, label] for label in near[labels[document]] if (name, label) in best]
        return min(others, key=lambda other: int(standings.rank[other]), default=None)

    known: list[Repository] = []
    for name, mine in sorted(members.items()):
        telling = np.unique([contents[each] for each in mine if standings.characters[each] >= LEAST_CHARACTERS])
        known.append(Repository(name, telling.astype(np.uint64), bool(standings.licensed[mine].any())))
    return [
        CopiedFile(document, kept, copy)
        for copy in copied_repositories(known, share)
        for document in members[copy.copy]
        if (kept := kept_in(copy.original, document)) is not None
    ]
