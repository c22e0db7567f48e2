"""Logistic regression on a few standardised features: fitted once, stored as numbers, applied without any library."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

STRENGTH = 0.1  # inverse of the L2 penalty: strong, because a calibration split has tens of questions, not thousands


@dataclass(frozen=True, slots=True)
class Logistic:
    """P(outcome) = sigmoid(bias + weights · (features - mean) / scale)."""

    names: tuple[str, ...]
    mean: tuple[float, ...]
    scale: tuple[float, ...]
    weights: tuple[float, ...]
    bias: float

    def probability(self, features: np.ndarray) -> np.ndarray:
        """(n, features) -> (n,) in (0, 1)."""
        standard = (features - np.asarray(self.mean)) / np.asarray(self.scale)
        return 1.0 / (1.0 + np.exp(-(self.bias + standard @ np.asarray(self.weights))))


def fit(features: np.ndarray, outcomes: Sequence[bool], names: Sequence[str], strength: float = STRENGTH) -> Logistic:
    """Fit by L2-penalised maximum likelihood; ValueError when all outcomes are the same."""
    from sklearn.linear_model import LogisticRegression

    if len(set(outcomes)) < 2:
        raise ValueError(f"all {len(outcomes)} outcomes are {outcomes[0] if len(outcomes) else 'missing'}")
    mean, scale = features.mean(axis=0), features.std(axis=0)
    scale = np.where(scale > 0, scale, 1.0)
    model = LogisticRegression(C=strength).fit((features - mean) / scale, np.asarray(outcomes))
    return Logistic(
        names=tuple(names),
        mean=tuple(mean.tolist()),
        scale=tuple(scale.tolist()),
        weights=tuple(model.coef_[0].tolist()),
        bias=float(model.intercept_[0]),
    )


def cross_fit(
    rows: Sequence[np.ndarray], outcomes: Sequence[Sequence[bool]], names: Sequence[str], folds: int = 10
) -> list[Logistic]:
    """For each group of rows (a question), the model fitted on the groups of the other folds.

    Groups are dealt to the folds by whether they hold a positive outcome, so that every fold has its share of both.
    """
    order = sorted(range(len(rows)), key=lambda group: any(outcomes[group]))
    fold_of = {group: rank % folds for rank, group in enumerate(order)}
    models: dict[int, Logistic] = {}
    for fold in sorted(set(fold_of.values())):
        training_groups = [group for group in range(len(rows)) if fold_of[group] != fold]
        seen = [outcome for group in training_groups for outcome in outcomes[group]]
        models[fold] = fit(np.vstack([rows[group] for group in training_groups]), seen, names)
    return [models[fold_of[group]] for group in range(len(rows))]
