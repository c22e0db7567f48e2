"""What every Python that a test starts runs first, because `tests/conftest.py` puts this folder on its path."""

import loopback  # noqa: F401 - importing it is the point
