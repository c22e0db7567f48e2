"""The review queue: one interaction at a time for one person, verdicts by a rubric, and rows made of them.

An interaction that was given to somebody is locked for some minutes; who leaves frees it. A share of them, decided by
the hash that is its id, goes to a second person, so that agreement can be measured. A reviewed one is sent to a file of
the folder `review` of the workspace: gold questions, preferences, labels or bugs.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from lmworks.align.collected_rows import prompt_of_answer, unusable
from lmworks.artefact import append_row
from lmworks.config import from_mapping, read_toml, to_mapping, unknown
from lmworks.data.training_rows import row_columns
from lmworks.monitor.config import ReviewConfig
from lmworks.monitor.log import Log, Reader
from lmworks.monitor.review_sampling import weighted_share
from lmworks.records import Interaction, LabelledCompletion, Preference, Provenance, Score, question_of
from lmworks.statistics.agreement import krippendorff_alpha

FOLDER = "review"
Destination = Literal["questions", "preferences", "labels", "bugs"]
DESTINATIONS: tuple[Destination, ...] = get_args(Destination)
_COLUMNS = "id, interaction, rule, weight, time, annotator1, verdict1, annotator2, verdict2, sent"
# Not yet reviewed by this person, and still wanted of one; not with anybody else. A lock of a clock that went back
# since, which would last longer than any does, is none.
_OPEN = (
    "(annotator1 = '' OR (annotator1 != ? AND annotator2 = '' AND id < ?)) "
    "AND (assigned = ? OR locked_until <= ? OR locked_until > ?)"
)


@dataclass(frozen=True, slots=True)
class Judgement:
    """A person's verdict: an answer to each question of the rubric. `better` is the answer that should have been given,
    `quote` the words of a passage that answer, `note` what is to be said besides."""

    choices: Mapping[str, str]
    better: str = ""
    quote: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class ReviewItem:
    """An interaction of the queue, with the verdicts by annotator in the order in which they came."""

    id: str
    interaction: str
    rule: str
    weight: float
    time: float
    judgements: Mapping[str, Judgement] = field(default_factory=dict)
    sent: tuple[str, ...] = ()


def read_config(workspace: Path) -> ReviewConfig:
    """`review.toml` of a workspace, else the defaults; ConfigError names what is allowed."""
    return read_toml(ReviewConfig, workspace / "review.toml")


def items(reader: Reader, where: str = "1 = 1", values: Sequence[Any] = ()) -> list[ReviewItem]:
    """Items of the queue, see `Reader.rows`."""
    reviews = []
    for *fields, annotator1, verdict1, annotator2, verdict2, sent in reader.rows("reviews", _COLUMNS, where, values):
        pairs = [(who, verdict) for who, verdict in ((annotator1, verdict1), (annotator2, verdict2)) if who]
        judgements = {who: from_mapping(Judgement, json.loads(verdict)) for who, verdict in pairs}
        reviews.append(ReviewItem(*fields, judgements=judgements, sent=tuple(filter(None, sent.split(",")))))
    return reviews


def take(log: Log, config: ReviewConfig, annotator: str, now: float, rule: str = "") -> ReviewItem | None:
    """The next item for a person, locked for them; None when nothing waits that they may review."""
    annotator, seconds = log.reader.redactor.identifier(annotator), config.lock_minutes * 60
    second = "g" if config.second >= 1 else f"{round(config.second * 16**8):08x}"  # ids below it go to two people
    values = [annotator, second, annotator, now, now + seconds, *([rule] if rule else [])]
    where = _OPEN + (" AND rule = ?" if rule else "")
    order = "ORDER BY CASE WHEN assigned = ? THEN 0 ELSE 1 END, id LIMIT 1"
    while waiting := items(log.reader, f"{where} {order}", [*values, annotator]):
        lock = {"assigned": annotator, "locked_until": now + seconds}
        if log.update("reviews", lock, f"{where} AND id = ?", [*values, waiting[0].id]).result():
            return waiting[0]  # else somebody was first
    return None


def judge(log: Log, config: ReviewConfig, item: str, annotator: str, judgement: Judgement, now: float) -> None:
    """Keep a verdict, or one in the place of the person's earlier one, and unlock the item. ValueError for an answer
    that the rubric does not have, LookupError where two others reviewed it, or there is no such item."""
    if not annotator:
        raise ValueError("a verdict needs the name of the person")
    for question, allowed in config.rubric.items():
        if judgement.choices.get(question) not in allowed:
            raise ValueError(f"{question}: {unknown('answer', str(judgement.choices.get(question)), allowed)}")
    annotator = log.reader.redactor.identifier(annotator)
    free = {"assigned": "", "locked_until": 0.0}
    for number, condition in (("1", "annotator1 IN ('', ?)"), ("2", "annotator2 IN ('', ?) AND annotator1 != ?")):
        names = [annotator] * condition.count("?")
        columns = {f"annotator{number}": annotator, f"verdict{number}": to_mapping(judgement), f"time{number}": now}
        if log.update("reviews", columns | free, f"id = ? AND {condition}", [item, *names]).result():
            return
    raise LookupError(f"{item} is no item of the queue, or two others have reviewed it")


@dataclass(frozen=True, slots=True)
class ReviewSummary:
    """`waiting` and `reviewed` by rule; `good`: the share of good answers in all traffic; `agreement` by question."""

    waiting: Mapping[str, int]
    reviewed: Mapping[str, int]
    good: Score
    agreement: Mapping[str, Score]


def summary(reader: Reader, config: ReviewConfig, since: float = 0.0) -> ReviewSummary:
    """The state of what came into the queue since a time."""
    of_rules = "rule, weight, count(*)", "time >= ? AND annotator1 = '' GROUP BY rule, weight", [since]
    waiting, weights = Counter[str](), Counter[float]()
    for rule, weight, count in reader.rows("reviews", *of_rules):
        waiting[rule] += count
        weights[weight] += count
    judged = items(reader, "time >= ? AND annotator1 != ''", [since])
    pairs = [list(item.judgements.values()) for item in judged if len(item.judgements) == 2]
    agreement = {
        name: krippendorff_alpha([[verdict.choices.get(name) for verdict in pair] for pair in pairs], ["reviews", name])
        for name in config.rubric
    }
    question, (good, bad, *_) = next(iter(config.rubric.items()))
    values, drawn = {good: 1.0, bad: 0.0}, []
    for item in judged:
        choices = [judgement.choices.get(question, "") for judgement in item.judgements.values()]
        if scores := [values[choice] for choice in choices if choice in values]:  # an "unsure" leaves its item out
            drawn.append((item.weight, sum(scores) / len(scores)))
    share = weighted_share(drawn, weights, ["reviews", question, good])
    return ReviewSummary(waiting, Counter(item.rule for item in judged), share, agreement)


def send(log: Log, workspace: Path, item: str, to: Destination, annotator: str) -> Path:
    """Append what a person said of an interaction to a file of `review`, once; which file.

    ValueError for an interaction that cannot be such a row, with what it lacks; LookupError without their verdict.
    """
    reviews, annotator = items(log.reader, "id = ?", [item]), log.reader.redactor.identifier(annotator)
    if not reviews or annotator not in reviews[0].judgements:
        raise LookupError(f"{item} has no verdict of {annotator}: review it first")
    row, path = reviews[0], workspace / FOLDER / f"{to}.jsonl"
    if to not in row.sent:
        config = read_config(workspace)
        append_row(path, review_row(log.reader.get(row.interaction), row.judgements[annotator], to, annotator, config))
        log.update("reviews", {"sent": ",".join([*row.sent, to])}, "id = ?", [item]).result()
    return path


def review_row(
    turn: Interaction, verdict: Judgement, to: Destination, annotator: str, config: ReviewConfig
) -> dict[str, Any]:
    """A verdict as a row of one of the files of `review`; ValueError says what it lacks for that."""
    if reason := unusable(turn):
        raise ValueError(f"nothing can be made of answers {reason}")
    question, (good, bad, *_) = next(iter(config.rubric.items()))
    choice, source = verdict.choices[question], f"interaction {turn.id}"
    if to == "bugs":
        return {"interaction": turn.id, "question": question_of(turn.messages), "response": turn.response,
                "annotator": annotator, **to_mapping(verdict)}  # fmt: skip
    made = Provenance(source, annotator, rubric=verdict.note or None)
    if to == "preferences":
        if not verdict.better.strip() or verdict.better.strip() == turn.response.strip():
            raise ValueError("a preference needs the better answer: write it")
        return row_columns(Preference(prompt_of_answer(turn), verdict.better.strip(), turn.response, made, turn.tools))
    if choice not in (good, bad):
        raise ValueError(f"{question} is {choice!r}: a row is made of what is {good} or {bad}")
    if to == "labels":
        return row_columns(LabelledCompletion(prompt_of_answer(turn), turn.response, choice == good, made, turn.tools))
    return _gold(turn, verdict, choice == good)


def _gold(turn: Interaction, verdict: Judgement, good: bool) -> dict[str, Any]:
    """A gold question for calibration: its quotes are the person's, else the citations of a good answer; a good
    abstention, and an answer that should have been one, has none."""
    words = " ".join(verdict.quote.split())
    uris = [passage.uri for passage in turn.retrieved if words in " ".join(passage.text.split())]
    if words and not uris:
        raise ValueError("the quote stands in none of the passages that were retrieved: copy it from one")
    quotes = [{"uri": uris[0], "quote": words}] if words else []
    if good and not words:
        quotes = [{"uri": citation.uri, "quote": citation.text} for citation in turn.citations]
    elif not words and "should have abstained" not in verdict.choices.values():
        raise ValueError('a gold question of a bad answer needs a quote that answers, or "should have abstained"')
    return {
        "id": f"r{turn.id}", "question": question_of(turn.messages).strip(), "answerable": bool(quotes), "gold": quotes,
        "answer": verdict.better.strip(), "split": "calibration", "kind": "reviewed",
    }  # fmt: skip
