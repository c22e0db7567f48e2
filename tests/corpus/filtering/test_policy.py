"""Policies: what they say of a document, and what they refuse to be."""

from pathlib import Path

import numpy as np
import pytest

from lmworks.config import ConfigError, from_mapping
from lmworks.corpus.attributes import AttributeTable, TaggedSpan
from lmworks.corpus.filtering.decide import Cut, Reason, judge
from lmworks.corpus.filtering.filter_policy import Policy, Step, default_policy, read_policy
from lmworks.corpus.taggers.heuristics import PRESETS


def table(**given) -> AttributeTable:
    """Three documents: a page in English, one in German, and a book of unknown language."""
    marks = given.pop("marks", [(), (), ()])
    labels = {"language": ["en", "de", None], **given.pop("labels", {})}
    return AttributeTable(
        uris=["web/1", "web/2", "books/3"],
        hashes=["1", "2", "3"],
        kinds=["web", "web", "book"],
        sources=["web", "web", "books"],
        characters=np.array([10, 20, 30]),
        bytes=np.array([10, 20, 30]),
        scores={name: np.array(values, dtype=float) for name, values in given.items()},
        labels=labels,
        edits=[(), (), ()],
        spans=marks,
    )


def steps(*given) -> Policy:
    return from_mapping(Policy, {"steps": list(given)})


def reasons(policy, documents):
    return [judged.reasons for judged in judge(policy, documents)]


def test_values_at_a_limit_stay_and_missing_ones_too():
    policy = steps({"name": "s", "limits": {"words": {"at_least": 5, "at_most": 7}}})
    assert reasons(policy, table(words=[5, 7, np.nan])) == [{}]
    assert reasons(policy, table(words=[4.5, 7.5, 6])) == [
        {0: [Reason("words", 4.5, 5.0)], 1: [Reason("words", 7.5, 7.0)]}
    ]
    assert reasons(policy, table()) == [{}]


def test_all_reasons_are_known_and_all_steps_look():
    policy = steps(
        {"name": "one", "limits": {"a": {"at_most": 0}, "b": {"at_most": 0}}},
        {"name": "two", "limits": {"a": {"at_most": 1}}},
    )
    found = reasons(policy, table(a=[2, 0, 0], b=[3, 0, 0]))
    assert found == [{0: [Reason("a", 2.0, 0.0), Reason("b", 3.0, 0.0)]}, {0: [Reason("a", 2.0, 1.0)]}]


@pytest.mark.parametrize(
    ("where", "looked_at"),
    [
        ({}, {0, 1, 2}),
        ({"sources": ["web"]}, {0, 1}),
        ({"sources": ["b*"]}, {2}),
        ({"kinds": ["web"]}, {0, 1}),
        ({"languages": ["de"]}, {1, 2}),  # also one whose language nobody knows
    ],
)
def test_a_step_looks_at_what_it_is_for(where, looked_at):
    policy = steps({"name": "s", "limits": {"a": {"at_most": 0}}, **where})
    assert reasons(policy, table(a=[1, 1, 1]))[0].keys() == looked_at


def test_labels_are_allowed_or_denied():
    allowing = steps({"name": "s", "labels": {"language": {"allow": ["en"], "unknown": "drop"}}})
    assert reasons(allowing, table()) == [
        {1: [Reason("language", label="de")], 2: [Reason("language", label="unknown")]}
    ]
    denying = steps({"name": "s", "labels": {"language": {"deny": ["de"]}}})
    assert reasons(denying, table()) == [{1: [Reason("language", label="de")]}]


def test_marks_are_cut_redacted_or_drop_their_document():
    marks = [
        (TaggedSpan("pii.email", 1, 5, 0.9), TaggedSpan("pii.url", 6, 8, 0.2)),
        (TaggedSpan("menu", 0, 4),),
        (TaggedSpan("bad", 2, 3),),
    ]
    policy = steps(
        {
            "name": "s",
            "marks": {
                "pii.*": {"action": "redact", "at_least": 0.5},
                "menu": {"action": "cut"},
                "bad": {"action": "drop"},
            },
        }
    )
    (judged,) = judge(policy, table(marks=marks))
    assert judged.cuts == {0: [Cut(1, 5, "<EMAIL>", "pii.email")], 1: [Cut(0, 4, "", "menu")]}
    assert judged.reasons == {2: [Reason("bad", 1.0, 0.0)]}


def test_a_preset_is_what_was_published_and_can_be_changed():
    step = from_mapping(Step, {"name": "s", "preset": "gopher", "limits": {"words": {"at_least": 10}}})
    published = {name: (low, high) for name, low, high, _ in PRESETS["gopher"]}
    told = {name: (limit.at_least, limit.at_most) for name, limit in step.all_limits.items()}
    assert told == {**published, "words": (10.0, None)}


@pytest.mark.parametrize(
    ("mapping", "problem"),
    [
        ({"steps": [{"name": "s"}]}, "decides nothing"),
        ({"steps": [{"name": "s", "limits": {"a": {}}}]}, "needs at_least or at_most"),
        ({"steps": [{"name": "s", "limits": {"a": {"at_least": 2, "at_most": 1}}}]}, "nothing would stay"),
        ({"steps": [{"name": "a b", "preset": "c4"}]}, "letters, digits and _"),
        ({"steps": [{"name": "s", "preset": "c4"}, {"name": "s", "preset": "c4"}]}, "two steps are called s"),
        ({"steps": [{"name": "s", "preset": "c5"}]}, "gopher_repetition"),
        ({"steps": [{"name": "s", "labels": {"l": {"allow": ["x"], "deny": ["x"]}}}]}, "both allowed and denied"),
        ({"alarm": 0}, "alarm is a share"),
    ],
)
def test_a_policy_that_says_nothing_sensible_is_refused(mapping, problem):
    with pytest.raises(ConfigError, match=problem):
        from_mapping(Policy, mapping)


def test_a_file_that_is_no_policy_names_its_mistake(tmp_path: Path):
    path = tmp_path / "policy.toml"
    path.write_text("[[steps]\n")
    with pytest.raises(ConfigError, match="not TOML"):
        read_policy(path)
    path.write_text('[[steps]]\nname = "s"\nlimit = {}\n')
    with pytest.raises(ConfigError, match='did you mean "limits"'):
        read_policy(path)


def test_the_policy_that_comes_with_lmworks_is_one():
    assert [step.name for step in default_policy().steps].count("contamination") == 1


def test_a_byte_order_mark_is_no_part_of_a_policy(tmp_path):
    path = tmp_path / "policy.toml"
    path.write_text('[[steps]]\nname = "equal"\nduplicates = "exact"\n', "utf-8-sig")
    assert read_policy(path) == Policy((Step("equal", duplicates="exact"),))
