"""Late interaction against its definition, and what storing token vectors loses."""

import numpy as np
import pytest

from lmworks.retrieve.late_interaction import from_int8, late_interaction, principal_axes, project, to_int8


def rows(count: int, width: int, seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).standard_normal((count, width))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_late_interaction_is_the_mean_of_the_highest_cosines() -> None:
    query, passages = rows(4, 8), [rows(6, 8, 1), rows(1, 8, 2), rows(0, 8), rows(3, 8, 3)]
    expected = [sum(max((float(q @ p) for p in passage), default=0.0) for q in query) / 4 for passage in passages]
    assert late_interaction(query, passages).tolist() == pytest.approx(expected, abs=1e-12)
    assert late_interaction(query, [np.concatenate([passages[0], query])]) == pytest.approx(1, abs=1e-12)
    assert late_interaction(query[:0], passages).tolist() == [0] * 4


def test_stored_vectors_keep_their_directions() -> None:
    vectors = rows(500, 24)
    # a component is at most the row's largest, which 127 steps divide: half a step of each of 24 components
    cosines = (from_int8(to_int8(vectors)) * vectors).sum(axis=1)
    assert cosines.min() > 1 - 24 * (0.5 / 127) ** 2
    plane = rows(100, 3) @ rows(3, 24, 1)  # all in three dimensions: three axes keep every cosine
    axes = principal_axes(plane, 3)
    assert axes.T @ axes == pytest.approx(np.eye(3), abs=1e-6)
    projected, whole = project(plane, axes), plane / np.linalg.norm(plane, axis=1, keepdims=True)
    assert projected @ projected.T == pytest.approx(whole @ whole.T, abs=1e-5)
