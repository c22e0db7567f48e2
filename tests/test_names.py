"""The field's words: names of files and in the code, first lines of docstrings, as far as a program can judge them."""

import ast
import re
from collections import Counter
from importlib import import_module
from pathlib import Path

import lmworks

ROOT = Path(lmworks.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
# Files of these names are in many packages.
REPEATED = {"__init__", "__main__", "config", "stage", "stages", "library", "reference"}
TERMS = {
    "checkpointing",
    "decoding",
    "denoising",
    "embedding",
    "grounding",
    "lowering",
    "packing",
    "routing",
    "sampling",
}
TERMS |= {"grounding", "pruning", "scoring", "stopping", "tuning", "upsampling", "winnowing"}
PRIVATE = re.compile(r"(^|_)(told|tells?|telling|whoever|goes_on|going_on)(_|$)")


def test_no_file_name_is_used_twice():
    counts = Counter(file.stem for file in FILES)
    assert {name for name, count in counts.items() if count > 1} <= REPEATED


def test_a_package_exports_no_name_of_a_file_in_it():
    """Once the file is imported, the name would be the module."""
    files = [package for package in ROOT.rglob("__init__.py") if "lazy_exports" in package.read_text("utf-8")]
    assert len(files) > 5
    for file in files:
        package = import_module(".".join(file.parent.relative_to(ROOT.parent).parts))
        assert not {path.stem for path in file.parent.iterdir()} & set(package.__all__), package.__name__


def test_docs_name_files_that_exist():
    """Whole paths, and names alone where they are of Python files, in the pages and in the docstrings."""
    repository = ROOT.parents[1]
    folders = ("src", "tests", "benchmarks", "docs")
    files = {f"/{path.relative_to(repository)}" for folder in folders for path in (repository / folder).rglob("*.py")}
    pages = [*repository.glob("*.md"), *repository.glob("docs/*.md"), *FILES]
    named = {
        (page.name, name)
        for page in pages
        for name in re.findall(r"`((?:[a-z_0-9]+/)*[a-z_0-9]+\.py)`", page.read_text("utf-8"))
    }
    assert not sorted(entry for entry in named if not any(file.endswith(f"/{entry[1]}") for file in files))


def test_file_names_are_nouns():
    last_words = {file.stem.split("_")[-1] for file in FILES}
    assert {word for word in last_words if word.endswith("ing")} <= TERMS


def test_names_and_docstrings_use_the_words_of_the_field():
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    found = []
    for file in FILES:
        place = file.relative_to(ROOT)
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            name = getattr(node, "name", None) or getattr(node, "id", None) or getattr(node, "arg", None)
            if isinstance(name, str) and PRIVATE.search(name):
                found.append(f"{place}:{getattr(node, 'lineno', 1)}: the name {name}")
            first = (ast.get_docstring(node) or "").split(" ")[0] if isinstance(node, documented) else ""
            if first in {"Of", "What", "That"}:
                found.append(f"{place}:{getattr(node, 'lineno', 1)}: a docstring that begins with {first!r}")
    assert not found
