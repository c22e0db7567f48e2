"""Permutations: each place once, no order likelier than another, and the same values for ever."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from lmworks.corpus.dedup.hashes import mix
from lmworks.data.shuffle import Permutation


@given(st.integers(1, 2**62), st.lists(st.integers(0, 2**62 - 1), max_size=20, unique=True))
def test_any_places_of_any_size(size, places):
    places = np.array([place for place in places if place < size], np.int64)
    found = Permutation(size, "key")(places).tolist()
    assert len(set(found)) == len(places) and all(0 <= value < size for value in found)
    assert found == [int(Permutation(size, "key")(places[i : i + 1])[0]) for i in range(len(places))]


def test_the_values_of_today():
    """A saved position in a stream is worth nothing once these change."""
    assert Permutation(10, "0 0 web")(np.arange(10)).tolist() == [9, 1, 4, 0, 5, 2, 6, 3, 8, 7]
    assert mix(np.array([0, 1, 2**64 - 1], np.uint64)).tolist() == [0, 6238072747940578789, 13029008266876403067]


def test_places_and_neighbours_of_many_are_uniform():
    size, keys = 61, 400
    found = np.stack([Permutation(size, f"seed {key}")(np.arange(size)) for key in range(keys)])
    where = np.zeros((size, size))
    np.add.at(where, (np.tile(np.arange(size), keys), found.ravel()), 1)
    assert chisquare(where.ravel()).pvalue > 1e-4
    steps = np.diff(found, axis=1).ravel() % size  # of a uniform order, each step but 0 is equally likely
    assert chisquare(np.bincount(steps, minlength=size)[1:]).pvalue > 1e-4
