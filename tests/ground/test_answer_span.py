"""A reader and a reranker in an answer, against what the documents say at the spans."""

from dataclasses import replace

import pytest

from kit.tables import for_each
from lmworks.artefact import write_json
from lmworks.ground.answer_record import to_answer, to_interaction
from lmworks.ground.answer_span import LOWEST
from lmworks.ground.calibration import Trial, fitted
from lmworks.ground.config import CalibrationConfig
from lmworks.ground.conformal_risk_control import CALIBRATION
from lmworks.ground.features import RANKING, feature_names, ranking_names
from lmworks.ground.grounded_answer import Calibration, Finder, confidence_names, decide, load_answerer
from lmworks.ground.selection import Rules
from lmworks.records import Question
from lmworks.statistics.logistic_regression import Logistic
from phrase_reader import PhraseReader

QUESTION = "How long does a cat sleep?"
PHRASES = {"sixteen hours": 6.0, "twelve hours": 2.0}
ROLES = ("reader", "reranker")


def with_heads(finder: Finder, reader: PhraseReader, config=None) -> Finder:
    heads = dict.fromkeys(ROLES, reader)
    return Finder(finder.index, finder.encoder, config or finder.config, heads)  # type: ignore[arg-type]


def weighing(names: tuple[str, ...], feature: str, bias: float = 0.0) -> Logistic:
    return Logistic(names, (0.0,) * len(names), (1.0,) * len(names), tuple(float(n == feature) for n in names), bias)


def calibration(finder: Finder, feature: str = "span", bias: float = 0.0) -> Calibration:
    relevance = weighing(ranking_names(ROLES), feature)
    confidence = weighing(confidence_names(ROLES), feature, bias)
    return Calibration(finder.config, relevance, Rules(1, 0.6), confidence, 0.5, roles=ROLES)


def test_the_span_of_each_sentence_stands_in_its_document_and_has_the_log_odds_of_the_reader(finder):
    reader = PhraseReader(PHRASES)
    evidence = with_heads(finder, reader).evidence(QUESTION)
    names = feature_names(ROLES)
    assert names[: len(RANKING) + 4] == (*RANKING, "span", "span_gap", "best_span", "passage_relevance")
    columns = dict(zip(names, evidence.features.T, strict=True))
    quotes = {p: w for p, w in zip(evidence.candidates, evidence.readings, strict=True) if w.best and w.log_odds > 0}
    said = [finder.index.document(one.span.document).quote(one.span) for one in quotes.values()]
    assert sorted(said) == sorted(phrase for phrase in PHRASES if any(phrase in p.text for p in evidence.passages))
    assert all(word in candidate.text for word, candidate in zip(said, quotes, strict=True))
    expected = [next((v for p, v in PHRASES.items() if p in one.text), -9.0) for one in evidence.candidates]
    assert columns["span"].tolist() == pytest.approx(expected)
    assert set(columns["highest_span"]) == set(columns["highest_relevance"]) == {6.0}
    for candidate, logit in zip(evidence.candidates, columns["passage_relevance"], strict=True):
        passage = evidence.passages[candidate.passage]
        assert (
            logit == passage.scores["relevance"] == max([-9.0, *(v for p, v in PHRASES.items() if p in passage.text)])
        )


def test_only_the_first_passages_are_read(finder):
    reader = PhraseReader(PHRASES)
    evidence = with_heads(finder, reader, replace(finder.config, read=1)).evidence(QUESTION)
    assert len(reader.passages) == 1 and evidence.passages[0].text in reader.passages[0]
    unread = [one.log_odds == LOWEST for one in evidence.readings]
    assert unread == [one.passage != evidence.candidates[0].passage for one in evidence.candidates]


def test_a_sure_span_of_the_cited_sentence_is_the_short_answer_and_the_log_keeps_it(finder):
    finder = with_heads(finder, PhraseReader(PHRASES))
    question = "For what time does a cat sleep?"
    answer = decide(finder.evidence(question), calibration(finder), lambda _: True)
    (cited,) = answer.citations
    assert cited.short_answer == "sixteen hours" and "sixteen hours" in cited.text
    assert cited.short is not None
    assert finder.index.document(cited.evidence.document).quote(cited.short) == "sixteen hours"
    logged = to_interaction(answer, (), None, time=0.0, route="assistant", count_tokens=len)
    assert to_answer(logged).citations == answer.citations
    assert replace(cited, text="[redacted]").short_answer == ""
    abstained = decide(finder.evidence(question), calibration(finder, bias=-9.0), lambda _: True)
    assert abstained.abstained and not any(one.short for one in abstained.verdicts)


@for_each(
    ("question", "phrases", "feature"),
    [
        ("How do I make a cat sleep?", PHRASES, "span"),  # asks for a way
        ("For what time does a cat sleep?", {"sixteen hours": 1.0}, "span"),  # not sure enough
        ("For what time does a cat sleep?", {"sixteen hours": 6.0}, "length"),  # stands in another sentence
    ],
)
def test_no_short_answer(finder, question, phrases, feature):
    finder = with_heads(finder, PhraseReader(phrases))
    answer = decide(finder.evidence(question), calibration(finder, feature, bias=9.0), lambda _: True)
    assert answer.citations and not any(one.short for one in answer.verdicts)


def test_a_calibration_weighs_what_the_heads_say(finder):
    """Where late interaction knows nothing of the answer and the reader everything, the reader's span weighs most."""
    asked = {}
    for phrase in ("sixteen hours", "twelve hours", "one leg", "Friday", ""):  # the last is a question without answer
        evidence = with_heads(finder, PhraseReader({phrase: 5.0} if phrase else {})).evidence("Which one is it?")
        asked[phrase] = evidence, tuple(bool(phrase) and phrase in one.text for one in evidence.candidates)
    trials = []
    for number, (phrase, (evidence, right)) in enumerate(4 * list(asked.items())):
        gold = (evidence.candidates[0].evidence,) if phrase else ()
        trials.append(Trial(Question(str(number), "", gold, "calibration"), evidence, right))
    decided, _ = fitted(CalibrationConfig(), trials)
    assert decided.roles == ROLES and decided.relevance.names == ranking_names(ROLES)
    weights = dict(zip(decided.relevance.names, decided.relevance.weights, strict=True))
    assert max(weights, key=lambda name: weights[name]) in ("span", "best_span")


def test_a_calibration_of_other_features_or_of_a_model_that_is_not_named_is_refused(finder, tmp_path):
    made = calibration(finder)
    write_json(tmp_path / CALIBRATION, made)
    with pytest.raises(ValueError, match="reader and a reranker"):
        load_answerer(finder.index.folder, tmp_path, {"embedder": "e"})
    write_json(tmp_path / CALIBRATION, replace(made, roles=("reader",)))
    with pytest.raises(ValueError, match="rebuild it"):
        load_answerer(finder.index.folder, tmp_path, {"embedder": "e", "reader": "r", "reranker": "r"})
