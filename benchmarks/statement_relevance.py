"""Whether a statement answers a question: AUROC and threshold of the reader, the reranker and the encoder's cosine.

    python benchmarks/statement_relevance.py DATA --rows 300      # DATA holds selqa, squadshifts and squad2-dev-half

A question with its answering sentence is a positive; with the answering sentence of another question, drawn from the
whole set, a negative. With a sentence beside the answering one it is "on topic": shown, and no standard, since people
answer with more than the sentence that was marked. Half of the questions of each set calibrate a logistic regression of
the score; its threshold is where `--kept` of the calibration positives pass. The other half gives all figures.
"""

import argparse
import gzip
import json
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

import lmworks
from lmworks.generate.cross_encoder import CrossEncoder
from lmworks.generate.text_embedding import TextEncoder
from lmworks.statistics.logistic_regression import fit
from lmworks.tokenizer.sentence_splitter import sentence_ranges

SETS = {
    "selqa": ("selqa/selqa-ass-dev.json.gz",),
    "squadshifts": ("squadshifts/new_wiki_v1.0.json.gz", "squadshifts/reddit_v1.0.json.gz"),
    "squad2": ("squad2-dev-half/dev-v2.0.json.gz",),
}
Row = tuple[str, str, str]  # question, answering sentence, another one of the same passage


def rows_of(path: Path) -> Iterator[Row]:
    data = json.loads(gzip.decompress(path.read_bytes()))
    if isinstance(data, list):
        for one in data:
            others = [text for place, text in enumerate(one["candidates"]) if place not in one["answers"]]
            if one["answers"] and others:
                yield one["question"], one["candidates"][one["answers"][0]], others[0]
        return
    for paragraph in (one for article in data["data"] for one in article["paragraphs"]):
        text = paragraph["context"]
        ranges = sentence_ranges(text)
        for question in paragraph["qas"]:
            if not question["answers"]:
                continue
            place = question["answers"][0]["answer_start"]
            held = [start <= place < end for start, end in ranges]
            if any(held) and not all(held):
                yield question["question"], *(text[slice(*ranges[held.index(kind)])] for kind in (True, False))


def auroc(positive: np.ndarray, negative: np.ndarray) -> float:
    return float((positive[:, None] > negative).mean() + (positive[:, None] == negative).mean() / 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--rows", type=int, default=300, help="of each set")
    parser.add_argument("--kept", type=float, default=0.98, help="share of calibration positives that pass")
    options = parser.parse_args()
    reader, reranker = (CrossEncoder(lmworks.load(f"minilm-{name}")) for name in ("reader", "reranker"))
    encoder = TextEncoder(lmworks.load("all-minilm-l6-v2"))

    def cosine(question: str, texts: Sequence[str]) -> list[float]:
        vectors = encoder.encode([question, *texts], "passage")
        return (vectors[1:] @ vectors[0]).tolist()

    judges: dict[str, Callable[[str, Sequence[str]], Sequence[float]]] = {
        "reader": lambda question, texts: [one.log_odds for one in reader.read(question, texts)],
        "reranker": lambda question, texts: reranker.relevance(question, texts).tolist(),
        "cosine": cosine,
    }
    draw = random.Random(0)
    samples: dict[str, list[tuple[str, tuple[str, str, str]]]] = {}
    for name, paths in SETS.items():
        rows = [row for path in paths for row in rows_of(options.data / path)]
        chosen = draw.sample(rows, options.rows)
        foreign = chosen[1:] + chosen[:1]
        samples[name] = [(q, (a, other[1], b)) for (q, a, b), other in zip(chosen, foreign, strict=True)]
    for judge, score in judges.items():
        scores = {name: np.array([score(*row) for row in rows]) for name, rows in samples.items()}  # (rows, 3)
        halves = [np.vstack([one[part::2] for one in scores.values()]) for part in (0, 1)]
        fitting, testing = np.clip(halves[0], -20, 20), np.clip(halves[1], -20, 20)
        model = fit(fitting[:, :2].reshape(-1, 1), [True, False] * len(fitting), ("score",))
        threshold = float(np.quantile(fitting[:, 0], 1 - options.kept))
        print(f"{judge}: threshold {threshold:.3f}, P {model.probability(np.array([[threshold]]))[0]:.3f}, "
              f"{model}")  # fmt: skip
        for name, one in {"all": testing, **{name: one[1::2] for name, one in scores.items()}}.items():
            passed = (one >= threshold).mean(0)
            print(f"  {name}: AUROC foreign {auroc(one[:, 0], one[:, 1]):.3f}, on topic "
                  f"{auroc(one[:, 0], one[:, 2]):.3f}; pass: answers {passed[0]:.3f}, foreign {passed[1]:.3f}, "
                  f"on topic {passed[2]:.3f} (n={len(one)})")  # fmt: skip


if __name__ == "__main__":
    main()
