"""Published rules for the learning rate and the batch of a run, each by name: where to start a search. Free of torch.

They were fitted with AdamW on dense decoders and disagree by factors: their learning rates hold for their schedule and
their batch. What carries a tuned learning rate from a small model to a large one is a parametrisation (Yang et al.
2022), not a rule.
"""

from collections.abc import Callable
from dataclasses import dataclass

from lmworks.train.planning.scaling_laws import training_flops


@dataclass(frozen=True)
class Suggestion:
    """A peak learning rate and a batch in tokens."""

    learning_rate: float
    batch_tokens: float


@dataclass(frozen=True)
class Rule:
    """`suggest(parameters, tokens)`, of parameters without embeddings; `with_head`: the head's projection counts."""

    suggest: Callable[[float, float], Suggestion]
    source: str
    with_head: bool = False


def _step_law(parameters: float, tokens: float) -> Suggestion:
    return Suggestion(1.79 * parameters**-0.713 * tokens**0.307, 0.58 * tokens**0.571)


def _porian(parameters: float, tokens: float) -> Suggestion:
    return Suggestion(3.7 * parameters**-0.36, 0.7576 * parameters**0.703)


def _deepseek(parameters: float, tokens: float) -> Suggestion:
    flops = training_flops(parameters, tokens)
    return Suggestion(0.3118 * flops**-0.1250, 0.2920 * flops**0.3271)


RULES: dict[str, Rule] = {
    "step-law": Rule(_step_law, "Li et al. 2025, Predictable Scale, part I"),
    "porian": Rule(_porian, "Porian et al. 2024, compute-optimal runs with sequences of 2,048", with_head=True),
    "deepseek": Rule(_deepseek, "Bi et al. 2024, DeepSeek LLM, equation 1"),
}


def transfer_by_width(learning_rate: float, from_width: int, to_width: int) -> float:
    """The learning rate of matrices between hidden layers under Adam in the maximal update parametrisation: inversely
    proportional to their inputs (Yang et al. 2022, table 3). Embeddings, biases and norms keep theirs, and the head
    needs its own scale: see the table."""
    if min(from_width, to_width) < 1:
        raise ValueError(f"widths are 1 or more, got {from_width} and {to_width}")
    return learning_rate * from_width / to_width
