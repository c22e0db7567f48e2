"""Article pages with their bodies, and the score of scrapinghub/article-extraction-benchmark (evaluate.py)."""

import gzip
import hashlib
import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from lxml import html
from numpy.typing import NDArray

_TOKEN = re.compile(r"\w+")
_SHINGLE = 4  # tokens


@dataclass(frozen=True, slots=True)
class Page:
    """One page of the benchmark."""

    name: str
    raw: bytes
    body: str  # what people have marked as the article

    @property
    def for_tuning(self) -> bool:
        """Half of the pages, by the first hex digit of the name's SHA-256: what weights may be chosen on."""
        return int(hashlib.sha256(self.name.encode()).hexdigest()[0], 16) % 2 == 0


def read_pages(folder: Path) -> list[Page]:
    """The pages of the folder that have a body, in the order of their names."""
    bodies = json.loads(gzip.decompress((folder / "ground-truth.json.gz").read_bytes()))
    files = sorted(folder.glob("*.html.gz"))
    names = [(file.name.removesuffix(".html.gz"), file) for file in files]
    return [
        Page(name, gzip.decompress(file.read_bytes()), bodies[name]["articleBody"])
        for name, file in names
        if name in bodies
    ]


def read_expected(folder: Path) -> list[Page]:
    """Pages `NAME/source.html` with their bodies, `NAME/expected.html`: the form of mozilla/readability's tests."""
    files = sorted(folder.glob("*/source.html"))
    bodies = [html.document_fromstring(file.with_name("expected.html").read_text("utf-8")) for file in files]
    return [
        Page(file.parent.name, file.read_bytes(), "\n".join(body.itertext()))
        for file, body in zip(files, bodies, strict=True)
    ]


def shingles(text: str) -> Counter[tuple[str, ...]]:
    """How often each four tokens in a row occur; a text of fewer is one shingle."""
    tokens = _TOKEN.findall(text)
    if not tokens:
        return Counter()
    return Counter(tuple(tokens[at : at + _SHINGLE]) for at in range(max(1, len(tokens) - _SHINGLE + 1)))


def matches(body: str, found: str) -> tuple[float, float]:
    """Precision and recall of one page; NaN where the page has no part in the mean: nothing found, nothing to find."""
    true, predicted = shingles(body), shingles(found)
    hits = sum((true & predicted).values())
    precision = hits / predicted.total() if predicted else np.nan
    return precision, hits / true.total() if true else np.nan


@dataclass(frozen=True, slots=True)
class Quality:
    """Means over pages, and F1 from these means."""

    precision: float
    recall: float
    f1: float


def quality(pages: NDArray[np.float64]) -> Quality:
    """Of rows `(precision, recall)`."""
    precision, recall = (float(value) for value in np.nanmean(pages, axis=0))
    return Quality(precision, recall, f1(precision, recall))


def f1(precision: float, recall: float) -> float:
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def difference_interval(
    first: NDArray[np.float64], second: NDArray[np.float64], samples: int = 5000, seed: int = 0
) -> tuple[float, float, float]:
    """F1 of the first less that of the second, with the 95 % interval of a bootstrap that draws pages in pairs."""
    rng = np.random.default_rng(seed)
    values: list[float] = []
    for _ in range(samples):
        drawn = rng.integers(0, len(first), len(first))
        values.append(quality(first[drawn]).f1 - quality(second[drawn]).f1)
    low, high = np.quantile(values, (0.025, 0.975))
    return quality(first).f1 - quality(second).f1, float(low), float(high)


def score(pages: Sequence[Page], found: Sequence[str]) -> NDArray[np.float64]:
    return np.array([matches(page.body, text) for page, text in zip(pages, found, strict=True)])
