"""The weight of a harvest, from the number of trees and what each of them bears."""

# SPDX-License-Identifier: Apache-2.0


def harvest(trees: int, kilograms: float) -> float:
    """The weight of all fruit in kilograms; ValueError for fewer trees than none."""
    if trees < 0:
        raise ValueError("an orchard has no fewer trees than none")
    return trees * kilograms
