"""Fixtures of all tests of training."""

import pytest

from training_cases import write_text_dataset


@pytest.fixture(scope="session")
def text_dataset(tmp_path_factory):
    return write_text_dataset(tmp_path_factory.mktemp("text") / "tokens")
