"""The stage `ground.evaluate`: the test questions, answered by the system and by two baselines that never abstain.

    first passage    cite the whole passage that the search ranks first
    best sentence    quote the passage sentence whose embedding is closest to the question's

Both see the same passages as the system. The artefact is a run, as `evaluate.results` writes it: a task for each group
of questions, and one more for each baseline.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from lmworks.artefact import StageContext, StageResult, read_manifest
from lmworks.config import to_mapping
from lmworks.evaluate.abstention import proposes_right, risk_coverage
from lmworks.evaluate.metric import Item, Response, score
from lmworks.evaluate.question_set import QUESTIONS, read_questions
from lmworks.evaluate.registry import metric
from lmworks.evaluate.results import Result, TaskScore, task_score, write_results
from lmworks.ground.config import EvaluationConfig
from lmworks.ground.grounded_answer import CALIBRATION, Answerer, decide, filters_of, load_answerer
from lmworks.ground.question_generation import AUTOMATIC, LEAK
from lmworks.records import Question, Score
from lmworks.report import Figure, Section, Table, line_plot
from lmworks.retrieve.catalogue import CATALOGUE
from lmworks.retrieve.rendered_text import shortened
from lmworks.retrieve.search import search
from lmworks.statistics import difference_score, mean_score, quantile_score

DEPTH = 10  # passages that ranking metrics look at
SYSTEM, *BASELINES = SYSTEMS = ("system", "first passage", "best sentence")
RETRIEVAL = ("success@1", "success@5", "success@10", "recall@10", "mrr", "ndcg@10")
CITATIONS = ("span-f1", "citation-precision", "citation-precision-characters", "citation-recall")
CERTAINTY = ("abstention-precision", "abstention-recall", "selective-risk", "answered", "calibration-error")
EXACT = ("span-f1", "citation-precision-characters", "citation-recall")  # not where the gold spans are whole sections
GROUPS = ("gold questions", "automatic questions")
EXCERPT = 240  # characters of an answer that is shown as an example
FEWEST = 5  # questions of a group that is shown in figures: resamples of fewer are too alike

Scores = Mapping[str, Mapping[str, TaskScore]]


def evaluate(config: EvaluationConfig, context: StageContext) -> StageResult:
    """Ask every question of the test split; write items and scores, and show them."""
    del config  # nothing to set: it names the stage in a recipe
    calibration = context.input(CALIBRATION)
    answerer = load_answerer(context.input(CATALOGUE), calibration, context.models)
    questions = [question for question in read_questions(context.input(QUESTIONS)) if question.split == "test"]
    asked: dict[str, list[tuple[Item, Mapping[str, Response]]]] = {}
    seconds: list[float] = []
    for done, question in enumerate(questions, start=1):
        responses, time_taken = ask(question, answerer)
        answers = (question.answer,) if question.answer else ()
        # `withheld`: parts of the documents were hidden from the search.
        fields = {"kind": question.kind, "withheld": bool(question.excluded or question.hidden)}
        item = Item(question.id, question.text, answers, gold=question.gold, fields=fields)
        asked.setdefault(GROUPS[question.kind in AUTOMATIC], []).append((item, responses))
        seconds.append(time_taken)
        context.progress(done, len(questions), "questions answered")
    made = read_manifest(calibration)
    signature = {"calibration": made.content_hash, "models": dict(made.models), "questions": [q.id for q in questions]}
    results: list[Result] = []
    scores: dict[str, dict[str, TaskScore]] = {}
    sections: list[Section] = []
    for group in (name for name in GROUPS if name in asked):
        items, responses = zip(*asked[group], strict=True)
        of_group, of_tasks = measure(group, items, responses, signature)
        results, scores = results + of_group, scores | of_tasks
        sections.append(section(group, [result for result in of_group if result.task == group], of_group, of_tasks))
    write_results(context.output, results, scores)
    if not asked:
        return StageResult(sections=(Section("Evaluation", "There are no test questions."),))
    latency = {
        "mean seconds per answer": mean_score(seconds, [signature, "latency"]),
        "95th percentile of seconds": quantile_score(seconds, 0.95, [signature, "latency"]),
    }
    table = Table(("metric", "value"), tuple((name, str(value)) for name, value in latency.items()))
    sections.append(Section("Latency", "Seconds for an answer, search included, on this machine.", (table,)))
    return StageResult(metrics=to_mapping(scores) | {"latency": to_mapping(latency)}, sections=tuple(sections))


# ---------------------------------------------------------------------------------------------------------------------
# Asking


def ask(question: Question, answerer: Answerer) -> tuple[dict[str, Response], float]:
    """The responses of the system and of both baselines; the seconds are the system's own."""
    finder = answerer.finder
    started = time.perf_counter()
    filters = filters_of(question)
    evidence = finder.evidence(question.text, filters=filters)
    answer = decide(evidence, answerer.calibration, answerer.is_quote)
    seconds = time.perf_counter() - started
    deeper = replace(finder.config.search, k=max(DEPTH, finder.config.search.k), budget_tokens=0)
    reranker = finder.heads.get("reranker")
    hits = search(finder.index, question.text, finder.encoder, deeper, filters, reranker, finder.heads.get("expander"))
    query = finder.encoder.encode([question.text], "query")[0]  # (width,)
    candidates = finder.encoder.encode([unit.in_context for unit in evidence.candidates], "passage")  # (n, width)
    best = [evidence.candidates[row] for row in np.argsort(-(candidates @ query), kind="stable")[:1]]
    system = Response(
        answer.text,
        citations=tuple(citation.evidence for citation in answer.citations),
        proposed=tuple(verdict.evidence for verdict in answer.verdicts if verdict.verdict in ("cited", "abstained")),
        retrieved=tuple(hits[:DEPTH]),
        confidence=answer.confidence,
        abstained=answer.abstained,
    )
    first = Response(citations=tuple(passage.span for passage in evidence.passages[:1]))
    sentence = Response(citations=tuple(candidate.evidence for candidate in best))
    return dict(zip(SYSTEMS, (system, first, sentence), strict=True)), seconds


# ---------------------------------------------------------------------------------------------------------------------
# Scores


def task_of(group: str, system: str) -> str:
    return group if system == SYSTEM else f"{group}, {system}"


def measure(
    group: str, items: Sequence[Item], responses: Sequence[Mapping[str, Response]], signature: Mapping[str, Any]
) -> tuple[list[Result], dict[str, dict[str, TaskScore]]]:
    """The results of a group of questions under each system, and task -> metric -> score."""
    results: list[Result] = []
    scores: dict[str, dict[str, TaskScore]] = {}
    for system in SYSTEMS:
        task, of_system = task_of(group, system), [by_system[system] for by_system in responses]
        names = (*RETRIEVAL, *CITATIONS, *CERTAINTY) if system == SYSTEM else CITATIONS
        metrics = [metric(name) for name in names if group == GROUPS[0] or name not in EXACT]
        values = {metric.name: metric.measure(items, of_system) for metric in metrics}
        scores[task] = {metric.name: task_score(metric, items, values[metric.name], signature) for metric in metrics}
        results += [
            Result(task, item, response, {name: column[row] for name, column in values.items()})
            for row, (item, response) in enumerate(zip(items, of_system, strict=True))
        ]
    return results, scores


# ---------------------------------------------------------------------------------------------------------------------
# The report


def section(group: str, of_system: Sequence[Result], results: Sequence[Result], scores: Scores) -> Section:
    """`of_system` are the results of the system, `results` those of the baselines as well."""
    answerable = sum(bool(result.item.gold) for result in of_system)
    text = f"{len(of_system)} questions of the test split, {answerable} of them answerable from the documents."
    if group == GROUPS[1]:
        text = f"{text} {LEAK} Their gold spans are whole sections, with which a cited sentence is not compared."
    if len(of_system) < FEWEST:
        text = f"{text} Fewer than {FEWEST} are too few for figures: write more (docs/evaluation.md)."
        return Section(f"Evaluation: {group}", text, _examples(of_system))
    rows = [
        (name, *(scores[task][name].score if name in scores[task] else "" for task in scores)) for name in scores[group]
    ]
    rows += [(name, str(value), *[""] * len(BASELINES)) for name, value in _further(group, of_system, results)]
    table = Table(("metric", *SYSTEMS), tuple(rows), "Value [95 % interval over questions] and number of questions")
    return Section(f"Evaluation: {group}", text, (table, *_examples(of_system)), (_risk_figure(of_system),))


def _further(group: str, of_system: Sequence[Result], results: Sequence[Result]) -> list[tuple[str, Score]]:
    """Abstention from each kind of unanswerable questions, and the system against the better baseline."""
    recall, further = metric("abstention-recall"), list[tuple[str, Score]]()
    for kind in dict.fromkeys(result.item.fields["kind"] for result in of_system if not result.item.gold):
        rows = [result for result in of_system if not result.item.gold and result.item.fields["kind"] == kind]
        values = [result.values[recall.name] for result in rows]
        further.append((f"{recall.name}, {kind or 'others'}", score(recall, [result.item for result in rows], values)))
    if group == GROUPS[0]:
        tasks = (group, task_of(group, BASELINES[1]))
        f1 = [[r.values["span-f1"] for r in results if r.task == task and r.item.gold] for task in tasks]
        further.append((f"span-f1 minus {BASELINES[1]}", difference_score(*f1, ["difference"])))  # type: ignore[arg-type]
    return further


def _examples(results: Sequence[Result]) -> tuple[Table, ...]:
    """Questions that went wrong; no table where none did."""
    missed = [r for r in results if r.item.gold and (r.response.abstained or not proposes_right(r.item, r.response))]
    wrong = [result for result in results if not result.item.gold and not result.response.abstained]
    rows = [
        (
            str(case.item.prompt),
            shortened(case.response.text, EXCERPT),
            "abstained" if case.response.abstained else "cites elsewhere" if case.item.gold else "no document answers",
            "".join(case.item.references),
        )
        for case in (*missed[:8], *wrong[:8])
    ]
    shown = 4 if any(row[3] for row in rows) else 3
    columns = ("question", "answer", "what is wrong", "a person's answer")[:shown]
    return (Table(columns, tuple(row[:shown] for row in rows), "What went wrong, for example"),) if rows else ()


def _risk_figure(results: Sequence[Result]) -> Figure:
    """Risk and coverage by confidence, of the answers that the system would give if it never abstained."""
    right = [proposes_right(result.item, result.response) for result in results]
    curve = risk_coverage([result.response.confidence or 0.0 for result in results], right)
    coverage = 1 - sum(result.response.abstained for result in results) / len(results)
    lines = {"risk among the answered": (list(curve.coverage), list(curve.risk))}
    return Figure(
        line_plot(lines, x="share of questions answered", y="share of answers that are wrong"),
        f"Risk and coverage as the confidence threshold falls; the system answers {coverage:.0%}. "
        f"Area under the curve {curve.area:.3f}.",
    )
