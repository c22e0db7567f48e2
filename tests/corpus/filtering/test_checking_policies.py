"""Mistakes in policies: none passes in silence. What is refused, and what is told of."""

import re
from pathlib import Path

import numpy as np
import pytest

from lmworks.build import run_alone
from lmworks.config import ConfigError, from_mapping
from lmworks.corpus import modifiers as repair
from lmworks.corpus import taggers as annotate
from lmworks.corpus.attributes import AttributeTable, TaggedSpan
from lmworks.corpus.filtering.evaluation_refusal import all_gone_section
from lmworks.corpus.filtering.filter_policy import Policy, default_policy
from lmworks.corpus.filtering.flows import Flow
from lmworks.corpus.filtering.policy_checks import (
    MARKS,
    MEASURES,
    UnknownNameError,
    check_names,
    check_policy,
    nothing_found,
    policy_section,
)
from lmworks.corpus.filtering.stage import CleanConfig
from lmworks.corpus.taggers.heuristics import PRESETS

WORDS = {"name": "words", "limits": {"words": {"at_least": 9}}}
EXACT = {"name": "equal", "duplicates": "exact"}
NEAR = {"name": "alike", "duplicates": "near"}
PARAGRAPHS = {"name": "paragraphs", "duplicates": "paragraphs"}
KEYS = {"name": "keys", "marks": {"pii.key": {"action": "drop"}}}
LANGUAGES = {"name": "languages", "labels": {"language": {"allow": ["en"]}}}


def steps(*given) -> Policy:
    return from_mapping(Policy, {"steps": list(given)})


def table() -> AttributeTable:
    return AttributeTable(
        uris=["web/1", "books/2"],
        hashes=["1", "2"],
        kinds=["web", "book"],
        sources=["web", "books"],
        characters=np.array([10, 20]),
        bytes=np.array([10, 20]),
        scores={"words": np.array([1.0, 2.0]), "my_share": np.array([0.0, 1.0])},
        labels={"language": ["en", "de"], "licence": ["MIT", "LicenseRef-mine"]},
        edits=[(), ()],
        spans=[(TaggedSpan("pii.email", 0, 3), TaggedSpan("rude", 3, 4)), ()],
    )


@pytest.mark.parametrize("name", ["repair", "nothing_left"])
def test_names_of_the_ledgers_own_steps_are_reserved(name):
    with pytest.raises(ConfigError, match="another name"):
        steps({**WORDS, "name": name})


@pytest.mark.parametrize(
    ("step", "problem"),
    [
        ({**WORDS, "kinds": ["wbe"]}, "'wbe' is not one of 'web'"),
        ({"name": "s", "marks": {"pii.*": {"at_least": 1.5}}}, "a score from 0 to 1"),
        ({"name": "s", "marks": {"pii.*": {"at_least": -0.1}}}, "a score from 0 to 1"),
        ({"name": "s", "marks": {"pii.*": {}, "pii.key": {"action": "drop"}}}, 'put "pii.key" first'),
        ({"name": "s", "marks": {"*": {}, "pii.?p": {}}}, 'put "pii.[?]p" first'),
        ({**WORDS, "similarity": 0.9}, "similarity says nothing"),
        ({**EXACT, "similarity": 0.9}, "similarity says nothing"),
    ],
)
def test_a_step_with_a_mistake_is_refused(step, problem):
    with pytest.raises(ConfigError, match=problem):
        steps(step)


def test_globs_that_an_earlier_one_does_not_cover_stay():
    steps({"name": "s", "marks": {"pii.key": {}, "pii.?": {}, "pii.*": {}, "code.*": {}}})
    steps({**NEAR, "similarity": 0.9})


@pytest.mark.parametrize("order", [(EXACT, WORDS), (NEAR, KEYS), (PARAGRAPHS, LANGUAGES), (PARAGRAPHS, NEAR)])
def test_an_order_in_which_twins_go_for_one_that_is_dropped_later_is_refused(order):
    with pytest.raises(ConfigError, match=f"Put {order[1]['name']} before {order[0]['name']}"):
        check_policy(steps(*order))
    check_policy(steps(*reversed(order)))


def test_steps_that_share_no_document_or_drop_none_may_stand_in_any_order():
    check_policy(steps({**EXACT, "kinds": ["code"]}, {**WORDS, "kinds": ["web"]}))
    check_policy(steps({**EXACT, "sources": ["a"]}, {**WORDS, "sources": ["b"]}))
    with pytest.raises(ConfigError):
        check_policy(steps({**EXACT, "sources": ["a*"]}, {**WORDS, "sources": ["b"]}))
    check_policy(steps(EXACT, {"name": "s", "marks": {"pii.*": {"action": "redact"}}}))
    check_policy(steps(EXACT, {"name": "s", "labels": {"licence": {"unknown": "refuse"}}}))


def test_the_policy_that_comes_with_lmworks_passes():
    check_policy(default_policy())
    check_names(default_policy(), [table()])


def test_before_any_stage_runs_an_empty_policy_and_a_wrong_order_are_refused(tmp_path: Path):
    (tmp_path / "empty.toml").write_text("alarm = 0.5\n")
    with pytest.raises(ConfigError, match="has none"):
        CleanConfig("empty.toml").read(tmp_path)
    wrong = from_mapping(CleanConfig, {"steps": [EXACT, WORDS]})
    with pytest.raises(ConfigError, match="Put words before equal"):
        wrong.read(tmp_path)


@pytest.mark.parametrize(
    ("step", "problem"),
    [
        ({"name": "s", "limits": {"word": {"at_least": 9}}}, 'measure "word".*did you mean "words"'),
        ({"name": "s", "labels": {"lanuage": {"allow": ["en"]}}}, 'label "lanuage".*did you mean "language"'),
        ({"name": "s", "marks": {"pii.emial": {}}}, 'mark "pii.emial".*did you mean "pii.email"'),
        ({"name": "s", "marks": {"pi.*": {}}}, 'mark "pi.[*]"'),
    ],
)
def test_names_that_nothing_has_are_refused(step, problem):
    with pytest.raises(UnknownNameError, match=problem):
        check_names(steps(step), [table()])


def test_names_of_annotators_and_of_the_annotations_are_known():
    own = {"name": "s", "limits": {"my_share": {"at_most": 1}, "perplexity": {"at_most": 9}}}
    marks = {"rude": {}, "language.de": {}, "pii.iban": {}}
    check_names(steps({**own, "marks": marks, "labels": {"evaluation_item": {"unknown": "keep"}}}), [table()])


@pytest.mark.parametrize(
    ("step", "told"),
    [
        ({**WORDS, "kinds": ["mail"]}, "looks at no document"),
        ({**WORDS, "sources": ["web", "boks"]}, "sources boks, which there are not; there are books, web"),
        ({**WORDS, "languages": ["en", "german"]}, "languages german, which no document is in; there are de, en"),
        ({"name": "s", "limits": {"perplexity": {"at_most": 9}}}, '"perplexity", which no document was measured for'),
        ({"name": "s", "marks": {"pii.key": {}}}, '"pii.key", which no document holds'),
        ({"name": "s", "labels": {"licence": {"deny": ["CC-BY-NC4.0"]}}}, '"CC-BY-NC4.0", which is unknown'),
        ({"name": "s", "labels": {"licence": {"deny": ["CC-YB-*"]}}}, '"CC-YB-[*]", which is unknown'),
        ({"name": "s", "labels": {"language": {"allow": ["english"]}}}, "only english"),
        ({"name": "s", "labels": {"evaluation_item": {"unknown": "drop"}}}, '"evaluation_item", which no document'),
    ],
)
def test_what_finds_nothing_is_told_of_loudly(step, told):
    (line,) = [each for each in nothing_found(steps(step), [table()]) if re.search(told, each)]
    (section,) = policy_section([line])
    assert section.alarms == (f"{line}.",)


def test_nothing_is_told_of_a_policy_that_fits():
    licences = {"allow": ["permissive", "LicenseRef-mine"], "deny": ["CC-BY-NC-*", "GPL-3.0"]}
    fits = [
        {**WORDS, "kinds": ["web", "mail"], "sources": ["w*"], "languages": ["en"]},
        {"name": "l", "labels": {"licence": licences}},
        {"name": "m", "marks": {"pii.*": {}, "rude": {}}},
    ]
    assert nothing_found(steps(*fits), [table()]) == [] == list(policy_section([]))


def test_the_names_that_are_known_are_those_that_annotators_give():
    """Read from the source: every mark that is written out there, and the measures of all presets."""
    written = set[str]()
    for package in (annotate, repair):
        for path in Path(next(iter(package.__path__))).rglob("*.py"):
            written |= set(re.findall(r'TaggedSpan\("([a-z0-9_.]+)"', path.read_text("utf-8")))
            written |= set(re.findall(r'"(pii\.[a-z_]+|c4\.[a-z_]+)"', path.read_text("utf-8")))
    assert len(written) > 20 and written <= MARKS
    assert {rule.measure for preset in PRESETS.values() for rule in preset} <= MEASURES


def test_where_nothing_is_left_the_steps_that_took_it_are_told():
    flows = [
        Flow("a", "text", "", "repair", "kept", "", 5, 50, 50),
        Flow("a", "text", "", "quality", "dropped", "words", 3, 30, 0),
        Flow("a", "text", "en", "quality", "dropped", "stop_words", 1, 10, 0),
        Flow("b", "text", "", "equal", "dropped", "exact", 1, 10, 0),
    ]
    (section,) = all_gone_section(flows, ("repair", "quality", "equal"))
    (told,) = section.alarms
    assert "quality dropped 4 (words 3, stop_words 1); equal dropped 1 (exact 1)" in told
    assert not all_gone_section(
        [*flows, Flow("b", "text", "", "equal", "kept", "", 1, 10, 10)], ("repair", "quality", "equal")
    )


# ---------------------------------------------------------------------------------------------------------------------
# Through the stages

TEXT = "The council met on Tuesday to talk about the new bridge, and most of those who came were in favour of it. "


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Two sources, annotated in both orders; duplicates were looked for in one of them."""
    folder = tmp_path_factory.mktemp("orders")
    for name, count in (("x", 3), ("y", 2)):
        (folder / name).mkdir()
        for number in range(count):
            (folder / name / f"{number}.txt").write_text(TEXT * (1 + number))
        run_alone("data.read", folder / f"read_{name}", [], [], [f'sources=["{folder / name}"]'])
    x, y = folder / "read_x", folder / "read_y"
    run_alone("data.annotate", folder / "xy", [x, y], [], [])
    run_alone("data.annotate", folder / "yx", [y, x], [], [])
    run_alone("data.duplicates", folder / "duplicates_yx", [y, x, folder / "yx"], [], [])
    run_alone("data.duplicates", folder / "duplicates_xy", [x, y, folder / "xy"], [], [])
    return folder


def clean(folder: Path, out: Path, duplicates: str, steps: str) -> None:
    inputs = [folder / name for name in ("read_x", "read_y", "xy", duplicates)]
    run_alone("data.clean", out, inputs, [], [f"steps={steps}"])


def test_duplicates_of_documents_in_another_order_are_refused(folder, tmp_path):
    near = '[{name="alike", duplicates="near"}]'
    with pytest.raises(ValueError, match="the duplicates are not those of these documents"):
        clean(folder, tmp_path / "wrong", "duplicates_yx", near)
    clean(folder, tmp_path / "right", "duplicates_xy", near)
