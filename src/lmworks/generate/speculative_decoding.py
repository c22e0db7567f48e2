"""Speculative decoding: guess the next tokens, check them all in one forward, keep those that are right.

A forward over k + 1 tokens of one sequence costs little more than one over a single token, because both read all
weights (Leviathan et al. 2023, "Fast inference from transformers via speculative decoding"). Here the check is exact in
the strongest sense: each position is sampled with the draw that belongs to the request's seed and that position, as if
there were no guess, and a guess is kept as long as it is the token that was sampled. So the completion is, token for
token, what it would be without speculation; for a guess that is certain of itself (a look-up, a greedy draft) the rate
of acceptance is that of the paper's rejection sampling, p(guess).

This file decides how many guesses are worth a forward; `Proposer`s make them.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from lmworks.generate.request_state import RequestState

_log = logging.getLogger(__name__)

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
        if not known:
            return 1 + _COST_PER_ROW * (rows - 1)
        below = max((n for n in known if n <= rows), default=None)
        above = min((n for n in known if n >= rows), default=None)
        if below is not None and above is not None:
            if below == above:
                return self._seconds[below]
            part = (rows - below) / (above - below)
            # More rows never cost less: what says so was noise.
            low = self._seconds[below]
            return low + part * max(0.0, self._seconds[above] - low)
        nearest = above if below is None else below
        assert nearest is not None
        base = self._seconds[nearest]
        return base * (1 + _COST_PER_ROW * (rows - 1)) / (1 + _COST_PER_ROW * (nearest - 1))


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

    def guess(self, requests: Sequence[RequestState], most: Sequence[int], rows: int) -> list[list[int] | Exception]:
        """The tokens to be checked for each request, at most `most`, in a step that has `rows` rows without them; what
        was raised, where guessing for a request failed."""
        limits = [min(limit, self.longest) for limit in most]
        if self.proposer.seconds:
            lengths = self._lengths(requests, limits, rows)
            self._asked += 1
            if not any(lengths) and self._asked % _ASK_AGAIN == 0:
                lengths = [min(limit, 1) for limit in limits]
            answers = self._proposals(requests, lengths) if any(lengths) else [[] for _ in requests]
        else:
            answers = self._proposals(requests, limits)
            proposed = [0 if isinstance(answer, Exception) else len(answer) for answer in answers]
            lengths = self._lengths(requests, proposed, rows)
        guesses: list[list[int] | Exception] = []
        for request, answer, length in zip(requests, answers, lengths, strict=True):
            if isinstance(answer, Exception):
                guesses.append(answer)
                continue
            if answer:
                self._proposals_of[request.id] = answer
            guesses.append(answer[:length])
        return guesses

    def _proposals(self, requests: Sequence[RequestState], most: Sequence[int]) -> list[list[int] | Exception]:
        """The proposals, as far as the constraints allow them, or the exception."""
        try:
            return self._ask(requests, most)
        except Exception as error:
            if len(requests) == 1:
                return [error]
        # Whose guesses they are that fail shows when each request is asked for by itself.
        return [
            answer
            for request, limit in zip(requests, most, strict=True)
            for answer in self._proposals([request], [limit])
        ]

    def _ask(self, requests: Sequence[RequestState], most: Sequence[int]) -> list[list[int] | Exception]:
        proposals = self.proposer.propose(requests, most)
        return [
            _allowed(request, proposal[:limit])
            for request, proposal, limit in zip(requests, proposals, most, strict=True)
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
        try:
            self.proposer.forget(request)
        except Exception:  # the request has its end already, and nobody else has to do with it
            _log.exception("the proposer could not forget request %s", request.id)

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


def _allowed(request: RequestState, proposal: list[int]) -> list[int]:
    """Nothing where the constraint does not allow the first token: what is known of the others costs time."""
    matcher = request.constraint
    return proposal if matcher is None or not proposal or matcher.allows(proposal[0]) else []
