"""Beam search: of all beginnings of a completion, the most probable few are kept and continued at each step.

A beam is a request in flight that can be forked, and a branch in the cache. So a step is one forward with a row for
each beam; beams that begin alike share the pages of what they have in common, and a beam that is dropped gives its own
back.

    the prompt          │ He               one row
    two beams           │ He said          two rows
                        │ He was
    their followers     │ He said that     both of one parent, which is forked; "He was" has no follower
                        │ He said it       among the best two, and is closed

A candidate that ends the text becomes a completion if it is among as many best candidates as there are beams; the best
completions are kept, as many as there are beams.
"""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from lmworks.generate.engine_step import NOTHING_ALLOWED, Batcher, settled
from lmworks.generate.job import Job, Steps
from lmworks.generate.logit_processors import process_logits
from lmworks.generate.paged_cache import CachedSequence
from lmworks.generate.protocol import BeamParameters, require_no_draws
from lmworks.generate.request_state import RequestState
from lmworks.generate.runner import LogitRows, Work

PREFILL_TOKENS = 256  # of a prompt in one forward, and so the rows of logits where all its states are wanted


@dataclass(slots=True, eq=False)
class _Beam:
    """A beginning of the completion, or all of it when its request is done.

    total      Σ ln p of its tokens, with what the request adds to them.
    steered    the same less what diversity costs: the score that steers the search.
    followers  the best tokens behind it, best first.
    """

    request: RequestState
    total: float = 0.0
    steered: float = 0.0
    followers: list["_Follower"] = field(default_factory=list)


class _Follower(NamedTuple):
    """A token that may come next: the model's ln p, that with what the request adds to it; `forced`: the only one."""

    token: int
    log_probability: float
    adjusted: float
    forced: bool


@dataclass(slots=True, eq=False)
class _Group:
    """Beams that compete, and the completions that they have become, best first."""

    parameters: BeamParameters
    beams: list[_Beam]
    finished: list[_Beam] = field(default_factory=list)

    @property
    def width(self) -> int:
        return self.parameters.beams // self.parameters.groups

    def advance(self, taken: Counter[int]) -> None:
        """Replace the beams by their best followers; there are none when the group is done.

        taken   how often earlier groups have taken each token in this step; this group's are added.
        """
        running: list[_Beam] = []
        ended: list[_Beam] = []
        for rank, (steered, parent, follower) in enumerate(self._candidates(taken)):
            if rank >= self.width and (len(running) == self.width or follower.token in parent.request.stop_ids):
                continue
            request = parent.request.fork()
            request.append(follower.token, follower.log_probability, 0.0, forced=follower.forced)
            child = _Beam(request, parent.total + follower.adjusted, steered)
            if not request.done and len(running) < self.width:
                running.append(child)
            elif request.done and rank < self.width:
                ended.append(child)
        taken.update(child.request.ids[-1] for child in (*running, *ended))
        self.finish(ended)
        self.beams = [] if self._is_done(running) else running

    def finish(self, beams: list[_Beam]) -> None:
        """These are completions now, of which the best stay."""
        self.finished = sorted([*self.finished, *beams], key=self.score, reverse=True)[: self.width]

    def score(self, beam: _Beam) -> float:
        return beam.total / len(beam.request.ids) ** self.parameters.length_penalty

    def _candidates(self, taken: Counter[int]) -> list[tuple[float, _Beam, _Follower]]:
        """Followers of all beams with the score that steers the search, best first: so many that enough of them
        continue, though every beam may end in every way."""
        penalty = self.parameters.diversity_penalty
        candidates = [
            (beam.steered + follower.adjusted - penalty * taken[follower.token], beam, follower)
            for beam in self.beams
            for follower in beam.followers
        ]
        count = self.width * _ways(self.beams[0].request)
        return sorted(candidates, key=lambda candidate: candidate[0], reverse=True)[:count]

    def _is_done(self, running: list[_Beam]) -> bool:
        if not running or len(self.finished) < self.width:
            return not running
        if self.parameters.stopping == "first":
            return True
        request, penalty = running[0].request, self.parameters.length_penalty
        # totals only fall: a beam is at its best as long as it may be where length is rewarded, else as short
        longest = self.parameters.stopping == "bound" and penalty > 0
        length = request.limit if longest else len(request.ids)
        return max(beam.total for beam in running) / length**penalty <= self.score(self.finished[-1])


def beam_search(
    batcher: Batcher, job: Job[Any], request: RequestState, parameters: BeamParameters
) -> Steps[list[RequestState]]:
    """The `n_best` completions of a request, best first, as requests that are done.

    The logits are those after bans, bias, penalties, forced tokens and the constraint of the request, and ln p is not
    normalised again: a text is as probable as the model says, whatever else is forbidden. There are fewer than `n_best`
    where a constraint allows no more. At the deadline, beams end where they are.

    ValueError when nothing at all may follow, and, before any work, for parameters of a draw; OutOfPagesError when the
    beams need more pages than the cache has; FloatingPointError when logits are not finite.
    """
    require_no_draws(request.sampling)
    request.sequence = job.add(batcher.open(request.prompt_ids, request.adapter, request.source_ids))
    request.start()
    rows, _ = yield from prefill(job, request.sequence, request.prompt_ids, batcher.runner.grid)
    running = [_Beam(request)]
    groups = [_Group(parameters, running) for _ in range(parameters.groups)]
    while running:
        yield from compute_masks(batcher, [beam.request for beam in running])
        _look_ahead(running, rows, parameters)
        running = _advance(groups, late=time.perf_counter() >= request.deadline_at)
        if running:
            rows, _ = yield _grow(job, [beam.request for beam in running])
    completed = sorted((beam for group in groups for beam in group.finished), key=groups[0].score, reverse=True)
    if not completed:
        raise ValueError(NOTHING_ALLOWED)
    return [beam.request for beam in completed[: parameters.n_best]]


def _look_ahead(beams: list[_Beam], rows: LogitRows, parameters: BeamParameters) -> None:
    """Give each beam its best followers, by the row of logits that is its own: as many as a group may look at, and the
    tokens besides that diversity may push back, which are at most those that all beams take or end with."""
    count = parameters.beams // parameters.groups * _ways(beams[0].request)
    count += 2 * parameters.beams * (parameters.groups > 1)
    for beam, logits, normaliser in zip(beams, rows.logits.cpu().numpy(), rows.log_normaliser.tolist(), strict=True):
        allowed = allowed_logits(logits, beam.request)
        tokens = largest(allowed, count)
        beam.followers = [
            _Follower(token, logit - normaliser, adjusted - normaliser, forced=len(tokens) == 1)
            for token, logit, adjusted in zip(
                tokens.tolist(), logits[tokens].tolist(), allowed[tokens].tolist(), strict=True
            )
        ]


def _ways(request: RequestState) -> int:
    """The number of tokens of one beam that may end a text, and one that does not."""
    return 1 + max(1, len(request.stop_ids) + len(request.sampling.stop))


def _advance(groups: list[_Group], late: bool) -> list[_Beam]:
    """A token more in every group; the beams that continue."""
    taken = Counter[int]()
    for group in groups:
        if group.beams:
            group.advance(taken)
        if late:
            for beam in group.beams:
                beam.request.finish("deadline")
            group.finish(group.beams)
            group.beams = []
    return [beam for group in groups for beam in group.beams]


def _grow(job: Job[Any], requests: list[RequestState]) -> list[Work]:
    """The last token of each request, in a branch of its own. As yet it has its parent's: the first child continues
    with that, others fork it."""
    parents = [request.sequence for request in requests if request.sequence is not None]
    job.keep(set(parents))
    for number, (request, parent) in enumerate(zip(requests, parents, strict=True)):
        request.sequence = job.fork(parent) if parent in parents[:number] else parent
    return [job.work(request.sequence, request.ids[-1:], 1) for request in requests if request.sequence is not None]


# ---------------------------------------------------------------------------------------------------------------------
# Shared with contrastive search: reading the prompt, and the tokens that may follow a text


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
        logits_to_keep = end - start if all_states else int(end == len(ids))
        rows, hidden = yield [job.work(sequence, ids[start:end], logits_to_keep)]
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
