"""Optional dependencies: one error that names the extra, for imports of lmworks alone."""

import importlib.metadata
import sys
import tomllib
from pathlib import Path

import pytest

from kit.tables import for_each
from lmworks.extras import extra_of

PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text("utf-8"))["project"]
REQUIREMENTS = [
    f'{requirement}; extra == "{extra}"'
    for extra, requirements in PROJECT["optional-dependencies"].items()
    for requirement in requirements
]


@pytest.fixture(autouse=True)
def metadata(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.metadata, "requires", lambda _: REQUIREMENTS)


@for_each(
    ("module", "extra"),
    [("fastapi", "serve"), ("mammoth", "corpus"), ("sacrebleu", "evaluate"), ("sklearn", "corpus"), ("ray", "ray"),
     ("reasoning_gym", "reasoning"), ("numpy", ""), ("nowhere", "")],
)  # fmt: skip
def test_a_module_has_its_extra(module: str, extra: str) -> None:
    assert extra_of(module) == extra


def test_a_missing_package_names_the_extra_to_lmworks_and_to_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "mammoth"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "path", [])
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'lmworks\[corpus\]'"):
        exec("import mammoth", {"__name__": "lmworks.corpus.extract"})
    with pytest.raises(ModuleNotFoundError, match="No module named"):
        exec("import mammoth", {"__name__": "elsewhere"})
