"""The kernel that samples tokens against its definition in NumPy; neighbours and threads change no token."""

from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.tables import for_each
from lmworks.kernels import library
from lmworks.kernels.library import Library
from lmworks.kernels.top_p_sampling import RowSampling, sample_token, sample_tokens

LIBRARIES = library.available() or ("portable",)  # as the fixture `kernels`, which hypothesis would make only once


def scores(count: int, seed: int, ties: bool = False, banned: float = 0.0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    values = generator.normal(0, 3, count).astype(np.float32)
    values = np.round(values) if ties else values
    values[generator.random(count) < banned] = -np.inf
    values[generator.integers(count)] = 2.0  # so that something may be sampled
    return values


samplings = st.builds(
    RowSampling,
    uniform=st.floats(0, 1 - 2**-32),
    temperature=st.sampled_from([0.3, 1.0, 1.5, 5.0]),
    top_k=st.sampled_from([0, 0, 1, 5, 40, 700, 5000]),
    typical_p=st.sampled_from([1.0, 1.0, 0.3, 0.9, 0.999]),
    top_p=st.sampled_from([1.0, 1.0, 0.3, 0.9, 0.999]),
    min_p=st.sampled_from([0.0, 0.0, 0.001, 0.1, 1.0]),
)
rows = st.builds(
    scores,
    count=st.sampled_from([1, 15, 16, 17, 255, 256, 257, 1000, 4097]),
    seed=st.integers(0, 2**32),
    ties=st.booleans(),
    banned=st.sampled_from([0.0, 0.5, 0.99]),
)


def library_of(name: str) -> Library:
    loaded = library.load(name)
    assert loaded is not None
    return loaded


@pytest.mark.parametrize("name", LIBRARIES)
@given(row=rows, sampling=samplings)
def test_the_kernel_samples_as_its_definition(name: str, row: np.ndarray, sampling: RowSampling) -> None:
    ((token, log_probability),) = sample_tokens([row], [sampling], library_of(name))
    expected, its_own = sample_token(row, sampling)
    if token == expected and abs(log_probability - its_own) < 1e-5:
        return
    # Weights in float32, off by some 1e-7, may decide otherwise where the uniform number or an edge falls between two
    # tokens. Then a number or a mass that is a little smaller or larger decides so in the definition.
    steps = (-2e-6, 0, 2e-6)
    near = [
        RowSampling(min(max(sampling.uniform + step, 0), 1 - 2**-32), sampling.temperature, sampling.top_k,
                    sampling.typical_p * (1 + other), sampling.top_p * (1 + other), sampling.min_p * (1 + third))
        for step in steps for other in steps for third in steps
    ]  # fmt: skip
    assert token in {sample_token(row, other)[0] for other in near}


@pytest.mark.parametrize("name", LIBRARIES)
@given(st.lists(st.tuples(rows, samplings), min_size=2, max_size=9), st.randoms(use_true_random=False))
def test_rows_do_not_see_each_other(name: str, given: list[tuple[np.ndarray, RowSampling]], random: Random) -> None:
    kernels = library_of(name)
    alone = [sample_tokens([row], [sampling], kernels)[0] for row, sampling in given]
    order = random.sample(range(len(given)), len(given))
    together = sample_tokens([given[n][0] for n in order], [given[n][1] for n in order], kernels)
    assert together == [alone[n] for n in order]


@for_each("truncation", [{"top_k": 300}, {"top_p": 0.4}, {"typical_p": 0.4}, {"min_p": 0.5}, {}])
def test_banned_tokens_are_never_sampled(kernels: Library, truncation: dict) -> None:
    row = scores(3000, seed=1, banned=0.9)
    for part in (0.0, 0.25, 0.5, 1 - 2**-32):
        ((token, log_probability),) = sample_tokens([row], [RowSampling(part, 5.0, **truncation)], kernels)
        assert row[token] > -np.inf and -10 < log_probability <= 0
    nothing = np.full(3000, -np.inf, np.float32)
    assert sample_tokens([nothing, row], [RowSampling(0.5, **truncation)] * 2, kernels)[0] == (0, -np.inf)


@for_each("zero", [0.0, -0.0])
def test_the_two_zeros_are_equal_scores(kernels: Library, zero: float) -> None:
    row = np.full(64, -1.0, np.float32)
    row[[3, 9]], row[5] = 0.0, zero
    found = {sample_tokens([row], [RowSampling(part, top_k=2)], kernels)[0][0] for part in (0.1, 0.3, 0.6, 0.9)}
    assert found == {3, 5}


def test_other_rows_are_refused(kernels: Library) -> None:
    assert sample_tokens([], [], kernels) == []
    for row in (np.zeros(4), np.zeros((1, 4), np.float32), np.zeros(8, np.float32)[::2], np.zeros(0, np.float32)):
        with pytest.raises(ValueError, match="contiguous"):
            sample_tokens([row], [RowSampling(0.5)], kernels)
