"""Late interaction against its definition."""

import numpy as np
import pytest

from lmworks.retrieve.late_interaction import late_interaction


def test_late_interaction_is_the_mean_of_the_highest_cosines() -> None:
    generator = np.random.default_rng(0)
    query, passage = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True) for vectors in (
        generator.standard_normal((4, 8)), generator.standard_normal((6, 8))
    ))  # fmt: skip
    expected = sum(max(float(q @ p) for p in passage) for q in query) / 4
    assert late_interaction(query, passage) == pytest.approx(expected, abs=1e-12)
    assert late_interaction(query, np.concatenate([passage, query])) == pytest.approx(1, abs=1e-12)
    assert late_interaction(query, passage[:0]) == 0.0
