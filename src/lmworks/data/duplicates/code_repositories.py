"""Whole repositories that are copies of others: forks, mirrors, vendored trees.

A repository is the set of its files, each known by its content, and a copy is one most of whose files another has
(containment, Broder 1997). Which of two is the original is decided by a stated priority, and only the one that is
contained can be the copy: a small library is not an original of the program that carries it along.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lmworks.data.duplicates.clusters import star_clusters
from lmworks.data.duplicates.lsh import buckets, pairs_within
from lmworks.data.duplicates.rows import HashRows
from lmworks.data.duplicates.shingles import common_counts
from lmworks.data.duplicates.verifying import Verified

LEAST_CHARACTERS = 100  # of a file that says anything: not an empty __init__.py
SHARE = 0.8
LEAST_FILES = 3
CROWD = 64  # repositories with one file, all of whose pairs are compared


@dataclass(frozen=True, slots=True, eq=False)
class Repository:
    """A repository and what decides which of two is the original: in this order, a known licence, that it does not call
    itself a fork, an earlier beginning, more files, and the name.

    name           Unique.
    files          (n,) uint64, sorted, each once: its files by their content (`copied_files`).
    licence_known  Whether it is known what its files may be used for.
    fork           Whether its host calls it a fork.
    created        When it began, ISO 8601; "" where that is not known, which counts as late.
    """

    name: str
    files: NDArray[np.uint64]
    licence_known: bool = False
    fork: bool = False
    created: str = ""

    @property
    def priority(self) -> tuple[bool, bool, bool, str, int, str]:
        """The lowest is the original."""
        return not self.licence_known, self.fork, not self.created, self.created, -len(self.files), self.name


@dataclass(frozen=True, slots=True)
class Copy:
    """A repository that another holds most files of.

    share           Of the copy's files, those that the original has.
    original_share  Of the original's files, those that the copy has.
    files           How many they have in common.
    """

    copy: str
    original: str
    share: float
    original_share: float
    files: int


def copied_repositories(
    repositories: Sequence[Repository], share: float = SHARE, least_files: int = LEAST_FILES, crowd: int = CROWD
) -> tuple[Copy, ...]:
    """The copies, each with the best original that stays, by name; what is not named stays.

    A copy shares at least `least_files` files with its original, which are at least `share` of its own. A file that
    more than `crowd` repositories have is a reason to compare each of them with the best of those alone. So that a
    large family is not lost when that one goes, the search is repeated among those that stay, until it finds nothing
    new. ValueError for two of one name, and a share that is not above 0.
    """
    if len({repository.name for repository in repositories}) != len(repositories):
        raise ValueError("two repositories have the same name")
    if not 0 < share <= 1 or least_files < 1:
        raise ValueError("a copy needs a share above 0 and at most 1, and at least one file")
    ordered = sorted(repositories, key=lambda repository: repository.priority)
    sizes = np.array([len(repository.files) for repository in ordered], np.int64)
    files = HashRows(
        np.concatenate([np.empty(0, np.uint64), *(repository.files for repository in ordered)]), np.cumsum(sizes)
    )
    looked_at = np.empty(0, np.int64)
    kept = np.arange(len(ordered))
    while True:
        staying = kept == np.arange(len(ordered))
        pairs = np.unique(np.concatenate((looked_at, _candidates(files, staying, crowd))))
        if len(pairs) == len(looked_at):
            break
        looked_at = pairs
        pairs = np.stack(np.divmod(pairs, len(ordered)), axis=1)
        common = common_counts(files, pairs)
        shares = common / sizes[pairs[:, 1]]
        enough = (shares >= share) & (common >= least_files)
        kept = star_clusters(len(ordered), Verified(pairs[enough], shares[enough])).kept
    found = np.flatnonzero(~staying)
    common = common_counts(files, np.stack((kept[found], found), axis=1))
    copies = [
        Copy(ordered[copy].name, ordered[original].name, both / int(sizes[copy]), both / int(sizes[original]), both)
        for copy, original, both in zip(found.tolist(), kept[found].tolist(), common.tolist(), strict=True)
    ]
    return tuple(sorted(copies, key=lambda copy: copy.copy))


def _candidates(files: HashRows, staying: NDArray[np.bool_], crowd: int) -> NDArray[np.int64]:
    """Pairs of repositories that stay and share a file, each as the better one's number times all, plus the other's;
    some more than once."""
    owners = np.repeat(np.arange(len(files)), files.lengths)
    mine = staying[owners]
    owners = owners[mine]
    order, starts, ends = buckets(files.values[mine])
    few = ends - starts <= crowd
    found = [np.empty(0, np.int64)]
    for pairs in pairs_within(order, starts[few], ends[few]):
        found.append(np.unique(owners[pairs[:, 0]] * len(files) + owners[pairs[:, 1]]))
    for start, end in zip(starts[~few].tolist(), ends[~few].tolist(), strict=True):
        found.append(owners[order[start]] * len(files) + owners[order[start + 1 : end]])
    return np.concatenate(found)
