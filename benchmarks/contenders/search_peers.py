"""BM25 and MiniLM as others compute them, and a cache of what was encoded."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

import lmworks
from lmworks.generate.protocol import Role
from lmworks.generate.text_embedding import TextEncoder
from lmworks.model.download import locate

MODEL = "all-minilm-l6-v2"
PACKAGES = ("bm25s", "Stemmer", "sentence_transformers")


class Cache:
    """Arrays by kind and text in one file: vectors in float32, token vectors rounded to half precision."""

    def __init__(self, path: Path) -> None:
        self.path = path.with_suffix(".npz")
        self.arrays: dict[str, np.ndarray] = {}
        if self.path.exists():
            with np.load(self.path) as stored:
                for number in ("1", "2"):
                    parts = np.split(stored[f"arrays{number}"], stored[f"ends{number}"][:-1])
                    self.arrays |= dict(zip(stored[f"keys{number}"].tolist(), parts, strict=True))
        self.stored = len(self.arrays)

    def get(
        self, kind: str, texts: Sequence[str], make: Callable[[list[str]], Iterable[Sequence[np.ndarray]]], parts: int
    ) -> list[list[np.ndarray]]:
        """For each of the parts that `make` gives for a text (a vector, token vectors) those of all texts."""
        keys = [hashlib.sha256(f"{kind} {text}".encode("utf-8", "replace")).hexdigest()[:24] for text in texts]
        missing = {key: text for key, text in zip(keys, texts, strict=True) if f"{key}0" not in self.arrays}
        for key, made in zip(missing, make(list(missing.values())) if missing else (), strict=True):
            for part, array in enumerate(made):
                self.arrays[f"{key}{part}"] = array.astype(np.float16 if array.ndim == 2 else np.float32)
        return [[self.arrays[f"{key}{part}"] for key in keys] for part in range(parts)]

    def save(self) -> None:
        if len(self.arrays) > self.stored:
            table: dict[str, np.ndarray] = {}
            for number in (1, 2):
                held = {key: array for key, array in self.arrays.items() if array.ndim == number}
                table[f"keys{number}"] = np.array(list(held))
                table[f"ends{number}"] = np.cumsum([len(array) for array in held.values()])
                table[f"arrays{number}"] = np.concatenate(list(held.values()))
            np.savez(self.path, allow_pickle=False, **table)
            self.stored = len(self.arrays)


class CachedEncoder(TextEncoder):
    """The encoder, reading from a folder what it made before; vectors and tokens come from one forward."""

    def __init__(self, folder: Path, name: str) -> None:
        super().__init__(lmworks.load(MODEL))
        self.cache = Cache(folder / f"{name}-{self.fingerprint[:8]}")

    def encode(self, texts: Sequence[str], role: Role) -> np.ndarray:
        return self.encode_both(texts, role)[0]

    def encode_both(self, texts: Sequence[str], role: Role) -> tuple[np.ndarray, list[np.ndarray]]:
        both = super().encode_both
        vectors, tokens = self.cache.get(role, texts, lambda new: zip(*both(new, role), strict=True), 2)
        return np.array(vectors, dtype=np.float32).reshape(-1, self.width), [one.astype(np.float32) for one in tokens]


class Peers:
    """BM25 (bm25s with stemmer and stop words) and MiniLM (sentence-transformers) over chunks and their sentences."""

    def __init__(self, texts: Sequence[str], cache: Cache) -> None:
        import bm25s  # pyright: ignore[reportMissingImports]
        import Stemmer  # pyright: ignore[reportMissingImports]
        from sentence_transformers import SentenceTransformer  # pyright: ignore[reportMissingImports]

        self._tokenize = bm25s.tokenize
        self._stemmer = Stemmer.Stemmer("english")
        self._bm25 = bm25s.BM25()
        self._bm25.index(self._words(texts), show_progress=False)
        model = SentenceTransformer(str(locate(MODEL)), device="cpu")
        self._encode = lambda some: cache.get("peer", some, lambda new: zip(model.encode(new), strict=True), 1)[0]
        self._matrix = np.array(self._encode(texts))

    def _words(self, texts: Sequence[str]) -> list[list[str]]:
        options = {"stopwords": "en", "stemmer": self._stemmer, "return_ids": False, "show_progress": False}
        return self._tokenize(list(texts), **options)

    def scores(self, question: str) -> dict[str, np.ndarray]:
        """By peer the score of each text, (texts,)."""
        (words,) = self._words([question])
        known = [word for word in words if word in self._bm25.vocab_dict]
        by_words = self._bm25.get_scores(known) if known else np.zeros(len(self._matrix))
        return {"BM25": by_words, "MiniLM": self._matrix @ self._encode([question])[0]}
