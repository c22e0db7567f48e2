"""Paged key/value cache with a prefix cache: page tables, sharing, eviction. Pure bookkeeping, without a tensor.

A page holds the keys and values of `PAGE` tokens of one sequence, for every layer of a group (Kwon et al. 2023,
"Efficient memory management for large language model serving with PagedAttention", section 4). A sequence is a table of
pages, so memory is taken as it grows, and sequences that begin alike share their pages:

    pool     [a][b][c][d][e][f][g]
    one      a b c            "You are a helpful … | What is the weather?"
    other    a b d e          "You are a helpful … | Tell me about Rome."     a and b are shared, read only

- **Prefix cache.** A full page is known by the hash of its tokens chained to the hash of the pages before it (and of
  the weights and adapter that made it). A sequence that begins with the same tokens gets the page as it
  is. A page that nobody holds any more stays known until its memory is needed, least recently used first.
- **Copy on write.** `fork` shares all pages; a shared page that is not full is copied before somebody writes to it.
- **Groups.** Layers that see equally far back share a table. In a group with a sliding window, pages that no later
  token can see are given back as the sequence moves on.
"""

import hashlib
from array import array
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

PAGE = 16  # tokens
DROPPED = -1  # in a table: a page behind the sliding window
VACANT = -2  # in a table, this or less: a page whose content is kept elsewhere; how much less is its number there

CopyPage = Callable[[int, int, int], None]  # (group, source page, target page)


class OutOfPagesError(RuntimeError):
    """Every page is held by somebody: a request must be preempted, or wait."""


@dataclass(eq=False, slots=True)
class CachedSequence:
    """The tokens of one sequence whose keys and values are stored.

    ids        those tokens, in order.
    tables     for each group, the page of tokens [0, 16), [16, 32), …
    adapter    the number of the LoRA adapter it runs with, -1 for none; `memory` is an encoder's output, for a decoder
               that attends to one. Neither is looked at here.
    """

    namespace: bytes
    tables: list["array[int]"]  # of C ints, so that a runner copies them fast
    ids: list[int] = field(default_factory=list)
    hashes: list[bytes] = field(default_factory=list)  # chained, one for each full page
    first_kept: list[int] = field(default_factory=list)  # for each group, the first page that was not dropped
    adapter: int = -1
    memory: object | None = None

    @property
    def length(self) -> int:
        return len(self.ids)


class _Pool:
    """The pages of one group."""

    def __init__(self, pages: int) -> None:
        self.holders = [0] * pages
        self.free = list(range(pages - 1, -1, -1))
        self.known: dict[bytes, int] = {}  # hash -> page
        self.hash_of: dict[int, bytes] = {}
        self.idle: OrderedDict[int, None] = OrderedDict()  # known pages that nobody holds, least recently used first

    @property
    def available(self) -> int:
        return len(self.free) + len(self.idle)

    def take(self) -> int:
        """A page for new tokens; the caller has checked that one is available."""
        if self.free:
            page = self.free.pop()
        else:
            page, _ = self.idle.popitem(last=False)
            del self.known[self.hash_of.pop(page)]
        self.holders[page] = 1
        return page

    def hold(self, page: int) -> None:
        if self.holders[page] == 0:
            del self.idle[page]
        self.holders[page] += 1

    def release(self, page: int) -> None:
        self.holders[page] -= 1
        if self.holders[page] == 0:
            if page in self.hash_of:
                self.idle[page] = None
            else:
                self.free.append(page)

    def remember(self, page: int, digest: bytes) -> None:
        """From now on the page can be found by its content, unless an equal one already can."""
        if digest not in self.known and page not in self.hash_of:
            self.known[digest] = page
            self.hash_of[page] = digest

    def disown(self, page: int) -> None:
        """From now on the page cannot be found."""
        digest = self.hash_of.pop(page, None)
        if digest is not None:
            del self.known[digest]
            if page in self.idle:
                del self.idle[page]
                self.free.append(page)

    def forget(self) -> None:
        self.known.clear()
        self.hash_of.clear()
        self.free.extend(self.idle)
        self.idle.clear()


class PagedCache:
    """Pages for many sequences.

    windows      for each group of layers, how far back a token sees (itself included), None: everything.
    pages        how many pages each group has.
    copy_page    called when a shared page must be copied before it is written to.
    alignment    a shared prefix ends at a multiple of so many tokens (a multiple of `PAGE`): for a runner whose
                 rounding depends on where a forward begins.
    share        False: nothing is found again by its content.
    """

    def __init__(
        self,
        windows: Sequence[int | None],
        pages: int,
        copy_page: CopyPage,
        alignment: int = PAGE,
        share: bool = True,
    ) -> None:
        if pages < 1 or alignment % PAGE:
            raise ValueError(f"a cache needs pages, and an alignment of whole pages; got {pages} and {alignment}")
        self.windows, self.pages, self.alignment, self.share = tuple(windows), pages, alignment, share
        self.hit_tokens = self.asked_tokens = 0  # of all sequences opened so far
        self._copy_page = copy_page
        self._pools = [_Pool(pages) for _ in self.windows]

    @property
    def available(self) -> int:
        """Pages that nobody holds, in the group that has the fewest."""
        return min(pool.available for pool in self._pools)

    @property
    def used(self) -> float:
        """The part of all pages that sequences hold, in [0, 1]."""
        free = sum(pool.available for pool in self._pools)
        return 1 - free / (self.pages * len(self._pools))

    def open(self, ids: Sequence[int], namespace: bytes = b"", adapter: int = -1) -> CachedSequence:
        """A sequence that is to hold `ids`; what is stored of them already is in its `ids`.

        At least the last token is left to be computed, since its logits are needed.
        """
        sequence = CachedSequence(namespace, [array("i") for _ in self.windows], adapter=adapter)
        sequence.first_kept = [0] * len(self.windows)
        self.asked_tokens += len(ids)
        self.adopt(sequence, ids)
        return sequence

    def adopt(self, sequence: CachedSequence, ids: Sequence[int]) -> int:
        """Let a sequence that holds a beginning of `ids` continue with what has become known of them since; how many
        tokens that is. At least the last one is left, as in `open`."""
        hashes, held = self._known_prefix(ids, sequence), len(sequence.hashes)
        length = len(hashes) * PAGE
        adopted = length - sequence.length
        if adopted <= 0:
            return 0
        self.hit_tokens += adopted
        for group, pool in enumerate(self._pools):
            table, first = sequence.tables[group], self._first_visible(group, length)
            known = [pool.known[digest] for digest in hashes[max(first, held) :]]
            for page in known:
                pool.hold(page)
            behind = min(first, held)
            for page in (*table[:behind], *table[held:]):  # behind the window, and what it had of the next page
                if page >= 0:
                    pool.release(page)
            sequence.tables[group] = array("i", [DROPPED] * first) + table[first:held] + array("i", known)
            sequence.first_kept[group] = first
        sequence.ids, sequence.hashes = list(ids[:length]), hashes
        return adopted

    def reserve(self, sequence: CachedSequence, tokens: int) -> None:
        """Give it room for `tokens` more; OutOfPagesError, and nothing changed, when the pages do not suffice."""
        needed = -(-(sequence.length + tokens) // PAGE)
        if any(self._missing(g, sequence, needed) > pool.available for g, pool in enumerate(self._pools)):
            raise OutOfPagesError(f"{needed} pages are needed, and too few are free of the {self.pages} there are")
        for group, pool in enumerate(self._pools):
            table = sequence.tables[group]
            if self._writes_shared(group, sequence):
                source, target = table[sequence.length // PAGE], pool.take()
                self._copy_page(group, source, target)
                pool.release(source)
                table[sequence.length // PAGE] = target
            while len(table) < needed:
                table.append(pool.take())

    def commit(self, sequence: CachedSequence, ids: Sequence[int]) -> None:
        """The keys and values of `ids` have been stored behind what it holds."""
        sequence.ids.extend(ids)
        while (len(sequence.hashes) + 1) * PAGE <= sequence.length:
            start = len(sequence.hashes) * PAGE
            before = sequence.hashes[-1] if sequence.hashes else sequence.namespace
            digest = chain(before, sequence.ids[start : start + PAGE])
            sequence.hashes.append(digest)
            for group, pool in enumerate(self._pools):
                page = sequence.tables[group][start // PAGE]
                if self.share and page != DROPPED:
                    pool.remember(page, digest)
        for group, pool in enumerate(self._pools):
            table, first = sequence.tables[group], self._first_visible(group, sequence.length)
            for index in range(sequence.first_kept[group], first):
                pool.release(table[index])
                table[index] = DROPPED
            sequence.first_kept[group] = max(first, sequence.first_kept[group])

    def truncate(self, sequence: CachedSequence, length: int) -> None:
        """Forget what it holds behind its first `length` tokens; everything, where a window gave back what the next
        token would see. ValueError in a cache that shares pages: somebody may find a page by the tokens in it."""
        if self.share:
            raise ValueError("only a cache that shares nothing takes tokens back")
        if any(first > self._first_visible(group, length) for group, first in enumerate(sequence.first_kept)):
            self.close(sequence)
            sequence.first_kept = [0] * len(self.windows)
        del sequence.ids[length:], sequence.hashes[length // PAGE :]

    def fork(self, sequence: CachedSequence) -> CachedSequence:
        """Another sequence with the same tokens; both continue by themselves."""
        stored = -(-sequence.length // PAGE)  # what is reserved behind them stays with one of the two
        tables = [table[:stored] for table in sequence.tables]
        for table, pool in zip(tables, self._pools, strict=True):
            for page in table:
                if page >= 0:
                    pool.hold(page)
        ids, hashes, first_kept = list(sequence.ids), list(sequence.hashes), list(sequence.first_kept)
        return replace(sequence, tables=tables, ids=ids, hashes=hashes, first_kept=first_kept)

    def close(self, sequence: CachedSequence) -> None:
        """Give its pages back; the ends of a sequence are forgotten before its beginning, which others may share."""
        for table, pool in zip(sequence.tables, self._pools, strict=True):
            for page in reversed(table):
                if page >= 0:
                    pool.release(page)
            del table[:]
        sequence.ids, sequence.hashes = [], []

    def held(self, *sequences: CachedSequence) -> list[tuple[int, int]]:
        """(group, page) of everything they hold, each page once."""
        return list(
            dict.fromkeys(
                (group, page)
                for sequence in sequences
                for group, table in enumerate(sequence.tables)
                for page in table
                if page >= 0
            )
        )

    def vacate(self, *sequences: CachedSequence) -> None:
        """Give up the pages of sequences that continue later: the caller has kept their content."""
        numbers = {page: number for number, page in enumerate(self.held(*sequences))}
        for sequence in sequences:
            for group, (table, pool) in enumerate(zip(sequence.tables, self._pools, strict=True)):
                for index, page in enumerate(table):
                    if page >= 0:
                        pool.release(page)
                        table[index] = VACANT - numbers[group, page]

    def occupy(self, *sequences: CachedSequence) -> list[tuple[int, int]]:
        """New pages for all the sequences that were vacated by one call, shared as they were, in the order of `held`;
        OutOfPagesError, and nothing changed."""
        entries = [
            (page, group, table, index)
            for sequence in sequences
            for group, table in enumerate(sequence.tables)
            for index, page in enumerate(table)
            if page <= VACANT
        ]
        groups = dict(sorted(((page, group) for page, group, *_ in entries), reverse=True))
        if any(list(groups.values()).count(group) > pool.available for group, pool in enumerate(self._pools)):
            raise OutOfPagesError("too few pages are free for what was moved out to come back")
        taken = {page: (group, self._pools[group].take()) for page, group in groups.items()}
        for page in taken.values():
            self._pools[page[0]].holders[page[1]] = 0
        for page, group, table, index in entries:
            _, table[index] = taken[page]
            self._pools[group].holders[table[index]] += 1
        return list(taken.values())

    def forget(self) -> None:
        """The weights have changed: nothing that is stored is found again."""
        for pool in self._pools:
            pool.forget()

    def discard(self, sequence: CachedSequence) -> list[tuple[int, int]]:
        """Close a sequence whose content is doubtful: nobody finds again what it alone held, or has given back behind a
        window; (group, page) of these. What others hold too is discarded by the last of them, should they fail as well.
        """
        doubtful = []
        for group, (table, pool) in enumerate(zip(sequence.tables, self._pools, strict=True)):
            held = {page for page in table if page >= 0}
            behind = {pool.known[digest] for digest in sequence.hashes if digest in pool.known}
            for page in sorted(held | behind):
                if pool.holders[page] == (page in held):
                    pool.disown(page)
                    doubtful.append((group, page))
        self.close(sequence)
        return doubtful

    def _known_prefix(self, ids: Sequence[int], sequence: CachedSequence) -> list[bytes]:
        """The chained hashes of the longest beginning of `ids` that every group still stores, as far as it is seen; at
        least those of what the sequence holds of them."""
        hashes, held = list(sequence.hashes), len(sequence.hashes)
        if not self.share:
            return hashes
        digest = hashes[-1] if hashes else sequence.namespace
        full = [group for group, window in enumerate(self.windows) if window is None]
        for start in range(held * PAGE, len(ids) - PAGE, PAGE):  # the last token is left out
            digest = chain(digest, ids[start : start + PAGE])
            if not all(digest in self._pools[group].known for group in full):
                break
            hashes.append(digest)
        while len(hashes) > held:
            length = len(hashes) * PAGE
            seen = (
                digest in self._pools[group].known
                for group, window in enumerate(self.windows)
                if window is not None
                for digest in hashes[max(held, self._first_visible(group, length)) :]
            )
            if length % self.alignment == 0 and all(seen):
                break
            hashes.pop()
        return hashes

    def _first_visible(self, group: int, length: int) -> int:
        """The first page that a token at position `length`, or a later one, can see."""
        window = self.windows[group]
        return 0 if window is None else max(0, length - window + 1) // PAGE

    def _missing(self, group: int, sequence: CachedSequence, needed: int) -> int:
        return max(0, needed - len(sequence.tables[group])) + self._writes_shared(group, sequence)

    def _writes_shared(self, group: int, sequence: CachedSequence) -> bool:
        """The next token goes into a page that somebody else holds too."""
        index = sequence.length // PAGE
        table = sequence.tables[group]
        return index < len(table) and table[index] >= 0 and self._pools[group].holders[table[index]] > 1


def chain(before: bytes, ids: Sequence[int]) -> bytes:
    """The hash of a page: of its tokens and of everything before them. Cryptographic, since a collision would show one
    caller's text to another."""
    digest = hashlib.blake2b(before, digest_size=16)
    digest.update(b"".join(token.to_bytes(4, "little") for token in ids))
    return digest.digest()
