"""The figures of the report over questions made at random, against counting them one by one."""

import numpy as np
import pytest

from lmworks.evaluate.confidence_metrics import expected_calibration_error
from lmworks.evaluate.metric import Item, Response
from lmworks.evaluate.results import read_results, write_results
from lmworks.evaluate.span_overlap import gold_characters, is_found, is_right, span_f1
from lmworks.ground.grounding_evaluation import GROUPS, SYSTEMS, measure, section, task_of
from lmworks.records import Retrieved, Scored, Span, Unscored

Asked = list[tuple[Item, dict[str, Response]]]


def asked(count: int, seed: int = 0) -> Asked:
    draw = np.random.default_rng(seed)

    def spans(most: int) -> tuple[Span, ...]:
        starts = draw.integers(0, 40, draw.integers(0, most + 1)).tolist()
        return tuple(Span("d", start, start + 10) for start in starts)

    rows: Asked = []
    for number in range(count):
        silent, proposed = bool(draw.random() < 0.4), spans(2)
        fields = {"kind": "near-miss", "withheld": False}
        found = tuple(Retrieved("", span, "", "", {}) for span in spans(10))
        system = Response("text", (), (), (), () if silent else proposed, proposed, found, draw.random(), silent)
        others = {name: Response(citations=spans(1)) for name in SYSTEMS[1:]}
        rows.append((Item(str(number), "asked?", gold=spans(2), fields=fields), {SYSTEMS[0]: system, **others}))
    return rows


def test_the_figures_are_those_of_counting(tmp_path):
    items, responses = zip(*asked(60), strict=True)
    results, scores = measure(GROUPS[0], items, responses, {})
    write_results(tmp_path, results, scores)
    assert read_results(tmp_path) == (results, scores), "two builds are paired by what is on disk"
    for system in SYSTEMS:
        own = [(one[system], item.gold) for item, one in zip(items, responses, strict=True)]
        answerable = [(one, gold) for one, gold in own if gold]
        cited = [(is_right(span, gold)) for one, gold in own for span in one.citations]
        characters = np.sum([gold_characters(one.citations, gold) for one, gold in own], axis=0)
        expected = {
            "span-f1": np.mean([span_f1(one.citations, gold) for one, gold in answerable]),
            "citation-precision": np.mean(cited),
            "citation-precision-characters": characters[0] / characters[1],
            "citation-recall": np.mean([is_found(one.citations, gold) for one, gold in answerable]),
        }
        if system == SYSTEMS[0]:
            right = [any(is_right(span, gold) for span in one.proposed) for one, gold in own]
            silent = np.array([one.abstained for one, _ in own])
            unanswerable = np.array([not gold for _, gold in own])
            expected |= {
                "abstention-precision": unanswerable[silent].mean(),
                "abstention-recall": silent[unanswerable].mean(),
                "selective-risk": 1 - np.array(right)[~silent].mean(),
                "answered": 1 - silent.mean(),
            }
            first = [next((r for r, p in enumerate(one.retrieved) if is_right(p.span, g)), 99) for one, g in answerable]
            expected |= {f"success@{k}": np.mean(np.array(first) < k) for k in (1, 5, 10)}
            expected["mrr"] = np.mean([1 / (rank + 1) if rank < 99 else 0 for rank in first])
            expected["calibration-error"] = expected_calibration_error([one.confidence for one, _ in own], right)
        found = {name: one.score for name, one in scores[task_of(GROUPS[0], system)].items()}
        for name, value in expected.items():
            score = found[name]
            assert isinstance(score, Scored) and score.value == pytest.approx(value, abs=1e-12), (system, name)


def test_baselines_have_no_figures_of_abstaining_and_whole_sections_none_of_characters():
    items, responses = zip(*asked(20), strict=True)
    _, scores = measure(GROUPS[1], items, responses, {})
    assert "span-f1" not in scores[GROUPS[1]] and "answered" in scores[GROUPS[1]]
    assert "answered" not in scores[task_of(GROUPS[1], SYSTEMS[1])]


def test_no_figures_of_few_questions_and_no_table_of_nothing():
    for count in (1, 4, 5):
        items, responses = zip(*asked(count), strict=True)
        results, scores = measure(GROUPS[0], items, responses, {})
        shown = section(GROUPS[0], results[:count], results, scores)
        assert all(table.rows for table in shown.tables)
        assert bool(shown.figures) == any("metric" in table.columns for table in shown.tables) == (count == 5)
    gold, cited = Span("d", 0, 10), {SYSTEMS[0]: Response("t", citations=(Span("d", 0, 10),), confidence=0.5)}
    right = Item("1", gold=(gold,), fields={"kind": ""})
    results, scores = measure(GROUPS[0], [right], [cited | dict.fromkeys(SYSTEMS[1:], Response())], {})
    assert not section(GROUPS[0], results[:1], results, scores).tables
    assert isinstance(scores[GROUPS[0]]["abstention-precision"].score, Unscored)
