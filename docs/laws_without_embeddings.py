"""Scaling laws as who counts no embeddings sees them (Pearce & Song 2024): why Kaplan et al. found another exponent."""

import math
from collections.abc import Callable

from lmworks.config import positive
from lmworks.train.planning.scaling_laws import FLOPS_PER_PARAMETER_AND_TOKEN, Allocation, ParametricLaw

# Section 3: their fit to the sizes of Hoffmann et al. 2022, whose vocabulary has 32,000 tokens.
CHINCHILLA_EMBEDDING_FACTOR = 47_491.0


def total_parameters(without_embeddings: float, embedding_factor: float) -> float:
    """N from the parameters without embeddings: N + factor · N^(1/3) (Pearce & Song 2024, section 3).

    At a fixed ratio of width to layers, embeddings grow like the width, and so like the cube root of the rest. The
    factor is `embedding_factor_of(vocabulary, aspect_ratio)`.
    """
    return without_embeddings + embedding_factor * without_embeddings ** (1 / 3)


def embedding_factor_of(vocabulary: int, aspect_ratio: float) -> float:
    """vocabulary · width / N^(1/3) for N = 12 · layers · width² and layers = width / aspect_ratio."""
    return vocabulary * (aspect_ratio / 12) ** (1 / 3)


def parameters_without_embeddings(parameters: float, embedding_factor: float) -> float:
    """The inverse of `total_parameters`: the real root of n³ + factor · n = N for n = (N without embeddings)^(1/3)."""
    positive(parameters=parameters)
    n = _rising_root(lambda n: n**3 + embedding_factor * n - parameters, 0.0, 2 * parameters ** (1 / 3))
    return n**3


def exponent_without_embeddings(law: ParametricLaw, without_embeddings: float, embedding_factor: float) -> float:
    """The local exponent g of N ∝ C^g that `law`, a law of all parameters, shows to who counts neither the embeddings
    in N nor their operations in C (Pearce & Song 2024, section 3.1).

    With T = n + γ n^(1/3) parameters in all, the least loss at C = 6 n D has D^beta = (beta B / alpha A) ·
    T^(alpha + 1) / (n T'), so that

        d ln C / d ln n = 1 + 1/beta · [(alpha + 1) · n T' / T − 1 − n T'' / T']

    and g is its inverse: 1 / (1 + alpha / beta) for large models, 1 / (1 + alpha / (3 beta)) for small ones.
    """
    n, gamma = without_embeddings, embedding_factor
    total, slope = total_parameters(n, gamma), 1 + gamma / 3 * n ** (-2 / 3)
    curvature = -2 / 9 * gamma * n ** (-5 / 3)
    return 1 / (1 + ((law.alpha + 1) * n * slope / total - 1 - n * curvature / slope) / law.beta)


def allocate_without_embeddings(law: ParametricLaw, flops: float, embedding_factor: float) -> Allocation:
    """The advice of `law` where neither embeddings nor their operations are counted: least loss at 6 n D = `flops`; the
    `parameters` are n, without embeddings (Pearce & Song 2024, section 3)."""
    positive(flops=flops)

    def imbalance(log_n: float) -> float:
        """Difference of the logarithms of the two marginal losses; rises with n."""
        n = math.exp(log_n)
        slope = n + embedding_factor / 3 * n ** (1 / 3)  # of the total by ln n
        tokens = flops / (FLOPS_PER_PARAMETER_AND_TOKEN * n)
        by_size = law.alpha * law.A * total_parameters(n, embedding_factor) ** (-law.alpha - 1) * slope
        return math.log(law.beta * law.B / tokens**law.beta) - math.log(by_size)

    n = math.exp(_rising_root(imbalance, 0.0, math.log(flops)))
    tokens = flops / (FLOPS_PER_PARAMETER_AND_TOKEN * n)
    return Allocation(n, tokens, flops, law.loss(total_parameters(n, embedding_factor), tokens))


def _rising_root(function: Callable[[float], float], low: float, high: float) -> float:
    from scipy.optimize import brentq

    return float(brentq(function, low, high, xtol=1e-14, rtol=1e-14))  # pyright: ignore[reportArgumentType]
