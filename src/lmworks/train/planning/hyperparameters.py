"""Learning rate and batch size: published rules, and the critical batch size. Free of torch.

The rules were fitted with AdamW on dense decoders and disagree by factors: they say where to start a search. What
carries a tuned learning rate from a small model to a large one is a parametrisation (Yang et al. 2022), not a rule.

Below the critical batch size (McCandlish et al. 2018) twice the batch takes nearly half the steps; above it, further
tokens buy little.
"""

from collections.abc import Callable
from dataclasses import dataclass

from lmworks.config import positive
from lmworks.train.planning.scaling_laws import training_flops


@dataclass(frozen=True)
class Suggestion:
    """A peak learning rate and a batch in tokens."""

    learning_rate: float
    batch_tokens: float


@dataclass(frozen=True)
class Rule:
    """`suggest(n, d)`, of n parameters without embeddings and d tokens; `with_head`: the head's projection counts."""

    suggest: Callable[[float, float], Suggestion]
    source: str
    with_head: bool = False


RULES: dict[str, Rule] = {
    "step-law": Rule(
        lambda n, d: Suggestion(1.79 * n**-0.713 * d**0.307, 0.58 * d**0.571),
        "Li et al. 2025, Predictable Scale, part I",
    ),
    "porian": Rule(
        lambda n, d: Suggestion(3.7 * n**-0.36, 0.7576 * n**0.703),
        "Porian et al. 2024, compute-optimal runs with sequences of 2,048",
        with_head=True,
    ),
    "deepseek": Rule(
        lambda n, d: Suggestion(0.3118 * training_flops(n, d) ** -0.1250, 0.2920 * training_flops(n, d) ** 0.3271),
        "Bi et al. 2024, DeepSeek LLM, equation 1",
    ),
}


# Kaplan et al. 2020, equation 1.4: B_crit(L) = 2e8 tokens / L^(1 / 0.21), for WebText2 and its vocabulary.
_KAPLAN_TOKENS, _KAPLAN_EXPONENT = 2e8, 0.21


def critical_batch_tokens(loss: float) -> float:
    """Tokens, from the loss in nats per token (Kaplan et al. 2020, equation 1.4). It grows as the loss falls, and does
    not depend on the size of the model."""
    positive(loss=loss)
    return _KAPLAN_TOKENS / loss ** (1 / _KAPLAN_EXPONENT)
