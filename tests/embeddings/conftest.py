"""A small real text, and what runs where nothing was compiled."""

import numpy as np
import pytest

from lmworks.embeddings import library


@pytest.fixture
def uncompiled(monkeypatch):
    monkeypatch.setattr(library, "load", lambda: None)


@pytest.fixture(scope="session")
def sentences() -> list[list[str]]:
    """2,000 sentences over 60 words with unequal frequencies, in which each word likes the company of its like."""
    generator = np.random.default_rng(7)
    words = np.array([f"w{number}" for number in range(60)])
    made = []
    for _ in range(2000):
        share = 1 / (1 + np.arange(20)) ** 0.8
        places = generator.choice(20, size=generator.integers(2, 14), p=share / share.sum())
        made.append(words[places * 3 + generator.integers(3)].tolist())
    return made
