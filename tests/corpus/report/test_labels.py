"""Labels in a policy: expressions of licences, words of others, and builds that fail on what nobody knows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmworks.config import ConfigError, from_mapping
from lmworks.corpus.attributes import AttributeTable
from lmworks.corpus.filtering.decide import Reason, judge, outcome_of
from lmworks.corpus.filtering.evaluation_refusal import RefusedError, check_refused
from lmworks.corpus.filtering.filter_policy import Choice, Policy


def table(licences: list[str | None], words: list[float] | None = None, first: int = 0) -> AttributeTable:
    n = len(licences)
    return AttributeTable(
        uris=[f"a/{first + number}" for number in range(n)],
        hashes=[str(number) for number in range(n)],
        kinds=["text"] * n,
        sources=["a"] * n,
        characters=np.ones(n),
        bytes=np.ones(n),
        scores={"words": np.array(words or [100.0] * n)},
        labels={"licence": licences},
        edits=[()] * n,
        spans=[()] * n,
    )


def policy(*steps: dict) -> Policy:
    return from_mapping(Policy, {"steps": list(steps)})


@pytest.mark.parametrize(
    ("choice", "stays", "goes"),
    [
        (Choice(allow=("permissive",)), ["MIT", "MIT OR GPL-3.0-only", "mit AND ISC", None], ["GPL-3.0-only", "??"]),
        (Choice(deny=("non_commercial",)), ["MIT", "??", "CC-BY-NC-4.0 OR MIT", None], ["CC-BY-NC-4.0 AND MIT"]),
        (Choice(allow=("MIT",), unknown="drop"), ["MIT"], [None, "ISC"]),
        (Choice(allow=("CC-*",), deny=("CC-BY-NC-*",)), ["CC-BY-4.0"], ["CC-BY-NC-4.0", "MIT"]),
    ],
)
def test_licences_are_decided_as_expressions(choice, stays, goes):
    for label, outcome in [*((each, "stays") for each in stays), *((each, "goes") for each in goes)]:
        assert outcome_of("licence", choice, label) == outcome, label
        assert outcome_of("licence_in_text", choice, label) == outcome, label


@given(st.sampled_from(["en", "de", "MIT OR ISC"]), st.sampled_from([(), ("en",), ("MIT OR ISC",)]))
def test_words_of_other_labels_are_compared_as_they_are(label, allow):
    assert (outcome_of("language", Choice(allow=allow), label) == "stays") == (not allow or label in allow)


def test_the_ledger_tells_the_expression():
    (judged,) = judge(policy({"name": "s", "labels": {"licence": {"allow": ["permissive"], "unknown": "drop"}}}),
                      table(["MIT", "MIT AND GPL-3.0-only", None]))  # fmt: skip
    assert judged.reasons == {
        1: [Reason("licence", label="MIT AND GPL-3.0-only")],
        2: [Reason("licence", label="unknown")],
    }


def test_a_list_with_an_entry_that_matches_nothing_is_refused():
    with pytest.raises(ConfigError, match='did you mean "permissive"'):
        policy({"name": "s", "labels": {"licence": {"allow": ["permisive"]}}})
    policy({"name": "s", "labels": {"topic": {"allow": ["permisive"]}}})  # a word like any other


# ---------------------------------------------------------------------------------------------------------------------
# Refusing

GATE = {"name": "gate", "labels": {"licence": {"allow": ["MIT"], "unknown": "refuse"}}}
SHORT = {"name": "short", "limits": {"words": {"at_least": 10}}}


def refused(steps: Policy, *tables: AttributeTable) -> str:
    judged = [judge(steps, each) for each in tables]
    with pytest.raises(RefusedError) as error:
        check_refused(steps, tables, judged)
    return str(error.value)


def test_documents_of_unknown_licence_are_named_over_all_shards():
    told = refused(policy(GATE), table(["MIT", None, "ISC"]), table([None, "MIT"], first=3))
    assert "the step gate refuses documents of unknown licence, of which there are 2: a/1, a/3. Nothing" in told
    assert "say in data.read what the licence" in told and 'unknown="drop"' in told
    assert (
        "of which there are 30: a/0, a/1" in (many := refused(policy(GATE), table([None] * 30))) and "a/10" not in many
    )


def test_what_is_known_or_gone_before_refuses_nothing():
    for steps, given_table in (
        (policy(GATE), table(["MIT", "GPL-3.0-only", "??"])),
        (policy(SHORT, GATE), table(["MIT", None], [100.0, 5.0])),
        (policy({**GATE, "sources": ["b"]}), table([None])),
    ):
        check_refused(steps, [given_table], [judge(steps, given_table)])
    assert "a/1" in refused(policy(GATE, SHORT), table(["MIT", None], [100.0, 5.0]))


def test_a_corpus_without_the_label_is_refused_as_a_whole():
    steps = policy({"name": "gate", "labels": {"topic": {"unknown": "refuse"}}})
    assert "unknown topic, of which there are 2" in refused(steps, table(["MIT", "MIT"]))
