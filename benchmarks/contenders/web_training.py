"""How the weights of `lmworks.data.web.choosing` are found: logistic regression on the tuning half of the pages.

    .venv/bin/python -m contenders.web_training --data ../shared/data    # in the folder benchmarks

Prints the cross-validated score of the tuning half (folds of whole pages), then the weights of all its pages.
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from contenders.articles import Page, matches, quality, read_pages, shingles
from lmworks.data.web.blocks import Block, blocks_of, parse
from lmworks.data.web.choosing import agreement_of, decide
from lmworks.data.web.features import NAMES, WITH_AGREEMENT, features

FOLDS, REPEATS = 6, 5
STRENGTH = 10.0  # the inverse of the regularisation's weight


def labelled(page: Page, blocks: Sequence[Block]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Whether most of a block is in the article, and its weight: its share of the page's article.

    A block of few words counts as in the article where its words stand there in a row.
    """
    body = shingles(page.body)
    running = f" {' '.join(page.body.split())} "
    labels, weights = [], []
    for block in blocks:
        own = shingles(block.text)
        words = len(block.text.split())
        if words < 5:
            labels.append(float(block.text in running))
        else:
            labels.append(float(bool(own) and sum((own & body).values()) >= 0.5 * own.total()))
        weights.append(min(words, 60) + 2)
    return np.array(labels), np.array(weights) / max(1, len(page.body.split()))


def fit(x: NDArray[np.float64], y: NDArray[np.float64], weights: NDArray[np.float64], strength: float) -> NDArray:
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=strength, max_iter=2000, fit_intercept=False)
    return model.fit(x, y, sample_weight=weights).coef_[0]


def folds(pages: int, seed: int) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    order = np.random.default_rng(seed).permutation(pages)
    for fold in range(FOLDS):
        held = order[fold::FOLDS]
        yield np.setdiff1d(order, held), held


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--data", type=Path, default=Path("../shared/data"))
    options = arguments.parse_args()
    pages = [page for page in read_pages(options.data / "article-extraction") if page.for_tuning]
    htmls = [page.raw.decode("utf-8", "replace") for page in pages]
    blocks = [blocks_of(parse(html)) for html in htmls]
    tables = {"fast": [features(each) for each in blocks]}
    tables["default"] = [
        np.column_stack([table, agreement_of(each, html)])
        for table, each, html in zip(tables["fast"], blocks, htmls, strict=True)
    ]
    labels = [labelled(page, each) for page, each in zip(pages, blocks, strict=True)]
    for mode, x in tables.items():
        for strength in (3.0, 10.0, 30.0):
            found = np.zeros((REPEATS, len(pages), 2))
            for repeat in range(REPEATS):
                for rest, held in folds(len(pages), repeat):
                    weights = fit(*gathered(x, labels, rest), strength)
                    for number in held:
                        found[repeat, number] = score_of(pages[number], blocks[number], x[number], weights)
            each = [quality(one) for one in found]
            means = [
                float(np.mean(values)) for values in zip(*((q.precision, q.recall, q.f1) for q in each), strict=True)
            ]
            print(f"{mode}, strength {strength:g}: P {means[0]:.4f} R {means[1]:.4f} F1 {means[2]:.4f}")
        weights = fit(*gathered(x, labels, np.arange(len(pages))), STRENGTH)
        for name, weight in zip(NAMES if mode == "fast" else WITH_AGREEMENT, weights, strict=True):
            print(f'        "{name}": {weight:.2f},')


def gathered(x, labels, chosen):
    return (
        np.concatenate([x[number] for number in chosen]),
        np.concatenate([labels[number][0] for number in chosen]),
        np.concatenate([labels[number][1] for number in chosen]),
    )


def score_of(
    page: Page, blocks: Sequence[Block], table: NDArray[np.float64], weights: NDArray[np.float64]
) -> tuple[float, float]:
    names = NAMES if len(weights) == len(NAMES) else WITH_AGREEMENT
    choices = decide(blocks, table, weights, names)
    return matches(page.body, "\n".join(choice.text for choice in choices if choice.kept))


if __name__ == "__main__":
    main()
