"""Speculative decoding: guess the next tokens, check them all in one forward, keep those that are right.

A forward over k + 1 tokens of one sequence costs little more than one over a single token, because both read all
weights (Leviathan et al. 2023, "Fast inference from transformers via speculative decoding"). Here the check is exact in
the strongest sense: each position is sampled with the draw that belongs to the request's seed and that position, as if
there were no guess, and a guess is kept as long as it is the token that was sampled. So the completion is, token for
token, what it would be without speculation; for a guess that is certain of itself (a look-up, a greedy draft) the rate
of acceptance is that of the paper's rejection sampling, p(guess).

This file decides how many guesses are worth a forward; `Proposer`s make them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from lmworks.generate.request_state import RequestState

_DECAY = 0.9  # of what was seen of a request's acceptance, a check: it follows the text, from prose into a quote
_PRIOR = 2.0  # checks that the estimate of all requests counts for in a new one's
_FIRST_GUESS = 0.5  # of the probability that a guess is right, before anything was seen
_MARGIN = 1.2  # a guess must promise so much more than it costs: costs are measured on a machine with other work
_ASK_AGAIN = 32  # steps after which guesses that cost something are tried again where they did not pay
_KEPT = 64  # measurements for which the cost of a number of rows is remembered
_LEAST_COST = 0.02  # of a step, for a row that seems to cost nothing
_COST_PER_ROW = 0.15  # of a step with one row, before anything was measured


class Proposer(Protocol):
    """Guesses tokens; never wrong, only useless.

    seconds   what one guess takes, as measured; 0 for guesses that cost nothing, which are then made before it is
              decided how many of them are used.
    """

    @property
    def seconds(self) -> float: ...

    def propose(self, requests: Sequence[RequestState], most: Sequence[int]) -> list[list[int]]:
        """For each request up to `most` tokens that may follow what it has; empty where there is no guess."""
        ...

    def forget(self, request: RequestState) -> None:
        """The request is gone."""
        ...


@dataclass(slots=True)
class Acceptance:
    """Acceptance rate of guesses: a decaying count, with a prior."""

    right: float = 0.0
    checked: float = 0.0

    def rate(self, prior: float) -> float:
        return (self.right + _PRIOR * prior) / (self.checked + _PRIOR)

    def observe(self, right: int, checked: int) -> None:
        self.right = self.right * _DECAY + right
        self.checked = self.checked * _DECAY + checked


class StepCosts:
    """Seconds of a step by the number of its rows, as measured; straight lines between and beyond the measured ones.

    What was not measured lately is forgotten: texts get longer, and a step that happened to be slow when it was first
    tried would never be tried again.
    """

    def __init__(self) -> None:
        self._seconds: dict[int, float] = {}
        self._measured_at: dict[int, int] = {}  # in measurements
        self._measurements = 0

    def observe(self, rows: int, seconds: float) -> None:
        before = self._seconds.get(rows, seconds)
        # Other work on the machine only ever adds: a step that was slow once counts little.
        weight = 0.3 if seconds < before else 0.05
        self._seconds[rows] = before + weight * (seconds - before)
        self._measurements += 1
        self._measured_at[rows] = self._measurements
        for old in [rows for rows, at in self._measured_at.items() if at + _KEPT < self._measurements]:
            del self._seconds[old], self._measured_at[old]

    def seconds(self, rows: int) -> float:
        """In units of the measured steps; proportions alone matter."""
        known = sorted(self._seconds)
        nearest = min(max(rows, known[0]), known[-1]) if known else 1
        # More rows never cost less: what says so was noise.
        rising = np.maximum.accumulate([self._seconds[number] for number in known]) if known else [1.0]
        seconds = float(np.interp(nearest, known or [1], rising))
        return seconds * (1 + _COST_PER_ROW * (rows - 1)) / (1 + _COST_PER_ROW * (nearest - 1))


@dataclass
class Speculator:
    """Chooses how many guesses of each request go into a step, and learns from what became of them.

    A guess is worth its row when it raises the expected tokens of the step by a larger part than its time. The first
    guess of a request is compared with the token that was chosen even when it was not sent, so that a request for which
    speculation was off turns it on again when its text becomes predictable, at no cost.
    """

    proposer: Proposer
    longest: int = 8
    costs: StepCosts = field(default_factory=StepCosts)
    proposed: int = 0
    accepted: int = 0
    steps: int = 0
    _asked: int = 0
    _everybody: Acceptance = field(default_factory=Acceptance)
    _of: dict[str, Acceptance] = field(default_factory=dict)
    _proposals_of: dict[str, list[int]] = field(default_factory=dict)  # in this step, used or not

    def guess(self, requests: Sequence[RequestState], most: Sequence[int], rows: int) -> list[list[int]]:
        """The tokens to be checked for each request, at most `most`, in a step that has `rows` rows without them."""
        limits = [min(limit, self.longest) for limit in most]
        if self.proposer.seconds:
            lengths = self._lengths(requests, limits, rows)
            self._asked += 1
            if not any(lengths) and self._asked % _ASK_AGAIN == 0:
                lengths = [min(limit, 1) for limit in limits]
            proposals = self._proposals(requests, lengths) if any(lengths) else [[] for _ in requests]
        else:
            proposals = self._proposals(requests, limits)
            lengths = self._lengths(requests, [len(proposal) for proposal in proposals], rows)
        self._proposals_of |= {r.id: proposal for r, proposal in zip(requests, proposals, strict=True) if proposal}
        return [proposal[:length] for proposal, length in zip(proposals, lengths, strict=True)]

    def _proposals(self, requests: Sequence[RequestState], most: Sequence[int]) -> list[list[int]]:
        """The proposals; empty where a constraint does not allow the first token: to know of the others costs time."""
        proposals = self.proposer.propose(requests, most)
        return [
            proposal[:limit] if not proposal or matcher is None or matcher.allows(proposal[0]) else []
            for matcher, proposal, limit in zip((r.constraint for r in requests), proposals, most, strict=True)
        ]

    def observe(self, request: RequestState, sent: int, chosen: Sequence[int]) -> None:
        """The tokens that the step has chosen for a request, of which `sent` guesses were checked: the right ones, and
        the one after them."""
        proposal = self._proposals_of.pop(request.id, None)
        if proposal is None:
            return
        compared = proposal[: max(1, sent)]
        right = 0
        for guessed, token in zip(compared, chosen, strict=False):
            if guessed != token:
                break
            right += 1
        checked = min(right + 1, len(compared), len(chosen))
        estimate = self._of.setdefault(request.id, Acceptance())
        estimate.observe(right, checked)
        self._everybody.observe(right, checked)
        if sent:
            self.steps += 1
            self.proposed += sent
            self.accepted += right

    def forget(self, request: RequestState) -> None:
        self._of.pop(request.id, None)
        self._proposals_of.pop(request.id, None)
        self.proposer.forget(request)

    def _lengths(self, requests: Sequence[RequestState], most: Sequence[int], rows: int) -> list[int]:
        """The number of guesses of each request: adds the most promising one as long as it pays."""
        prior = self._everybody.rate(_FIRST_GUESS)
        rates = [self._of.get(request.id, Acceptance()).rate(prior) for request in requests]
        lengths, expected = [0] * len(requests), float(len(requests))
        time = self.costs.seconds(rows)
        while True:
            gains = [
                rate ** (length + 1) if length < limit else 0.0
                for rate, length, limit in zip(rates, lengths, most, strict=True)
            ]
            best = max(range(len(gains)), key=gains.__getitem__, default=None)
            if best is None or gains[best] == 0:
                return lengths
            more = max(time, self.costs.seconds(rows + 1)) + self.proposer.seconds / len(requests)
            if gains[best] / expected < max(_LEAST_COST, _MARGIN * (more / time - 1)):
                return lengths
            lengths[best] += 1
            expected, time, rows = expected + gains[best], more, rows + 1
