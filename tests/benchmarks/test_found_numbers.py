"""What a benchmark found has a place to go before it takes its time."""

import sys

import first_steps
import objectives_on_text
import pytest

from kit.tables import for_each


@for_each("benchmark", [first_steps, objectives_on_text])
def test_the_folder_of_what_is_found_is_made_first(benchmark, tmp_path, monkeypatch):
    found = tmp_path / "missing" / "found.json"
    monkeypatch.setattr(sys, "argv", ["benchmark", "--data", str(tmp_path / "nowhere"), "--json", str(found)])
    with pytest.raises(FileNotFoundError, match="nowhere"):
        benchmark.main()
    assert found.parent.is_dir()
