"""Docstrings under signatures, checked against Python's own `inspect` on modules that are really imported."""

import importlib
import inspect
from pathlib import Path

import pytest

from kit.tables import for_each
from lmworks.corpus.documents import UnusableError
from lmworks.corpus.sources.docstrings import extract_docstrings, module_name

SOURCE = b'''"""About the module.

## not a heading
"""
import sys

class A(Base, metaclass=Meta):
    def documented(self, x: int = 1, *rest, key="a\\n", **more) -> str:
        """Does it.

            Indented.
        Back.
        """
    def silent(self): pass
    class Inner:
        "Inside."
        async def wait(self): "Waits."

class Silent:
    def silent(self): pass

if sys.platform:
    def conditional(): "Under if."
try:
    import fast
except ImportError:
    def fallback(): "Under except."
'''


def test_headings_signatures_and_cleaned_docstrings() -> None:
    extracted = extract_docstrings(SOURCE, "pkg.mod")
    assert [line for line in extracted.text.split("\n") if line.startswith("#")] == [
        "# module pkg.mod", "## not a heading", "## class A(Base, metaclass=Meta)",
        "### A.documented(self, x: int=1, *rest, key='a\\n', **more) -> str", "### class A.Inner",
        "#### async A.Inner.wait(self)", "## conditional()", "## fallback()",
    ]  # fmt: skip
    assert "-> str\n\nDoes it.\n\n    Indented.\nBack.\n\n### class A.Inner\n\nInside.\n" in extracted.text
    offsets = [int(offset) for offset in extracted.metadata["headings"].split()]
    headings = [extracted.text[offset:].split("\n")[0] for offset in offsets]
    assert len(headings) == 7 and all(heading.startswith("#") for heading in headings)
    assert "## not a heading" not in headings


@for_each("name", ["json.decoder", "argparse", "textwrap", "configparser"])
def test_every_docstring_of_a_real_module_is_there(name: str) -> None:
    module = importlib.import_module(name)
    text = extract_docstrings(Path(inspect.getfile(module)).read_bytes(), name).text
    classes = [value for value in vars(module).values() if inspect.isclass(value) and value.__module__ == name]
    functions = [value for owner in [module, *classes] for value in vars(owner).values() if inspect.isfunction(value)]
    documented = [value for value in [*classes, *functions] if value.__doc__ and value.__module__ == name]
    assert len(documented) > 3
    for value in documented:
        heading = f"class {value.__qualname__}" if inspect.isclass(value) else f"{value.__qualname__}("
        assert f"# {heading}" in text
        assert inspect.cleandoc(value.__doc__ or "").strip() in text


def test_odd_bytes() -> None:
    assert extract_docstrings(b'"""before \\ud800 after"""', "m").text == "# module m\n\nbefore \ufffd after\n"
    extracted = extract_docstrings('# coding: koi8-r\n"""Привет"""'.encode("koi8-r"), "m")
    assert "Привет" in extracted.text and extracted.metadata["encoding"] == "koi8-r"


@for_each("raw", [b"x = 1", b'"""   """', b"def f(:", b"\0", b"# coding: nonsense\n'x'", b"(" * 5000])
def test_what_documents_nothing_is_refused(raw: bytes) -> None:
    with pytest.raises(UnusableError):
        extract_docstrings(raw, "m")


def test_modules_have_the_names_that_users_know() -> None:
    names = [module_name(Path(f"json/{name}.py")) for name in ("decoder", "__init__")]
    assert names == ["json.decoder", "json"]
