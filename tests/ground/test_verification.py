"""Verdicts on statements in the order of trust: a quote, then values, then entailment, then likelihood."""

import numpy as np
import pytest

from lmworks.evaluate.attribution import Attribution, attribute
from lmworks.evaluate.faithfulness import SENTENCES
from lmworks.evaluate.metric import Item, Response
from lmworks.generate.engine import Engine
from lmworks.ground.verification import WINDOWS, verify, verify_text
from lmworks.model.checkpoint import Checkpoint
from lmworks.records import Span

TEXT = "The works were founded in 1989 by Anna Huber. They make saws and files. Since 2004 their seat has been Vienna."
PASSAGE = (TEXT, Span("works", 100, 100 + len(TEXT)))
LIES = "Nothing is ever said here."


def says(pairs):
    """P(entailment): the share of the hypothesis's words in the premise; P(contradiction): whether it has "never"."""
    words = [[set(text.lower().replace(".", "").split()) for text in pair] for pair in pairs]
    shares = np.array([len(premise & claim) / len(claim) for premise, claim in words])
    never = np.array([float("never" in claim) for _, claim in words])
    return np.column_stack([shares * (1 - never), (1 - shares) * (1 - never), never])


def certain(pairs):
    return np.tile([1.0, 0.0, 0.0], (len(pairs), 1))


def test_each_statement_of_a_text_has_its_verdict_reason_and_evidence():
    draft = "They make saws  and files. Files and saws they make. Since 2004 their seat has been Graz. They never saw."
    found = verify_text(draft, [PASSAGE], says)
    assert "".join(draft[start:end] for (start, end), _ in found) == draft.replace(". ", ".")
    assert [(one.verdict, one.reason, one.missing) for _, one in found] == [
        ("supported", "quoted", ()),
        ("supported", "entailment", ()),
        ("unsupported", "values", ("Graz",)),
        ("contradicted", "entailment", ()),
    ]
    quoted = [TEXT[one.evidence.start - 100 : one.evidence.end - 100] for _, one in found if one.evidence]
    assert quoted[:2] == ["They make saws and files", "They make saws and files."]
    assert quoted[2].endswith("Since 2004 their seat has been Vienna.")


def test_a_value_that_no_evidence_has_vetoes_a_verifier_that_is_certain():
    statements = ["Anna Huber founded them in 1998.", "Anna Huber founded them in 1989."]
    assert [one.verdict for one in verify(statements, [[PASSAGE]] * 2, certain)] == ["unsupported", "supported"]
    assert verify(statements[:1], [[PASSAGE]], certain, question="What was in 1998?")[0].verdict == "supported"


def test_each_statement_is_read_with_its_own_evidence_alone_and_nothing_is_taken_for_granted_without_any():
    other = (LIES, Span("other", 0, len(LIES)))
    found = verify(["Files and saws they make."] * 3, [[other], [], [other, PASSAGE]], says)
    assert [one.verdict for one in found] == ["unsupported", "unsupported", "supported"]
    assert found[0].entailment == 0 and found[1].evidence is None and found[1].reason == "nothing"
    assert found[2].evidence and found[2].evidence.document == "works"


def test_the_verifier_reads_no_more_than_neighbouring_sentences():
    read = list[str]()

    def reads(pairs):
        read.extend(premise for premise, _ in pairs)
        return says(pairs)

    many = " ".join(f"Sentence number {n} is about saws." for n in range(30))
    verify(["Saws are made."], [[(many, Span("many", 0, len(many)))]], reads)
    assert len(read) == WINDOWS and max(one.count("Sentence") for one in read) <= SENTENCES


def test_likelihood_decides_only_where_there_is_no_verifier(tiny: Checkpoint):
    engine = Engine(tiny)
    [alone] = verify(["Saws they make."], [[PASSAGE]], None, engine, "What?")
    [expected] = attribute(engine, [Item("", "What?", contexts=(TEXT,))], [Response("Saws they make.")])
    assert isinstance(expected, Attribution)
    assert alone.gain == pytest.approx(expected.total / len(expected.tokens)) and alone.reason == "likelihood"
    [both] = verify(["Saws they make."], [[PASSAGE]], says, engine, "What?")
    assert both.gain == alone.gain and both.reason == "entailment" and both.verdict == "supported"


def labels(pairs, entailed):
    return np.tile([entailed, 0.9 - entailed, 0.1], (len(pairs), 1))


def test_support_rises_with_entailment_and_with_the_words_that_are_there():
    near, far = "Saws and files they make there.", "Axes and nails others sell there."
    support = [
        [found.support or 0.0 for found in verify([near, far], [[PASSAGE]] * 2, lambda pairs, p=p: labels(pairs, p))]
        for p in (0.85, 0.1)
    ]
    (most, other), (words, least) = support
    assert most > words > least and most > other > least
