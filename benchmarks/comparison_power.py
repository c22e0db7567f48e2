"""False alarms and power of the paired comparison, beside the unpaired z-test on the same rows.

    python benchmarks/comparison_power.py --trials 400

Two systems answer the same simulated items. Items differ in difficulty, which both systems share; with clusters, items
of a document share part of it, and each system has a knack of its own for each document. `effect` is the true
difference: in standard deviations of a value for continuous metrics, in accuracy for binary ones. The z-test is that of
lm-evaluation-harness's model_comparator: the difference of two means over the root of their squared standard errors.
False alarms (effect 0) should be 5 %, within the binomial error that the last line gives.
"""

import argparse
from itertools import product

import numpy as np
from scipy.special import ndtr, ndtri

from lmworks.evaluate.comparison import compare_values
from lmworks.evaluate.metric import Item, ratio

PER_CLUSTER = 5


def systems(
    generator: np.random.Generator, n: int, effect: float, binary: bool, clustered: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Values of a candidate and a baseline, (n,) each; the correlation of their values is 0.7 before any threshold."""
    documents = np.arange(n) // PER_CLUSTER

    def component(share: float) -> np.ndarray:
        """Normal with variance `share`, in part by document: what the systems have in common, or one has alone."""
        by_document = 0.4 if clustered else 0.0
        document = generator.normal(size=n)[documents]
        return np.sqrt(share) * (np.sqrt(by_document) * document + np.sqrt(1 - by_document) * generator.normal(size=n))

    common = component(0.7)
    new, old = common + component(0.3), common + component(0.3)
    if not binary:
        return new + effect, old
    accuracy = 0.7
    return (new < ndtri(accuracy + effect)).astype(float), (old < ndtri(accuracy)).astype(float)


def unpaired_p(new: np.ndarray, old: np.ndarray) -> float:
    errors = [values.std(ddof=1) / np.sqrt(len(values)) for values in (new, old)]
    spread = float(np.hypot(*errors))
    return float(2 * ndtr(-abs(new.mean() - old.mean()) / spread)) if spread else 1.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=400)
    parser.add_argument("--sizes", type=int, nargs="+", default=[30, 100, 300])
    options = parser.parse_args()
    print("| values | items | n | effect | rejected, paired | items as independent | unpaired z | interval covers |")
    print("|---|---|---|---|---|---|---|---|")
    generator = np.random.default_rng(0)
    for binary, clustered, n in product((False, True), (False, True), options.sizes):
        for effect in (0.0, 0.1 if binary else 0.2):
            items = [Item(str(i), cluster=str(i // PER_CLUSTER) if clustered else "") for i in range(n)]
            apart = [Item(str(i)) for i in range(n)]
            rejected, covered = np.zeros(3), 0
            for _ in range(options.trials):
                new, old = systems(generator, n, effect, binary, clustered)
                found = compare_values(ratio, items, list(new), list(old))
                alone = compare_values(ratio, apart, list(new), list(old)) if clustered else found
                rejected += [found.p < 0.05, alone.p < 0.05, unpaired_p(new, old) < 0.05]
                covered += found.difference.interval[0] <= effect <= found.difference.interval[1]
            shares = [f"{share:.3f}" for share in [*rejected / options.trials, covered / options.trials]]
            shares[1] = shares[1] if clustered else ""
            kind = ("0 or 1" if binary else "continuous", f"{PER_CLUSTER} a document" if clustered else "independent")
            print(f"| {kind[0]} | {kind[1]} | {n} | {effect:g} | {' | '.join(shares)} |", flush=True)
    error = 2 * (0.05 * 0.95 / options.trials) ** 0.5
    print(f"\nTwo standard errors of a share of 0.05 in {options.trials} trials: {error:.3f}")


if __name__ == "__main__":
    main()
