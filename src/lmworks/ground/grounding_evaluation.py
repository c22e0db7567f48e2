"""The stage `ground.evaluate`: the test questions, answered by the system and by two baselines that never abstain.

    first passage    cite the whole passage that the search ranks first
    best sentence    quote the passage sentence whose embedding is closest to the question's

Both see the same passages as the system. Every figure has an interval by bootstrap over questions.
"""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lmworks.artefact import StageContext, StageResult, read_manifest, write_text
from lmworks.config import to_mapping
from lmworks.evaluate.abstention import expected_calibration_error, risk_coverage
from lmworks.evaluate.question_set import QUESTIONS, read_questions
from lmworks.evaluate.ranking_metrics import ndcg_at_k, recall_at_k
from lmworks.evaluate.span_overlap import gold_characters, is_found, is_right, span_f1
from lmworks.ground.config import EvaluationConfig
from lmworks.ground.grounded_answer import CALIBRATION, Answerer, decide, filters_of, load_answerer
from lmworks.ground.question_generation import AUTOMATIC, LEAK
from lmworks.records import Question, Score, Span, Unscored
from lmworks.report import Figure, Section, Table, line_plot
from lmworks.retrieve.catalogue import CATALOGUE
from lmworks.retrieve.search import search
from lmworks.statistics import difference_score, mean_score, proportion_score

ROWS = "rows.jsonl"
SCORES = "scores.json"
DEPTH = 10  # passages that recall and nDCG look at
SYSTEMS = ("system", "first passage", "best sentence")


@dataclass(frozen=True, slots=True)
class Row:
    """One test question and what each system cited for it. Holds no times, so that equal runs give equal rows."""

    question: Question
    relevance: tuple[bool, ...]  # of the first passages found: does one point to a gold span?
    citations: Mapping[str, tuple[Span, ...]]  # by system; an abstention cites nothing
    proposed: tuple[Span, ...]  # what the system would cite if it never abstained
    confidence: float
    abstained: bool
    answer: str

    def f1(self, system: str) -> float:
        return span_f1(self.citations[system], self.question.gold)


def evaluate(config: EvaluationConfig, context: StageContext) -> StageResult:
    """Ask every question of the test split; write `rows.jsonl` and `scores.json` and show them."""
    del config  # nothing to set: it names the stage in a recipe
    calibration = context.input(CALIBRATION)
    answerer = load_answerer(context.input(CATALOGUE), calibration, context.models)
    questions = [question for question in read_questions(context.input(QUESTIONS)) if question.split == "test"]
    rows: list[Row] = []
    seconds: list[float] = []
    for done, question in enumerate(questions, start=1):
        row, time_taken = ask(question, answerer)
        rows.append(row)
        seconds.append(time_taken)
        context.progress(done, len(questions), "questions answered")
    lines = (json.dumps({"id": row.question.id, "value": to_mapping(row)}, ensure_ascii=False) + "\n" for row in rows)
    write_text(context.output / ROWS, "".join(lines))
    signature = {
        "metrics": 1,
        "calibration": read_manifest(calibration).content_hash,
        "models": dict(read_manifest(calibration).models),
        "questions": [question.id for question in questions],
        "seed": 0,
    }
    groups = {
        "gold questions": [row for row in rows if row.question.kind not in AUTOMATIC],
        "automatic questions": [row for row in rows if row.question.kind in AUTOMATIC],
    }
    scores = {name: score_rows(group, signature) for name, group in groups.items() if group}
    latency = latency_scores(seconds, signature)
    write_text(context.output / SCORES, json.dumps(to_mapping(scores), indent=1, ensure_ascii=False) + "\n")
    sections = [section(name, groups[name], scores[name]) for name in scores]
    sections.append(_latency_section(latency) if rows else Section("Evaluation", "There are no test questions."))
    return StageResult(metrics=to_mapping(scores) | {"latency": to_mapping(latency)}, sections=tuple(sections))


# ---------------------------------------------------------------------------------------------------------------------
# Asking


def ask(question: Question, answerer: Answerer) -> tuple[Row, float]:
    """Ask the system and both baselines; the seconds are the system's own."""
    finder = answerer.finder
    started = time.perf_counter()
    filters = filters_of(question)
    evidence = answerer.finder.evidence(question.text, filters=filters)
    answer = decide(evidence, answerer.calibration, answerer.is_quote)
    seconds = time.perf_counter() - started
    deeper = replace(finder.config.search, k=max(DEPTH, finder.config.search.k), budget_tokens=0)
    found = search(finder.index, question.text, finder.encoder, deeper, filters)[:DEPTH]
    query = finder.encoder.encode([question.text], "query")[0]  # (width,)
    similarity = (
        finder.encoder.encode([candidate.in_context for candidate in evidence.candidates], "passage") @ query
    )  # (candidates,)
    row = Row(
        question=question,
        relevance=tuple(is_right(passage.span, question.gold) for passage in found),
        citations={
            "system": tuple(citation.evidence for citation in answer.citations),
            "first passage": tuple(passage.span for passage in evidence.passages[:1]),
            "best sentence": tuple(
                evidence.candidates[place].evidence for place in np.argsort(-similarity, kind="stable")[:1]
            ),
        },
        proposed=tuple(verdict.evidence for verdict in answer.verdicts if verdict.verdict in ("cited", "abstained")),
        confidence=answer.confidence,
        abstained=answer.abstained,
        answer=answer.text,
    )
    return row, seconds


# ---------------------------------------------------------------------------------------------------------------------
# Scores


def score_rows(rows: Sequence[Row], signature: Mapping[str, Any]) -> dict[str, dict[str, Score]]:
    """Metric -> system -> score."""
    answerable = [row for row in rows if row.question.answerable]
    whole_sections = rows[0].question.kind in AUTOMATIC
    result: dict[str, dict[str, Score]] = {}

    def add(metric: str, system: str, score: Score) -> None:
        result.setdefault(metric, {})[system] = score

    for k in (1, 5, DEPTH):
        found = [recall_at_k(_first_only(row.relevance), 1, k) for row in answerable]
        add(f"recall@{k}", "system", mean_score(found, [signature, "recall", k]))
    gains = [ndcg_at_k(_first_only(row.relevance), 1, DEPTH) for row in answerable]
    add(f"nDCG@{DEPTH}", "system", mean_score(gains, [signature, "ndcg", DEPTH]))
    for system in SYSTEMS:
        cited = [(row.citations[system], row.question.gold) for row in rows]
        right = [float(sum(is_right(span, gold) for span in spans)) for spans, gold in cited]
        counts = [float(len(spans)) for spans, _ in cited]
        f1: Score = mean_score([row.f1(system) for row in answerable], [signature, "span F1"])
        if whole_sections:
            f1 = Unscored("the gold spans are whole sections")
        add("span F1", system, f1)
        add("citation precision", system, proportion_score(right, counts, [signature, "citation precision"]))
        shared, shown = zip(*(gold_characters(spans, gold) for spans, gold in cited), strict=True)
        characters = proportion_score(shared, shown, [signature, "citation precision, characters"])
        if whole_sections:
            characters = Unscored("the gold spans are whole sections")
        add("citation precision, characters", system, characters)
        found = [float(is_found(row.citations[system], row.question.gold)) for row in answerable]
        add("citation recall", system, mean_score(found, [signature, "citation recall"]))
    if not whole_sections:
        own, best = ([row.f1(system) for row in answerable] for system in ("system", "best sentence"))
        add("span F1 minus best sentence", "system", difference_score(own, best, [signature, "difference"]))
    _add_abstention(rows, signature, add)
    return result


def _add_abstention(rows: Sequence[Row], signature: Mapping[str, Any], add: Any) -> None:
    silent = [float(row.abstained) for row in rows]
    unanswerable = [float(not row.question.answerable) for row in rows]
    both = [a * u for a, u in zip(silent, unanswerable, strict=True)]
    never = Unscored("never abstains")
    precision = proportion_score(
        both, silent, [signature, "abstention precision"], nothing="the system never abstained"
    )
    recall = proportion_score(
        both, unanswerable, [signature, "abstention recall"], nothing="every question has an answer"
    )
    for system in SYSTEMS:
        add("abstention precision", system, precision if system == "system" else never)
        add("abstention recall", system, recall if system == "system" else never)
    for kind in dict.fromkeys(row.question.kind for row in rows if not row.question.answerable):
        of_kind = [float(row.abstained) for row in rows if row.question.kind == kind and not row.question.answerable]
        add(f"abstention recall, {kind or 'others'}", "system", mean_score(of_kind, [signature, "recall", kind]))
    wrong = [float(not row.abstained and not _is_right(row)) for row in rows]
    answered = [float(not row.abstained) for row in rows]
    risk = proportion_score(wrong, answered, [signature, "risk"], nothing="the system answered nothing")
    add("wrong among the answered", "system", risk)
    add("answered", "system", mean_score(answered, [signature, "coverage"]))
    error = expected_calibration_error([r.confidence for r in rows], [_is_right(r) for r in rows])
    add("calibration error of the confidence", "system", _bare(error, len(rows)))


def _bare(value: float, n: int) -> Score:
    """ECE is biased upwards by small bins; a bootstrap interval of it would not cover the truth."""
    return Unscored(f"{value:.3f} over {n} questions; too few for an interval") if n else Unscored("no questions")


def _first_only(relevance: Sequence[bool]) -> list[bool]:
    """Any one passage that answers is enough: those after the first are not counted."""
    first = next((rank for rank, hit in enumerate(relevance) if hit), None)
    return [rank == first for rank in range(len(relevance))]


def latency_scores(seconds: Sequence[float], signature: Mapping[str, Any]) -> dict[str, Score]:
    if not seconds:
        return {}
    slow = float(np.quantile(seconds, 0.95))
    return {
        "mean seconds per answer": mean_score(list(seconds), [signature, "latency"]),
        "95th percentile of seconds": Unscored(f"{slow:.2f} over {len(seconds)} questions; too few for an interval"),
    }


# ---------------------------------------------------------------------------------------------------------------------
# The report


def section(name: str, rows: Sequence[Row], scores: Mapping[str, Mapping[str, Score]]) -> Section:
    table = Table(
        ("metric", *SYSTEMS),
        tuple(
            (metric, *(str(by_system[system]) if system in by_system else "" for system in SYSTEMS))
            for metric, by_system in scores.items()
        ),
        "Value [95 % interval by bootstrap over questions] and number of items",
    )
    answerable = sum(row.question.answerable for row in rows)
    text = f"{len(rows)} questions of the test split, {answerable} of them answerable from the documents."
    if name == "automatic questions":
        text = f"{text} {LEAK}"
    missed = [row for row in rows if row.question.answerable and (row.abstained or not _is_right(row))]
    wrong = [row for row in rows if not row.question.answerable and not row.abstained]
    examples = Table(
        ("question", "answer", "what is wrong", "a person's answer"),
        tuple(
            (row.question.text, row.answer, "abstained" if row.abstained else "cites elsewhere", row.question.answer)
            for row in missed[:8]
        )
        + tuple((row.question.text, row.answer, "has no answer in the documents", "") for row in wrong[:8]),
        "What went wrong, for example",
    )
    return Section(f"Evaluation: {name}", text, (table, examples), (_risk_figure(rows),))


def _is_right(row: Row) -> bool:
    """Whether the citation that the system would give if it never abstained points to a gold span."""
    return any(is_right(span, row.question.gold) for span in row.proposed)


def _risk_figure(rows: Sequence[Row]) -> Figure:
    """Risk and coverage by confidence, of the answers that the system would give if it never abstained."""
    curve = risk_coverage([row.confidence for row in rows], [_is_right(row) for row in rows])
    coverage = 1 - sum(row.abstained for row in rows) / len(rows)
    lines = {"risk among the answered": (list(curve.coverage), list(curve.risk))}
    return Figure(
        line_plot(lines, x="share of questions answered", y="share of answers that are wrong"),
        f"Risk and coverage as the confidence threshold falls; the system answers {coverage:.0%}. "
        f"Area under the curve {curve.area:.3f}.",
    )


def _latency_section(latency: Mapping[str, Score]) -> Section:
    rows = tuple((name, str(score)) for name, score in latency.items())
    return Section(
        "Latency", "Seconds for an answer, search included, on this machine.", (Table(("metric", "value"), rows),)
    )
