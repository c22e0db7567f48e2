"""What is looked for."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class NearDuplicatesConfig:
    """Near duplicates of documents.

    threshold              The least Jaccard similarity of their shingles.
    words                  Of a shingle.
    permutations           Places of a signature: more of them find pairs near the threshold more surely.
    false_positive_weight  Of a candidate in vain, beside one minus it of a pair that is missed.
    crowd                  Documents of the largest bucket whose pairs are all compared.
    compatibility          Characters that Unicode calls compatible (NFKC), such as ﬁ and fi, are one.
    seed                   Of the signatures.
    """

    threshold: float = 0.8
    words: int = 5
    permutations: int = 128
    false_positive_weight: float = 0.02
    crowd: int = 64
    compatibility: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.threshold < 1:
            raise ValueError(f"threshold must lie between 0 and 1, got {self.threshold:g}: exact duplicates have 1")
        if not 0 <= self.false_positive_weight <= 1:
            raise ValueError(f"false_positive_weight must lie between 0 and 1, got {self.false_positive_weight:g}")
        if self.words < 1 or self.crowd < 1:
            raise ValueError("words and crowd must be positive")
        if not 1 <= self.permutations <= 1024:
            raise ValueError(f"permutations must lie between 1 and 1,024, got {self.permutations}")
        if not 0 <= self.seed < 2**64:
            raise ValueError(f"seed must lie between 0 and 2^64 - 1, got {self.seed}")
