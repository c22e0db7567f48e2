"""The critical batch size (McCandlish et al. 2018): what a larger batch saves in steps and costs in tokens.

Below it, twice the batch takes nearly half the steps; above it, the further tokens buy little. The noise scale of the
gradient, which a run measures (`train/noise_scale.py`), predicts it. Free of torch.
"""

from dataclasses import dataclass

# Kaplan et al. 2020, equation 1.4: B_crit(L) = 2e8 tokens / L^(1 / 0.21), for WebText2 and its vocabulary.
_KAPLAN_TOKENS, _KAPLAN_EXPONENT = 2e8, 0.21


@dataclass(frozen=True)
class TradeOff:
    """Steps and examples, in tokens for a language model, to reach one loss (equation 2.11):

        (steps / S_min − 1) (examples / E_min − 1) = 1

    minimum_steps      S_min, with the largest batches; minimum_examples   E_min, with the smallest.
    """

    minimum_steps: float
    minimum_examples: float

    @property
    def critical_batch(self) -> float:
        """B_crit = E_min / S_min (equation 2.12): twice the least steps and twice the least examples."""
        return self.minimum_examples / self.minimum_steps

    def steps(self, batch: float) -> float:
        """S_min (1 + B_crit / batch)."""
        return self.minimum_steps * (1 + self.critical_batch / batch)

    def examples(self, batch: float) -> float:
        """E_min (1 + batch / B_crit)."""
        return self.minimum_examples * (1 + batch / self.critical_batch)


def best_learning_rate(largest: float, batch: float, noise_scale: float) -> float:
    """ε_max / (1 + B_noise / B) (equation 2.6), for SGD: proportional to the batch while noise dominates."""
    return largest / (1 + noise_scale / batch)


def critical_batch_tokens(loss: float) -> float:
    """Tokens, from the loss in nats per token (Kaplan et al. 2020, equation 1.4). It grows as the loss falls, and does
    not depend on the size of the model."""
    if loss <= 0:
        raise ValueError(f"a loss in nats per token is above 0, got {loss}")
    return _KAPLAN_TOKENS / loss ** (1 / _KAPLAN_EXPONENT)
