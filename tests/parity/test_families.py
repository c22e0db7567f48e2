"""Every family against `transformers`: each case of `*_cases.py` by each check of `harness.py`."""

from functools import cache

import pytest

pytest.importorskip("transformers")

from decoder_cases import DECODERS
from encoder_cases import ENCODERS
from harness import CHECKS, Pair

CASES = {case.name: case for case in (*DECODERS, *ENCODERS)}


@pytest.fixture(scope="module")
def pair_of(tmp_path_factory):
    return cache(lambda name: Pair(CASES[name], tmp_path_factory.mktemp("pair")))


@pytest.mark.parametrize(
    ("name", "check"), [(c.name, name) for c in CASES.values() for name, check in CHECKS.items() if check.applies(c)]
)
def test_parity(name, check, pair_of):
    assert CHECKS[check].measure(pair_of(name)) <= CHECKS[check].tolerance
