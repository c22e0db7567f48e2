"""The gradient noise scale: the batch size, in targets, above which more data a step saves few steps (McCandlish et al.
2018, "An Empirical Model of Large-Batch Training").

A gradient over B targets has the expected squared norm |G|² + tr(Σ) / B, where G is the true gradient and Σ the
covariance of a single target's (equation 2.4). The norms at two sizes, those of the first part of a step and of the
whole step, give both unknowns (appendix A.1), and B_simple = tr(Σ) / |G|².
"""

from dataclasses import dataclass
from typing import Any


@dataclass
class NoiseScale:
    """Running means over about `memory` steps of the two estimates, whose ratio is the scale: the mean of their ratios
    would be biased, and a single estimate may be negative."""

    memory: int = 100
    signal: float = 0.0  # |G|²
    noise: float = 0.0  # tr(Σ)
    seen: int = 0

    def add(self, small: tuple[float, float], large: tuple[float, float]) -> None:
        """(targets, squared norm of the mean gradient over them) of a part and of the whole of one step."""
        (few, small_norm), (many, large_norm) = small, large
        noise = (small_norm - large_norm) / (1 / few - 1 / many)
        signal = large_norm - noise / many
        self.seen += 1
        weight = max(1 / self.memory, 1 / self.seen)
        self.noise += weight * (noise - self.noise)
        self.signal += weight * (signal - self.signal)

    @property
    def value(self) -> float | None:
        """B_simple in targets; None while the estimates are not both positive."""
        return self.noise / self.signal if self.noise > 0 and self.signal > 0 else None

    def state(self) -> dict[str, Any]:
        return {"signal": self.signal, "noise": self.noise, "seen": self.seen}


def batch_multiple(scale: float | None, targets: float, share: float, now: int, most: int) -> int:
    """The number of batches, of `targets` targets each, that a step should take: `share` of the noise scale, in powers
    of two of what it takes `now`, never fewer, at most twice as many, and at most `most`."""
    wanted = 0.0 if scale is None else share * scale / targets
    return min(2 * now, most) if wanted >= 2 * now else now
