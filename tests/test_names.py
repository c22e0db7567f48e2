"""The field's words: file names, as far as a program can judge them."""

import re
from collections import Counter
from pathlib import Path

import lmworks

ROOT = Path(lmworks.__file__).parent
FILES = sorted(file for file in ROOT.rglob("*.py") if "data" not in file.relative_to(ROOT).parts)
REPEATED = {"__init__", "__main__", "config", "stage", "library", "reference"}  # a file of this name in many packages
TERMS = {"checkpointing", "decoding", "denoising", "embedding", "lowering", "packing", "routing", "sampling", "scoring"}


def test_no_file_name_is_used_twice():
    counts = Counter(file.stem for file in FILES)
    assert {name for name, count in counts.items() if count > 1} <= REPEATED


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
