"""The page bookkeeping against a memory that remembers what was written: whoever reads must find what it wrote.

What belongs at a position depends on every token before it, so a page's model content is the whole text up to there. A
sequence that is shown another's page, or one that was overwritten, reads a text that is not its own.
"""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from kit.tables import for_each
from lmworks.generate.paged_cache import DROPPED, PAGE, VACANT, CachedSequence, OutOfPagesError, PagedCache

# Beginnings of two long texts, with something of their own behind them: many share their first pages.
_TEXTS = st.builds(
    lambda kind, length, tail: (*([kind, kind, 0] * 30)[:length], *tail),
    st.integers(0, 1),
    st.integers(1, 90),
    st.lists(st.integers(0, 1), max_size=9),
)
_TAILS = st.lists(st.integers(0, 1), min_size=1, max_size=20).map(tuple)
_NAMESPACES = st.sampled_from((b"", b"", b"adapter"))
_NUMBERS = st.integers(0, 11)  # of a sequence, modulo how many there are
_WINDOWS = st.sampled_from(((None,), (5,), (None, 20), (None, 3, 33), (1, 16)))


class Memory:
    """What the runner's pages hold: for each (group, page, place) the namespace and the text that ends there."""

    def __init__(self) -> None:
        self.content: dict[tuple[int, int, int], tuple] = {}

    def copy_page(self, group: int, source: int, target: int) -> None:
        for place in range(PAGE):
            if (group, source, place) in self.content:
                self.content[group, target, place] = self.content[group, source, place]

    def write(self, sequence: CachedSequence, ids: tuple[int, ...]) -> None:
        """A forward of `ids`, as a runner does it: through the tables, at the positions behind what is held."""
        text = (*sequence.ids, *ids)
        for position in range(sequence.length, len(text)):
            for group, table in enumerate(sequence.tables):
                page = table[position // PAGE]
                assert page >= 0, "a place for a new token"
                self.content[group, page, position % PAGE] = (sequence.namespace, text[: position + 1])

    def read(self, pages: list[tuple[int, int]]) -> list[dict[int, tuple]]:
        return [
            {place: self.content[group, page, place] for place in range(PAGE) if (group, page, place) in self.content}
            for group, page in pages
        ]

    def restore(self, pages: list[tuple[int, int]], kept: list[dict[int, tuple]]) -> None:
        for (group, page), places in zip(pages, kept, strict=True):
            for place, content in places.items():
                self.content[group, page, place] = content


class CacheMachine(RuleBasedStateMachine):
    """Sequences that are opened, grow, fork, are moved out and back, and end, in any order, in a small cache."""

    @initialize(windows=_WINDOWS, pages=st.integers(3, 16), alignment=st.sampled_from((PAGE, PAGE, 2 * PAGE)))
    def make(self, windows: tuple[int | None, ...], pages: int, alignment: int) -> None:
        self.memory = Memory()
        self.cache = PagedCache(windows, pages, self.memory.copy_page, alignment)
        self.windows, self.pages, self.alignment = windows, pages, alignment
        self.live: list[CachedSequence] = []
        self.moved: list[tuple[list[CachedSequence], list[dict[int, tuple]]]] = []
        self.forgotten = True  # nothing was committed since the start, or since `forget`

    @rule(ids=_TEXTS, namespace=_NAMESPACES, chunk=st.integers(10, 60))
    def open(self, ids: tuple[int, ...], namespace: bytes, chunk: int) -> None:
        """A prompt: what is known of it, and the rest in chunks, as far as there is room."""
        asked, hit = self.cache.asked_tokens, self.cache.hit_tokens
        sequence = self.cache.open(ids, namespace)
        assert tuple(sequence.ids) == ids[: sequence.length]
        assert sequence.length < len(ids), "the last token's logits are wanted"
        assert sequence.length % self.alignment == 0
        assert (self.cache.asked_tokens, self.cache.hit_tokens) == (asked + len(ids), hit + sequence.length)
        assert not self.forgotten or sequence.length == 0
        self.live.append(sequence)
        while sequence.length < len(ids) and self._step(sequence, ids[sequence.length :][:chunk], 0):
            pass

    @precondition(lambda self: self.live)
    @rule(number=_NUMBERS, other=_NUMBERS, tail=_TAILS)
    def adopt(self, number: int, other: int, tail: tuple[int, ...]) -> None:
        """Go on with a text as far as somebody knows it: another's, or one of its own."""
        sequence, text = self.live[number % len(self.live)], self.live[other % len(self.live)].ids
        before = list(sequence.ids)
        ids = (*(text if text[: len(before)] == before else before), *tail)
        hit, found = self.cache.hit_tokens, self.cache.adopt(sequence, ids)
        assert sequence.ids == list(ids[: len(before) + found]) and sequence.length < len(ids)
        assert self.cache.hit_tokens == hit + found
        assert found == 0 or sequence.length % self.alignment == 0
        fresh = self.cache.open(ids, sequence.namespace)
        assert fresh.length <= sequence.length, "whoever opens it now finds no more"
        self.cache.close(fresh)

    @precondition(lambda self: self.live)
    @rule(number=_NUMBERS, ids=_TAILS, guesses=st.integers(0, 40))
    def step(self, number: int, ids: tuple[int, ...], guesses: int) -> None:
        """Write some tokens and guesses behind them, and keep the tokens."""
        self._step(self.live[number % len(self.live)], ids, guesses)

    @precondition(lambda self: self.live)
    @rule(number=_NUMBERS)
    def fork(self, number: int) -> None:
        sequence, before = self.live[number % len(self.live)], self.cache.available
        fork = self.cache.fork(sequence)
        assert self.cache.available == before, "a fork takes no page"
        assert fork.ids == sequence.ids and fork.ids is not sequence.ids
        self.live.append(fork)

    @precondition(lambda self: self.live)
    @rule(number=_NUMBERS)
    def close(self, number: int) -> None:
        self.cache.close(self.live.pop(number % len(self.live)))

    @precondition(lambda self: self.live)
    @rule(numbers=st.lists(_NUMBERS, min_size=1, max_size=4))
    def vacate(self, numbers: list[int]) -> None:
        """Several at once, which share pages or do not."""
        together = [self.live.pop(number % len(self.live)) for number in numbers if self.live]
        pages = self.cache.held(*together)
        assert len(set(pages)) == len(pages)
        kept = self.memory.read(pages)
        self.cache.vacate(*together)
        assert self.cache.held(*together) == []
        self.moved.append((together, kept))

    @precondition(lambda self: self.moved)
    @rule(number=_NUMBERS)
    def occupy(self, number: int) -> None:
        together, kept = self.moved[number % len(self.moved)]
        before = self._state()
        try:
            pages = self.cache.occupy(*together)
        except OutOfPagesError:
            assert self._state() == before
            vacant = [
                {page for sequence in together for page in sequence.tables[group] if page <= VACANT}
                for group in range(len(self.windows))
            ]
            assert sum(map(len, vacant)) == len(kept), "what was shared comes back shared"
            assert any(len(held) + len(those) > self.pages for held, those in zip(self._held(), vacant, strict=True))
            return
        self.moved.remove((together, kept))
        self.memory.restore(pages, kept)
        self.live += together

    @precondition(lambda self: self.moved)
    @rule(number=_NUMBERS)
    def close_what_was_moved(self, number: int) -> None:
        together, _ = self.moved.pop(number % len(self.moved))
        for sequence in together:
            self.cache.close(sequence)

    @precondition(lambda self: self.live)
    @rule(number=_NUMBERS)
    def discard(self, number: int) -> None:
        """What it alone held is found by nobody; what others hold, or have written before it, is."""
        sequence = self.live.pop(number % len(self.live))
        ids, namespace, own = list(sequence.ids), sequence.namespace, set(self.cache.held(sequence))
        others = {page for other in self.live for page in self.cache.held(other)}
        assert own - others <= set(self.cache.discard(sequence)) and not own & others & set(self.cache.held(sequence))
        again = self.cache.open([*ids, 2], namespace)
        assert not set(self.cache.held(again)) & (own - others)
        self.cache.close(again)

    @rule(really=st.sampled_from([False] * 9 + [True]))
    def forget(self, really: bool) -> None:
        if really:
            self.cache.forget()
            self.forgotten = True

    @invariant()
    def every_sequence_reads_its_own_text(self) -> None:
        for sequence in getattr(self, "live", ()):
            for group, window in enumerate(self.windows):
                # what a token at position `length` sees
                first = 0 if window is None else max(0, sequence.length - window + 1)
                for position in range(first, sequence.length):
                    page = sequence.tables[group][position // PAGE]
                    found = self.memory.content[group, page, position % PAGE]
                    assert found == (sequence.namespace, tuple(sequence.ids[: position + 1]))

    @invariant()
    def pages_are_held_or_available(self) -> None:
        if hasattr(self, "cache"):
            free = [self.pages - len(held) for held in self._held()]
            assert self.cache.available == min(free)
            assert self.cache.used == pytest.approx(1 - sum(free) / (self.pages * len(free)))

    @invariant()
    def pages_behind_the_window_are_given_back(self) -> None:
        for sequence in getattr(self, "live", ()):
            for window, table in zip(self.windows, sequence.tables, strict=True):
                behind = 0 if window is None else max(0, sequence.length - window + 1) // PAGE
                assert all(page == DROPPED for page in table[:behind])
                assert all(page != DROPPED for page in table[behind:])

    def teardown(self) -> None:
        """Whatever happened, all pages come back."""
        if hasattr(self, "cache"):
            for sequence in [*self.live, *(sequence for together, _ in self.moved for sequence in together)]:
                self.cache.close(sequence)
            assert (self.cache.available, self.cache.used) == (self.pages, 0)

    def _step(self, sequence: CachedSequence, ids: tuple[int, ...], guesses: int) -> bool:
        """Whether there was room."""
        before, needed = self._state(), self._needed(sequence, len(ids) + guesses)
        fits = all(len(held) + count <= self.pages for held, count in zip(self._held(), needed, strict=True))
        try:
            self.cache.reserve(sequence, len(ids) + guesses)
        except OutOfPagesError:
            assert not fits and self._state() == before
            return False
        assert fits
        self.memory.write(sequence, (*ids, *[7] * guesses))
        self.cache.commit(sequence, ids)
        self.forgotten = False
        return True

    def _held(self) -> list[set[int]]:
        return [
            {page for sequence in self.live for page in sequence.tables[group] if page >= 0}
            for group in range(len(self.windows))
        ]

    def _needed(self, sequence: CachedSequence, tokens: int) -> list[int]:
        """Pages that so many tokens need in each group: new ones, and a copy of one that others hold as well."""
        place, wanted = sequence.length // PAGE, -(-(sequence.length + tokens) // PAGE)
        needed = []
        for group, table in enumerate(sequence.tables):
            shared = place < len(table) and any(
                table[place] in other.tables[group] for other in self.live if other is not sequence
            )
            needed.append(max(0, wanted - len(table)) + shared)
        return needed

    def _state(self) -> tuple:
        tables = [[list(table) for table in sequence.tables] for sequence in self.live]
        return tables, self.cache.available, self.cache.used, dict(self.memory.content)


CacheMachine.TestCase.settings = settings(stateful_step_count=40)
TestCacheMachine = CacheMachine.TestCase


def _filled(cache: PagedCache, ids: range | list[int]) -> CachedSequence:
    sequence = cache.open(ids)
    rest = ids[sequence.length :]
    cache.reserve(sequence, len(rest))
    cache.commit(sequence, rest)
    return sequence


def _cache(windows: tuple[int | None, ...] = (None,), pages: int = 8, **options) -> PagedCache:
    return PagedCache(windows, pages, lambda *_: None, **options)


@for_each("closed", [False, True])
def test_an_equal_beginning_is_found_whether_or_not_anybody_still_holds_it(closed: bool) -> None:
    cache = _cache()
    first = _filled(cache, range(50))
    pages = list(first.tables[0])
    if closed:
        cache.close(first)
    again = cache.open(range(50))
    assert (again.length, list(again.tables[0])) == (48, pages[:3]), "the three full pages"
    assert cache.open(range(48)).length == 32, "of a text that is known to its end, the last page is computed again"
    assert cache.open([*range(40), 99, 98, 97]).length == 32
    assert cache.open([99, *range(1, 50)]).length == 0
    assert cache.open(range(50), b"another adapter").length == 0
    assert cache.hit_tokens == 48 + 32 + 32


def test_a_page_that_was_begun_and_lies_behind_the_window_of_what_is_adopted_is_given_back_once() -> None:
    cache = _cache((PAGE,), pages=12)
    sequence = _filled(cache, range(20))
    fork = cache.fork(sequence)
    _filled(cache, range(100))
    assert cache.adopt(sequence, range(100)) == 76
    other = cache.open([999])
    cache.reserve(other, PAGE * cache.available)
    assert not {*cache.held(fork)} & {*cache.held(other)}


def test_a_cache_that_does_not_share_finds_nothing_and_takes_tokens_back() -> None:
    cache = _cache(share=False)
    sequence = _filled(cache, range(50))
    assert cache.open(range(50)).length == 0
    cache.truncate(sequence, 20)
    assert (sequence.ids, len(sequence.hashes)) == (list(range(20)), 1)
    cache.commit(sequence, [5] * 20)
    assert sequence.ids == [*range(20), *[5] * 20]
    with pytest.raises(ValueError, match="shares nothing"):
        _cache().truncate(sequence, 0)


def test_tokens_that_are_taken_back_in_front_of_a_window_are_all_taken_back() -> None:
    """What the earlier position sees was given back already, so that it has to be computed again."""
    cache = _cache((None, 8), share=False)
    sequence = _filled(cache, range(40))
    assert list(sequence.tables[1])[:2] == [DROPPED, DROPPED]
    cache.truncate(sequence, 39)
    assert sequence.length == 39, "position 39 sees positions from 32"
    cache.truncate(sequence, 35)
    assert sequence.length == 0, "position 35 sees positions from 28, and page 1 is gone"
    cache.reserve(sequence, 40)
    assert all(page >= 0 for table in sequence.tables for page in table)
    cache.close(sequence)
    assert cache.used == 0


def test_the_least_recently_used_page_is_forgotten_first_and_ends_before_beginnings() -> None:
    cache = _cache(pages=6)
    texts = [[n] * 33 for n in range(2)]  # two full pages and one that is not known
    for text in texts:
        cache.close(_filled(cache, text))
    cache.close(cache.open(texts[0]))  # used again: the other one is older now
    _filled(cache, [9] * 47)  # takes the two that nothing is known of, and one that is known
    assert [cache.open(text).length for text in texts] == [32, 16]


def test_what_only_a_window_sees_is_shared_where_the_window_still_stores_it() -> None:
    """Of a text of 80 tokens, a window of 20 keeps positions from 61 on: the pages from 48 on."""
    cache = _cache((None, 20), pages=20)
    first = _filled(cache, range(80))
    assert list(first.tables[1])[:3] == [DROPPED] * 3
    longer = cache.open([*range(80), 1, 2, 3])
    assert longer.length == 80 and list(longer.tables[1]) == list(first.tables[1])
    assert longer.tables[1][3] >= 0
    # A branch after 70 tokens would see from 45 on: that page was given back, but it is still known.
    branch = cache.open([*range(70), *[1] * 20])
    assert branch.length == 64 and branch.tables[1][2] >= 0
    cache.forget()
    assert cache.open([*range(80), 1]).length == 0


@for_each("windows", [(None,), (20,), (None, 20)])
def test_what_is_discarded_is_forgotten_as_far_as_nobody_else_holds_it(windows) -> None:
    """Also what it gave back behind a window; and nothing else."""
    cache = _cache(windows, pages=30)
    cache.close(_filled(cache, [7] * 50))
    beginning = _filled(cache, range(40))  # two pages, which the next one shares
    doubtful = _filled(cache, range(100))
    assert doubtful.length == 100
    pages = cache.discard(doubtful)
    assert len(set(pages)) == len(pages) and doubtful.length == 0
    again = cache.open([*range(100), 1])
    assert again.length == (32 if windows == (None,) else 0), "a window has given back the first page, too"
    assert cache.open([7] * 50).length == 48
    cache.close(again)
    cache.discard(beginning)
    assert cache.open([*range(100), 1]).length == 0


def test_what_no_cache_can_be_made_of_is_refused() -> None:
    with pytest.raises(ValueError, match="needs pages"):
        _cache(pages=0)
    with pytest.raises(ValueError, match="whole pages"):
        _cache(alignment=24)
