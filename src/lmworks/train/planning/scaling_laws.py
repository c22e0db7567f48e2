"""Scaling laws, Chinchilla's too, as values: the loss by parameters and tokens, and how to divide a budget.

Training takes C = 6 · N · D floating-point operations for N parameters and D tokens (Kaplan et al. 2020, section 2.1:
two for each parameter and token of the forward, four of the backward). A law says which N and D reach the lowest loss
for a given C. Free of torch.
"""

from dataclasses import dataclass, replace
from typing import Literal

from lmworks.config import positive

FLOPS_PER_PARAMETER_AND_TOKEN = 6
PETAFLOPS_DAY = 1e15 * 24 * 3600  # floating-point operations, the unit of Kaplan et al. 2020

Counts = Literal["all", "without embeddings"]


@dataclass(frozen=True)
class Allocation:
    """A budget, divided: `parameters` trained on `tokens`, with `flops` = 6 · parameters · tokens, and the `loss` in
    nats per token that the law expects, where it says one."""

    parameters: float
    tokens: float
    flops: float
    loss: float | None = None


@dataclass(frozen=True)
class ParametricLaw:
    """L(N, D) = E + A / N^alpha + B / D^beta (Hoffmann et al. 2022, equation 2), in nats per token.

    E              what no model can predict: the entropy of the text.
    A, alpha       what a model of finite size lacks; B, beta: what finite data lacks.
    """

    E: float
    A: float
    B: float
    alpha: float
    beta: float
    counts: Counts = "all"

    def __post_init__(self) -> None:
        if min(self.A, self.B, self.alpha, self.beta) <= 0:
            raise ValueError(f"A, B, alpha and beta of a scaling law are above 0: the loss falls with size, got {self}")

    def loss(self, parameters: float, tokens: float) -> float:
        """Nats per token."""
        # Negative powers: steep laws, as resampled runs may give, would overflow otherwise.
        return self.E + self.A * parameters**-self.alpha + self.B * tokens**-self.beta

    @property
    def exponent(self) -> float:
        """a of N_opt ∝ C^a: beta / (alpha + beta)."""
        return self.beta / (self.alpha + self.beta)

    @property
    def optimum(self) -> "PowerLaw":
        """The N of lowest loss for each budget (Hoffmann et al. 2022, equation 4)."""
        balance = (self.alpha * self.A / (self.beta * self.B)) ** (1 / (self.alpha + self.beta))
        return PowerLaw(balance / FLOPS_PER_PARAMETER_AND_TOKEN**self.exponent, self.exponent, self.counts)

    def allocate(
        self, flops: float | None = None, parameters: float | None = None, tokens: float | None = None
    ) -> Allocation:
        """The allocation of the `optimum`, with the loss."""
        best = self.optimum.allocate(flops, parameters, tokens)
        return replace(best, loss=self.loss(best.parameters, best.tokens))


@dataclass(frozen=True)
class PowerLaw:
    """N_opt = coefficient · C^exponent, C in floating-point operations; D_opt is what remains, C / (6 N_opt).

    Says how to divide a budget, not which loss it reaches.
    """

    coefficient: float
    exponent: float
    counts: Counts = "all"

    def __post_init__(self) -> None:
        positive(coefficient=self.coefficient)
        if not 0 < self.exponent < 1:
            raise ValueError(f"the exponent lies between 0 and 1, or one of N and D would fall, got {self.exponent}")

    def allocate(
        self, flops: float | None = None, parameters: float | None = None, tokens: float | None = None
    ) -> Allocation:
        """One given: the budget for which it is the best, and the other two. Two given: C = 6 N D says the third.
        ValueError for none, for all three, and for what is not above 0."""
        positive(flops=flops, parameters=parameters, tokens=tokens)
        match flops, parameters, tokens:
            case float() | int(), None, None:
                return self.allocate(flops, parameters=self.coefficient * flops**self.exponent)
            case None, float() | int(), None:
                return self.allocate((parameters / self.coefficient) ** (1 / self.exponent), parameters=parameters)
            case None, None, float() | int():
                product = FLOPS_PER_PARAMETER_AND_TOKEN * self.coefficient * tokens
                return self.allocate(product ** (1 / (1 - self.exponent)), tokens=tokens)
            case float() | int(), float() | int(), None:
                return Allocation(parameters, flops / (FLOPS_PER_PARAMETER_AND_TOKEN * parameters), flops)
            case float() | int(), None, float() | int():
                return Allocation(flops / (FLOPS_PER_PARAMETER_AND_TOKEN * tokens), tokens, flops)
            case None, float() | int(), float() | int():
                return Allocation(parameters, tokens, training_flops(parameters, tokens))
            case _:
                raise ValueError("give one or two of flops, parameters and tokens")


Law = ParametricLaw | PowerLaw


def training_flops(parameters: float, tokens: float) -> float:
    """6 N D: without the products of queries and keys. `compute.train_flops_per_token` counts a config's with them."""
    return FLOPS_PER_PARAMETER_AND_TOKEN * parameters * tokens
