"""GloVe: the definition, in NumPy (Pennington et al. 2014, equations 8 and 9).

    J = sum over pairs with X[i, j] > 0 of  f(X[i, j]) (w_i . w~_j + b_i + b~_j - ln X[i, j])^2

    f(x) = (x / x_max)^alpha  where x < x_max, else 1

is minimised by AdaGrad (Duchi et al. 2011), an entry at a time, with sums of squared gradients that begin at 1, as in
the program of the paper; the gradient is that of J / 2. AdaGrad's step counts the entry's own gradient.
"""

from dataclasses import dataclass

import numpy as np

from lmworks.embeddings.reference import dot


@dataclass(frozen=True, slots=True, eq=False)
class Factors:
    """Both sides of the factorisation: [0] words, [1] the words beside them.

    rows, row_squares      (words, width) float32 each: rows as in `library.zero_rows`
    biases, bias_squares   (words,) float32 each
    """

    rows: tuple[np.ndarray, np.ndarray]
    row_squares: tuple[np.ndarray, np.ndarray]
    biases: tuple[np.ndarray, np.ndarray]
    bias_squares: tuple[np.ndarray, np.ndarray]
    learning_rate: float


def weights(counts: np.ndarray, limit: float, power: float) -> np.ndarray:
    """(n,) float32: f of counts."""
    return (np.minimum(counts / limit, 1.0) ** power).astype(np.float32)


def learn_entries(
    factors: Factors, words: np.ndarray, contexts: np.ndarray, logarithms: np.ndarray, weights: np.ndarray
) -> float:
    """Learns from (n,) entries in order, changing `factors`; returns the sum of their losses, J / 2, each before its
    step."""
    rate = np.float32(factors.learning_rate)
    loss = 0.0
    for word, context, logarithm, weight in zip(words, contexts, logarithms, weights, strict=True):
        row, other = factors.rows[0][word], factors.rows[1][context]
        error = dot(row[None], other)[0] + factors.biases[0][word] + factors.biases[1][context] - logarithm
        factor = weight * error
        loss += 0.5 * float(factor) * float(error)
        gradients = (factor * other, factor * row)
        for side, place in enumerate((word, context)):
            factors.row_squares[side][place] += gradients[side] * gradients[side]
            factors.rows[side][place] -= rate * gradients[side] / np.sqrt(factors.row_squares[side][place])
            factors.bias_squares[side][place] += factor * factor
            factors.biases[side][place] -= rate * factor / np.sqrt(factors.bias_squares[side][place])
    return loss
