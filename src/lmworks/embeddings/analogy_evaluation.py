"""Evaluation of word vectors: analogies (Mikolov et al. 2013a, section 4) and similarity as people see it.

Both follow the customs of the field, so that figures can be compared: words count without regard to small and capital
letters, candidates are the `restrict` most frequent words, the words of a question are never its answer, and what asks
for a word without a vector is left out. Each score comes with the share that was left out.
"""

import gzip
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lmworks.embeddings.word_vectors import METHODS, Method, WordVectors, offset_scores, unit
from lmworks.records import Score, Unscored
from lmworks.statistics import mean_score, spearman

RESTRICT = 300_000  # the field's usual number
_AT_ONCE = 64  # questions that are answered at once

Analogy = tuple[str, str, str, str]  # a is to b as c is to d
Pair = tuple[str, str, float]  # two words, and how similar people find them


@dataclass(frozen=True, slots=True)
class Result:
    """A score over `covered` of `asked` questions or pairs: those whose words all have vectors."""

    score: Score
    covered: int
    asked: int


def read_analogies(path: Path) -> dict[str, list[Analogy]]:
    """The sections of a file like questions-words.txt (or .gz): ": name", then lines of four words.

    ValueError for a line that is neither.
    """
    sections: dict[str, list[Analogy]] = {}
    name = ""
    for number, line in enumerate(_lines(path), start=1):
        words = line.split()
        if line.startswith(":"):
            name = line[1:].strip()
        elif words:
            if len(words) != 4:
                raise ValueError(f"{path}, line {number}: expected four words, got {line!r}")
            sections.setdefault(name, []).append((words[0], words[1], words[2], words[3]))
    return sections


def read_pairs(path: Path) -> list[Pair]:
    """Lines of two words and a number, between tabs or spaces (or .gz); lines with # are left out.

    ValueError for a line that is none of these.
    """
    pairs: list[Pair] = []
    for number, line in enumerate(_lines(path), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        try:
            first, second, score = line.split("\t") if "\t" in line else line.split()
            pairs.append((first, second, float(score)))
        except ValueError:
            raise ValueError(f"{path}, line {number}: expected two words and a number, got {line!r}") from None
    return pairs


def _lines(path: Path) -> list[str]:
    data = path.read_bytes()
    return (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8").splitlines()


def score_analogies(
    vectors: WordVectors, sections: dict[str, list[Analogy]], method: Method = "add", restrict: int = RESTRICT
) -> dict[str, Result]:
    """The share of questions answered rightly, by section and for all of them ("all", the last one).

    Intervals are Wilson's (1927). They take questions for independent, but those of a section share their words: take
    the intervals for too narrow.
    """
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
    folded = _Folded(vectors, restrict)
    right: dict[str, np.ndarray] = {}
    for name, questions in sections.items():
        rows = [[folded.row(word) for word in question] for question in questions]
        known = np.array([row for row in rows if None not in row], np.int64).reshape(-1, 4)
        right[name] = _answers(folded, known, method) == folded.group[known[:, 3]]
    asked = {name: len(questions) for name, questions in sections.items()} | {"all": sum(map(len, sections.values()))}
    right["all"] = np.concatenate([*right.values(), np.zeros(0, bool)])
    signature = {"metric": "analogies", "method": method, "restrict": restrict, "version": 1}
    nothing = "no question whose words all have vectors"
    return {
        name: Result(
            mean_score(answers.tolist(), [signature, sections.get(name, sections)], nothing=nothing),
            len(answers),
            asked[name],
        )
        for name, answers in right.items()
    }


class _Folded:
    """The first `restrict` words, taken together where they differ in capital letters only; the first of a group stands
    for it in questions."""

    def __init__(self, vectors: WordVectors, restrict: int) -> None:
        self.unit = vectors.unit[:restrict]
        self._rows: dict[str, int] = {}
        names = [word.upper() for word in vectors.words[:restrict]]
        for row, name in enumerate(names):
            self._rows.setdefault(name, row)
        self.group = np.array([self._rows[name] for name in names], np.int64)
        self.twins: dict[int, list[int]] = {}  # the first of a group -> the others
        for row in np.flatnonzero(self.group != np.arange(len(names))).tolist():
            self.twins.setdefault(int(self.group[row]), []).append(row)

    def row(self, word: str) -> int | None:
        return self._rows.get(word.upper())


def _answers(folded: _Folded, questions: np.ndarray, method: Method) -> np.ndarray:
    """(n,) the group of the best answer to each of (n, 4) questions, by rows of words."""
    answers = np.empty(len(questions), np.int64)
    for start in range(0, len(questions), _AT_ONCE):
        batch = questions[start : start + _AT_ONCE]
        a, b, c = (folded.unit[batch[:, side]] for side in range(3))
        scores = offset_scores(folded.unit, [b, c], [a], method)
        for number, question in enumerate(batch[:, :3].tolist()):
            for row in question:
                scores[number, [row, *folded.twins.get(row, ())]] = -np.inf
        answers[start : start + _AT_ONCE] = folded.group[scores.argmax(axis=1)]
    return answers


def score_similarity(vectors: WordVectors, pairs: Sequence[Pair], restrict: int = RESTRICT) -> Result:
    """Spearman's rank correlation between cosines and what people say, with a bootstrap interval over pairs.

    A word that is not there counts as known where its n-grams give it a vector.
    """
    folded = _Folded(vectors, restrict)
    rows = [
        (float(unit(first_vector) @ unit(second_vector)), human)
        for first, second, human in pairs
        if (first_vector := _vector(vectors, folded, first)) is not None
        and (second_vector := _vector(vectors, folded, second)) is not None
    ]
    if len(rows) < 3:
        return Result(Unscored(f"{len(rows)} pairs whose words both have vectors"), len(rows), len(pairs))
    signature = {"metric": "similarity", "restrict": restrict, "version": 2, "pairs": list(pairs)}
    cosines, human_scores = zip(*rows, strict=True)
    return Result(spearman(cosines, human_scores, signature), len(rows), len(pairs))


def _vector(vectors: WordVectors, folded: _Folded, word: str) -> np.ndarray | None:
    row = folded.row(word)
    if row is not None:
        return vectors.vectors[row]
    return None if vectors.ngrams is None else vectors.ngrams.vector(word)
