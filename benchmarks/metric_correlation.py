"""How far metrics order texts as people do: rank correlation with the ratings of five published sets, in one table.

    .venv/bin/python benchmarks/metric_correlation.py
    .venv/bin/python benchmarks/metric_correlation.py --rows FOLDER         # SET.jsonl, for the stage evaluate.learned
    .venv/bin/python benchmarks/metric_correlation.py --learned FOLDER ...  # what it made; on held-out documents alone

`mqm-ted`: English talks in German by 13 systems, rated by what experts found wrong; the reference is the translation by
people, which the same experts rated. `qags-cnndm`, `qags-xsum`: summaries, rated by whether each sentence is consistent
with the article. `topical-chat`: replies of six systems, rated overall. `begin-wow`: replies of four, by whether they
are fully attributable to a sentence of knowledge. Where a set has no reference, metrics compare with the article, the
knowledge, or the facts and the dialogue; what reads no reference takes these, or the English sentence, as its context.
Negative errors and ratings are both "more is better", and so is a metric's sign here.

Spearman and Kendall (tau-b) are over all rows; "within" is Spearman within a segment or dialogue, over the systems,
averaged over those where both vary. Intervals (95 %) resample segments, articles or dialogues. An English encoder and
language model see German as pieces of words. SelfCheckGPT is not here: no set has further samples of its systems.
"""

import argparse
import csv
import gzip
import json
import random
import re
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import numpy as np
from contenders.texts import DATA

import lmworks
from lmworks.evaluate.judge import Judge, g_eval, rubric
from lmworks.evaluate.learned_metric import CARD, correlations, learned_quality, load_learned
from lmworks.evaluate.likelihood import gptscore
from lmworks.evaluate.metric import Item, Metric, Response, Value, item_value
from lmworks.evaluate.registry import METRICS, metric
from lmworks.generate.engine import Engine
from lmworks.generate.text_embedding import TextEncoder
from lmworks.records import Provenance, Rated, Score, Scored, Unscored
from lmworks.statistics import mean_score

SETS = ("mqm-ted", "qags-cnndm", "qags-xsum", "topical-chat", "begin-wow")
TEXT = ("bleu", "chrf", "rouge-1", "rouge-l", "meteor", "token-f1")  # TER takes minutes a row beside an article
ENCODER = ("bertscore", "bertscore-precision", "bertscore-recall")
COPIED, CONTEXT = ("fragment-coverage", "fragment-density"), ("attribution", "statement-attribution")


@dataclass(frozen=True)
class Row:
    """`against` is what a candidate is compared with; rows of one `group` share their source."""

    document: str  # SET/NAME
    group: str
    against: str
    source: str
    candidate: str
    rating: float

    @property
    def set(self) -> str:
        return self.document.partition("/")[0]


def mqm(folder: Path) -> Iterator[Row]:
    with gzip.open(folder / "mqm-ted" / "mqm_ted_ende.avg_seg_scores.tsv.gz", "rt") as stream:
        scores = {(system, number): value for system, value, number in map(str.split, stream)}
    with gzip.open(folder / "mqm-ted" / "mqm_ted_ende.tsv.gz", "rt") as stream:
        rows = list(csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE))
    texts = {(row["system"], row["seg_id"]): re.sub("</?v>", "", row["target"]) for row in rows}
    for (system, number), row in {(row["system"], row["seg_id"]): row for row in rows}.items():
        score, reference = scores.get((system, number), "None"), texts.get(("ref", number))
        if system != "ref" and score != "None" and reference:
            document = f"mqm-ted/{row['doc']}"
            yield Row(document, f"{document}/{number}", reference, row["source"], texts[system, number], float(score))


def unpacked(path: Path) -> list[dict]:
    return json.loads(gzip.decompress(path.read_bytes()))


def qags(folder: Path, name: str) -> Iterator[Row]:
    for row in unpacked(folder / "frank-qags" / f"{name.replace('-', '_')}.json.gz"):
        document = f"{name}/{row['doc_id']}"
        rating = row["scores"]["consistency"]
        yield Row(document, document, row["source"], row["source"], row["system_output"], rating)


def topical_chat(folder: Path) -> Iterator[Row]:
    rows = unpacked(folder / "frank-qags" / "topical_chat.json.gz")
    numbers = {source: n for n, source in enumerate(dict.fromkeys(row["source"] for row in rows))}
    for row in rows:
        document = f"topical-chat/{numbers[row['source']]}"
        source = f"{row['context'].strip()}\n\n{row['source'].strip()}"
        yield Row(document, document, source, source, row["system_output"].strip(), row["scores"]["overall"])


def begin(folder: Path) -> Iterator[Row]:
    with gzip.open(folder / "begin-attribution" / "begin_dev_wow.tsv.gz", "rt") as stream:
        rows = list(csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE))
    numbers = {text: n for n, text in enumerate(dict.fromkeys(row["knowledge"] for row in rows))}
    for row in rows:
        document, known = f"begin-wow/{numbers[row['knowledge']]}", row["knowledge"]
        attributable = float(row["begin_label"] == "Fully attributable")
        yield Row(document, document, known, known, row["response"], attributable)


def read(folder: Path) -> list[Row]:
    summaries = (row for name in ("qags-cnndm", "qags-xsum") for row in qags(folder, name))
    return [*mqm(folder), *summaries, *topical_chat(folder), *begin(folder)]


def sample(rows: Sequence[Row], most: int) -> list[Row]:
    """Whole groups, drawn at random, until there are `most` rows."""
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        groups[row.group].append(row)
    order, kept = list(groups.values()), []
    random.Random(0).shuffle(order)
    while order and len(kept) < most:
        kept += order.pop()
    return kept


def within(one: Metric, items: Sequence[Item], values: Sequence[Value], human: Sequence[float]) -> Score:
    """The mean of Spearman's rho within each cluster of three items or more."""
    from scipy.stats import spearmanr

    clusters: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for item, value, rating in zip(items, values, human, strict=True):
        if not isinstance(value, Unscored):
            clusters[item.cluster].append((item_value(one, value), rating))
    columns = [np.array(own).T for own in clusters.values() if len(own) > 2]
    found = [float(spearmanr(*both)[0]) for both in columns if np.ptp(both, axis=1).all()]
    sign = -1 if one.higher_is_better is False else 1
    return mean_score([sign * value for value in found], [one.name, "within"], nothing="-")


def models(data: str, judge: bool) -> list[Callable[[], Metric]]:
    """The metrics that a model computes, made when they are needed."""
    aspect = {"mqm-ted": "translation", "topical-chat": "engagement"}.get(data, "consistency")
    found: list[Callable[[], Metric]] = [lambda name=name: metric(name, encoder=encoder()) for name in ENCODER]
    found += [lambda: gptscore(engine(), aspect), lambda: metric("model-perplexity", model=engine())]
    if judge and data != "mqm-ted":
        found.append(lambda: g_eval(Judge(engine(), rubric("faithfulness"))))
        found += [lambda name=name: metric(name) for name in COPIED]
        found.append(lambda: metric("carrier-similarity", encoder=encoder()))
        found += [lambda name=name: metric(name, model=engine()) for name in CONTEXT]
    return found


@cache
def engine() -> Engine:
    return Engine(lmworks.load("smollm2-135m-instruct"), context_length=2048)


@cache
def encoder() -> TextEncoder:
    return TextEncoder(lmworks.load("all-minilm-l6-v2"), weights="float32")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help="folder with mqm-ted, frank-qags, begin-attribution")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=SETS)
    parser.add_argument("--n", type=int, default=60, help="rows of a set, in whole groups; of mqm-ted five times it")
    parser.add_argument("--judge", action="store_true", help="let the language model judge, too; twice the time")
    parser.add_argument("--rows", type=Path, help="write the rows of each set to this folder, and measure nothing")
    parser.add_argument("--learned", type=Path, nargs="+", default=(), help="artefacts of evaluate.learned, one a set")
    options = parser.parse_args()
    rows = [row for row in read(options.data) if row.set in options.sets]
    if options.rows:
        for data in options.sets:
            rated = [
                Rated(r.against, r.candidate, r.rating, Provenance(source=r.document)) for r in rows if r.set == data
            ]
            (options.rows / f"{data}.jsonl").write_text("".join(json.dumps(asdict(row)) + "\n" for row in rated))
        return
    learned = {}
    for folder in options.learned:
        held_out = set(json.loads((folder / CARD).read_text())["held_out"])
        name = next(iter(held_out)).partition("/")[0]
        learned[name], rows = folder, [row for row in rows if row.document in held_out or row.set != name]
    print(f"{'set':13} {'metric':20} {'n':>4} {'Spearman':>26} {'Kendall':>26} {'within':>26} {'s':>5}")
    for data in options.sets:
        own = sample([row for row in rows if row.set == data], options.n * (5 if data == "mqm-ted" else 1))
        items = [Item(str(n), "", (r.against,), (r.source,), cluster=r.group) for n, r in enumerate(own)]
        responses, human = [Response(row.candidate) for row in own], [row.rating for row in own]
        made: list[Callable[[], Metric]] = [lambda name=name: metric(name) for name in TEXT if name in METRICS]
        made += models(data, options.judge)
        if data in learned:
            made.append(lambda folder=learned[data]: learned_quality(load_learned(folder)))
        for make in made:
            one, start = make(), time.perf_counter()
            values = one.measure(items, responses)
            seconds = time.perf_counter() - start
            rho, tau = correlations(one, items, values, human, data)
            scored = sum(not isinstance(value, Unscored) for value in values)
            columns = (*(shown(score) for score in (rho, tau)), shown(within(one, items, values, human)))
            print(
                f"{data:13} {one.name:20} {scored:4} {columns[0]:>26} {columns[1]:>26} {columns[2]:>30} {seconds:5.0f}"
            )


def shown(score: Score) -> str:
    return str(score).partition(" n=")[0] if isinstance(score, Scored) else "-"


if __name__ == "__main__":
    main()
