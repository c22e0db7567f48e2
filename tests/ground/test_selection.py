"""What is cited: the most relevant candidates that are proven and new, in order, and never too many."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lmworks.ground.candidate_sentences import Candidate
from lmworks.ground.selection import Rules, select
from lmworks.records import Span


def quoted(text: str, start: int = 0) -> Candidate:
    return Candidate(text, Span("d", start, start + len(text)), 0, "u", "")


def verdicts(candidates, relevance, rules, is_quote=lambda candidate: True) -> dict[str, str]:
    return {v.text: v.verdict for v in select(candidates, np.array(relevance), rules, is_quote).verdicts}


RULES = Rules(sentences=2, repeated=0.6)


def test_the_most_relevant_come_first_until_there_are_enough():
    candidates = [quoted("first thing said here"), quoted("second thing told there"), quoted("third item on offer")]
    selection = select(candidates, np.array([0.2, 0.9, 0.5]), RULES, lambda candidate: True)
    assert selection.chosen == (1, 2)
    assert [v.verdict for v in selection.verdicts] == ["cited", "cited", "not needed"]


def test_a_quote_that_is_none_is_refused():
    candidates = [quoted("made up words here"), quoted("words that stand there")]
    outcome = verdicts(candidates, [0.9, 0.1], RULES, lambda candidate: candidate is candidates[1])
    assert outcome == {"made up words here": "not a quote", "words that stand there": "cited"}


def test_a_repetition_gives_way_to_the_next():
    candidates = [
        quoted("the cat sleeps all day long"),
        quoted("The cat sleeps all day long."),
        quoted("dogs bark at the gate"),
    ]
    assert list(verdicts(candidates, [0.9, 0.8, 0.7], RULES).values()) == ["cited", "repeated", "cited"]


@given(st.lists(st.tuples(st.text("ab ", min_size=1), st.floats(0, 1)), max_size=12), st.integers(1, 4))
def test_every_candidate_gets_one_verdict_and_what_is_cited_is_bounded(items, sentences):
    candidates = [quoted(text, start) for start, (text, _) in enumerate(items)]
    selection = select(candidates, np.array([r for _, r in items]), Rules(sentences, 0.6), lambda candidate: True)
    assert len(selection.verdicts) == len(candidates)
    assert len(set(selection.chosen)) == len(selection.chosen) <= sentences
    cited = [v for v in selection.verdicts if v.verdict == "cited"]
    assert [v.relevance for v in cited] == sorted((v.relevance for v in cited), reverse=True)


def test_a_further_sentence_is_as_relevant_as_the_rules_ask():
    candidates = [quoted(f"sentence number {n} is about {n * 7}", n) for n in range(3)]
    relevance = np.array([0.8, 0.5, 0.3])
    counts = [len(select(candidates, relevance, Rules(3, 0.6, r), lambda _: True).chosen) for r in (0.0, 0.5, 0.7)]
    assert counts == [3, 2, 1]
