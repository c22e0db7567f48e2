"""Scaling laws, Chinchilla's too, as values: the loss by parameters and tokens, and how to divide a budget; published
ones by name, with source and caveats, and that of a sweep's folder.

Training takes C = 6 · N · D floating-point operations for N parameters and D tokens (Kaplan et al. 2020, section 2.1:
two for each parameter and token of the forward, four of the backward). A law says which N and D reach the lowest loss
for a given C. Free of torch.
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from lmworks.config import from_mapping, positive

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


# ---------------------------------------------------------------------------------------------------------------------
# Published laws


@dataclass(frozen=True)
class PublishedLaw:
    """`source`: paper and section. `note`: what it was fitted on, what is doubted, and which number is remembered.
    Of a sweep, `doubts` are why its law may say nothing about other runs, and `vocabulary` is the size of its own."""

    law: Law
    source: str
    note: str
    doubts: tuple[str, ...] = ()
    vocabulary: int | None = None


DEFAULT_LAW = "besiroglu"

LAWS: dict[str, PublishedLaw] = {
    "besiroglu": PublishedLaw(
        ParametricLaw(E=1.8172, A=482.01, B=2085.43, alpha=0.3478, beta=0.3658),
        "Besiroglu et al. 2024, table 1",
        "approach 3 fitted again to points read off a figure of Hoffmann et al.; agrees with approaches 1 and 2",
    ),
    "chinchilla-1": PublishedLaw(
        PowerLaw(coefficient=0.0883, exponent=0.50),  # through the row of 67B
        "Hoffmann et al. 2022, table 2 (exponent) and table 3 (coefficient: the row of 67B)",
        "approach 1, the envelope of training curves",
    ),
    "chinchilla-2": PublishedLaw(
        PowerLaw(coefficient=0.1435, exponent=0.49),  # 63B at 5.76e23
        "Hoffmann et al. 2022, table 2 (exponent) and section 3.2 (63B for the budget of Gopher, 5.76e23)",
        "approach 2, IsoFLOP parabolas; the 63B are remembered, not looked up",
    ),
    "chinchilla-3": PublishedLaw(
        ParametricLaw(E=1.6934, A=406.4, B=410.7, alpha=0.3392, beta=0.2849),
        "Hoffmann et al. 2022, section 3.3, with the digits of the paper's source (Besiroglu et al. 2024)",
        "approach 3 as published: its optimizer stopped too early, and it does not fit its own data (Besiroglu et al.)",
    ),
    "chinchilla-3-rounded": PublishedLaw(
        ParametricLaw(E=1.69, A=406.4, B=410.7, alpha=0.34, beta=0.28),
        "Hoffmann et al. 2022, equation 10",
        "approach 3 as printed: rounding beta to 0.28 moves the optimum further (Besiroglu et al. 2024)",
    ),
    "kaplan": PublishedLaw(
        PowerLaw(coefficient=1.3e9 / PETAFLOPS_DAY**0.73, exponent=0.73, counts="without embeddings"),
        "Kaplan et al. 2020, section 6.1 (exponent) and appendix A (1.3e9 parameters at one petaflop/s-day)",
        "counts no embeddings and was fitted on small models, which explains its exponent (Pearce & Song 2024); so do "
        "the cost of the last layer, a long warm-up and untuned optimizers (Porian et al. 2024). Superseded. "
        "The 1.3e9 are remembered, not looked up",
    ),
}


def find_law(name: str) -> PublishedLaw:
    """A law by its name, or that of a folder which a sweep made, or of the file in it; LookupError that lists the names
    for neither, and for a sweep that found none."""
    if name in LAWS:
        return LAWS[name]
    folder = Path(name).parent if Path(name).name == LAW else Path(name)
    if (folder / LAW).is_file():
        return read_law(folder)
    if (folder / RUNS).is_file():
        raise LookupError(
            f"no law follows from the runs of the sweep {folder}: its report.html says why, and how to sweep again. "
            f"Until then take a published one: {', '.join(LAWS)}"
        )
    raise LookupError(f"there is no scaling law {name!r}; choose one of {', '.join(LAWS)}, or the folder of a sweep")


# ---------------------------------------------------------------------------------------------------------------------
# The law of a sweep, as `lmworks sweep` writes it and `lmworks plan --law FOLDER` reads it

LAW, RUNS = "law.json", "runs.json"  # of a sweep; the law where one follows from the runs


def read_law(folder: Path) -> PublishedLaw:
    """The law in this folder of a sweep; ValueError names a file that is damaged. Sweeps before lmworks kept doubts and
    the vocabulary have none."""
    path = folder / LAW
    try:
        values = json.loads(path.read_text("utf-8"))
        law, doubts = from_mapping(ParametricLaw, values["law"], [str(path)]), tuple(values.get("doubts", ()))
        return PublishedLaw(law, values["source"], "of your own text and vocabulary", doubts, values.get("vocabulary"))
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is no law that a sweep wrote: {error!r}") from error
