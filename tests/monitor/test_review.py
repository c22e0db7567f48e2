"""Reviews: drawn with known probabilities, estimates of all traffic, one person at a time, rows made of verdicts."""

import json
import math
from collections import Counter

import numpy as np
import pytest
from events import DOCUMENT, event

from lmworks.config import from_mapping
from lmworks.data.training_rows import read_preference_rows
from lmworks.evaluate.question_set import GoldQuestion
from lmworks.monitor.config import ReviewConfig, ReviewRule
from lmworks.monitor.log import Log
from lmworks.monitor.review import Judgement, items, judge, send, summary, take
from lmworks.monitor.review_sampling import enqueue, fill, review_id, uniform, weighted_share
from lmworks.records import Feedback, LabelledCompletion, Preference, Retrieved, Scored, Span, Unscored, Verdict

DAY = 86400.0
NOW = 100 * DAY
GOOD = Judgement({"verdict": "good", "problem": "none"})
BAD = Judgement({"verdict": "bad", "problem": "wrong"})


def logged(log: Log, count: int, **changes) -> list[str]:
    """Interactions of the last day; their ids."""
    events = [event(n, time=NOW - DAY / 2 + n, **changes) for n in range(count)]
    for one in events:
        log.record(one)
    log.record(event(count, time=NOW - DAY / 3, operation="embeddings")).result(20)
    return [one.id for one in events]


def test_the_estimate_of_all_traffic_is_unbiased_and_its_interval_covers():
    """Half of those of low confidence are bad, and drawn far more often; a tenth of all others is."""
    generator, estimates, covered, naive = np.random.default_rng(3), [], 0, []
    rates, applies = np.array([0.03, 0.3, 1.0]), generator.random((6000, 3)) < [1.0, 0.2, 0.02]
    applies[:, 0] = True
    values = (generator.random(6000) > np.where(applies[:, 1], 0.5, 0.1)).astype(float)
    values[applies[:, 2]] = 0.0  # thumbs down
    weights = 1 / (1 - np.prod(np.where(applies, 1 - rates, 1.0), axis=1))
    for _ in range(400):
        drawn = (applies & (generator.random((6000, 3)) < rates)).any(axis=1)
        seen = generator.random(6000) < 0.7  # the others still wait
        rows = list(zip(weights[drawn & seen].tolist(), values[drawn & seen].tolist(), strict=True))
        found = weighted_share(rows, Counter(weights[drawn & ~seen].tolist()), "simulation")
        assert isinstance(found, Scored)
        estimates.append(found.value)
        naive.append(values[drawn & seen].mean())
        covered += found.interval[0] <= values.mean() <= found.interval[1]
    error = np.std(estimates) / math.sqrt(400)
    assert abs(np.mean(estimates) - values.mean()) < 3 * error < 0.01 and 0.93 <= covered / 400 <= 0.99
    assert abs(np.mean(naive) - values.mean()) > 0.1  # what the same reviews say without their weights


def test_too_few_reviews_are_no_estimate():
    few, none = weighted_share([(1.0, 1.0)] * 12, {1.0: 90}, ""), weighted_share([(1.0, 1.0)] * 40, {50.0: 3}, "")
    assert isinstance(few, Unscored) and "18 are missing" in few.reason
    assert isinstance(none, Unscored) and "3 of weight 50" in none.reason


def test_rules_draw_what_they_apply_to_once_and_a_late_thumb_adds_and_changes_weights(location):
    rules = {
        "random": ReviewRule(0.2),
        "down": ReviewRule(1.0, "thumbs:down"),
        "unsure": ReviewRule(0.5, "confidence<0.5"),
    }
    config = ReviewConfig(rules)
    with Log(location) as log:
        ids = logged(log, 60, confidence=0.4)
        first = fill(log, config, NOW)
        chance = {one for one in ids if uniform("random", one) < 0.2}
        wanted = chance | {one for one in ids if uniform("unsure", one) < 0.5}
        found = {one.interaction: one.weight for one in items(log.reader)}
        assert found.keys() == wanted and first.total() == len(wanted) and first["random"] == len(chance)
        assert list(found.values()) == pytest.approx([1 / (1 - 0.8 * 0.5)] * len(found))
        assert fill(log, config, NOW + 5).total() == 0
        inside, outside = next(iter(wanted)), next(one for one in ids if one not in wanted)
        for one in (inside, outside):
            log.attach(Feedback(one, NOW, "thumbs", "down")).result(20)
        assert fill(log, config, NOW + 10) == {"down": 1, "": 1}
        found = {one.interaction: one.weight for one in items(log.reader)}
        assert found[inside] == found[outside] == 1.0 and len(found) == len(wanted) + 1
        other = next(one for one in ids if one not in found)
        assert enqueue(log, [other, sorted(wanted)[1]], "alarm", NOW) == 1 and enqueue(log, [], "alarm", NOW) == 0
        found = {one.interaction: one.weight for one in items(log.reader)}
        assert found[other] == found[sorted(wanted)[1]] == 1.0


def test_disagreement_and_novelty(location):
    rules = {"against": ReviewRule(1.0, kind="disagreement"), "new": ReviewRule(1.0, kind="novelty")}
    config, generator = ReviewConfig(rules), np.random.default_rng(0)
    known = generator.normal(size=8)
    with Log(location) as log:
        for n in range(80):
            vector = tuple(known + 0.1 * generator.normal(size=8))
            log.record(event(n + 1000, time=NOW - 20 * DAY + n, query_embedding=vector))
        ids = logged(log, 4, query_embedding=tuple(known))
        strange = event(99, time=NOW - 100, query_embedding=tuple(-known))
        log.record(strange).result(20)
        for one, thumb, score in zip(ids, ("up", "down", "up", None), (0.1, 0.2, 0.9, 0.1), strict=True):
            log.attach(Feedback(one, NOW, "thumbs", thumb)).result(20)
            outcome = {"time": NOW, "name": "judge", "value": score, "interaction": one}
            log.append("outcomes", [outcome]).result(20)
        assert fill(log, config, NOW) == {"against": 1, "new": 1}
        assert {one.interaction: one.rule for one in items(log.reader)} == {ids[0]: "against", strange.id: "new"}


def test_one_person_at_a_time_two_where_wanted_and_a_lock_that_ends(location):
    config = ReviewConfig({"random": ReviewRule(1.0)}, second=0.5)
    with Log(location) as log:
        ids = logged(log, 12)
        fill(log, config, NOW)
        ann, bob = take(log, config, "ann", NOW), take(log, config, "bob", NOW)
        assert ann and bob and ann.id != bob.id and take(log, config, "ann", NOW) == ann
        judge(log, config, ann.id, "ann", GOOD, NOW)
        later = take(log, config, "eve", NOW + 601)  # bob has left
        assert later and later.id in (bob.id, ann.id)
        for name in ("ann", "eve"):  # the clock went back since: a lock of the future is none
            while one := take(log, config, name, NOW - 50):
                assert name not in one.judgements
                judge(log, config, one.id, name, BAD if name == "eve" else GOOD, NOW)
        double = {review_id(one) for one in ids if review_id(one) < "80000000"}
        done = {one.id: one.judgements for one in items(log.reader)}
        assert len(done) == 12 and {key for key, given in done.items() if len(given) == 2} == double
        with pytest.raises(LookupError):
            judge(log, config, min(double), "bob", GOOD, NOW)
        with pytest.raises(ValueError, match="unknown answer"):
            judge(log, config, min(double), "ann", Judgement({"verdict": "fine"}), NOW)
        judge(log, config, min(double), "ann", BAD, NOW)  # thought again
        assert items(log.reader, "id = ?", [min(double)])[0].judgements["ann"] == BAD
        found = summary(log.reader, config)
        assert found.reviewed == {"random": 12} and not found.waiting and found.agreement["verdict"].n == len(double)
        assert isinstance(found.good, Unscored) and "18 are missing" in found.good.reason


def test_verdicts_become_gold_questions_preferences_labels_and_bugs(tmp_path):
    passage = Retrieved("c", Span(DOCUMENT, 0, 40), "a.md", "Leave is asked for in the\ncalendar.", {})
    cited = Verdict("Leave is asked for", "quoted", Span(DOCUMENT, 0, 18), "a.md", 0.9, None, "cited")
    config = ReviewConfig({"random": ReviewRule(1.0)})
    with Log(tmp_path / "log.sqlite") as log:
        logged(log, 1, confidence=0.9, retrieved=(passage,), verdicts=(cited,))
        fill(log, config, NOW)
        (item,) = items(log.reader)
        with pytest.raises(LookupError):
            send(log, tmp_path, item.id, "bugs", "ann")
        judge(log, config, item.id, "ann", GOOD, NOW)
        for _ in range(2):
            path = send(log, tmp_path, item.id, "questions", "ann")
        (line,) = path.read_text().splitlines()
        gold = from_mapping(GoldQuestion, json.loads(line))
        assert gold.split == "calibration" and [(one.uri, one.quote) for one in gold.gold] == [("a.md", cited.text)]
        with pytest.raises(ValueError, match="better answer"):
            send(log, tmp_path, item.id, "preferences", "ann")
        judge(log, config, item.id, "ann", Judgement(BAD.choices, "In the calendar.", "asked for in the calendar"), NOW)
        paths = [send(log, tmp_path, item.id, to, "ann") for to in ("preferences", "labels", "bugs")]
        pair, label = read_preference_rows(paths[:2])
        assert isinstance(pair, Preference) and pair.chosen == "In the calendar." and pair.rejected == "It is 0."
        assert isinstance(label, LabelledCompletion) and not label.label and label.provenance.annotator == "ann"
        assert label.provenance.source == f"interaction {item.interaction}" and "calendar" in str(pair.prompt)
        assert json.loads(paths[2].read_text())["choices"]["problem"] == "wrong"
        assert items(log.reader)[0].sent == ("questions", "preferences", "labels", "bugs")
        log.update("reviews", {"sent": ""}, "id = ?", [item.id]).result()
        judge(log, config, item.id, "ann", Judgement(BAD.choices, quote="nobody says so"), NOW)
        with pytest.raises(ValueError, match="none of the passages"):
            send(log, tmp_path, item.id, "questions", "ann")
