"""Every test of a kernel runs with every library that this machine can run."""

from collections.abc import Iterator

import pytest

from lmworks.kernels import library
from lmworks.kernels.library import Library


@pytest.fixture(params=library.available() or ["portable"])  # without any, the tests fail and say why
def kernels(request: pytest.FixtureRequest) -> Iterator[Library]:
    loaded = library.load(request.param)
    assert loaded is not None
    threads = loaded.threads
    loaded.set_threads(2)
    yield loaded
    loaded.set_threads(threads)
