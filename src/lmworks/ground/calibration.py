"""The stage `ground.calibrate`: every threshold of an answer, decided on the calibration split.

    relevance   logistic regression on (the sentence points to a gold span), over all candidate sentences
    sentences   how many an answer has: the number of highest mean span F1
    support     the gain in likelihood that hardly any sentence from elsewhere gets from a passage
    drafts      whether the language model's sentences make the answers better than quotes alone
    confidence  logistic regression on (the documents hold an answer), from the best sentence's features
    threshold   where to abstain: as often as possible while enough of the abstentions are right

Whatever is compared is compared out of fold: the relevance and confidence of a question come from models fitted on
other questions. The models that are kept are fitted on all of them.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from lmworks.artefact import StageContext, StageResult, write_json
from lmworks.config import from_mapping
from lmworks.evaluate.question_set import QUESTIONS, read_questions
from lmworks.evaluate.span_overlap import is_right, span_f1
from lmworks.ground.attribution import support
from lmworks.ground.config import CalibrationConfig
from lmworks.ground.evidence_log import collect
from lmworks.ground.features import NAMES
from lmworks.ground.grounded_answer import CALIBRATION, RANKING, Calibration, Evidence, Finder, open_finder
from lmworks.ground.logistic_regression import Logistic, cross_fit, fit
from lmworks.ground.question_generation import AUTOMATIC
from lmworks.ground.selection import Rules, select
from lmworks.records import Question, Score
from lmworks.report import Figure, Section, Table, line_plot
from lmworks.retrieve.catalogue import CATALOGUE
from lmworks.statistics import mean_score

DEFAULT = Path(__file__).with_name("default_calibration.json")  # of the recipe `assistant`, as it was built
WITHOUT_DRAFTS, WITH_DRAFTS = "quotes, where drafts were tried", "quotes and drafts, there"
MINIMUM = 5  # answerable and unanswerable questions, each, below which nothing can be calibrated


@dataclass(frozen=True, slots=True)
class Trial:
    """A calibration question, its evidence, and for each candidate whether it points to a gold span."""

    question: Question
    evidence: Evidence
    right: tuple[bool, ...]

    @property
    def ranking(self) -> np.ndarray:
        """(candidates, 3): the features that rank."""
        return self.evidence.features[:, :RANKING]


@dataclass(frozen=True, slots=True)
class Abstention:
    """A threshold, and the abstention precision and recall that it has on the calibration split."""

    threshold: float
    precision: float
    recall: float


def calibrate(config: CalibrationConfig, context: StageContext) -> StageResult:
    """Decide on the gold questions of the calibration split, or on the automatic ones when it has no gold ones.

    With too few of them the decisions are those of `DEFAULT`, made on Python's documentation, and the report says so.
    """
    questions = calibration_questions(read_questions(context.input(QUESTIONS)))
    answerable = sum(question.answerable for question in questions)
    if min(answerable, len(questions) - answerable) < MINIMUM:
        return _borrowed(config, answerable, len(questions) - answerable, context)
    finder = open_finder(context.input(CATALOGUE), context.models, config.answer)
    trials = _quoted_trials(questions, finder, context)
    found = sum(any(trial.right) for trial in trials)
    if min(found, sum(not trial.question.answerable for trial in trials)) < MINIMUM:
        return _borrowed(config, found, len(trials) - found, context)
    model = fit(np.vstack([trial.ranking for trial in trials]), [r for trial in trials for r in trial.right], RANKED)
    unseen = cross_fit([trial.ranking for trial in trials], [trial.right for trial in trials], RANKED)

    f1 = {
        f"quotes, at most {count}": f1_scores(trials, unseen, Rules(count, config.answer.repeated))
        for count in range(1, config.maximum_sentences + 1)
    }
    rules = Rules(1 + int(np.argmax([np.mean(scores) for scores in f1.values()])), config.answer.repeated)
    drafts = False
    if config.answer.draft_tokens:
        rules, comparison = _try_drafts(config, rules, trials, unseen, finder, context)
        f1 |= comparison
        drafts = bool(comparison) and bool(np.mean(comparison[WITH_DRAFTS]) > np.mean(comparison[WITHOUT_DRAFTS]))
    if drafts:
        trials = _drafted_trials(trials, finder, context)

    best = [_best(trial, one, rules) for trial, one in zip(trials, unseen, strict=True)]
    outcomes = [trial.question.answerable for trial in trials]
    confidence = fit(np.vstack(best), outcomes, NAMES)
    confidences = [
        float(one.probability(row)[0])
        for one, row in zip(cross_fit(best, [[a] for a in outcomes], NAMES), best, strict=True)
    ]
    abstention = choose_threshold(confidences, outcomes, config.abstention_precision)
    decided = Calibration(config.answer, model, rules, drafts, confidence, abstention.threshold)
    write_json(context.output / CALIBRATION, decided)
    scores = {
        name: mean_score(values, ["span F1, out of fold", name, config, [trial.question.id for trial in trials]])
        for name, values in f1.items()
    }
    metrics = {"questions": len(trials), "f1": scores, "abstention": abstention, "support": rules.support_threshold}
    return StageResult(metrics=metrics, sections=(_section(decided, scores, abstention, confidences, outcomes),))


def _borrowed(config: CalibrationConfig, answerable: int, unanswerable: int, context: StageContext) -> StageResult:
    """The packaged decisions, for documents that have too few questions of their own."""
    default = from_mapping(Calibration, json.loads(DEFAULT.read_text("utf-8")), [DEFAULT.name])
    write_json(context.output / CALIBRATION, replace(default, answer=config.answer, drafts=False))
    text = (
        f"WARNING: nothing was calibrated on these documents: {answerable} questions whose answer was found and "
        f"{unanswerable} others are too few ({MINIMUM} of each are needed). The thresholds are those of Python's "
        "documentation, and the confidence may be off. Write gold questions, set questions.gold (docs/evaluation.md)."
    )
    return StageResult(metrics={"questions": 0}, sections=(Section("Calibration", text),))


RANKED = NAMES[:RANKING]


def calibration_questions(questions: Sequence[Question]) -> list[Question]:
    """The split to calibrate on: its gold questions, or all of it when there are none."""
    split = [question for question in questions if question.split == "calibration"]
    return [question for question in split if question.kind not in AUTOMATIC] or split


# ---------------------------------------------------------------------------------------------------------------------
# Trials


def _trial(question: Question, evidence: Evidence) -> Trial:
    return Trial(question, evidence, tuple(is_right(c.evidence, question.gold) for c in evidence.candidates))


def _quoted_trials(questions: Sequence[Question], finder: Finder, context: StageContext) -> list[Trial]:
    evidence = collect(
        context.work / "quoted.jsonl",
        questions,
        lambda batch: [finder.evidence(question.text, excluded=question.excluded) for question in batch],
        lambda done, kept: context.progress(done, len(questions), "questions searched", kept),
    )
    # A question for which nothing at all was found teaches nothing about sentences; it is always abstained from.
    return [_trial(q, evidence[q.id]) for q in questions if evidence[q.id].candidates]


def _drafted_trials(trials: Sequence[Trial], finder: Finder, context: StageContext) -> list[Trial]:
    quoted = {trial.question.id: trial.evidence for trial in trials}
    evidence = collect(
        context.work / "drafted.jsonl",
        [trial.question for trial in trials],
        lambda batch: finder.with_drafts([quoted[question.id] for question in batch]),
        lambda done, kept: context.progress(done, len(trials), "answers drafted", kept),
    )
    return [_trial(trial.question, evidence[trial.question.id]) for trial in trials]


def _try_drafts(
    config: CalibrationConfig,
    rules: Rules,
    trials: Sequence[Trial],
    unseen: Sequence[Logistic],
    finder: Finder,
    context: StageContext,
) -> tuple[Rules, dict[str, list[float]]]:
    """Draft for some answerable questions, and compare their answers with and without the drafts.

    Returns the rules with the support threshold, and the span F1 of both; nothing to compare where no threshold can be
    had.
    """
    pairs = [pair for pair in zip(trials, unseen, strict=True) if pair[0].question.answerable][: config.draft_questions]
    quoted, models = [trial for trial, _ in pairs], [model for _, model in pairs]
    foreign = foreign_support(quoted, models, finder)
    if not len(foreign):
        return rules, {}
    supported = replace(rules, support_threshold=float(np.quantile(foreign, 1 - config.support_error)))
    drafted = _drafted_trials(quoted, finder, context)
    f1 = {WITHOUT_DRAFTS: f1_scores(quoted, models, rules), WITH_DRAFTS: f1_scores(drafted, models, supported)}
    return supported, f1


def foreign_support(trials: Sequence[Trial], unseen: Sequence[Logistic], finder: Finder) -> np.ndarray:
    """Support of each question's best sentence by passages that it was not taken from: what chance looks like.

    The passages were found for the same question, so they are about the same things; those that hold the sentence as
    well are left out.
    """
    gains: list[float] = []
    shown = finder.config.draft_passages
    for trial, model in zip(trials, unseen, strict=True):
        best = trial.evidence.candidates[int(np.argmax(model.probability(trial.ranking)))]
        words = " ".join(best.text.split())
        others = [
            passage.text
            for number, passage in enumerate(trial.evidence.passages[: shown + 1])
            if number != best.passage and words not in " ".join(passage.text.split())
        ]
        gains += support([best.text], others[:shown], finder.engine, finder.engine.checkpoint.required_tokenizer)[
            0
        ].tolist()
    return np.asarray(gains)


# ---------------------------------------------------------------------------------------------------------------------
# Decisions


def f1_scores(trials: Sequence[Trial], models: Sequence[Logistic], rules: Rules) -> list[float]:
    """Span F1 of each answerable trial, ranked by its own model; nothing is abstained from."""
    scores: list[float] = []
    for trial, model in zip(trials, models, strict=True):
        if trial.question.answerable:
            chosen = select(trial.evidence.candidates, model.probability(trial.ranking), rules, _word_for_word).chosen
            cited = [trial.evidence.candidates[place].evidence for place in chosen]
            scores.append(span_f1(cited, trial.question.gold))
    return scores


def _word_for_word(_: object) -> bool:
    """Candidates that were just cut from the documents need no second look."""
    return True


def _best(trial: Trial, model: Logistic, rules: Rules) -> np.ndarray:
    """(1, features) of the sentence that the answer would start with; of the most relevant one when all are refused."""
    relevance = model.probability(trial.ranking)
    chosen = select(trial.evidence.candidates, relevance, rules, _word_for_word).chosen
    place = chosen[0] if chosen else int(np.argmax(relevance))
    return trial.evidence.features[place : place + 1]


def choose_threshold(confidences: Sequence[float], answerable: Sequence[bool], precision: float) -> Abstention:
    """The threshold that abstains from most unanswerable questions while `precision` of the abstentions are right.

    Where none reaches that precision, the threshold is 0: the system never abstains by confidence.
    """
    score, has_answer = np.asarray(confidences), np.asarray(answerable, dtype=bool)
    levels = np.unique(score)
    best = Abstention(0.0, 0.0, 0.0)
    for threshold in (levels[1:] + levels[:-1]) / 2:
        abstained = score < threshold
        right = float((~has_answer[abstained]).mean())
        recall = float((~has_answer & abstained).sum() / max(1, (~has_answer).sum()))
        if right >= precision and recall > best.recall:
            best = Abstention(float(threshold), right, recall)
    return best


def _section(
    decided: Calibration,
    f1: dict[str, Score],
    abstention: Abstention,
    confidences: Sequence[float],
    answerable: Sequence[bool],
) -> Section:
    models = Table(
        ("feature", "weight for relevance", "weight for confidence"),
        tuple(
            (name, f"{decided.relevance.weights[i]:.3f}" if i < RANKING else "", f"{decided.confidence.weights[i]:.3f}")
            for i, name in enumerate(NAMES)
        ),
        "Logistic regression on standardised features",
    )
    answers = Table(
        ("answers made of", "mean span F1"),
        tuple((name, str(score)) for name, score in f1.items()),
        "Out of fold, answerable questions; 95 % interval by bootstrap over questions",
    )
    support_threshold = decided.rules.support_threshold
    text = (
        f"{len(answerable)} questions, {sum(answerable)} of them answerable. An answer has at most "
        f"{decided.rules.sentences} sentence(s); drafts of the language model are "
        f"{'used' if decided.drafts else 'not used, because they do not make the answers better'}"
        f"{f' (support threshold {support_threshold:.2f} nats per token)' if support_threshold is not None else ''}. "
        f"Below confidence {abstention.threshold:.2f} the system abstains: out of fold, {abstention.precision:.2f} of "
        f"the abstentions are right, and {abstention.recall:.2f} of the unanswerable questions are abstained from."
    )
    return Section("Calibration", text, (models, answers), (_curve(confidences, answerable, abstention),))


def _curve(confidences: Sequence[float], answerable: Sequence[bool], chosen: Abstention) -> Figure:
    score, has_answer = np.asarray(confidences), np.asarray(answerable, dtype=bool)
    levels = np.linspace(0, 1, 101)
    lines = {
        "unanswerable, abstained": (levels.tolist(), [float((score[~has_answer] < t).mean()) for t in levels]),
        "answerable, abstained": (levels.tolist(), [float((score[has_answer] < t).mean()) for t in levels]),
    }
    return Figure(
        line_plot(lines, x="confidence threshold", y="share of questions"),
        f"Share of questions abstained from at each threshold, out of fold; {chosen.threshold:.2f} was chosen.",
    )
