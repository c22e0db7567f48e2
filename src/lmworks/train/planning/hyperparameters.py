"""Learning rate and batch size: published rules, and the critical batch size. Free of torch.

The rules were fitted with AdamW on dense decoders and disagree by factors: they say where to start a search. What
carries a tuned learning rate from a small model to a large one is a parametrisation (Yang et al. 2022), not a rule.

Below the critical batch size (McCandlish et al. 2018) twice the batch takes nearly half the steps; above it, further
tokens buy little.
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


# Kaplan et al. 2020, equation 1.4: B_crit(L) = 2e8 tokens / L^(1 / 0.21), for WebText2 and its vocabulary.
_KAPLAN_TOKENS, _KAPLAN_EXPONENT = 2e8, 0.21


def critical_batch_tokens(loss: float) -> float:
    """Tokens, from the loss in nats per token (Kaplan et al. 2020, equation 1.4). It grows as the loss falls, and does
    not depend on the size of the model."""
    if loss <= 0:
        raise ValueError(f"a loss in nats per token is above 0, got {loss}")
    return _KAPLAN_TOKENS / loss ** (1 / _KAPLAN_EXPONENT)
