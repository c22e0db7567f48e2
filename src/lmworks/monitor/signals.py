"""Signals of drift: one value of each interaction, from columns of the log; no payload is decoded.

Texts are looked at when drift is measured, on a sample, so that logging costs nothing. What has to be learned first
(topics, the words that are known) is learned from a part of the reference that no test sees, or the reference would
look more like itself than new rows can.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np

from lmworks.corpus.taggers.language import py3langid
from lmworks.evaluate.refusal_metrics import is_refusal
from lmworks.monitor.filter import words_of

Side = Literal["input", "output", "proxy"]
Kind = Literal["number", "rate", "category", "vector"]
COLUMNS = (
    *("key", "id", "time", "unit", "conversation", "question", "response", "query_embedding", "input_tokens"),
    *("output_tokens", "seconds", "confidence", "abstained", "error", "finish_reason", "redacted", "log_probability"),
)
_TOPICS = 20
_WIDTH = 64  # dimensions that embeddings are projected to
_RARE = 3  # times that a token stands in the part of the reference that is learned from, below which it is rare
Tokenize = Callable[[str], Iterable[Any]]


@dataclass(frozen=True, slots=True)
class Signal:
    """`values` (n,) or, of kind vector, (n, d); a row that is False in `known` has none."""

    name: str
    side: Side
    kind: Kind
    values: np.ndarray
    known: np.ndarray


def signals(rows: Mapping[str, Sequence[Any]], learned: np.ndarray, tokenize: Tokenize | None) -> list[Signal]:
    """All signals of sampled rows, by column of `COLUMNS`; `learned` (n,) bool says which are there to learn from, and
    have no value where that was done. `tokenize` gives the tokens of our own tokenizer."""
    answered = np.array([bool(text) and not wrong for text, wrong in zip(rows["response"], rows["error"], strict=True)])
    asked = np.array([bool(text) for text in rows["question"]])
    tokens = np.array(rows["output_tokens"], dtype=float)
    measured = [
        _of("question_length", "input", "number", [len(text) for text in rows["question"]], asked),
        _of("input_tokens", "input", "number", rows["input_tokens"], np.array(rows["input_tokens"], float) > 0),
        _of("language", "input", "category", [_language(text[:500]) for text in rows["question"]], asked),
        _of("unseen_words", "input", "rate", *_unseen(rows["question"], learned, words_of, 1)),
        *_embedded(rows["query_embedding"], learned),
        _of("output_tokens", "output", "number", tokens, answered & (tokens > 0)),
        _of("latency", "output", "number", rows["seconds"]),
        _of("confidence", "output", "number", rows["confidence"]),
        _of("log_probability", "output", "number", rows["log_probability"]),
        _of("abstained", "output", "rate", rows["abstained"]),
        _of("failed", "output", "rate", [bool(text) for text in rows["error"]]),
        _of("refused", "output", "rate", [is_refusal(text) for text in rows["response"]], answered),
        _of("personal_data", "output", "rate", [bool(text) for text in rows["redacted"]]),
        _of("finish_reason", "output", "category", rows["finish_reason"]),
        _of("citations", "output", "number", [len(set(_CITED.findall(text))) for text in rows["response"]], answered),
        _of("format", "output", "category", [_first(text, _FORMATS, "prose") for text in rows["response"]], answered),
        _of("tone", "output", "category", [_first(text, _TONES, "plain") for text in rows["response"]], answered),
    ]
    if tokenize is not None:
        measured.append(_of("rare_tokens", "input", "rate", *_unseen(rows["question"], learned, tokenize, _RARE)))
    return measured


def _of(name: str, side: Side, kind: Kind, values: Any, known: np.ndarray | None = None) -> Signal:
    """A signal whose numbers, and only those, may be None: that is not known."""
    values = np.asarray(values, dtype={"rate": np.bool_, "number": np.float64}.get(kind))
    there = np.isfinite(values) if kind == "number" else np.ones(len(values), dtype=bool)
    return Signal(name, side, kind, values, there if known is None else known)


@lru_cache(50_000)  # a row is read again in each of the four weeks after it
def _language(text: str) -> str:
    return py3langid(text)[0] if text else ""


def _unseen(texts: Sequence[str], learned: np.ndarray, parts_of: Tokenize, least: int) -> tuple[np.ndarray, np.ndarray]:
    """Whether each text has a word that stands fewer than `least` times in those to learn from."""
    word_sets = [set(parts_of(text)) for text in texts]
    counts = Counter(word for index in np.flatnonzero(learned) for word in word_sets[index])
    unseen = np.array([any(counts[word] < least for word in words) for words in word_sets])
    return unseen, ~learned & np.array([bool(words) for words in word_sets])


def _embedded(vectors: Sequence[bytes], learned: np.ndarray) -> list[Signal]:
    """The questions' embeddings on their main directions, the topic of each, and whether it is far from all topics."""
    sizes = Counter(len(vector) for vector in vectors if vector)
    if not sizes:
        return []
    size = max(sizes, key=sizes.__getitem__)  # of several encoders, the one that made most
    there = np.array([len(vector) == size for vector in vectors])
    if (there & learned).sum() < 2 * _TOPICS:
        return []
    from sklearn.cluster import KMeans
    from sklearn.decomposition import PCA

    points = np.stack([np.frombuffer(v if ok else bytes(size), "<f4") for v, ok in zip(vectors, there, strict=True)])
    fitted = points[there & learned]
    axes = PCA(min(_WIDTH, *fitted.shape), svd_solver="covariance_eigh").fit(fitted)
    points = axes.transform(points).astype(np.float32)
    fitted, held = points[there & learned][::2], points[there & learned][1::2]
    topics = KMeans(_TOPICS, n_init=1, random_state=0).fit(fitted)  # type: ignore[arg-type]
    far = float(np.quantile(topics.transform(held).min(axis=1), 0.95))
    distances = topics.transform(points)
    known = there & ~learned
    return [
        Signal("questions", "input", "vector", points, known),
        Signal("topic", "input", "category", distances.argmin(axis=1), known),
        Signal("off_topic", "input", "rate", distances.min(axis=1) > far, known),
    ]


_CITED = re.compile(r"\[(\d{1,2})\]")
_TONES = (
    ("apologetic", re.compile(r"\b(sorry|apolog\w+|unfortunately|regret\w*)\b", re.I)),
    ("enthusiastic", re.compile(r"!|\b(great|happy to|glad|of course|certainly|absolutely)\b", re.I)),
    ("hedged", re.compile(r"\b(may|might|perhaps|possibly|probably|seems?|appears?)\b", re.I)),
)
_FORMATS = (
    ("json", re.compile(r"\A\s*[\[{].*[\]}]\s*\Z", re.S)),
    ("code", re.compile(r"^(```|~~~)", re.M)),
    ("table", re.compile(r"^\s*\|.+\|\s*$", re.M)),
    ("list", re.compile(r"^\s*([-*•]|\d+[.)])\s", re.M)),
    ("heading", re.compile(r"^#{1,6} ", re.M)),
)


def _first(text: str, patterns: Iterable[tuple[str, re.Pattern[str]]], default: str) -> str:
    """The name of the first pattern that a text has: of few words, which drift when the thing does."""
    return next((name for name, pattern in patterns if pattern.search(text)), default)
