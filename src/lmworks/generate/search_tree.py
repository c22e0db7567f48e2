"""Shared parts of beam and contrastive search: the engine's cache as a tree, and the tokens that may follow a text.

A search is a generator that pauses after each forward, so that others can use the machine in between. While it pauses,
the weights and adapters must not change. What it holds in the cache may be moved out meanwhile; it is given back when
the search ends, fails or is closed.
"""

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from lmworks.generate.cache_lease import CacheLease
from lmworks.generate.engine_step import Batcher, settled
from lmworks.generate.logit_processors import process_logits
from lmworks.generate.paged_cache import CachedSequence
from lmworks.generate.request_state import RequestState
from lmworks.generate.runner import LogitRows, Work

PREFILL_TOKENS = 256  # of a prompt in one forward, and so the rows of logits where all its states are wanted

Forwarded = tuple[LogitRows, Tensor | None]


@contextmanager
def branches(batcher: Batcher) -> Iterator[CacheLease]:
    """The sequences of a search, which counts as running until they are given back."""
    batcher.searches += 1
    try:
        with batcher.lease() as tree:
            yield tree
    finally:
        batcher.searches -= 1


def prefill(
    batcher: Batcher, tree: CacheLease, sequence: CachedSequence, ids: Sequence[int], hidden: bool = False
) -> Generator[None, None, Forwarded]:
    """Run what `sequence` lacks of `ids`, a pause after each forward but the last.

    Returns the logits behind the last token, one row; with `hidden`, a row, and a state, for each token that was run.
    """
    grid, found = batcher.runner.grid, list[Forwarded]()
    while True:
        start = sequence.length
        end = min(len(ids), start + (grid - start % grid if grid else PREFILL_TOKENS))
        wanted = end - start if hidden else int(end == len(ids))
        tree.reserve(sequence, end - start)
        found.append(batcher.compute([Work(sequence, ids[start:end], wanted)], hidden))
        if end == len(ids):
            break
        yield
    if not hidden:
        return found[-1]
    return found[-1][0], torch.cat([states for _, states in found if states is not None])


def extend(
    batcher: Batcher, tree: CacheLease, branches: Sequence[CachedSequence], ids: Sequence[int], hidden: bool = False
) -> Forwarded:
    """One token more for each branch, all in one forward: a row of logits, and a state if asked for, for each."""
    for branch in branches:
        tree.reserve(branch, 1)
    return batcher.compute([Work(branch, [token], 1) for branch, token in zip(branches, ids, strict=True)], hidden)


def compute_masks(batcher: Batcher, requests: Sequence[RequestState]) -> Generator[None, None, None]:
    """The masks of their constraints, which `allowed_logits` takes; a pause as long as some are not there."""
    looks = [batcher.look(request, []) for request in requests if request.constraint is not None]
    while not settled(looks):
        yield
    for look in looks:
        look.result()


def allowed_logits(logits: np.ndarray, request: RequestState) -> np.ndarray:
    """A request's row of logits (vocabulary,) after its bans, bias, penalties, forced tokens and constraint; what must
    not be chosen is -inf. The row itself where there are none of these."""
    mask = None if request.constraint is None else request.constraint.mask()
    return process_logits(logits, request.sampling, request.prompt_ids, request.ids, mask)


def largest(values: np.ndarray, count: int) -> np.ndarray:
    """The places of the largest values, best first, at most `count`, and none of a value that is -inf."""
    places = np.arange(len(values)) if count >= len(values) else np.argpartition(values, -count)[-count:]
    places = places[values[places] > -np.inf]
    return places[np.argsort(-values[places], kind="stable")]
