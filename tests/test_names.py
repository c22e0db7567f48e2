"""The field's words: file names, as far as a program can judge them."""

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


def test_file_names_are_nouns():
    last_words = {file.stem.split("_")[-1] for file in FILES}
    assert {word for word in last_words if word.endswith("ing")} <= TERMS
