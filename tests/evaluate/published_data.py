"""Where published data sets lie, if they do: tests that read them skip elsewhere."""

import os
from pathlib import Path

import pytest

_BESIDE = Path(__file__).parents[3] / "shared" / "data"  # of the repository, where benchmarks look as well
DATA = Path(os.environ.get("LMWORKS_SHARED_DATA", _BESIDE))
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="no data sets where LMWORKS_SHARED_DATA says")
