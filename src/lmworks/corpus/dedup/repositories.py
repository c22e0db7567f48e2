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

from lmworks.corpus.dedup.kept_duplicates import RankedCorpus
from lmworks.records import RejectedRecord

NAMED_BY = ("repository", "repo", "repo_name", "repository_name", "max_stars_repo_name")
ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst")
PARTS = 2
_GIT = "/.git/"

LEAST_CHARACTERS = 100  # of a file that says anything: not an empty __init__.py
LEAST_FILES = 3  # that a copy shares with its original
CANDIDATE_LIMIT = 64  # repositories that stay and have one file, which another one with it is compared with

# ---------------------------------------------------------------------------------------------------------------------
# What belongs together


def git_roots(rejected: Iterable[RejectedRecord]) -> frozenset[str]:
    """The folders, as uris, that held the data of Git."""
    return frozenset(item.uri.removesuffix(_GIT) for item in rejected if item.uri.endswith(_GIT))


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


@dataclass(frozen=True, slots=True)
class Repository:
    """Its name, its files by their content, and whether it is known what they may be used for."""

    name: str
    files: frozenset[int]
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

    A copy shares at least `LEAST_FILES` files with its original, which are at least `share` of its own. A file is a
    reason to compare a repository with the `CANDIDATE_LIMIT` best that stay and have it.
    """
    staying: list[Repository] = []
    owners: defaultdict[int, list[int]] = defaultdict(list)  # of a file: places in `staying`
    copies: list[Copy] = []
    for each in sorted(repositories, key=lambda each: (not each.licensed, -len(each.files), each.name)):
        for place in sorted({place for file in each.files for place in owners.get(file, ())}):
            common = len(each.files & staying[place].files)
            if common >= LEAST_FILES and common / len(each.files) >= share:
                copies.append(Copy(each.name, staying[place].name, common / len(each.files)))
                break
        else:
            for file in each.files:
                if len(owners[file]) < CANDIDATE_LIMIT:
                    owners[file].append(len(staying))
            staying.append(each)
    return sorted(copies, key=lambda copy: copy.copy)


def copied_files(
    repositories: Sequence[str | None],
    groups: NDArray[np.int64],
    corpus: RankedCorpus,
    there: NDArray[np.bool_],
    share: float,
) -> Iterator[tuple[int, int, Copy]]:
    """The documents that go with copies, each with the one that stays in its place: copies are repositories of whose
    files another one has at least that `share`.

    `repositories` has the repository of each document, None for what is no file of one; `groups` (n,) which documents
    are alike. Only documents that are `there` count. Files of few characters say nothing of a repository, and go all
    the same where it is a copy. In the place of a file stays the best of the original's that is alike.
    """
    members: defaultdict[str, list[int]] = defaultdict(list)
    best: dict[tuple[str, int], int] = {}  # of a repository and a group
    for document in corpus.order[there[corpus.order]].tolist():
        if (name := repositories[document]) is not None:
            members[name].append(document)
            best.setdefault((name, int(groups[document])), document)
    known: list[Repository] = []
    for name, files in sorted(members.items()):
        distinctive = frozenset(int(groups[file]) for file in files if corpus.characters[file] >= LEAST_CHARACTERS)
        known.append(Repository(name, distinctive, bool(corpus.licensed[files].any())))
    for copy in copied_repositories(known, share):
        for document in members[copy.copy]:
            if (kept := best.get((copy.original, int(groups[document])))) is not None:
                yield document, kept, copy
