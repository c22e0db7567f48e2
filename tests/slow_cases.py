"""Cases of a parametrised test that the quick suite leaves out."""

from typing import Any

import pytest


def slow(*cases: object) -> list[Any]:
    """Cases for `make test-all` alone; a tuple holds the values of several arguments."""
    return [pytest.param(*(c if isinstance(c, tuple) else (c,)), marks=pytest.mark.slow) for c in cases]
