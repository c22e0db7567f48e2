"""The stage `ground.calibrate`: every decision of an answer, made on the calibration split.

    relevance   logistic regression on (the sentence points to a gold span), over all candidate sentences
    sentences   how many an answer has, and how relevant a further one must be: what finds the answer most often, less
                the cost of reading more than one
    confidence  logistic regression on (the answer that would be shown is right), from the best sentence's features
    threshold   the lowest confidence at which a bounded share of the answers is wrong, with high probability

Half of the questions fit all but the last, which the other half decides: see `conformal_risk_control.py`. Within the
first half, the relevance and confidence of a question come from models fitted on others. An answerable question also
comes with the places hidden that answer it, so that confidence is not just closeness to the topic.
"""

import hashlib
import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from lmworks.artefact import StageContext, StageResult, write_json
from lmworks.config import from_mapping
from lmworks.evaluate.abstention import risk_coverage
from lmworks.evaluate.question_set import QUESTIONS, read_questions
from lmworks.evaluate.span_overlap import is_right, span_f1
from lmworks.ground.config import CalibrationConfig
from lmworks.ground.conformal_risk_control import CALIBRATION, certainty_sentence, controlled_threshold
from lmworks.ground.features import ranking_names
from lmworks.ground.grounded_answer import (
    Calibration,
    Evidence,
    Finder,
    confidence_features,
    confidence_names,
    filters_of,
    open_finder,
)
from lmworks.ground.selection import Rules, select
from lmworks.records import Question, Score
from lmworks.report import Figure, Section, Table, line_plot
from lmworks.retrieve.catalogue import CATALOGUE
from lmworks.statistics import mean_score
from lmworks.statistics.logistic_regression import Logistic, cross_fit, fit

# See docs/grounding.md for what they were made on.
DEFAULTS = tuple(Path(__file__).with_name(f"default_calibration{kind}.json") for kind in ("", "_with_reader"))
MINIMUM = 10  # answerable and unanswerable questions, each, in both halves, below which nothing can be calibrated
RELATIVE = (0.5, 0.7, 0.85)  # shares of the best sentence's relevance that are tried for further ones


@dataclass(frozen=True, slots=True)
class Trial:
    """A calibration question, its evidence, and for each candidate whether it points to a gold span."""

    question: Question
    evidence: Evidence
    right: tuple[bool, ...]

    @property
    def ranking(self) -> np.ndarray:
        """(candidates, features): those that rank."""
        return self.evidence.features[:, : len(ranking_names(self.evidence.roles))]


def calibrate(config: CalibrationConfig, context: StageContext) -> StageResult:
    """Decide on the questions of the calibration split, gold ones and automatic ones.

    With too few of them the decisions are those of `packaged`, made on other documents, and the report says so.
    """
    questions = [question for question in read_questions(context.input(QUESTIONS)) if question.split == "calibration"]
    if _smallest(questions) < MINIMUM:
        return _borrowed(config, questions, context)
    finder = open_finder(context.input(CATALOGUE), context.models, config.answer)
    trials = _trials(questions, finder, context)
    fitting, guarding = halves(trials)
    if min(_smallest([trial.question for trial in half if _teaches(trial)]) for half in (fitting, guarding)) < MINIMUM:
        return _borrowed(config, questions, context)
    try:
        decided, f1 = fitted(config, fitting)
    except ValueError:  # no answer of some fold is right, or each one is: there is nothing to distinguish
        return _borrowed(config, questions, context)
    outcomes = [outcome(trial, decided) for trial in guarding]
    confidences, right = [result.confidence for result in outcomes], [result.right for result in outcomes]
    threshold, certainty = controlled_threshold(confidences, right, config.alpha, config.delta)
    decided = replace(decided, threshold=threshold, certainty=certainty)
    write_json(context.output / CALIBRATION, decided)
    scores = {
        name: mean_score(values, ["span F1, out of fold", name, config, [trial.question.id for trial in fitting]])
        for name, values in f1.items()
    }
    metrics = {"questions": len(trials), "f1": scores, "certainty": decided.certainty, "threshold": decided.threshold}
    return StageResult(metrics=metrics, sections=(_section(decided, scores, confidences, right),))


def _smallest(questions: Sequence[Question]) -> int:
    answerable = sum(question.answerable for question in questions)
    return min(answerable, len(questions) - answerable)


def _teaches(trial: "Trial") -> bool:
    return any(trial.right) or not trial.question.answerable


def halves(trials: Sequence["Trial"]) -> tuple[list["Trial"], list["Trial"]]:
    """The trials to fit on, and those to choose the threshold on; a question and its unanswerable twin stay together.

    Which half a question is in depends on its id alone.
    """
    sides: tuple[list[Trial], list[Trial]] = ([], [])
    for trial in trials:
        name = trial.question.id.removesuffix("-hidden")
        sides[hashlib.sha256(name.encode()).digest()[0] % 2].append(trial)
    return sides


def fitted(config: CalibrationConfig, trials: Sequence["Trial"]) -> tuple[Calibration, dict[str, list[float]]]:
    """All decisions but the threshold, and the span F1 of the answers that were compared."""
    roles = trials[0].evidence.roles
    names = ranking_names(roles)
    model = fit(np.vstack([trial.ranking for trial in trials]), [r for trial in trials for r in trial.right], names)
    unseen = cross_fit([trial.ranking for trial in trials], [trial.right for trial in trials], names)
    compared = {
        Rules(count, config.answer.repeated, relative): f"quotes, at most {count}, {relative:.0%} as relevant"
        for count in range(1, config.maximum_sentences + 1)
        for relative in (RELATIVE if count > 1 else RELATIVE[:1])
    }
    rules = max(compared, key=lambda option: _utility(trials, unseen, option, config.sentence_cost))
    f1 = {compared[option]: f1_scores(trials, unseen, option) for option in compared}
    shown = [_shown(trial, fold_model, rules) for trial, fold_model in zip(trials, unseen, strict=True)]
    features, right = np.vstack([features for features, _ in shown]), [right for _, right in shown]
    confidence = fit(features, right, confidence_names(roles))
    return Calibration(config.answer, model, rules, confidence, 0.0, roles=roles), f1


def packaged(models: Collection[str]) -> Calibration:
    """The packaged decisions that weigh most of the models in these roles."""
    calibrations = [from_mapping(Calibration, json.loads(path.read_text("utf-8")), [path.name]) for path in DEFAULTS]
    return max((saved for saved in calibrations if {*saved.roles} <= {*models}), key=lambda saved: len(saved.roles))


def _borrowed(config: CalibrationConfig, questions: Sequence[Question], context: StageContext) -> StageResult:
    """The packaged decisions, for documents that have too few questions of their own."""
    default = packaged(context.models)
    certainty = replace(default.certainty, borrowed=True)
    write_json(context.output / CALIBRATION, replace(default, answer=config.answer, certainty=certainty))
    answerable = sum(question.answerable for question in questions)
    text = (
        f"WARNING: nothing was calibrated on these documents: {answerable} questions with an answer and "
        f"{len(questions) - answerable} others are too few ({2 * MINIMUM} of each are needed whose answer is found). "
        "The thresholds are those of other documents, and the confidence may be off. Write gold questions, set "
        "questions.gold (docs/evaluation.md)."
    )
    return StageResult(metrics={"questions": 0}, sections=(Section("Calibration", text),))


# ---------------------------------------------------------------------------------------------------------------------
# Trials


def _trials(questions: Sequence[Question], finder: Finder, context: StageContext) -> list[Trial]:
    """A trial of each question, but of those for which nothing at all is found: they are always abstained from."""
    trials: list[Trial] = []
    for done, question in enumerate(questions, start=1):
        evidence = finder.evidence(question.text, filters=filters_of(question))
        if evidence.candidates:
            right = tuple(is_right(candidate.evidence, question.gold) for candidate in evidence.candidates)
            trials.append(Trial(question, evidence, right))
        context.progress(done, len(questions), "questions searched")
    return trials


# ---------------------------------------------------------------------------------------------------------------------
# Decisions


def f1_scores(trials: Sequence[Trial], models: Sequence[Logistic], rules: Rules) -> list[float]:
    """Span F1 of each answerable trial, ranked by its own model; nothing is abstained from."""
    scores: list[float] = []
    for trial, model in zip(trials, models, strict=True):
        if trial.question.answerable:
            cited = [trial.evidence.candidates[index].evidence for index in _chosen(trial, model, rules)]
            scores.append(span_f1(cited, trial.question.gold))
    return scores


def _utility(trials: Sequence[Trial], models: Sequence[Logistic], rules: Rules, cost: float) -> float:
    """Mean over the answerable trials of whether an answer is right, less `cost` for each sentence after the first."""
    values = []
    for trial, model in zip(trials, models, strict=True):
        if trial.question.answerable:
            chosen = _chosen(trial, model, rules)
            values.append(any(trial.right[index] for index in chosen) - cost * max(0, len(chosen) - 1))
    return float(np.mean(values))


def _chosen(trial: Trial, model: Logistic, rules: Rules) -> tuple[int, ...]:
    """The candidates that an answer would cite; just cut from the documents, they need not be compared with them."""
    return select(trial.evidence.candidates, model.probability(trial.ranking), rules, lambda _: True).chosen


def _shown(trial: Trial, model: Logistic, rules: Rules) -> tuple[np.ndarray, bool]:
    """(1, features) of the answer that would be shown, and whether it is right: whether any of its citations is."""
    relevance = model.probability(trial.ranking)
    chosen = _chosen(trial, model, rules)
    features = confidence_features(trial.evidence, relevance, chosen[0] if chosen else int(np.argmax(relevance)))
    return features, any(trial.right[index] for index in chosen)


def outcome(trial: Trial, decided: Calibration) -> "Outcome":
    """The confidence of the answer that would be shown, and whether that is right."""
    features, right = _shown(trial, decided.relevance, decided.rules)
    return Outcome(float(decided.confidence.probability(features)[0]), right)


@dataclass(frozen=True, slots=True)
class Outcome:
    confidence: float
    right: bool


def _section(
    decided: Calibration, f1: dict[str, Score], confidences: Sequence[float], right: Sequence[bool]
) -> Section:
    weights = dict(zip(decided.relevance.names, decided.relevance.weights, strict=True))
    models = Table(
        ("feature", "weight for relevance", "weight for confidence"),
        tuple(
            (name, f"{weights[name]:.3f}" if name in weights else "", f"{weight:.3f}")
            for name, weight in zip(decided.confidence.names, decided.confidence.weights, strict=True)
        ),
        "Logistic regression on standardised features",
    )
    answers = Table(
        ("answers made of", "mean span F1"),
        tuple(f1.items()),
        "Out of fold, answerable questions; 95 % interval by bootstrap over questions",
    )
    text = (
        f"An answer has at most {decided.rules.sentences} sentence(s), each at least {decided.rules.relative:.0%} as "
        f"relevant as the first. {certainty_sentence(decided.certainty)} Below confidence {decided.threshold:.2f} the "
        "system abstains."
    )
    curve = risk_coverage(confidences, right)
    lines = {"wrong among the answered": (list(curve.coverage), list(curve.risk))}
    if alpha := decided.certainty.alpha:
        lines["alpha"] = ([0.0, 1.0], [alpha, alpha])
    figure = Figure(
        line_plot(lines, x="share of questions answered", y="share of answers that are wrong"),
        f"Risk and coverage of the half that chose the threshold; {decided.threshold:.2f} was chosen.",
    )
    return Section("Calibration", text, (models, answers), (figure,))
