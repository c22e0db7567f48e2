"""Files of copied repositories: those that the repository which stays has as well.

Repositories are compared by `code_repositories`, a file being known by its content: near duplicates are one content.
Of a copy the files go that the original has, each with its twin there: a file with the same text or words, or one that
was itself compared with it and found similar. What the copy has of its own stays.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lmworks.data.duplicates.alike import alike, same_words
from lmworks.data.duplicates.clusters import Similarity
from lmworks.data.duplicates.code_repositories import LEAST_CHARACTERS, Copy, Repository, copied_repositories
from lmworks.data.duplicates.standing import Standings
from lmworks.data.duplicates.tables import Crowds, Pairs


@dataclass(frozen=True, slots=True)
class CopiedFiles:
    """twin    each file that goes, with the one that stays in its place
    copy    each file that goes, with the repository it goes with
    """

    twin: dict[int, int]
    copy: dict[int, Copy]


def copied_files(
    repositories: Sequence[str | None],
    pairs: Pairs,
    crowds: Crowds,
    standings: Standings,
    there: NDArray[np.bool_],
    share: float,
    similarity: Similarity,
) -> CopiedFiles:
    """What goes of repositories at least that `share` of whose files another one has.

    `repositories` has the repository of each document, None for what is no file of one. Only documents that are `there`
    count. Files of few characters say nothing of a repository, and go all the same where it is a copy.
    """
    files = there & np.array([name is not None for name in repositories], bool)
    contents = _contents(pairs, crowds, standings, files, similarity)
    members: dict[str, list[int]] = defaultdict(list)
    for document in standings.order[files[standings.order]].tolist():
        members[str(repositories[document])].append(document)
    known = [_repository(name, np.array(mine), contents, standings) for name, mine in sorted(members.items())]
    copies = copied_repositories(known, share)
    found = CopiedFiles({}, {})
    finder = _Twins(pairs, standings, repositories, files)
    for copy in copies:
        for document in members[copy.copy]:
            if (twin := finder.in_repository(document, copy.original)) is not None:
                found.twin[document], found.copy[document] = twin, copy
    return found


def _contents(
    pairs: Pairs, crowds: Crowds, standings: Standings, files: NDArray[np.bool_], similarity: Similarity
) -> NDArray[np.int64]:
    """(n,) of each file a number of its content: that of the best one like it."""
    contents = np.arange(len(standings))
    for document, twin in alike(pairs, crowds, crowds.threshold, standings.rank, files, similarity).twin.items():
        contents[document] = twin
    first: dict[str, int] = {}
    for document in standings.order[files[standings.order]].tolist():  # texts without a word are alike to none
        key = standings.keys[document]
        if key is not None and contents[document] == document:
            contents[document] = first.setdefault(key, document)
    return contents


def _repository(name: str, files: NDArray[np.int64], contents: NDArray[np.int64], standings: Standings) -> Repository:
    telling = files[standings.characters[files] >= LEAST_CHARACTERS]
    licensed = bool(standings.licensed[files].any())
    return Repository(name, np.unique(contents[telling]).astype(np.uint64), licence_known=licensed)


class _Twins:
    """Finds the file of a repository that has the text or the words of another file, or was found similar to it."""

    def __init__(
        self, pairs: Pairs, standings: Standings, repositories: Sequence[str | None], files: NDArray[np.bool_]
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
        for document in standings.order[files[standings.order]].tolist():
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
