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

    def encode_both(self, texts: Sequence[str], role: str) -> tuple[np.ndarray, list[np.ndarray]]:
        """A token is a word, and its vector depends on nothing else."""
        vectors = self.encode(texts, role)
        words = [text.split() for text in texts]
        return vectors, [self.encode(each, "query") if each else np.zeros((0, WIDTH), np.float32) for each in words]

    def token_offsets(self, texts: Sequence[str]) -> list[np.ndarray]:
        return [np.array([match.span() for match in re.finditer(r"\S+", t)]).reshape(-1, 2) for t in texts]

    def token_sample(self) -> np.ndarray:
        return np.eye(WIDTH, dtype=np.float32)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        return count_words(texts)


def count_words(texts: Sequence[str]) -> list[int]:
    return [len(re.findall(r"\w+|[^\w\s]", text)) for text in texts]


def make_document(text: str, uri: str = "u", extractor: str = "plain", title: str = "", **fields: object) -> Document:
    return Document(text, uri, "text/plain", extractor, "1", "0" * 64, title=title, **fields)  # type: ignore[arg-type]
