"""Thresholds against exhaustive search and against what they promise."""

import json

import numpy as np
import pytest

from lmworks.artefact import StageContext
from lmworks.config import from_mapping
from lmworks.evaluate.question_set import write_questions
from lmworks.ground.calibration import (
    DEFAULTS,
    Trial,
    calibrate,
    halves,
)
from lmworks.ground.candidate_sentences import Candidate
from lmworks.ground.config import AnswerConfig, CalibrationConfig
from lmworks.ground.features import NAMES, RANKING
from lmworks.ground.grounded_answer import Calibration, Evidence, confidence_names, decide
from lmworks.ground.question_generation import unanswerable_twins
from lmworks.ground.selection import Rules
from lmworks.records import Question, Retrieved, Span
from lmworks.statistics.logistic_regression import Logistic


def test_the_half_of_a_question_is_that_of_its_unanswerable_twin():
    asked = [question(f"q{n}", "topic", True) for n in range(40)]
    evidence = Evidence("", (), (), np.zeros((0, len(NAMES))))
    twins = unanswerable_twins(asked)
    assert [twin.hidden for twin in twins] == [one.gold for one in asked[::2]] and not any(t.gold for t in twins)
    for half in halves([Trial(each, evidence, ()) for each in (*asked, *twins)]):
        names = {trial.question.id for trial in half}
        assert len(names) > 20 and {name.removesuffix("-hidden") for name in names} <= names


def question(identifier: str, kind: str, answerable: bool, split: str = "calibration") -> Question:
    return Question(identifier, identifier, (Span("d", 0, 1),) if answerable else (), split, kind)  # type: ignore[arg-type]


def test_too_few_questions_borrow_the_packaged_calibration_and_say_so(tmp_path):
    (tmp_path / "questions").mkdir()
    (tmp_path / "out").mkdir()
    write_questions(tmp_path / "questions", [question("a", "heading", True)])
    context = StageContext({"questions": tmp_path / "questions"}, tmp_path / "out", tmp_path)
    config = CalibrationConfig(answer=AnswerConfig(minimum_characters=7))
    result = calibrate(config, context)
    assert "WARNING: nothing was calibrated" in result.sections[0].text
    written = from_mapping(Calibration, json.loads((tmp_path / "out" / "calibration.json").read_text()))
    packaged = from_mapping(Calibration, json.loads(DEFAULTS[0].read_text()))
    assert written.relevance == packaged.relevance
    assert written.answer == config.answer


def test_what_joins_a_citation_is_read_again_too():
    """Neither an example nor a sentence before it is cited that its document does not have."""
    text = "Geneva lies on the Fox River. It opens at noon. open(geneva)"
    spans = [Span("d", 0, 29), Span("d", 30, 47), Span("d", 48, 60)]
    kinds = ("paragraph", "paragraph", "code")
    candidates = tuple(
        Candidate(text[span.start : span.end], span, 0, "u", "Geneva", kind)
        for span, kind in zip(spans, kinds, strict=True)
    )
    passage = Retrieved("c", Span("d", 0, len(text)), "u", text, {})
    features = np.zeros((3, len(NAMES)))
    features[1, 0] = 1.0
    evidence = Evidence("How do I open it?", (passage,), candidates, features)
    whole = decide(evidence, calibration(0.0, 1), lambda candidate: True)
    assert [one.text for one in whole.citations] == [text[:47], "open(geneva)"]
    alone = decide(evidence, calibration(0.0, 1), lambda candidate: candidate == candidates[1])
    assert [one.text for one in alone.citations] == ["It opens at noon."]


def test_what_another_citation_covers_is_not_cited_twice():
    text = "`geneva` lies on the Fox River. It opens at noon."
    spans = [Span("d", 0, 31), Span("d", 32, len(text))]
    candidates = tuple(Candidate(text[one.start : one.end], one, 0, "u", "Geneva") for one in spans)
    passage = Retrieved("c", Span("d", 0, len(text)), "u", text, {"named": 3.0})
    features = np.zeros((2, len(NAMES)))
    features[1, 0] = 1.0
    for question, sentences in (("What is `geneva`?", 1), ("When does it open?", 2)):
        evidence = Evidence(question, (passage,), candidates, features)
        answer = decide(evidence, calibration(0.0, sentences), lambda candidate: True)
        assert [one.text for one in answer.citations] == [text]
        assert [one.verdict for one in answer.verdicts] == ["cited", "repeated"]


def model(names: tuple[str, ...], bias: float = 0.0) -> Logistic:
    return Logistic(names, (0.0,) * len(names), (1.0,) * len(names), (1.0,) + (0.0,) * (len(names) - 1), bias)


def calibration(threshold: float, sentences: int = 2) -> Calibration:
    return Calibration(AnswerConfig(), model(RANKING), Rules(sentences, 0.6), model(confidence_names(())), threshold)


def test_an_answer_cites_what_it_shows(finder):
    evidence = finder.evidence("How long does a cat sleep?")
    answer = decide(evidence, calibration(0.0), lambda candidate: True)
    assert not answer.abstained and 1 <= len(answer.citations) <= 2
    lines = answer.text.split("\n")
    for number, (line, citation) in enumerate(zip(lines, answer.citations, strict=True), start=1):
        quote = finder.index.document(citation.evidence.document).quote(citation.evidence)
        assert line == f"{' '.join(quote.split())} [{number}]"
    late = evidence.features[:, 0]
    assert answer.citations[0].text == evidence.candidates[int(np.argmax(late))].text
    assert answer.confidence == pytest.approx(1 / (1 + np.exp(-late.max())))


def test_below_the_threshold_the_answer_is_i_dont_know_with_the_nearest_passages(finder):
    evidence = finder.evidence("How long does a cat sleep?")
    answer = decide(evidence, calibration(0.999), lambda candidate: True)
    assert answer.abstained and answer.citations == ()
    assert answer.text.startswith("I don't know")
    assert answer.nearest == evidence.passages[:3]
    assert any(verdict.verdict == "abstained" for verdict in answer.verdicts), "what it would have said stays visible"


def test_without_evidence_or_with_no_true_quote_the_answer_abstains(finder):
    nothing = decide(Evidence("?", (), (), np.zeros((0, len(NAMES)))), calibration(0.0), lambda candidate: True)
    assert nothing.abstained and nothing.confidence == 0.0
    forged = decide(finder.evidence("How long does a cat sleep?"), calibration(0.0), lambda candidate: False)
    assert forged.abstained
    assert {verdict.verdict for verdict in forged.verdicts} == {"not a quote"}
