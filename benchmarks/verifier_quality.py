"""How well statements are verified, against people's labels: by the verifier, values, words and likelihood.

    .venv/bin/python benchmarks/verifier_quality.py DATA PROBES
    .venv/bin/python benchmarks/verifier_quality.py DATA PROBES --verifier FOLDER --likelihood --rows 300

DATA has `begin-attribution` (replies of four systems, by whether they are fully attributable to a sentence of
knowledge) and `expertqa-attribution` (claims of answers that models gave to experts, by whether what they cite supports
them completely). PROBES has test-fever.jsonl and test-med.jsonl of `cross_encoder_data.py`, which words do not tell.
On the validation parts of begin and expertqa the weights of `ground.verification` are fitted, which are printed, and
the thresholds of all but its verdict, by balanced accuracy. Intervals (95 %) resample knowledge, questions or claims.
"""

import argparse
import csv
import gzip
import json
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, roc_auc_score

from lmworks.adapt.adapter import load
from lmworks.generate.cross_encoder import CrossEncoder
from lmworks.generate.engine import Engine
from lmworks.ground.exact_values import content_words
from lmworks.ground.verification import Passage, verify
from lmworks.records import Span

SETS = ("begin", "expertqa", "fever", "med")
REPLICATES = 200
VERDICT = "verifier + words + values"


@dataclass(frozen=True)
class Row:
    statement: str
    evidence: tuple[str, ...]
    supported: bool
    group: str

    @property
    def passages(self) -> list[Passage]:
        return [(text, Span(f"evidence[{i}]", 0, len(text))) for i, text in enumerate(self.evidence)]


def rows_of(name: str, data: Path, part: str) -> Iterator[Row]:
    """Rows of the part "val" or "test"; the probes have a test part alone."""
    if name == "begin":
        for file in {"val": ("dev_wow", "dev_cmu"), "test": ("test_wow",)}[part]:
            with gzip.open(data / f"begin-attribution/begin_{file}.tsv.gz", "rt", encoding="utf-8") as stream:
                for row in csv.DictReader(stream, delimiter="\t"):
                    if row["begin_label"] != "Generic" and row["response"].strip():
                        yield Row(
                            row["response"].strip(), (row["knowledge"],), row["begin_label"][0] == "F", row["knowledge"]
                        )
    elif name == "expertqa":
        with gzip.open(data / f"expertqa-attribution/rand_{part}.jsonl.gz", "rt", encoding="utf-8") as stream:
            for asked in map(json.loads, stream):
                for claim in (claim for answer in asked["answers"].values() for claim in answer["claims"]):
                    if claim["evidence"] and claim["support"] in ("Complete", "Partial", "Incomplete"):
                        said = re.sub(r"\s*\[\d+\]", "", claim["claim_string"]).strip()
                        texts = (re.sub(r"^\[\d+\]\s*\S+\s*", "", text) for text in claim["evidence"])
                        shown = tuple(text for text in texts if text.strip())
                        if said and shown:
                            yield Row(said, shown, claim["support"] == "Complete", asked["question"])
    elif part == "test":
        with (data / f"test-{name}.jsonl").open(encoding="utf-8") as stream:
            for row in map(json.loads, stream):
                yield Row(row["hypothesis"], (row["premise"],), row["label"] == "entailment", row["hypothesis"])


def scores(rows: Sequence[Row], verifier: CrossEncoder, model: Engine | None) -> dict[str, np.ndarray]:
    """(rows,) of each method, higher for what is rather supported; `VERDICT` is 1 for what is."""
    found = verify([row.statement for row in rows], [row.passages for row in rows], verifier, model)
    entailed = np.array([1.0 if one.entailment is None else one.entailment for one in found])  # 1: a quote
    missing = np.array([bool(one.missing) for one in found])  # stands behind all the rest
    result = {
        "verifier": entailed,
        "verifier + values": entailed - missing,
        "words in common": np.array([_share(row.statement, " ".join(row.evidence)) for row in rows]),
        "verifier + words": np.array([one.support for one in found], np.float64),
    }
    result[VERDICT] = result["verifier + words"] - missing
    if model:
        result["likelihood"] = np.array([-1e9 if one.gain is None else one.gain for one in found])
    return result


def _share(statement: str, evidence: str) -> float:
    words = content_words(statement)
    return len([word for word in words if word in set(content_words(evidence))]) / max(len(words), 1)


def balanced_accuracy(right: np.ndarray, found: np.ndarray, threshold: float) -> float:
    said = found >= threshold
    return float(said[right].mean() + (~said[~right]).mean()) / 2


def best_threshold(right: np.ndarray, found: np.ndarray) -> float:
    return max(np.unique(found)[::1], key=lambda one: balanced_accuracy(right, found, one))


def figures(right: np.ndarray, found: np.ndarray, threshold: float) -> tuple[float, float, float]:
    ranked = roc_auc_score(right, found), average_precision_score(right, found)
    return float(ranked[0]), float(ranked[1]), balanced_accuracy(right, found, threshold)


def resampled(groups: Sequence[str]) -> Iterator[np.ndarray]:
    """The places of rows, groups of them drawn with replacement."""
    names = {name: place for place, name in enumerate(dict.fromkeys(groups))}
    codes, chance = np.array([names[group] for group in groups]), np.random.default_rng(0)
    members = [np.flatnonzero(codes == code) for code in range(len(names))]
    for _ in range(REPLICATES):
        yield np.concatenate([members[code] for code in chance.integers(0, len(members), len(members))])


def table(rows: Sequence[Row], found: dict[str, np.ndarray], thresholds: dict[str, float]) -> Iterator[str]:
    right, draws = np.array([row.supported for row in rows]), list(resampled([row.group for row in rows]))
    drawn = {
        name: np.array([figures(right[places], values[places], thresholds[name]) for places in draws])
        for name, values in found.items()
    }  # (replicates, 3)
    for name, values in found.items():
        whole = figures(right, values, thresholds[name])
        less = np.array(figures(right, found[VERDICT], thresholds[VERDICT])) - whole
        beside = _cells(less, drawn[VERDICT] - drawn[name])[::2] if name != VERDICT else ["", ""]
        yield f"| {' | '.join([name, *_cells(whole, drawn[name]), *beside])} |"


def fitted(validation: Sequence[tuple[Sequence[Row], dict[str, np.ndarray]]]) -> str:
    """The weights of `ground.verification` on these rows: each set, and either label in it, weighs as much."""
    columns, right, weights = [], [], []
    for rows, found in validation:
        entailed, own = np.clip(found["verifier"], 1e-3, 0.999), np.array([row.supported for row in rows])
        columns.append(np.column_stack([np.log(entailed / (1 - entailed)), found["words in common"]]))
        right.append(own)
        weights.append(np.where(own, 0.5 / own.sum(), 0.5 / (~own).sum()) * 1000)
    model = LogisticRegression(C=100).fit(np.vstack(columns), np.concatenate(right), np.concatenate(weights))
    return f"BIAS, OF_ENTAILMENT, OF_WORDS = {np.round([model.intercept_[0], *model.coef_[0]], 2).tolist()}"


def _cells(values: Sequence[float] | np.ndarray, drawn: np.ndarray) -> list[str]:
    low, high = np.percentile(drawn, (2.5, 97.5), axis=0)
    return [f"{value:.3f} [{a:.3f}, {b:.3f}]" for value, a, b in zip(values, low, high, strict=True)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("probes", type=Path)
    parser.add_argument("--verifier", default="minilm-verifier")
    parser.add_argument("--likelihood", action="store_true", help="also by smollm2-135m-instruct, which takes minutes")
    parser.add_argument("--rows", type=int, default=0, help="rows of each set, drawn at random; 0: all")
    parser.add_argument("--out", type=Path, help="the scores of each row, as a .json file")
    options = parser.parse_args()
    verifier = CrossEncoder(load(options.verifier))
    model = Engine(load("smollm2-135m-instruct")) if options.likelihood else None
    found = dict[tuple[str, str], tuple[list[Row], dict[str, np.ndarray]]]()
    for name, part in [(name, part) for part in ("val", "test") for name in SETS]:
        rows = list(rows_of(name, options.data if part == "val" or name in SETS[:2] else options.probes, part))
        random.Random(0).shuffle(rows)
        if rows := rows[: options.rows or None]:
            found[name, part] = rows, scores(rows, verifier, model)
            print(f"{name} {part}: {len(rows)} rows, {sum(row.supported for row in rows)} supported", flush=True)
    validation = [found[name, "val"] for name in SETS[:2]]
    print(fitted(validation))
    right = np.array([row.supported for rows, _ in validation for row in rows])
    together = {name: np.concatenate([made[name] for _, made in validation]) for name in validation[0][1]}
    thresholds = {name: best_threshold(right, values) for name, values in together.items()} | {VERDICT: 0.5}
    print({name: round(float(threshold), 3) for name, threshold in thresholds.items()})
    for (name, part), (rows, made) in found.items():
        print(
            f"\n{name} {part}\n| method | AUROC | AUPR | balanced accuracy | AUROC of the last less this | accuracy |"
        )
        print(*table(rows, made, thresholds), sep="\n", flush=True)
    if options.out:
        labels = {key: [row.supported for row in rows] for key, (rows, _) in found.items()}
        made = {key: {name: values.tolist() for name, values in made.items()} for key, (_, made) in found.items()}
        options.out.write_text(json.dumps([[*key, labels[key], made[key]] for key in found]))


if __name__ == "__main__":
    main()
