"""Scores and searches in the engine's queue: work that is neither a prompt nor its continuation.

A job is a generator that yields the `Work`s of its next forward, with pages reserved for them, and is sent their rows
and last hidden states. The engine's step runs one forward of each job; `()` waits for the next step without one.

The sequences of a job are a tree in the cache: those that begin alike share their pages. While it waits for its turn
others may need the room: then its pages are moved out to memory, and come back before it continues. So jobs never wait
for each other, and each of them has the whole cache if it needs it.
"""

from collections.abc import Callable, Collection, Generator, Sequence
from concurrent.futures import Future
from typing import Any, Generic, TypeVar

from lmworks.generate.paged_cache import CachedSequence, OutOfPagesError, PagedCache
from lmworks.generate.runner import Runner, Work

T = TypeVar("T")
Steps = Generator[Sequence[Work], Any, T]  # is sent (LogitRows, hidden states) of the works


class Job(Generic[T]):
    """One score or search; `future` has its result.

    make_room   called when the cache is full: others have given up something, or False when they hold nothing.
    """

    steps: Steps[T]

    def __init__(self, cache: PagedCache, runner: Runner, make_room: Callable[["Job[Any]"], bool]) -> None:
        self.future: Future[T] = Future()
        self.works: Sequence[Work] = ()  # of the next forward
        self._cache, self._runner, self._make_room = cache, runner, make_room
        self._sequences: dict[CachedSequence, None] = {}  # in the order in which they came
        self._moved: object | None = None  # the content of all their pages, while they are out

    def add(self, sequence: CachedSequence) -> CachedSequence:
        """Hold this sequence, too."""
        self._sequences[sequence] = None
        return sequence

    def fork(self, sequence: CachedSequence) -> CachedSequence:
        """Another branch, which shares all pages until one of the two writes."""
        return self.add(self._cache.fork(sequence))

    def work(self, sequence: CachedSequence, ids: Sequence[int], logits_to_keep: int, preempt: bool = True) -> Work:
        """A work with pages for its tokens, if need be (and `preempt`) at the cost of others; OutOfPagesError when they
        do not suffice."""
        while True:
            try:
                self._cache.reserve(sequence, len(ids))
                return Work(sequence, ids, logits_to_keep)
            except OutOfPagesError:
                if not preempt or not self._make_room(self):
                    raise

    def keep(self, sequences: Collection[CachedSequence]) -> None:
        """Close all branches but these."""
        for sequence in self._sequences.keys() - sequences:
            self.close(sequence)

    def close(self, sequence: CachedSequence) -> None:
        """Give back the pages of a branch that has come to its end."""
        del self._sequences[sequence]
        self._cache.close(sequence)

    def move_out(self) -> bool:
        """Give up all pages for the time being; False when there are none."""
        pages = self._cache.held(*self._sequences)
        if pages:
            self._moved = self._runner.read_pages(pages)
            self._cache.vacate(*self._sequences)
        return bool(pages)

    def move_in(self) -> None:
        """Bring back what was moved out; OutOfPagesError as in `work`."""
        while self._moved is not None:
            try:
                self._runner.write_pages(self._cache.occupy(*self._sequences), self._moved)
                self._moved = None
            except OutOfPagesError:
                if not self._make_room(self):
                    raise

    def end(self, doubtful: bool = False) -> None:
        """Give everything back; what was written is not found again where it is `doubtful`, since it may be no number.
        The generator is closed."""
        self.steps.close()
        for sequence in self._sequences:
            if doubtful:
                self._runner.clear_pages(self._cache.discard(sequence))
            else:
                self._cache.close(sequence)
        self._sequences.clear()
        self._moved = None
