"""A deterministic encoder without a model, and short ways to make documents."""

import hashlib
import re
from collections.abc import Sequence

import numpy as np

from lmworks.records import Document

WIDTH = 32


class HashingEncoder:
    """A text's vector is the normalised sum of pseudo-random vectors of its words; it depends on nothing else."""

    width = WIDTH
    max_tokens = 254

    def __init__(self, fingerprint: str = "a" * 64) -> None:
        self.fingerprint = fingerprint
        self.embedded: list[str] = []  # every passage that was ever embedded
        self.calls = 0

    def encode(self, texts: Sequence[str], role: str) -> np.ndarray:
        self.calls += 1
        if role == "passage":
            self.embedded += texts
        vectors = np.zeros((len(texts), WIDTH))
        for row, text in enumerate(texts):
            for word in ["", *re.findall(r"\w+", text.lower())]:
                seed = int.from_bytes(hashlib.sha256(word.encode("utf-8", "replace")).digest()[:8], "big")
                vectors[row] += np.random.default_rng(seed).standard_normal(WIDTH)
        return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)

    def encode_tokens(self, texts: Sequence[str], role: str) -> list[np.ndarray]:
        """What late interaction needs: a token is a word, and its vector depends on nothing else."""
        return [np.concatenate([self.encode([word], "query") for word in text.split() or [""]]) for text in texts]

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        return count_words(texts)


def count_words(texts: Sequence[str]) -> list[int]:
    return [len(re.findall(r"\w+|[^\w\s]", text)) for text in texts]


def make_document(text: str, uri: str = "u", extractor: str = "plain", title: str = "", **fields: object) -> Document:
    return Document(text, uri, "text/plain", extractor, "1", "0" * 64, title=title, **fields)  # type: ignore[arg-type]
