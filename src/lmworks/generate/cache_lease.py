"""Cache pages leased to work next to the engine's steps: scores and searches.

A lease is a tree: sequences that begin alike share their pages. The work comes in parts, and while it
pauses others may need the room: then its pages are moved out to memory, and come back when it continues. So several
such works never wait for each other, and each of them has the whole cache if it needs it.
"""

from collections.abc import Callable, Collection, Generator
from typing import TypeVar

from lmworks.generate.paged_cache import CachedSequence, OutOfPagesError, PagedCache
from lmworks.generate.runner import Runner

T = TypeVar("T")


class CacheLease:
    """The cached sequences of one score or search.

    make_room   called when the cache is full: others have given up something, or False when they hold nothing.
    """

    def __init__(self, cache: PagedCache, runner: Runner, make_room: Callable[["CacheLease"], bool]) -> None:
        self._cache, self._runner, self._make_room = cache, runner, make_room
        self._sequences: dict[CachedSequence, None] = {}  # in the order in which they came
        self._moved: object | None = None  # the content of all their pages, while they are out

    def add(self, sequence: CachedSequence) -> CachedSequence:
        """The work holds this one, too."""
        self._come_back()
        self._sequences[sequence] = None
        return sequence

    def fork(self, sequence: CachedSequence) -> CachedSequence:
        """Another branch, which shares all pages until one of the two writes."""
        self._come_back()
        return self.add(self._cache.fork(sequence))

    def reserve(self, sequence: CachedSequence, tokens: int) -> None:
        """Pages for so many tokens more, if need be at the cost of others; OutOfPagesError when all there are do not
        suffice."""
        self._come_back()
        self._take(lambda: self._cache.reserve(sequence, tokens))

    def keep(self, sequences: Collection[CachedSequence]) -> None:
        """Close all branches but these."""
        self._come_back()
        for sequence in self._sequences.keys() - sequences:
            self.close(sequence)

    def close(self, sequence: CachedSequence) -> None:
        """This branch has come to its end."""
        self._come_back()
        del self._sequences[sequence]
        self._cache.close(sequence)

    def move_out(self) -> bool:
        """Give up all pages for the time being; False when there are none."""
        pages = self._cache.held(*self._sequences)
        if pages:
            self._moved = self._runner.read_pages(pages)
            self._cache.vacate(*self._sequences)
        return bool(pages)

    def end(self) -> None:
        """Give everything back."""
        for sequence in self._sequences:
            self._cache.close(sequence)
        self._sequences.clear()
        self._moved = None

    def discard(self) -> None:
        """The end, and what was written may be no numbers: nobody finds it again."""
        for sequence in self._sequences:
            self._runner.clear_pages(self._cache.discard(sequence))
        self._sequences.clear()

    def _come_back(self) -> None:
        if self._moved is not None:
            self._runner.write_pages(self._take(lambda: self._cache.occupy(*self._sequences)), self._moved)
            self._moved = None

    def _take(self, pages: Callable[[], T]) -> T:
        while True:
            try:
                return pages()
            except OutOfPagesError:
                if not self._make_room(self):
                    raise


def run_parts(parts: Generator[None, None, T]) -> T:
    """Run a generator that pauses between its parts to its end; its return value."""
    while True:
        try:
            next(parts)
        except StopIteration as end:
            return end.value
