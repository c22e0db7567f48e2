"""Shared steps of beam and contrastive search: reading the prompt, and the tokens that may follow a text."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lmworks.generate.engine_step import Batcher, settled
from lmworks.generate.job import Job, Steps
from lmworks.generate.logit_processors import process_logits
from lmworks.generate.paged_cache import CachedSequence
from lmworks.generate.request_state import RequestState
from lmworks.generate.runner import LogitRows

PREFILL_TOKENS = 256  # of a prompt in one forward, and so the rows of logits where all its states are wanted


def prefill(
    job: Job[Any], sequence: CachedSequence, ids: Sequence[int], grid: int | None, all_states: bool = False
) -> Steps[tuple[LogitRows, Tensor]]:
    """Run what `sequence` lacks of `ids`.

    Returns the logits behind the last token, one row, and its state; with `all_states`, the rows of the last forward,
    and a state for each token that was run.
    """
    states: list[Tensor] = []
    while True:
        start = sequence.length
        end = min(len(ids), start + (grid - start % grid if grid else PREFILL_TOKENS))
        wanted = end - start if all_states else int(end == len(ids))
        rows, hidden = yield [job.work(sequence, ids[start:end], wanted)]
        states.append(hidden)
        if end == len(ids):
            return rows, torch.cat(states)


def compute_masks(batcher: Batcher, requests: Sequence[RequestState]) -> Steps[None]:
    """The masks of their constraints, which `allowed_logits` takes; waits for the next step while some are missing."""
    looks = [batcher.look(request, []) for request in requests if request.constraint is not None]
    while not settled(looks):
        yield ()
    for look in looks:
        look.result()


def allowed_logits(logits: np.ndarray, request: RequestState) -> np.ndarray:
    """A request's row of logits (vocabulary,) after its bans, bias, penalties, forced tokens and constraint; what must
    not be chosen is -inf. The row itself where there are none of these."""
    mask = None if request.constraint is None else request.constraint.mask()
    return process_logits(logits, request.sampling, request.prompt_ids, request.ids, mask)


def largest(values: np.ndarray, count: int) -> np.ndarray:
    """The indices of the largest values, best first, at most `count`, and none of a value that is -inf."""
    indices = np.arange(len(values)) if count >= len(values) else np.argpartition(values, -count)[-count:]
    indices = indices[values[indices] > -np.inf]
    return indices[np.argsort(-values[indices], kind="stable")]
