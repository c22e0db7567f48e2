"""A head's scores on held-out rows, beside baselines and, paired, beside another head.

    .venv/bin/python benchmarks/cross_encoders.py HEAD TASK TEST.jsonl ... [--beside OTHER] [--limit 1000] [--card]

Each file is a set of its own. Baselines: of a reader, the sentence nearest to the question by MiniLM; of a reranker,
MiniLM's cosine and BM25 over the set's passages; of a verifier, the commonest label, and a logistic regression on
MiniLM's vectors of both texts (|u - v|, u * v; Conneau et al. 2017), learned from 4,000 rows of the train.jsonl beside
the first set. `--card` writes the scores into the card.json of the head's folder.
"""

import argparse
import random
import re
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import lmworks
from lmworks.adapt.adapter import load
from lmworks.evaluate.cross_encoder_scores import HeadScores, evaluate_head, measure, row_items, write_scores
from lmworks.evaluate.metric import Response
from lmworks.generate.cross_encoder import CrossEncoder
from lmworks.generate.text_embedding import TextEncoder
from lmworks.model.download import PACKAGED, locate
from lmworks.train.objectives.cross_encoder_objective import (
    LABELS,
    Entailment,
    Ranking,
    Reading,
    Row,
    Task,
    group_of,
    parse_rows,
)

LEARNED_FROM = 4000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("head")
    parser.add_argument("task", choices=("reader", "reranker", "verifier"))
    parser.add_argument("sets", type=Path, nargs="+")
    parser.add_argument("--beside", help="another head of the task")
    parser.add_argument("--limit", type=int, help="rows of each set, drawn by passage")
    parser.add_argument("--card", action="store_true")
    options = parser.parse_args()
    head, other = (CrossEncoder(load(name)) if name else None for name in (options.head, options.beside))
    assert head is not None
    encoder, held_out = TextEncoder(lmworks.load("all-minilm-l6-v2")), {}
    for file in options.sets:
        rows = drawn(parse_rows([file], options.task), options.limit)
        start = time.perf_counter()
        found = evaluate_head(head, options.task, rows)
        seconds = time.perf_counter() - start
        print(f"\n{file.stem}: {len(rows):,} rows in {seconds:.0f} s; {head.truncated} pairs cut so far")
        print_row(options.head, found)
        for name, responses in baselines(options.task, rows, encoder, options.sets[0].parent / "train.jsonl").items():
            print_row(name, measure(options.task, rows, responses))
        if other:
            beside = evaluate_head(other, options.task, rows)
            print_row(options.beside, beside)
            for one in found.less(beside):
                print(f"    {options.head} less {options.beside}: {one}")
        held_out[file.stem.removeprefix("test-")] = found
    if options.card:
        write_scores(locate(options.head) if options.head in PACKAGED else Path(options.head), held_out)


def drawn(rows: Sequence[Row], limit: int | None) -> list[Row]:
    """About `limit` rows, all of a passage or none."""
    groups = list(dict.fromkeys(map(group_of, rows)))
    random.Random(0).shuffle(groups)
    counts, kept, total = Counter(map(group_of, rows)), set(), 0
    for group in groups:
        if limit and total >= limit:
            break
        kept.add(group)
        total += counts[group]
    return [row for row in rows if group_of(row) in kept]


def print_row(name: str, found: HeadScores) -> None:
    print(f"  {name[-28:]:<28} " + "  ".join(f"{metric} {score}" for metric, score in found.scores.items()))


def baselines(task: Task, rows: Sequence[Row], encoder: TextEncoder, train: Path) -> dict[str, list[Response]]:
    if task == "reader":
        return {"nearest sentence": [nearest_sentence(row, encoder) for row in rows if isinstance(row, Reading)]}
    if task == "reranker":
        asked = [row for row in rows if isinstance(row, Ranking)]
        return {"MiniLM": [cosines(row, encoder) for row in asked], "BM25": bm25(asked)}
    claims = [row for row in rows if isinstance(row, Entailment)]
    labels = row_items(rows)[0].choices
    commonest = Counter(row.label for row in claims).most_common(1)[0][0]
    always = [Response(choices=tuple(float(label == commonest) for label in labels)) for _ in claims]
    if not train.is_file():
        return {"commonest label": always}
    learned = parse_rows([train], "verifier")[:LEARNED_FROM]
    return {"commonest label": always, "logistic on MiniLM": logistic(learned, claims, labels, encoder)}


def nearest_sentence(row: Reading, encoder: TextEncoder) -> Response:
    sentences = [one.strip() for one in re.split(r"(?<=[.!?])\s+", row.context) if one.strip()]
    near = encoder.encode(sentences, "passage") @ encoder.encode([row.question], "query")[0]
    return Response(sentences[int(near.argmax())], confidence=float((1 + near.max()) / 2))


def cosines(row: Ranking, encoder: TextEncoder) -> Response:
    near = encoder.encode([*row.negatives, *row.right], "passage") @ encoder.encode([row.anchor], "query")[0]
    return Response(choices=tuple(near.tolist()))


def bm25(rows: Sequence[Ranking], k1: float = 1.2, b: float = 0.75) -> list[Response]:
    """Robertson & Zaragoza 2009, section 3.6, with the set's passages as the collection."""
    texts = {text: re.findall(r"\w+", text.lower()) for row in rows for text in (*row.negatives, *row.right)}
    documents = Counter(word for words in texts.values() for word in set(words))
    mean, count = np.mean([len(words) for words in texts.values()]), len(texts)
    found = []
    for row in rows:
        asked, scores = set(re.findall(r"\w+", row.anchor.lower())), []
        for text in (*row.negatives, *row.right):
            words = Counter(texts[text])
            weight = k1 * (1 - b + b * len(texts[text]) / mean)
            scores.append(
                sum(
                    np.log(1 + (count - documents[w] + 0.5) / (documents[w] + 0.5))
                    * (words[w] * (k1 + 1) / (words[w] + weight))
                    for w in asked & words.keys()
                )
            )
        found.append(Response(choices=tuple(map(float, scores))))
    return found


def logistic(
    learned: Sequence[Row], claims: Sequence[Entailment], labels: Sequence[str], encoder: TextEncoder
) -> list[Response]:
    from sklearn.linear_model import LogisticRegression

    def features(rows: Sequence[Entailment]) -> np.ndarray:
        first = encoder.encode([row.premise for row in rows], "passage")
        second = encoder.encode([row.hypothesis for row in rows], "passage")
        return np.hstack([np.abs(first - second), first * second])

    known = [row for row in learned if isinstance(row, Entailment)]
    model = LogisticRegression(C=10, max_iter=300).fit(features(known), [LABELS.index(row.label) for row in known])
    places = [LABELS.index(label) for label in LABELS if label in labels]
    stated = model.predict_proba(features(claims))
    if "contradiction" not in labels:
        stated[:, 1] = 1 - stated[:, 0]
    return [Response(choices=tuple(row[places].tolist())) for row in stated]


if __name__ == "__main__":
    main()
