"""How the weights of `lmworks.corpus.extract.main_content` are found: logistic regression on the tuning half.

    .venv/bin/python -m contenders.web_training --data ../shared/data    # in the folder benchmarks

Prints the cross-validated score of the tuning half (folds of whole pages), then the weights of all its pages.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from contenders.articles import Page, Quality, matches, quality, read_pages, shingles
from lmworks.corpus.extract.html_to_markdown import parse_html
from lmworks.corpus.extract.main_content import ASKS, WEIGHTS, decide
from lmworks.corpus.extract.text_blocks import Block, TextBlocks, asks, features, text_blocks

FOLDS, REPEATS = 6, 5
STRENGTH = 10.0  # the inverse of the regularisation's weight
_SHORT, _FEW, _RUNNING = 10, 8, 5  # words


@dataclass(frozen=True, slots=True)
class Labelled:
    """A page of the tuning half as blocks with all features, whether each is in the article, and its weight."""

    page: Page
    blocks: TextBlocks
    features: NDArray[np.float64]
    labels: NDArray[np.float64]
    weights: NDArray[np.float64]

    @property
    def table(self) -> NDArray[np.float64]:
        table = self.features.copy()
        table[:, ASKS] = [asks(block.text) for block in self.blocks.blocks]
        return table


def read_labelled(page: Page) -> Labelled:
    found = text_blocks(parse_html(page.raw.decode("utf-8", "replace")))
    labels = labels_of(page, found.blocks)
    # A block weighs as much as its share of the page's article: each page counts about the same.
    weights = np.array([min(len(block.text.split()), 60) + 2 for block in found.blocks]) / max(
        1, len(page.body.split())
    )
    return Labelled(page, found, features(found), labels, weights)


def labels_of(page: Page, blocks: Sequence[Block]) -> NDArray[np.float64]:
    """Whether most of the rows of four words of each block are in the article.

    A block of few words is in it where its words stand there in a row, and where it stands among longer ones that are:
    a menu has many words of the article.
    """
    body = shingles(page.body)
    running = f" {' '.join(page.body.split())} "
    labels: list[bool] = []
    for block in blocks:
        own, words = shingles(block.text), len(block.text.split())
        if words < _RUNNING:
            labels.append(f" {block.text} " in running or (words >= 3 and block.text in running))
        else:
            labels.append(bool(own) and sum((own & body).values()) >= 0.5 * own.total())
    lengths = [len(block.text.split()) for block in blocks]
    long = [number for number, label in enumerate(labels) if label and lengths[number] >= _SHORT]
    return np.array([
        float(label and (not long or lengths[number] >= _FEW or long[0] <= number <= long[-1]))
        for number, label in enumerate(labels)
    ])  # fmt: skip


def fit(pages: Sequence[Labelled], strength: float) -> NDArray[np.float64]:
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=strength, max_iter=3000, fit_intercept=False)
    return model.fit(
        np.concatenate([page.table for page in pages]),
        np.concatenate([page.labels for page in pages]),
        sample_weight=np.concatenate([page.weights for page in pages]),
    ).coef_[0]


def score_of(page: Labelled, weights: NDArray[np.float64]) -> tuple[float, float]:
    kept = decide(page.blocks, page.features, weights.tolist())
    return matches(page.page.body, "\n".join(page.blocks.blocks[at].text for at in np.flatnonzero(kept).tolist()))


def folds(pages: int, seed: int) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    order = np.random.default_rng(seed).permutation(pages)
    for fold in range(FOLDS):
        held = order[fold::FOLDS]
        yield np.setdiff1d(order, held), held


def cross_validated(pages: Sequence[Labelled], strength: float) -> Quality:
    """The mean over repeats."""
    found = np.zeros((REPEATS, len(pages), 2))
    for repeat in range(REPEATS):
        for rest, held in folds(len(pages), repeat):
            weights = fit([pages[number] for number in rest], strength)
            for number in held:
                found[repeat, number] = score_of(pages[number], weights)
    each = [quality(one) for one in found]
    precision, recall, f1 = np.mean([(one.precision, one.recall, one.f1) for one in each], axis=0)
    return Quality(float(precision), float(recall), float(f1))


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--data", type=Path, default=Path("../shared/data"))
    options = arguments.parse_args()
    pages = [read_labelled(page) for page in read_pages(options.data / "article-extraction") if page.for_tuning]
    for strength in (STRENGTH / 3, STRENGTH, STRENGTH * 3):
        found = cross_validated(pages, strength)
        print(f"strength {strength:.0f}: P {found.precision:.4f} R {found.recall:.4f} F1 {found.f1:.4f}")
    for name, weight in zip(WEIGHTS, fit(pages, STRENGTH), strict=True):
        print(f'    "{name}": {weight:.2f},')


if __name__ == "__main__":
    main()
