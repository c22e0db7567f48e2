"""Random numbers and what is drawn by them."""

import numpy as np
import pytest
from scipy.stats import chisquare

from lmworks.embeddings.negative_sampling import Noise, Random, keep_limits, noise, stream_seed


def test_random_numbers_are_splitmix64():
    """The first outputs for seed 1234567, as the algorithm's reference implementation prints them."""
    expected = [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]
    random = Random(1234567)
    assert [*random.draw(2).tolist(), *random.draw(3).tolist()] == expected


def test_streams_differ():
    seeds = {stream_seed(a, b, c) for a in range(4) for b in range(4) for c in range(16)}
    assert len(seeds) == 256 and stream_seed(1, 2, 3) == stream_seed(1, 2, 3)


def share(table: Noise) -> np.ndarray:
    """The probability of each word, from the table itself: no sampling error."""
    own = (table.limits.astype(np.float64) + 1) / 2**32
    result = own.copy()
    np.add.at(result, table.others, 1 - own)
    return result / len(own)


@pytest.mark.parametrize("power", [0.0, 0.75, 1.0])
def test_noise_has_the_distribution_of_the_paper(power):
    counts = np.array([100_000, 5000, 300, 300, 17, 1, 1], np.int64)
    wanted = counts**power / (counts**power).sum()
    np.testing.assert_allclose(share(noise(counts, power)), wanted, atol=2e-9)  # limits have 32 bits


def test_draws_follow_the_table():
    counts = np.array([500, 90, 30, 4], np.int64)
    drawn = np.bincount(noise(counts, 0.75).draw(Random(3).draw(200_000)), minlength=4)
    wanted = counts**0.75 / (counts**0.75).sum() * 200_000
    assert chisquare(drawn, wanted).pvalue > 0.001  # the seed is fixed


def test_frequent_words_are_kept_as_equation_5_says():
    counts = np.array([900_000, 99_000, 1000], np.int64)
    kept = (keep_limits(counts, 1e-3).astype(np.float64) + 1) / 2**32
    np.testing.assert_allclose(kept, np.minimum(1, np.sqrt(1e-3 / (counts / 1e6))), atol=1e-9)
    assert (keep_limits(counts, 0) == 2**32 - 1).all()
