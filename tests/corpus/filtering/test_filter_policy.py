"""Policies: what they refuse to be, which documents a step looks at, and mistakes that do not pass in silence."""

from pathlib import Path

import pytest

from attribute_tables import table
from kit.tables import for_each
from lmworks.config import ConfigError, from_mapping
from lmworks.corpus.attributes import TaggedSpan
from lmworks.corpus.dedup.near_duplicates import NearDuplicatesConfig
from lmworks.corpus.dedup.stage import DuplicatesConfig
from lmworks.corpus.filtering.filter_policy import Policy, Step, default_policy, in_scope, read_policy
from lmworks.corpus.filtering.policy_checks import Names, check_policy, missing_names
from lmworks.corpus.filtering.stage import CleanConfig, check_inputs
from lmworks.corpus.taggers.config import AnnotateConfig, ModelPerplexityConfig
from lmworks.corpus.taggers.heuristics import PRESETS

WORDS = {"name": "words", "limits": {"words": {"at_least": 9}}}
EXACT = {"name": "equal", "duplicates": "exact"}
NEAR = {"name": "alike", "duplicates": "near"}
PARAGRAPHS = {"name": "paragraphs", "duplicates": "paragraphs"}
KEYS = {"name": "keys", "marks": {"pii.key": {"action": "drop"}}}
LANGUAGES = {"name": "languages", "labels": {"language": {"allow": ["en"]}}}


def steps(*given) -> Policy:
    return from_mapping(Policy, {"steps": list(given)})


@for_each(("wrong", "named"), [
    ([{"name": "s"}], "steps"), ([{**WORDS, "name": "repair"}], "repair"),
    ([{"name": "s", "preset": "c4"}, {"name": "s", "preset": "c4"}], "s"),
    ([{"name": "s", "limits": {"a": {"at_least": 2, "at_most": 1}}}], "at_least"),
    ([{"name": "s", "labels": {"l": {"allow": ["x"], "deny": ["x"]}}}], "x"),
    ([{"name": "s", "labels": {"licence": {"allow": ["permisive"]}}}], "permissive"),
    ([{"name": "s", "marks": {"pii.*": {}, "pii.key": {"action": "drop"}}}], "pii.key"),
    ([{**EXACT, "similarity": 0.9}], "similarity"), ([{**EXACT, "languages": ["en-US"]}], "write en"),
    ([{"name": "s", "limits": {"rude_share": {"at_most": 30}}}], "rude_share"),
])  # fmt: skip
def test_a_policy_that_says_nothing_sensible_is_refused(wrong, named):
    with pytest.raises(ConfigError, match=named):
        steps(*wrong)


def test_a_preset_is_what_was_published_and_can_be_changed():
    step = from_mapping(Step, {"name": "s", "preset": "gopher", "limits": {"words": {"at_least": 10}}})
    published = {name: (low, high) for name, low, high in PRESETS["gopher"]}
    told = {name: (limit.at_least, limit.at_most) for name, limit in step.all_limits.items()}
    assert told == {**published, "words": (10.0, None)}


@for_each(("where", "looked_at"), [
    ({}, [True, True, True]), ({"sources": ["web"]}, [True, True, False]), ({"sources": ["b*"]}, [False, False, True]),
    ({"kinds": ["web"]}, [True, True, False]), ({"languages": ["de"]}, [False, True, True]),
])  # fmt: skip
def test_a_step_looks_at_what_it_is_for(where, looked_at):
    (step,) = steps({**WORDS, **where}).steps
    documents = table(["web/1", "web/2", "books/3"], kinds=["web", "web", "book"], language=["en", "de", None])
    assert in_scope(step, documents).tolist() == looked_at


@for_each("order", [(EXACT, WORDS), (NEAR, KEYS), (PARAGRAPHS, LANGUAGES), (PARAGRAPHS, NEAR)])
def test_an_order_in_which_duplicates_go_for_one_that_is_dropped_later_is_refused(order):
    with pytest.raises(ConfigError, match=f"{order[1]['name']}.*{order[0]['name']}"):
        check_policy(steps(*order))
    check_policy(steps(*reversed(order)))


def missing(step) -> list[str]:
    names = Names()
    names.add(
        table(
            ["web/1", "books/2"],
            kinds=["web", "book"],
            language=["en", "de"],
            scores={"words": [1.0, 2.0], "my_share": [0.0, 1.0]},
            spans=[(TaggedSpan("pii.email", 0, 3), TaggedSpan("rude", 3, 4)), ()],
        )
    )
    return [*missing_names(steps(step).steps[0], names)]


@for_each(("step", "problem"), [
    ({"name": "s", "limits": {"word": {"at_least": 9}}}, 'score "word".*did you mean "words"'),
    ({"name": "s", "labels": {"lanuage": {"allow": ["en"]}}}, 'label "lanuage".*did you mean "language"'),
    ({"name": "s", "marks": {"pii.emial": {}}}, 'span "pii.emial".*did you mean "pii.email"'),
    ({"name": "s", "marks": {"pii.Email": {}}}, 'span "pii.Email".*did you mean "pii.email"'),
])  # fmt: skip
def test_names_that_nothing_has_are_refused(step, problem):
    with pytest.raises(ValueError, match=problem):
        missing(step)


@for_each(("step", "names"), [
    ({**WORDS, "sources": ["web", "boks"]}, ['source "boks"']),
    ({"name": "s", "limits": {"my_share": {"at_most": 1}, "code_parses": {"at_most": 9}}}, ['score "code_parses"']),
    ({"name": "s", "marks": {"rude": {}, "pii.key": {}}}, ['span "pii.key"']),
    ({**WORDS, "kinds": ["web", "mail"], "sources": ["w*"], "languages": ["en"]}, []),
])  # fmt: skip
def test_names_of_taggers_that_no_document_has_are_reported(step, names):
    assert missing(step) == [f"The step {step['name']} goes by the {name}, which no document has" for name in names]


NAMED_BY_NOBODY = {"name": "s", "limits": {"maths": {"at_least": 0.5}}}


@for_each(("step", "inputs", "problem"), [
    (NEAR, [], "corpus.dedup"), (NEAR, [DuplicatesConfig(NearDuplicatesConfig(threshold=0.9))], "near.threshold"),
    ({"name": "s", "duplicates": "passages"}, [DuplicatesConfig()], "passages=200"),
    (NAMED_BY_NOBODY, [AnnotateConfig()], 'score "maths"'),
])  # fmt: skip
def test_what_stages_will_not_have_found_is_told_before_they_run(step, inputs, problem, tmp_path):
    with pytest.raises(ValueError, match=problem):
        check_inputs(CleanConfig(steps=steps(step).steps), tmp_path, inputs)


def test_what_stages_will_have_found_can_be_gone_by(tmp_path):
    inputs = [AnnotateConfig(), ModelPerplexityConfig(score="maths"), DuplicatesConfig(passages=200)]
    for step in (NEAR, PARAGRAPHS, NAMED_BY_NOBODY, {"name": "s", "duplicates": "passages"}):
        check_inputs(CleanConfig(steps=steps(step).steps), tmp_path, inputs)


def test_before_any_stage_runs_a_policy_that_cannot_be_used_is_refused(tmp_path: Path):
    path = tmp_path / "policy.toml"
    for text in ("alarm = 0.3", "[[steps]\n", '[[steps]]\nname = "s"\nlimit = {}\n'):
        path.write_text(text)
        with pytest.raises(ConfigError, match=r"policy\.toml"):
            CleanConfig("policy.toml").read(tmp_path)
    check_policy(default_policy())
    path.write_text('[[steps]]\nname = "equal"\nduplicates = "exact"\n', "utf-8-sig")  # some editors write a mark
    assert read_policy(path) == Policy((Step("equal", duplicates="exact"),))
