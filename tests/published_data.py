"""Published data sets: `../shared/data` beside the repository, or the folder that LMWORKS_SHARED_DATA names.

A test that reads them is marked `data`; where the folder is absent it is left out, see `conftest.py`.
"""

import os
from pathlib import Path

import pytest

DATA = Path(os.environ.get("LMWORKS_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data"))
needs_data = pytest.mark.data
