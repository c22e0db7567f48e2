"""Every family against `transformers`: each case of `*_cases.py` by each check of `harness.py`.

In the quick suite a variant of a family, whose name has a comma, is checked by `OF_VARIANTS` alone.
"""

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


OF_VARIANTS = ("logits fp32", "written anew", "saved weights")


def _is_slow(case: str, check: str) -> bool:
    return check == "longer generation" or ("," in case and check not in OF_VARIANTS)


@pytest.mark.parametrize(
    ("name", "check"),
    [
        pytest.param(case.name, name, marks=[pytest.mark.slow] * _is_slow(case.name, name))
        for case in CASES.values()
        for name, check in CHECKS.items()
        if check.applies(case)
    ],
)
def test_parity(name, check, pair_of):
    assert CHECKS[check].measure(pair_of(name)) <= CHECKS[check].tolerance
