"""What the searching decoders share: the engine's cache as a tree, and log-probabilities as a request wants them.

A search is a generator that pauses after each forward, so that others can use the machine in between. While it pauses,
the weights and adapters must not change. What it holds in the cache is given back when it ends, fails or is closed.
"""

from collections.abc import Collection, Generator, Iterator, Sequence
from contextlib import contextmanager

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
    if hidden and states is None:
        raise ValueError("this runner gives no hidden states: make the engine with Engine(…, lowered=False)")
    for work in works:
        batcher.cache.commit(work.sequence, work.ids)
    return rows, states


def log_probabilities(rows: LogitRows, requests: Sequence[LiveRequest]) -> tuple[Tensor, Tensor]:
    """The model's ln p of each token, and the same with its logits changed by the bans, bias, penalties, forced tokens
    and constraint of the request that the row belongs to; both (rows, vocabulary) float32. What must not be chosen is
    -inf.

    The second is not normalised again: a text is as probable as the model says, whatever else is forbidden.
    """
    normaliser = rows.log_normaliser[:, None]
    own = rows.logits - normaliser
    wanted = own.clone()
    for row, request in enumerate(requests):
        mask = None if request.constraint is None else request.constraint.mask()
        if adjusts(request.sampling, request.ids, mask):
            logits = rows.logits[row].cpu().numpy()
            changed = adjust(logits, request.sampling, request.prompt_ids, request.ids, mask)
            wanted[row] = torch.from_numpy(changed).to(own.device) - normaliser[row]
    return own, wanted
