"""Search, answers and certainty on reading sets in SQuAD's format, beside BM25, MiniLM and their fusion.

    .venv/bin/python benchmarks/answer_quality.py --sets FOLDER ... --cache FOLDER [--json OUT] [--ablation]

A set is a file or a folder of files (`.json`, `.json.gz`). Each article becomes one document; in a file with a single
article each paragraph does. Gold answers are spans of the documents. Questions without an answer are those that the set
marks so; where it marks none, a fifth of the paragraphs is hidden and their questions are the ones "on topic", while
the rest of the document is kept. "Foreign" ones are questions of the next set. Where one question is asked of many
articles ("How is my data used?"), each is asked within its own article. The folder of a built workspace is a set too:
its index is searched as it is, for its gold questions.

A chunk is relevant when a whole gold span lies inside it. An answer is right when a gold answer stands in it, as a
string of whole words without case. What is decided by calibration comes, for each half of the questions, from the other
half. Figures have 95 % intervals by bootstrap over questions, differences are paired. Texts are encoded once and kept
in the cache.

With `--held-out DATA` (the folder that `cross_encoder_data.py` read) only articles are asked that the readers did not
learn from. A short answer is compared with the gold answers as SQuAD does.

The peers need `pip install bm25s PyStemmer sentence-transformers`; without them their rows are missing, and it says so.
"""

import argparse
import importlib.util
import json
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from contenders.reading_sets import (
    ANSWERABLE,
    FOREIGN,
    ON_TOPIC,
    ReadingSet,
    held_out_paragraphs,
    read_set,
    read_workspace,
    sample,
)
from contenders.search_peers import PACKAGES, CachedEncoder, Peers
from scipy.stats import rankdata

import lmworks
from lmworks.artefact import write_json
from lmworks.evaluate.abstention import risk_controlled_threshold, risk_coverage
from lmworks.evaluate.confidence_metrics import expected_calibration_error
from lmworks.evaluate.ranking_metrics import ndcg_at_k
from lmworks.evaluate.span_overlap import is_right
from lmworks.evaluate.string_metrics import exact_match, token_f1
from lmworks.generate.cross_encoder import AnswerSpan, CrossEncoder
from lmworks.ground import calibration, features
from lmworks.ground.answer_text import short_answer
from lmworks.ground.calibration import Trial
from lmworks.ground.candidate_sentences import Candidate, candidate_sentences
from lmworks.ground.config import AnswerConfig, CalibrationConfig
from lmworks.ground.conformal_risk_control import controlled_threshold
from lmworks.ground.grounded_answer import Calibration, Finder, decide, filters_of
from lmworks.records import Answer, Question, Score, Span, Unscored
from lmworks.retrieve import bm25, late_interaction
from lmworks.retrieve import search as search_module
from lmworks.retrieve.bm25 import lexical
from lmworks.retrieve.config import ChunkConfig
from lmworks.retrieve.dense import dense
from lmworks.retrieve.fusion import WEIGHTS, fuse, union
from lmworks.retrieve.hits import Hits
from lmworks.retrieve.index import Index, IndexedChunk
from lmworks.retrieve.query_expansion import read_queries
from lmworks.retrieve.search import late, ranked
from lmworks.statistics import bootstrap_interval, difference_score, mean_score, ratio_score

DEPTH = 10
PASSAGES = 6  # that a baseline takes its sentences from
SENTENCES = 3  # that a baseline shows, as many as the system at most
CEILING = "any sentence of the passages"
SPLITS = ("calibration", "test")


# ---------------------------------------------------------------------------------------------------------------------
# Variants for the ablation


@dataclass(frozen=True)
class Variant:
    """What an ablation changes: without any of it, the system is as it is."""

    title: bool = True  # whether titles stand in what is embedded and indexed
    search: Mapping[str, Any] = field(default_factory=dict)  # fields of SearchConfig
    patch: Callable[[], AbstractContextManager[Any]] = nullcontext
    heads: frozenset[str] = frozenset({"reader", "reranker"})


class Remembering(CrossEncoder):
    """A cross-encoder that reads each pair once, however many variants ask."""

    def __init__(self, name: str) -> None:
        super().__init__(lmworks.load(name))
        self.spans: dict[tuple[str, str], AnswerSpan] = {}
        self.logits: dict[tuple[str, str], float] = {}

    def read(self, question: str, passages: Sequence[str]) -> list[AnswerSpan]:
        new = [one for one in passages if (question, one) not in self.spans]
        self.spans |= {(question, one): span for one, span in zip(new, super().read(question, new), strict=True)}
        return [self.spans[question, one] for one in passages]

    def relevance(self, question: str, passages: Sequence[str]) -> np.ndarray:
        new = [one for one in passages if (question, one) not in self.logits]
        self.logits |= {(question, one): x for one, x in zip(new, super().relevance(question, new), strict=True)}
        return np.array([self.logits[question, one] for one in passages])


def words_alone(question: str) -> str:
    words = [word.lower() for word in re.findall(r"\w+", question) if word.strip("_")]
    content = [word for word in words if word not in bm25.STOP_WORDS] or words
    return " OR ".join(f'"{word}"' for word in dict.fromkeys(content))


def by_ranks(hits: Hits, constant: float = 60.0) -> Hits:
    """Reciprocal rank fusion (Cormack, Clarke & Büttcher, 2009) of the retrieved that found them."""
    total = np.zeros(len(hits))
    for name in ("dense", "bm25", "late_interaction"):
        found = [place for place, scores in enumerate(hits.scores) if name in scores]
        found.sort(key=lambda place: -hits.scores[place][name])
        total[found] += 1 / (constant + np.arange(1, len(found) + 1))
    order = np.argsort(-total, kind="stable").tolist()
    return Hits(tuple(hits.keys[p] for p in order), tuple({**hits.scores[p], "fused": float(total[p])} for p in order))


def encoded_anew(candidates: Sequence[Candidate], passages: Any, encoder: Any, index: Index) -> list[np.ndarray]:
    tokens = encoder.encode_both([candidate.in_context for candidate in candidates], "passage")[1]
    return [late_interaction.project(one, index.axes) for one in tokens]


def without(leg: str) -> Variant:
    return Variant(patch=lambda: mock.patch.dict(WEIGHTS, {leg: 0.0}))


WHOLE = "as it is"
VARIANTS = {
    WHOLE: Variant(),
    "without reranker": Variant(heads=frozenset({"reader"})),
    "without reader": Variant(heads=frozenset({"reranker"})),
    "without either": Variant(heads=frozenset()),
    "without titles": Variant(title=False),
    "without late interaction": without("late_interaction"),
    "without dense": without("dense"),
    "without BM25": without("bm25"),
    "without names": Variant(patch=lambda: mock.patch.object(search_module, "named", lambda *_: Hits())),
    "without word pairs": Variant(patch=lambda: mock.patch.object(bm25, "match_expression", words_alone)),
    "titles weigh as text": Variant(patch=lambda: mock.patch.object(bm25, "TITLE_WEIGHT", 1.0)),
    "ranks fused, not scores": Variant(patch=lambda: mock.patch.object(search_module, "fuse", by_ranks)),
    "10 candidates": Variant(search={"candidates": 10}),
    "100 candidates": Variant(search={"candidates": 100}),
    "near-duplicates kept": Variant(search={"near_duplicate": 1.0}),
    "sentences encoded anew": Variant(patch=lambda: mock.patch.object(features, "sentence_tokens", encoded_anew)),
}


# ---------------------------------------------------------------------------------------------------------------------
# One set under one variant


@dataclass(frozen=True)
class Outcome:
    """For each question: relevance of the chunks that each retriever ranks, and of what each answerer shows whether it
    is right."""

    questions: list[Question]
    chunks: int
    inside: list[bool]  # whether a chunk holds a whole gold span
    relevance: dict[str, list[list[bool]]]
    right: dict[str, list[list[bool]]]  # of each sentence shown, best first; of the system as if it never abstained
    confidence: list[float]
    abstained: list[bool]
    short: list[str]  # the short answer, "" where there is none
    golds: list[list[str]]  # the texts of the gold spans
    trials: list[Trial]  # a candidate is right by its place
    trials_by_words: list[Trial]  # by the words of the gold answer

    @property
    def answerable(self) -> list[int]:
        return [place for place, question in enumerate(self.questions) if question.answerable]


@contextmanager
def index_of(reading: ReadingSet, encoder: CachedEncoder, variant: Variant) -> Iterator[Index]:
    if reading.index is not None:
        with Index.open(reading.index, encoder.fingerprint) as index:
            yield index
        return
    documents = [one if variant.title else replace(one, title="") for one in reading.documents]
    with tempfile.TemporaryDirectory() as folder, Index.create(Path(folder) / "i", encoder, ChunkConfig()) as index:
        index.sync(documents, encoder)
        encoder.cache.save()
        yield index


def run(
    reading: ReadingSet,
    questions: list[Question],
    encoder: CachedEncoder,
    heads: Mapping[str, CrossEncoder],
    variant: Variant,
    *,
    peers: bool,
) -> Outcome:
    """Index the documents and ask all questions; `peers`: also the single steps of the search, and the peers."""
    config = replace(AnswerConfig(), search=replace(AnswerConfig().search, **variant.search))
    ranks: dict[str, list[list[str]]] = {}
    with variant.patch(), index_of(reading, encoder, variant) as index:
        keys = index.keys.tolist()
        chunks = dict(zip(keys, index.chunks(keys), strict=True))
        finder = Finder(index, encoder, config, {role: one for role, one in heads.items() if role in variant.heads})
        for question in questions:
            for name, hits in (rankings(question, finder, steps=peers) if question.answerable else {}).items():
                ranks.setdefault(name, []).append([chunks[key].id for key in hits.keys[:DEPTH]])
        trials = [as_trial(question, finder) for question in questions]
        shown, decided = answers(trials)
        shown[CEILING] = [[one.text for one in trial.evidence.candidates] for trial in trials]
        if peers and (missing := [name for name in PACKAGES if importlib.util.find_spec(name) is None]):
            print(f"NO ROWS OF PEERS: {', '.join(missing)} not installed")
        elif peers:
            ask_peers(chunks, questions, encoder, ranks, shown)
        texts = [[index.document(span.document).quote(span) for span in question.gold] for question in questions]
    encoder.cache.save()
    by_words = [
        replace(trial, right=tuple(has(one.text, golds) for one in trial.evidence.candidates))
        for trial, golds in zip(trials, texts, strict=True)
    ]
    gold = {q.id: {c.id for c in chunks.values() if any(holds(c.span, g) for g in q.gold)} for q in questions}
    right = {
        name: [[has(sentence, golds) for sentence in row] for row, golds in zip(rows, texts, strict=True)]
        for name, rows in shown.items()
    }
    answerable = [question for question in questions if question.answerable]
    relevance = {
        name: [[one in gold[q.id] for one in row] for q, row in zip(answerable, rows, strict=True)]
        for name, rows in ranks.items()
    }
    inside = [bool(gold[question.id]) for question in answerable]
    confidence, abstained = [one.confidence for one in decided], [one.abstained for one in decided]
    short = [short_answer(one.citations) for one in decided]
    return Outcome(
        questions, len(chunks), inside, relevance, right, confidence, abstained, short, texts, trials, by_words
    )


def holds(outer: Span, inner: Span) -> bool:
    return outer.document == inner.document and outer.start <= inner.start and inner.end <= outer.end


def has(sentence: str, golds: Sequence[str]) -> bool:
    """Whether one of the gold answers stands in a sentence as whole words, without case and the dot at its end."""
    words = " ".join(sentence.lower().split())
    texts = (" ".join(gold.lower().split()).strip(" .,;:") for gold in golds)
    return any(re.search(rf"(?<!\w){re.escape(text)}(?!\w)", words) for text in texts if text)


def rankings(question: Question, finder: Finder, *, steps: bool) -> dict[str, Hits]:
    """The search, and its single steps."""
    index, config, filters = finder.index, replace(finder.config.search, k=DEPTH, budget_tokens=0), filters_of(question)
    (query,) = queries = read_queries(index, [question.text], finder.encoder)
    result = {"search": ranked(index, queries, config, filters, finder.heads.get("reranker"))}
    if steps:
        result["without reranker"] = ranked(index, queries, config, filters)
        retrieved = [
            dense(index, query.vector, config.candidates, filters),
            lexical(index, question.text, config.candidates, filters),
        ]
        by_tokens = late(index, query, union(retrieved))
        result |= {"dense": retrieved[0], "lexical": retrieved[1], "late interaction": by_tokens}
        result |= {"dense + lexical": fuse(union(retrieved)), "all three": fuse(union([*retrieved, by_tokens]))}
    return result


def as_trial(question: Question, finder: Finder) -> Trial:
    evidence = finder.evidence(question.text, filters=filters_of(question))
    return Trial(question, evidence, tuple(is_right(one.evidence, question.gold) for one in evidence.candidates))


def controlled(
    decided: Calibration, confidences: Sequence[float], right: Sequence[bool], config: CalibrationConfig
) -> Calibration:
    threshold, certainty = controlled_threshold(confidences, right, config.alpha, config.delta)
    return replace(decided, threshold=threshold, certainty=certainty)


def calibrated(trials: Sequence[Trial]) -> tuple[Calibration, list[float], list[bool]]:
    """What the stage `ground.calibrate` decides; confidences and outcomes of what nothing was fitted on."""
    config = CalibrationConfig()
    fitting, guarding = calibration.halves([trial for trial in trials if trial.evidence.candidates])
    decided, _ = calibration.fitted(config, fitting)
    outcomes = [calibration.outcome(trial, decided) for trial in guarding]
    confidences, right = [one.confidence for one in outcomes], [one.right for one in outcomes]
    return controlled(decided, confidences, right, config), confidences, right


def answers(trials: Sequence[Trial]) -> tuple[dict[str, list[list[str]]], list[Answer]]:
    """What each question is shown if nothing is abstained from; its answer. The other half's calibration decides."""
    halves = {split: calibrated([one for one in trials if one.question.split != split])[0] for split in SPLITS}
    decided = [decide(trial.evidence, halves[trial.question.split], lambda _: True) for trial in trials]
    shown = [[v.text for v in one.verdicts if v.verdict in ("cited", "abstained")] for one in decided]
    return {"system": shown}, decided


def ask_peers(
    chunks: Mapping[int, IndexedChunk], questions: Sequence[Question], encoder: CachedEncoder,
    ranks: dict[str, list[list[str]]], shown: dict[str, list[list[str]]],
) -> None:  # fmt: skip
    """The rankings of the peers, and the sentences of their passages that they score highest."""
    passages = list(chunks.values())
    by_chunk = Peers([one.prefix + one.text for one in passages], encoder.cache)
    sentences = candidate_sentences("", passages, [{}] * len(passages), AnswerConfig().minimum_characters)
    by_sentence = Peers([one.in_context for one in sentences], encoder.cache)
    home = np.array([one.passage for one in sentences])
    for question in questions:
        outside = np.array([one.span.document in set(question.excluded) for one in passages])
        scores = {name: np.where(outside, -np.inf, own) for name, own in by_chunk.scores(question.text).items()}
        orders = {name: np.argsort(-own, kind="stable")[:50].tolist() for name, own in scores.items()}
        for name, own in by_sentence.scores(question.text).items():
            for first in (1, PASSAGES):
                inside = np.flatnonzero(np.isin(home, orders[name][:first]))
                best = inside[np.argsort(-own[inside], kind="stable")][:SENTENCES]
                title = f"peer: {name}, of its first {first} passages"
                shown.setdefault(title, []).append([sentences[place].text for place in best])
        if question.answerable:
            fused = np.zeros(len(passages))
            for order in orders.values():
                fused[order] += 1 / (60 + np.arange(1, len(order) + 1))
            orders["BM25 + MiniLM by RRF"] = np.argsort(-fused, kind="stable").tolist()
            for name, order in orders.items():
                ranks.setdefault(f"peer: {name}", []).append([passages[place].id for place in order[:DEPTH]])


# ---------------------------------------------------------------------------------------------------------------------
# Tables


Rows = list[tuple[str, ...]]


def show(title: str, head: Sequence[str], rows: Rows) -> dict[str, Any]:
    """Print a small table; the same as a mapping."""
    widths = [max(len(row[column]) for row in [tuple(head), *rows]) for column in range(len(head))]
    print(f"\n{title}")
    for row in [tuple(head), *rows]:
        print("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    return {row[0]: dict(zip(head[1:], row[1:], strict=True)) for row in rows}


def text_of(score: Score) -> str:
    if isinstance(score, Unscored):
        return score.reason
    return f"{score.value:.3f} [{score.interval[0]:.3f}, {score.interval[1]:.3f}]"


def first_only(relevance: Sequence[bool]) -> list[bool]:
    first = next((rank for rank, hit in enumerate(relevance) if hit), None)
    return [rank == first for rank in range(len(relevance))]


def gains(outcome: Outcome, name: str) -> list[float]:
    """nDCG@10 of each answerable question; any one chunk that holds an answer is enough."""
    return [ndcg_at_k(first_only(row), [1], DEPTH) for row in outcome.relevance[name]]


def firsts(outcome: Outcome, name: str, count: int | None = 1) -> list[float]:
    """Of each answerable question whether the first `count` sentences shown hold an answer."""
    return [float(any(outcome.right[name][place][:count])) for place in outcome.answerable]


def answered_right(outcome: Outcome) -> list[float]:
    """Of each answerable question whether it is answered, and what is shown holds the answer."""
    return [float(any(outcome.right["system"][p]) and not outcome.abstained[p]) for p in outcome.answerable]


def retrieval_table(outcome: Outcome) -> dict[str, Any]:
    rows: Rows = []
    for name, found in outcome.relevance.items():
        cut = [first_only(row) for row in found]
        recalls = [text_of(mean_score([float(any(one[:k])) for one in cut], ["recall", k])) for k in (1, 5, DEPTH)]
        less = difference_score(gains(outcome, "search"), gains(outcome, name), ["difference"])
        rows.append((name, *recalls, text_of(mean_score(gains(outcome, name), ["ndcg"])), text_of(less)))
    held = np.mean(outcome.inside)
    title = f"Retrieval: {len(outcome.inside)} questions, {outcome.chunks} chunks; {held:.3f} of the answers in one"
    return show(title, ("ranking", "success@1", "success@5", "success@10", "nDCG@10", "search minus it"), rows)


def answers_table(outcome: Outcome) -> dict[str, Any]:
    rows: Rows = []
    for name, sentences in outcome.right.items():
        chosen = sentences if name == "system" else [row[:SENTENCES] for row in sentences]
        counts = [float(len(row)) for row in chosen]
        precision = ratio_score([float(sum(row)) for row in chosen], counts, ["precision"], proportion=True)
        own = [firsts(outcome, name, count) for count in (1, None if name == "system" else SENTENCES)]
        if name == CEILING:
            rows.append((name, "", text_of(mean_score(firsts(outcome, name, None), ["ceiling"])), "", "", ""))
            continue
        less = difference_score(firsts(outcome, "system"), own[0], ["difference"])
        scores = [text_of(mean_score(one, ["answers"])) for one in own]
        rows.append((name, *scores, text_of(precision), f"{np.mean(counts):.2f}", text_of(less)))
    head = ("nothing abstained from", "in the first sentence", "in all shown", "citation precision", "sentences", "")
    return show("Answers: the gold answer stands in what is shown", (*head[:5], "first: system minus it"), rows)


def short_table(outcome: Outcome) -> dict[str, Any]:
    """Short answers: how many questions get one, and how it compares with the gold answers."""
    given = [place for place in outcome.answerable if outcome.short[place]]
    metrics: dict[str, Callable[[str, str], float]] = {
        "exact match": exact_match,
        "token F1": token_f1,
        "holds a gold answer": lambda short, gold: float(has(short, [gold])),
    }
    rows: Rows = []
    for kind in dict.fromkeys(question.kind for question in outcome.questions):
        own = [bool(s) for s, question in zip(outcome.short, outcome.questions, strict=True) if question.kind == kind]
        rows.append((f"given, {kind}", text_of(mean_score([float(one) for one in own], [kind]))))
    for name, compare in metrics.items():
        values = [max(compare(outcome.short[place], gold) for gold in outcome.golds[place]) for place in given]
        rows.append((f"{name}, of {len(given)} given", text_of(mean_score(values, [name])) if values else "none"))
    return show("Short answers", ("", "value"), rows)


def abstention_table(outcome: Outcome) -> dict[str, Any]:
    """Answerable against each kind of questions that are not."""
    confidence, silent = np.array(outcome.confidence), np.array(outcome.abstained)
    kinds = np.array([question.kind for question in outcome.questions])
    shown = np.array([any(row) for row in outcome.right["system"]])
    answered = kinds == ANSWERABLE
    rows: Rows = [
        ("answered", text_of(mean_score((~silent[answered]).astype(float).tolist(), [""])), ""),
        ("right of answerable", text_of(mean_score((shown & ~silent)[answered].astype(float).tolist(), [""])), ""),
        ("right of answered", text_of(mean_score(shown[~silent].astype(float).tolist(), [""])), ""),
    ]
    for kind in (ON_TOPIC, FOREIGN):
        if (kinds == kind).any():
            pair = answered | (kinds == kind)
            table = np.column_stack([confidence[pair], answered[pair]]).astype(float)
            low, high = bootstrap_interval(table, auroc, of_items=True)
            recall = text_of(mean_score(silent[kinds == kind].astype(float).tolist(), [""]))
            rows.append((f"{kind}: abstained, AUROC", recall, f"{auroc(table[None])[0]:.3f} [{low:.3f}, {high:.3f}]"))
    curve = risk_coverage(outcome.confidence, shown.tolist())
    best = risk_coverage(list(range(len(shown), 0, -1)), sorted(shown.tolist(), reverse=True))
    error = expected_calibration_error(outcome.confidence, shown.tolist())
    rows.append(("risk-coverage area (of a perfect order)", f"{curve.area:.3f} ({best.area:.3f})", ""))
    rows.append(("calibration error: P(shown is right)", f"{error:.3f}", ""))
    counts = ", ".join(f"{(kinds == kind).sum()} {kind}" for kind in (ANSWERABLE, ON_TOPIC, FOREIGN))
    return show(f"Certainty: {counts}", ("", "value", "AUROC"), rows)


def auroc(samples: np.ndarray) -> np.ndarray:
    """(replicates, n, 2) of score and label -> (replicates,): P(a positive is above a negative), ties by half."""
    scores, labels = samples[..., 0], samples[..., 1]
    positive, count = labels.sum(axis=1), labels.shape[1]
    ranks = (rankdata(scores, axis=1) * labels).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (ranks - positive * (positive + 1) / 2) / (positive * (count - positive))


def guarantee_table(outcome: Outcome, splits: int, alphas: Sequence[float], delta: float) -> dict[str, Any]:
    """How often the risk among the answered is above its bound, where the threshold comes from other questions.

    Twice: on the other half of the questions that nothing was fitted on, where chance is in both the threshold and the
    measurement; and over all of them, where as many as a half were drawn with replacement to choose the threshold. Then
    they are the population, whose risk is known: this is what `delta` bounds.
    """
    events = {"cites the place": outcome.trials, "shows the answer": outcome.trials_by_words}
    rows: Rows = []
    for event, trials in events.items():
        decided, confidences, outcomes = calibrated(trials)
        confidence, right = np.array(confidences), np.array(outcomes)
        for name, choose in procedures(decided, alphas, delta).items():
            measured: list[tuple[float, float, bool, bool]] = []
            for split in range(splits):
                generator = np.random.default_rng(split)
                first, second = np.array_split(generator.permutation(len(right)), 2)
                again = generator.choice(len(right), len(first))
                threshold, bound = choose(confidence[first].tolist(), right[first].tolist())
                risk, covered = risk_at(threshold, confidence[second], right[second])
                drawn, known_bound = choose(confidence[again].tolist(), right[again].tolist())
                measured.append((risk, covered, risk > bound, risk_at(drawn, confidence, right)[0] > known_bound))
            means = np.mean(measured, axis=0)
            rows.append((f"{event}, {name}", *(f"{means[column]:.3f}" for column in (2, 3, 0, 1))))
    title = f"Guarantee: in {splits} splits the risk may be above its bound in a share of {delta}"
    return show(title, ("", "other half above", "all above", "mean risk", "coverage"), rows)


Choice = Callable[[Sequence[float], Sequence[bool]], tuple[float | None, float]]  # threshold, and the bound of the risk


def procedures(decided: Calibration, alphas: Sequence[float], delta: float) -> dict[str, Choice]:
    """Ways to choose a threshold: that of the calibration, its test at one level, and one without a guarantee."""
    config = CalibrationConfig(delta=delta)

    def by_levels(confidence: Sequence[float], right: Sequence[bool]) -> tuple[float | None, float]:
        chosen = controlled(decided, confidence, right, config)
        return chosen.threshold, chosen.certainty.alpha or 1.0  # without a guarantee nothing is promised

    named: dict[str, Choice] = {"as calibrated": by_levels}
    for alpha in alphas:
        named[f"risk controlled at {alpha}"] = lambda c, r, a=alpha: (risk_controlled_threshold(c, r, a, delta), a)
        named[f"own risk at {alpha}"] = lambda c, r, a=alpha: (empirical_threshold(c, r, a), a)
    return named


def risk_at(threshold: float | None, confidence: np.ndarray, right: np.ndarray) -> tuple[float, float]:
    """Risk among what is answered, 0 where nothing is, and the share that is answered."""
    answered = confidence >= (np.inf if threshold is None else threshold)
    return float(1 - right[answered].mean()) if answered.any() else 0.0, float(answered.mean())


def empirical_threshold(confidence: Sequence[float], right: Sequence[bool], alpha: float) -> float | None:
    """The lowest threshold whose own risk is at most `alpha`: no guarantee, for comparison."""
    curve = risk_coverage(confidence, right)
    return min((t for t, risk in zip(curve.threshold, curve.risk, strict=True) if risk <= alpha), default=None)


def ablation_table(outcomes: Mapping[str, Outcome]) -> dict[str, Any]:
    whole = outcomes[WHOLE]
    rows: Rows = []
    for name, outcome in outcomes.items():
        pairs = [
            (gains(outcome, "search"), gains(whole, "search")),
            (firsts(outcome, "system"), firsts(whole, "system")),
            (firsts(outcome, "system", None), firsts(whole, "system", None)),
            (answered_right(outcome), answered_right(whole)),
        ]
        cells = [
            f"{np.mean(own):.3f}" if outcome is whole else text_of(difference_score(own, other, ["difference"]))
            for own, other in pairs
        ]
        rows.append((name, *cells))
    return show(
        "Ablation: variant minus the system as it is",
        ("", "nDCG@10", "first sentence", "all shown", "answered and right"),
        rows,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=Path, nargs="+", required=True, help="files or folders in SQuAD's format")
    parser.add_argument("--cache", type=Path, required=True, help="folder that keeps what was encoded")
    parser.add_argument("--json", type=Path, help="write all tables here as well")
    parser.add_argument("--calibration", type=Path, help="write one calibration of all sets together here")
    parser.add_argument("--held-out", type=Path, metavar="DATA", help="ask only articles that no reader learned from")
    parser.add_argument("--reader", default="minilm-reader", help='model that reads; "" for none')
    parser.add_argument("--reranker", default="minilm-reranker", help='model that reranks; "" for none')
    parser.add_argument("--paragraphs", type=int, default=1000, help="of a set, at most about so many")
    parser.add_argument("--questions", type=int, default=400, help="answerable ones of a set; half as many of others")
    parser.add_argument(
        "--ablation", nargs="*", choices=list(VARIANTS), help="variants to compare; all when none named"
    )
    parser.add_argument("--without-peers", action="store_true", help="and without the single steps of the search")
    parser.add_argument("--splits", type=int, default=200)
    parser.add_argument("--alpha", type=float, nargs="+", default=[0.25, 0.4], help="risks to guarantee")
    parser.add_argument("--delta", type=float, default=0.1, help="share of splits that may exceed it")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.cache.mkdir(parents=True, exist_ok=True)
    only = held_out_paragraphs(options.held_out) if options.held_out else None
    sets = [
        read_workspace(path) if (path / "stages").is_dir() else read_set(path, options.paragraphs, options.seed, only)
        for path in options.sets
    ]
    named = {"reader": options.reader, "reranker": options.reranker}
    heads = {role: Remembering(name) for role, name in named.items() if name}
    result: dict[str, Any] = {}
    trials: list[Trial] = []
    for number, reading in enumerate(sets):
        print(f"\n=== {reading.name}: {len(reading.documents)} documents" + (", asked one by one" * reading.scoped))
        questions = sample(sets, number, options.questions, options.seed)
        encoder = CachedEncoder(options.cache, reading.name)
        outcome = run(reading, questions, encoder, heads, Variant(), peers=not options.without_peers)
        trials += outcome.trials
        tables = [retrieval_table(outcome), answers_table(outcome), short_table(outcome), abstention_table(outcome)]
        tables.append(guarantee_table(outcome, options.splits, options.alpha, options.delta))
        if options.ablation is not None:
            outcomes = {WHOLE: outcome}
            for name in [one for one in options.ablation or VARIANTS if one not in outcomes]:
                outcomes[name] = run(reading, questions, encoder, heads, VARIANTS[name], peers=False)
            tables.append(ablation_table(outcomes))
        names = ("retrieval", "answers", "short answers", "certainty", "guarantee", "ablation")
        result[reading.name] = dict(zip(names, tables, strict=False))
    if options.calibration:
        write_json(options.calibration, calibrated(trials)[0])
    if options.json:
        options.json.write_text(json.dumps({"options": vars(options), "sets": result}, indent=1, default=str) + "\n")


if __name__ == "__main__":
    main()
