"""Parameters of beam and contrastive search, as values: frozen, free of torch; next to `SamplingParameters`."""

from dataclasses import dataclass
from typing import Literal

from lmworks.generate.protocol import SamplingParameters

Stopping = Literal["estimate", "bound", "first"]

_DRAWS = {"temperature": 0.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0, "typical_p": 1.0, "alternatives": 0}


@dataclass(frozen=True, slots=True)
class BeamParameters:
    """Beam search: the `beams` best beginnings of a text are kept at each step.

    A completion of n tokens, the end token included, has the score Σ ln p / n ** length_penalty.

    n_best              completions that are returned, at most `beams`.
    length_penalty      0 ranks by the probability of the whole text, which favours short ones; 1 by the mean of a
                        token. (Wu et al. 2016, section 7, divide by ((5 + n) / 6) ** α instead, which is flatter.)
    groups              the beams are split into so many groups, each searched by itself after the ones before.
    diversity_penalty   subtracted, in a group, from a token's log-probability for each time that an earlier group has
                        taken the token in the same step (Vijayakumar et al. 2018, section 4, Hamming diversity). It
                        steers the search and is no part of the score.
    stopping            when a group that has as many completions as beams is done: "bound" when no beam can become
                        better than the worst of them (unless logit_bias raises a token); "estimate" when none would be
                        if it ended now, which is wrong only where the mean improves later; "first" at once.
    """

    beams: int = 4
    n_best: int = 1
    length_penalty: float = 1.0
    groups: int = 1
    diversity_penalty: float = 0.0
    stopping: Stopping = "estimate"

    def __post_init__(self) -> None:
        if self.beams < 1 or not 1 <= self.n_best <= self.beams:
            raise ValueError(f"n_best must lie in [1, beams], got {self.n_best} of {self.beams}")
        if self.groups < 1 or self.beams % self.groups:
            raise ValueError(f"groups must divide the {self.beams} beams, got {self.groups}")
        if self.diversity_penalty < 0 or (self.groups > 1) != (self.diversity_penalty > 0):
            raise ValueError(
                "several groups need a diversity_penalty above 0, without which they find the same, and one group has "
                f"no use for it; got {self.groups} and {self.diversity_penalty}"
            )
        if not abs(self.length_penalty) < float("inf"):
            raise ValueError(f"length_penalty must be finite, got {self.length_penalty}")
        if self.stopping not in ("estimate", "bound", "first"):
            raise ValueError(f'stopping is "estimate", "bound" or "first", got {self.stopping!r}')


@dataclass(frozen=True, slots=True)
class ContrastiveParameters:
    """Contrastive search (Su et al. 2022, section 3.2): a probable token whose state is unlike all before it.

    candidates   how many of the most probable tokens are tried in each step (k in the paper).
    penalty      α in [0, 1): what the likeness to the context counts against the probability; 0 is greedy.
    """

    candidates: int = 4
    penalty: float = 0.6

    def __post_init__(self) -> None:
        if self.candidates < 1:
            raise ValueError(f"candidates must be at least 1, got {self.candidates}")
        if not 0 <= self.penalty < 1:
            raise ValueError(f"penalty must lie in [0, 1), got {self.penalty}")


def require_no_draws(sampling: SamplingParameters) -> None:
    """ValueError for parameters of a draw, since a search draws nothing: it would ignore them."""
    given = [name for name, off in _DRAWS.items() if getattr(sampling, name) != off]
    if given:
        raise ValueError(f"a search draws no tokens and has no use for {', '.join(given)}: leave them at the defaults")
