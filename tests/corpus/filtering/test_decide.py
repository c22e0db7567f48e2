"""Decisions on documents by themselves: licences as expressions, spans, what is refused; cuts go once and whole."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attribute_tables import table
from kit.tables import for_each
from lmworks.config import from_mapping
from lmworks.corpus.attributes import AttributeTable, TaggedSpan
from lmworks.corpus.dedup.kept_duplicates import rank_corpus
from lmworks.corpus.edits import apply_edits
from lmworks.corpus.filtering.decide import Reason, clipped, decide
from lmworks.corpus.filtering.filter_policy import Policy
from lmworks.corpus.filtering.policy_checks import check_refused
from lmworks.records import Edit


def policy(*steps) -> Policy:
    return from_mapping(Policy, {"steps": list(steps)})


def reasons(steps: Policy, documents: AttributeTable) -> list[dict[int, list[Reason]]]:
    return [decided.reasons for decided in decide(steps, documents)]


def test_values_at_a_limit_stay_and_missing_ones_too():
    steps = policy({"name": "s", "limits": {"words": {"at_least": 5, "at_most": 7}}})
    assert reasons(steps, table("abc", scores={"words": [5, 7, np.nan]})) == [{}] == reasons(steps, table("abc"))
    assert reasons(steps, table("abc", scores={"words": [4.5, 7.5, 6]})) == [
        {0: [Reason("score", "words", 4.5, 5.0)], 1: [Reason("score", "words", 7.5, 7.0)]}
    ]


def test_spans_are_cut_redacted_or_drop_their_document():
    spans = [
        (TaggedSpan("pii.email", 1, 5, 0.9), TaggedSpan("pii.url", 6, 8, 0.2)),
        (TaggedSpan("menu", 0, 4),),
        (TaggedSpan("bad", 2, 3),),
    ]
    marks = {"pii.*": {"action": "redact", "at_least": 0.5}, "menu": {"action": "cut"}, "bad": {"action": "drop"}}
    (decided,) = decide(policy({"name": "s", "marks": marks}), table("abc", spans=spans))
    assert decided.cuts == {0: [Edit(1, 5, "<EMAIL>", "pii.email")], 1: [Edit(0, 4, "", "menu")]}
    assert decided.reasons == {2: [Reason("span", "bad", 1.0, 0.0)]}


@for_each(("choice", "stays", "goes"), [
    ({"allow": ["permissive"]}, ["MIT", "MIT OR GPL-3.0-only", "mit AND ISC", None], ["GPL-3.0-only", "??"]),
    ({"deny": ["non_commercial"]}, ["MIT", "??", "CC-BY-NC-4.0 OR MIT", None], ["CC-BY-NC-4.0 AND MIT"]),
    ({"allow": ["MIT"], "unknown": "drop"}, ["MIT"], [None, "ISC"]),
    ({"allow": ["CC-*"], "deny": ["CC-BY-NC-*"]}, ["CC-BY-4.0"], ["CC-BY-NC-4.0", "MIT"]),
])  # fmt: skip
def test_licences_are_decided_as_expressions(choice, stays, goes):
    words = [*stays, *goes]
    documents = table([str(number) for number in range(len(words))], licence=words)
    assert reasons(policy({"name": "s", "labels": {"licence": choice}}), documents) == [
        {place: [Reason("label", "licence", label=word)] for place, word in enumerate(words) if word in goes}
    ]


GATE = {"name": "gate", "labels": {"licence": {"allow": ["MIT"], "unknown": "refuse"}}}
SHORT = {"name": "short", "limits": {"words": {"at_least": 10}}}


@for_each(("steps", "licences", "told"), [
    ([GATE], ["MIT", None, "ISC", None], "the step gate refuses documents of unknown licence.* are 2: a/1, a/3. "),
    ([GATE], ["MIT", "GPL-3.0-only", "??"], ""), ([SHORT, GATE], ["MIT", None], ""),
    ([{**GATE, "sources": ["b"]}], [None], ""),
])  # fmt: skip
def test_documents_that_come_to_a_step_without_what_it_demands_are_refused(steps, licences, told):
    scores = {"words": [100.0, *[5.0] * (len(licences) - 1)]}
    tables = [table([f"a/{number}" for number in range(len(licences))], scores=scores, licence=licences)]
    found = policy(*steps)
    decisions = [decide(found, each) for each in tables]
    if told:
        with pytest.raises(ValueError, match=told):
            check_refused(found, rank_corpus(tables), decisions)
    else:
        check_refused(found, rank_corpus(tables), decisions)


TEXT = "0123456789" * 4
CUT = st.builds(
    lambda start, length, replacement, rule: Edit(start, min(start + length, len(TEXT)), replacement, rule),
    st.integers(0, len(TEXT)),
    st.integers(0, 12),
    st.sampled_from(["", "<X>"]),
    st.sampled_from("ab"),
)


@given(st.lists(st.lists(CUT, max_size=6), min_size=1, max_size=4))
def test_every_character_that_a_step_names_goes_once_and_earlier_steps_come_first(by_step):
    found = clipped(by_step, len(TEXT))
    assert found[:-1] == clipped(by_step[:-1], len(TEXT))
    gone = [place for cuts in found for cut in cuts for place in range(cut.start, cut.end)]
    assert len(gone) == len(set(gone))
    assert set(gone) == {place for cuts in by_step for cut in cuts for place in range(cut.start, cut.end)}
    # What is partly gone loses its rest without a replacement: half a number is no less personal.
    assert all(cut in some for cuts, some in zip(found, by_step, strict=True) for cut in cuts if cut.replacement)
    kept = "".join(character for place, character in enumerate(TEXT) if place not in set(gone))
    assert apply_edits(TEXT, [cut for cuts in found for cut in cuts]).text.replace("<X>", "") == kept
