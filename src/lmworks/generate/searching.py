"""What the searching decoders share: the engine's cache as a tree, and what may follow a text.

A search is a generator that pauses after each forward, so that others can use the machine in between. While it pauses,
the weights and adapters must not change. What it holds in the cache is given back when it ends, fails or is closed.
"""

from collections.abc import Collection, Generator, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from lmworks.generate.adjusting import adjust, adjusts
from lmworks.generate.batching import NOT_FINITE, Batcher
from lmworks.generate.live_request import LiveRequest
from lmworks.generate.logit_rows import LogitRows
from lmworks.generate.paged_cache import CachedSequence
from lmworks.generate.runner import Work

PREFILL_TOKENS = 256  # of a prompt in one forward, and so the rows of logits where all its states are wanted

Forwarded = tuple[LogitRows, Tensor | None]


class Branches:
    """The sequences of one search; all of them have the prompt in common."""

    def __init__(self, batcher: Batcher) -> None:
        self._batcher, self._held = batcher, set[CachedSequence]()

    def add(self, sequence: CachedSequence) -> CachedSequence:
        """The search holds this one, too."""
        self._held.add(sequence)
        return sequence

    def fork(self, sequence: CachedSequence) -> CachedSequence:
        """Another branch, which shares all pages until one of the two writes."""
        return self.add(self._batcher.cache.fork(sequence))

    def keep(self, sequences: Collection[CachedSequence]) -> None:
        """Close all branches but these."""
        for sequence in self._held.difference(sequences):
            self._close(sequence)

    def close_all(self, spoilt: bool) -> None:
        """The end; `spoilt` when what was written may be no numbers: it is cleared, so that nobody finds it again."""
        if spoilt:
            self._batcher.cache.forget()
        for sequence in list(self._held):
            if spoilt:
                self._batcher.runner.clear_pages(self._batcher.cache.exclusive_pages(sequence))
            self._close(sequence)

    def _close(self, sequence: CachedSequence) -> None:
        self._held.remove(sequence)
        self._batcher.cache.close(sequence)


@contextmanager
def branches(batcher: Batcher) -> Iterator[Branches]:
    """The sequences of a search, which are closed whatever happens."""
    held = Branches(batcher)
    spoilt = True
    try:
        yield held
        spoilt = False
    except GeneratorExit:
        spoilt = False
        raise
    finally:
        held.close_all(spoilt)


def prefill(
    batcher: Batcher, sequence: CachedSequence, ids: Sequence[int], hidden: bool = False
) -> Generator[None, None, Forwarded]:
    """Run what `sequence` lacks of `ids`, a pause after each forward but the last.

    Returns the logits behind the last token, one row; with `hidden`, a row, and a state, for each token that was run.
    """
    grid, found = batcher.runner.grid, list[Forwarded]()
    while True:
        start = sequence.length
        end = min(len(ids), start + (grid - start % grid if grid else PREFILL_TOKENS))
        wanted = end - start if hidden else int(end == len(ids))
        batcher.reserve(sequence, end - start)
        found.append(_forward(batcher, [Work(sequence, ids[start:end], wanted)], hidden))
        if end == len(ids):
            break
        yield
    if not hidden:
        return found[-1]
    return found[-1][0], torch.cat([states for _, states in found if states is not None])


def extend(batcher: Batcher, branches: Sequence[CachedSequence], ids: Sequence[int], hidden: bool = False) -> Forwarded:
    """One token more for each branch, all in one forward: a row of logits, and a state if asked for, for each."""
    for branch in branches:
        batcher.reserve(branch, 1)
    works = [Work(branch, [token], 1) for branch, token in zip(branches, ids, strict=True)]
    return _forward(batcher, works, hidden)


def _forward(batcher: Batcher, works: Sequence[Work], hidden: bool) -> Forwarded:
    rows, states = batcher.runner.forward(works, hidden)
    if not rows.log_normaliser.isfinite().all():
        raise FloatingPointError(NOT_FINITE)
    for work in works:
        batcher.cache.commit(work.sequence, work.ids)
    return rows, states


def allowed_logits(logits: np.ndarray, request: LiveRequest) -> np.ndarray:
    """A request's row of logits (vocabulary,) after its bans, bias, penalties, forced tokens and constraint; what must
    not be chosen is -inf. The row itself where there are none of these."""
    mask = None if request.constraint is None else request.constraint.mask()
    if not adjusts(request.sampling, request.ids, mask):
        return logits
    return adjust(logits, request.sampling, request.prompt_ids, request.ids, mask)


def largest(values: np.ndarray, count: int) -> np.ndarray:
    """The places of the largest values, best first, at most `count`, and none of a value that is -inf."""
    places = np.arange(len(values)) if count >= len(values) else np.argpartition(values, -count)[-count:]
    places = places[values[places] > -np.inf]
    return places[np.argsort(-values[places], kind="stable")]
