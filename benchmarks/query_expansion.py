"""Query expansion and reranking by a language model, on reading sets in SQuAD's format and on a built workspace.

    .venv/bin/python benchmarks/query_expansion.py --sets FOLDER ... --cache FOLDER --model NAME [--questions 60]

Each row is a way to search for the same questions, compared with the search as it is: the question in other words as
well (multi-query), a passage written as if it answered (HyDE), both, and the first passages ranked by the model, by its
logit alone or added to the fused score. Sets, questions and figures are those of answer_quality.py; seconds are of the
search of one question, the model's work included.
"""

import argparse
import json
import time
import warnings
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from answer_quality import DEPTH, Rows, Variant, first_only, holds, index_of, show, text_of
from contenders.reading_sets import ReadingSet, read_set, read_workspace, sample
from contenders.search_peers import CachedEncoder

import lmworks
from lmworks.evaluate.ranking_metrics import ndcg_at_k
from lmworks.generate.engine import Engine
from lmworks.ground.config import AnswerConfig
from lmworks.ground.grounded_answer import filters_of
from lmworks.records import Question
from lmworks.retrieve.config import SearchConfig
from lmworks.retrieve.encoder import Reranker
from lmworks.retrieve.hits import Hits
from lmworks.retrieve.index import Index
from lmworks.retrieve.pointwise_reranker import PointwiseReranker
from lmworks.retrieve.query_expansion import Complete, completer, expanded
from lmworks.retrieve.search import first_of, fused, rerank
from lmworks.statistics import difference_score, mean_score

WHOLE = "as it is"
LOGIT, SUM = "reranked by the logit", "reranked by the sum"  # one reading of the passages serves both


def ways(rewrites: int) -> dict[str, SearchConfig]:
    base = replace(AnswerConfig().search, k=DEPTH, budget_tokens=0)
    named = {WHOLE: base, "multi-query": replace(base, rewrites=rewrites), "HyDE": replace(base, hypothetical=True)}
    return named | {"both": replace(named["multi-query"], hypothetical=True), SUM: base}


def ask(
    index: Index, encoder: CachedEncoder, question: Question, configs: Mapping[str, SearchConfig],
    complete: Complete, reranker: Reranker,
) -> tuple[dict[str, Hits], dict[str, float]]:  # fmt: skip
    """What each way finds, and the seconds that it takes."""
    found: dict[str, Hits] = {}
    seconds: dict[str, float] = {}
    for name, config in configs.items():
        began = time.perf_counter()
        queries = expanded(index, question.text, encoder, config, complete)
        hits = fused(index, queries, config, filters_of(question))
        if name == SUM:
            hits = rerank(index, question.text, hits, config.rerank, reranker)
            logits = [own.get("relevance", -np.inf) for own in hits.scores]
            by_logit = sorted(range(len(hits)), key=lambda place: -logits[place])
            found[LOGIT] = first_of(index, hits.take(by_logit), config)
        found[name] = first_of(index, hits, config)
        seconds[name] = time.perf_counter() - began
    return found, seconds | {LOGIT: seconds[SUM]} if SUM in seconds else seconds


def run(
    reading: ReadingSet, questions: list[Question], encoder: CachedEncoder, configs: Mapping[str, SearchConfig],
    complete: Complete, reranker: Reranker, minutes: float,
) -> dict[str, dict[str, str]]:  # fmt: skip
    relevance: dict[str, list[list[bool]]] = {}
    times: dict[str, list[float]] = {}
    few, until = 0, time.monotonic() + 60 * minutes
    with index_of(reading, encoder, Variant()) as index:
        for question in questions:
            if time.monotonic() > until:
                break
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                found, seconds = ask(index, encoder, question, configs, complete, reranker)
            few += sum("other ways" in str(one.message) for one in caught)
            for name, hits in found.items():
                spans = [chunk.span for chunk in index.chunks(hits.keys[:DEPTH])]
                held = [any(holds(span, gold) for gold in question.gold) for span in spans]
                relevance.setdefault(name, []).append(first_only(held))
                times.setdefault(name, []).append(seconds[name])
    gains = {name: [ndcg_at_k(row, [1], DEPTH) for row in rows] for name, rows in relevance.items()}
    rows: Rows = []
    for name, own in relevance.items():
        recalls = [text_of(mean_score([float(any(row[:k])) for row in own], ["recall", k])) for k in (1, 5, DEPTH)]
        more = text_of(difference_score(gains[name], gains[WHOLE], ["difference"]))
        rows.append((name, *recalls, text_of(mean_score(gains[name], ["ndcg"])), more, f"{np.mean(times[name]):.2f}"))
    title = f"{reading.name}: {len(gains[WHOLE])} questions; the model wrote fewer questions than asked for {few} times"
    head = ("", "recall@1", "recall@5", "recall@10", "nDCG@10", "more than as it is", "seconds a question")
    return show(title, head, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=Path, nargs="+", required=True, help="files or folders, or built workspaces")
    parser.add_argument("--cache", type=Path, required=True, help="folder that keeps what was encoded")
    parser.add_argument("--model", default="smollm2-135m-instruct", help="the language model")
    parser.add_argument("--questions", type=int, default=60, help="answerable ones of each set")
    parser.add_argument("--paragraphs", type=int, default=1000, help="of a set, at most about so many")
    parser.add_argument("--rewrites", type=int, default=3)
    parser.add_argument("--ways", nargs="+", choices=list(ways(1)), help="which to compare; default: all")
    parser.add_argument("--minutes", type=float, default=1e6, help="for a set; what is not asked by then is left out")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the tables here as well")
    options = parser.parse_args()
    sets = [
        read_workspace(path) if (path / "stages").is_dir() else read_set(path, options.paragraphs, options.seed)
        for path in options.sets
    ]
    engine = Engine(lmworks.load(options.model))
    configs = {name: own for name, own in ways(options.rewrites).items() if name in (*(options.ways or ways(1)), WHOLE)}
    search = partial(
        run,
        configs=configs,
        complete=completer(lambda: engine),
        reranker=PointwiseReranker(lambda: engine, engine.checkpoint),
        minutes=options.minutes,
    )
    tables = {}
    for number, reading in enumerate(sets):
        asked = [one for one in sample(sets, number, options.questions, options.seed) if one.answerable]
        tables[reading.name] = search(reading, asked, CachedEncoder(options.cache, reading.name))
    if options.json:
        options.json.write_text(json.dumps({"options": vars(options), "sets": tables}, indent=1, default=str) + "\n")


if __name__ == "__main__":
    main()
