"""Settings of optimizers, and of the schedules that their learning rates are multiplied with."""

from dataclasses import dataclass, field
from typing import Literal

from lmworks.config import at_least, below_one, positive, within

# ---------------------------------------------------------------------------------------------------------------------
# Schedules: what the learning rate is multiplied with. A warm-up that is left out follows from the run where one is
# planned (`derived_settings.py`); elsewhere there is none.


@dataclass(frozen=True, slots=True)
class Cosine:
    """Half a cosine from 1 to `final` (Loshchilov & Hutter 2017).

    warmup  Steps that rise to 1 in equal parts, before it; left out: 2 % in pre-training, 5 % in fine-tuning, else 0.
    final   What is left at the end.
    """

    warmup: int | None = None
    final: float = 0.1
    kind: Literal["cosine"] = "cosine"

    def __post_init__(self) -> None:
        at_least(0, warmup=self.warmup)
        within(0, 1, final=self.final)


@dataclass(frozen=True, slots=True)
class Linear:
    """A line from 1 to `final`.

    warmup  Steps that rise to 1 in equal parts, before it; left out: 2 % in pre-training, 5 % in fine-tuning, else 0.
    final   What is left at the end.
    """

    warmup: int | None = None
    final: float = 0.0
    kind: Literal["linear"] = "linear"

    def __post_init__(self) -> None:
        at_least(0, warmup=self.warmup)
        within(0, 1, final=self.final)


@dataclass(frozen=True, slots=True)
class WarmupStableDecay:
    """1 for most of the run, so that it can be prolonged, and a decay to `final` over its last part (Hu et al. 2024,
    MiniCPM, section 4).

    warmup  Steps that rise to 1 in equal parts, before it; left out: 2 % in pre-training, 5 % in fine-tuning, else 0.
    decay   The part of the run that decays.
    final   What is left at the end.
    shape   `linear`, or `sqrt`: 1 - sqrt (Hägele et al. 2024, section 3.2).
    """

    warmup: int | None = None
    decay: float = 0.2
    final: float = 0.0
    shape: Literal["linear", "sqrt"] = "linear"
    kind: Literal["wsd"] = "wsd"

    def __post_init__(self) -> None:
        at_least(0, warmup=self.warmup)
        within(0, 1, decay=self.decay, final=self.final)


@dataclass(frozen=True, slots=True)
class InverseSqrt:
    """sqrt(warmup / step) after the warm-up (Vaswani et al. 2017, section 5.3).

    warmup  Steps that rise to 1 in equal parts, before it; left out: 2 % in pre-training, 5 % in fine-tuning, else 0.
    """

    warmup: int | None = None
    kind: Literal["inverse_sqrt"] = "inverse_sqrt"

    def __post_init__(self) -> None:
        at_least(1, warmup=self.warmup)


Schedule = Cosine | Linear | WarmupStableDecay | InverseSqrt


def warmup_steps(schedule: Schedule) -> int:
    """The warm-up; none where none is given, but the inverse square root begins at its first step."""
    return (1 if isinstance(schedule, InverseSqrt) else 0) if schedule.warmup is None else schedule.warmup


# ---------------------------------------------------------------------------------------------------------------------
# Optimizers


@dataclass(frozen=True, slots=True)
class Sgd:
    """Stochastic gradient descent, with momentum and without dampening.

    rate      Learning rate, before the schedule.
    momentum  Of the running sum of gradients.
    nesterov  Look ahead by one step of the momentum.
    decay     Weight decay of matrices, λ of the gradient's λ·weight.
    """

    rate: float = 0.1
    momentum: float = 0.9
    nesterov: bool = False
    decay: float = 0.0
    kind: Literal["sgd"] = "sgd"

    def __post_init__(self) -> None:
        positive(rate=self.rate)
        below_one(momentum=self.momentum)
        at_least(0, decay=self.decay)
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov looks ahead by the momentum, which is 0: set momentum above 0, or leave it out")


@dataclass(frozen=True, slots=True)
class AdamW:
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019).

    rate     Learning rate, before the schedule; left out: the default of the stage that has one, what the size of the
             run asks for in pre-training, else 0.001.
    beta1    Of the running mean of the gradient.
    beta2    Of the running mean of its square.
    epsilon  Added to the root of the second.
    decay    Weight decay of matrices; biases, norms and other vectors have none.
    """

    rate: float | None = None
    beta1: float = 0.9
    beta2: float = 0.95
    epsilon: float = 1e-8
    decay: float = 0.1
    kind: Literal["adamw"] = "adamw"

    def __post_init__(self) -> None:
        positive(rate=self.rate, epsilon=self.epsilon)
        within(0, 1 - 1e-9, beta1=self.beta1, beta2=self.beta2)
        at_least(0, decay=self.decay)


@dataclass(frozen=True, slots=True)
class Lion:
    """The sign of a momentum (Chen et al. 2023, Algorithm 2): half of Adam's memory, and a rate 3 to 10 times smaller.

    rate   Learning rate, before the schedule.
    beta1  Of the mean whose sign is the update.
    beta2  Of the momentum that is kept.
    decay  Weight decay of matrices; 3 to 10 times Adam's.
    """

    rate: float = 1e-4
    beta1: float = 0.9
    beta2: float = 0.99
    decay: float = 1.0
    kind: Literal["lion"] = "lion"

    def __post_init__(self) -> None:
        positive(rate=self.rate)
        within(0, 1 - 1e-9, beta1=self.beta1, beta2=self.beta2)
        at_least(0, decay=self.decay)


@dataclass(frozen=True, slots=True)
class Muon:
    """Momentum whose every matrix is made orthogonal (Jordan et al. 2024), for the matrices of the blocks; AdamW for
    embeddings, heads and vectors.

    rate      Learning rate, before the schedule; left out: what the size of a pre-training run asks for, else 0.001. An
              update has the root mean square of Adam's, 0.2 (Liu et al. 2025, section 2.2), so that Adam's rates and
              decays serve; those of a stage of fine-tuning are not taken over, so set them.
    momentum  Of the running sum, with Nesterov's look ahead.
    steps     Newton-Schulz iterations.
    decay     Weight decay.
    rest      The optimizer of everything else; its rate left out: Muon's.
    """

    rate: float | None = None
    momentum: float = 0.95
    steps: int = 5
    decay: float = 0.1
    rest: AdamW = field(default_factory=AdamW)
    kind: Literal["muon"] = "muon"

    def __post_init__(self) -> None:
        positive(rate=self.rate, steps=self.steps)
        below_one(momentum=self.momentum)
        at_least(0, decay=self.decay)


Optimizer = Sgd | AdamW | Lion | Muon

ADAMS_RATE = 1e-3


def peak_rate(optimizer: Optimizer) -> float:
    """The learning rate that the schedule multiplies."""
    return ADAMS_RATE if optimizer.rate is None else optimizer.rate
