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


def _compare(pair: Pair, slow: bool) -> None:
    """All checks of this kind that apply to the case; an error lists those whose difference is too large."""
    names = [
        name for name, check in CHECKS.items() if check.applies(pair.case) and _is_slow(pair.case.name, name) == slow
    ]
    differences = {name: CHECKS[name].measure(pair) for name in names}
    assert not {name: value for name, value in differences.items() if not value <= CHECKS[name].tolerance}


@pytest.mark.parametrize("name", CASES)
def test_parity(name, pair_of):
    _compare(pair_of(name), slow=False)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_parity_in_depth(name, pair_of):
    _compare(pair_of(name), slow=True)
