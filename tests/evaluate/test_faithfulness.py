"""Statements of an answer, their support and their carriers: by a real judge, a planted verifier and a word encoder."""

import numpy as np
import pytest

from lmworks.evaluate.faithfulness import by_judge, by_verifier, carriers, verdicts
from lmworks.evaluate.judge import Judge, rubric
from lmworks.evaluate.metric import Item, Response
from lmworks.evaluate.registry import metric
from lmworks.generate.engine import Engine
from lmworks.generate.text_embedding import TextEncoder
from lmworks.model.checkpoint import Checkpoint
from lmworks.records import Retrieved, Span, Unscored

PASSAGES = (
    "Leave is asked for in the calendar. Every employee has twenty-eight days of paid leave a year.",
    "Flights need the approval of the head of department. Hotels are paid up to one hundred euros.",
)
ANSWER = "An employee has paid leave of twenty-eight days. Hotels are paid up to one hundred euros. Passwords expire."
STATEMENTS = ANSWER.replace(". ", ".|").split("|")
FOUND = tuple(
    Retrieved(f"c{at}", Span("page", at, at + len(text)), "", text, {})
    for at, text in zip((1000, 5000), PASSAGES, strict=True)
)


def says(pairs):
    """P(entailment) is the share of the hypothesis's words that the premise has."""
    words = [[set(text.lower().replace(".", "").split()) for text in pair] for pair in pairs]
    shares = np.array([len(premise & hypothesis) / len(hypothesis) for premise, hypothesis in words])
    return np.column_stack([shares, 1 - shares, 0 * shares])


def test_a_statement_is_supported_by_the_passage_that_entails_it_most_and_all_are_counted():
    item, response = Item("1"), Response(ANSWER, retrieved=FOUND)
    found = verdicts(item, response, by_verifier(says))
    assert isinstance(found, list)
    assert [ANSWER[one.start : one.end] for one in found] == [one.text for one in found] == STATEMENTS
    assert [one.supported for one in found] == [True, True, False]
    [value] = metric("faithfulness-verified", verifier=says).measure([item], [response])
    assert value == pytest.approx(2 / 3)
    whole = verdicts(Item("1", contexts=(" ".join(PASSAGES),)), Response(ANSWER), by_verifier(says))
    assert isinstance(whole, list) and [one.supported for one in whole] == [True, True, False]


def test_the_packaged_verifier_is_the_one_of_a_metric_that_is_given_none_and_is_in_its_signature(minilm_checkpoint):
    item = Item("1", contexts=("A man is playing a guitar on stage. It rains.", "Nobody sleeps."))
    said = ("A man is playing music.", "The man is asleep.")
    found = metric("faithfulness-verified")
    assert found.measure([item] * 2, [Response(text) for text in said]) == [1.0, 0.0]
    named = metric("faithfulness-verified", verifier="minilm-verifier")
    assert found.signature == named.signature and found.signature["verifier"]


def test_a_judge_reads_each_statement_with_all_passages(tiny: Checkpoint):
    judge = Judge(Engine(tiny), rubric("faithfulness"))
    rows = [{"context": "\n\n".join(PASSAGES), "response": statement} for statement in STATEMENTS]
    place = list(judge.rubric.verdicts).index("yes")
    expected = np.array([one.probabilities[place] for one in judge.judgements(rows)])
    found = verdicts(Item("1", contexts=PASSAGES), Response(ANSWER), by_judge(judge))
    assert isinstance(found, list)
    assert [one.support for one in found] == pytest.approx(expected.tolist(), abs=1e-6)
    [value] = metric("faithfulness", judge=judge).measure([Item("1", contexts=PASSAGES)], [Response(ANSWER)])
    assert value == pytest.approx(np.mean(expected > 0.5))


def test_a_lost_verdict_or_an_empty_answer_is_unscored_and_never_a_share(tiny: Checkpoint):
    judge = Judge(Engine(tiny), rubric("faithfulness"))
    items = [Item("1", contexts=("long text " * 400,)), *[Item(str(n), contexts=PASSAGES) for n in range(2)], Item("4")]
    responses = [Response(ANSWER), Response(" "), Response(ANSWER, abstained=True), Response(ANSWER)]
    values = metric("faithfulness", judge=judge).measure(items, responses)
    assert all(isinstance(value, Unscored) for value in values)
    assert len({str(value) for value in values}) == 3  # too long, empty, no contexts


def test_the_carrier_of_a_statement_is_a_span_of_its_document(tiny_embedder: Checkpoint):
    encoder = TextEncoder(tiny_embedder)
    found = carriers(Item("1"), Response(ANSWER, retrieved=FOUND), encoder)
    assert isinstance(found, list)
    quoted = [PASSAGES[span.start >= 5000][span.start % 1000 : span.end % 1000] for span, _ in found[:2]]
    assert quoted == ["Every employee has twenty-eight days of paid leave a year.", STATEMENTS[1]]
    assert found[2][1] < min(found[0][1], found[1][1])
    [similarity] = metric("carrier-similarity", encoder=encoder).measure(
        [Item("1", contexts=PASSAGES)], [Response(ANSWER)]
    )
    assert similarity == pytest.approx(np.mean([similarity for _, similarity in found]), abs=1e-6)
    placed = verdicts(Item("1", contexts=PASSAGES), Response(ANSWER), by_verifier(says), encoder)
    assert isinstance(placed, list) and placed[1].carrier == Span("contexts[1]", 53, len(PASSAGES[1]))
