"""What the profile of a corpus counts is what its documents say, and only what is gone as a whole is gone."""

import json
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmworks.build import run_alone
from lmworks.data.cleaning.profile import _covered
from lmworks.data.store import DocumentStore

PROSE = "The council met on Tuesday to talk about the new bridge over the river, and most were in favour of it.\n"
GPL = "SPDX-License-Identifier: GPL-3.0-only\n"
QUESTION = "Which of the {0} bridges over the river was built by the {0} grandfather of the mayor of the {0} town?"


@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(1, 6))),
    st.lists(st.integers(0, 40), max_size=10, unique=True).map(sorted),
    st.lists(st.booleans(), min_size=5, max_size=5),
)
def test_a_place_is_gone_where_each_of_its_characters_is(spans, borders, joined):
    spans = [(start, start + length) for start, length in spans]
    gone = list(zip(borders[::2], borders[1::2], strict=False))
    if joined[0] and gone:  # two that touch
        start, end = gone.pop()
        gone += [((start + end) // 2, end), (start, (start + end) // 2)]
    characters = {place for start, end in gone for place in range(start, end)}
    assert _covered(spans, gone) == sum(characters >= set(range(start, end)) for start, end in spans)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("licences")
    (folder / "texts").mkdir()
    rows = [
        {"text": GPL + PROSE * 3, "license": "mit"},
        {"text": PROSE * 4, "license": "MIT License"},
        {"text": PROSE * 5, "license": "unknown"},
        {"text": PROSE * 6, "language": "en"},
        {"text": QUESTION.format("first") + PROSE, "license": "CC BY 4.0"},
    ]
    (folder / "texts" / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    questions = [QUESTION.format(word) for word in ("first", "second", "third")]
    (folder / "items.txt").write_text("\n".join([*questions, "Who?"]) + "\n")
    run_alone("data.read", folder / "documents", [], [], [f'sources=["{folder / "texts"}"]'])
    return folder


def card_of(folder, name: str, *annotations: str) -> str:
    steps = 'steps=[{name="long", limits={words={at_least=1}}}]'
    inputs = [folder / each for each in ("documents", *annotations)]
    run_alone("data.clean", folder / name, inputs, [], [steps])
    return (folder / name / "data_card.md").read_text("utf-8")


def annotate(folder, name: str, *more: str):
    run_alone("data.annotate", folder / name, [folder / "documents"], [], list(more))


def test_the_card_counts_the_licences_that_documents_carry(folder):
    annotate(folder, "all")
    card = card_of(folder, "cleaned", "all")
    carried = [document.licence for document in DocumentStore(folder / "cleaned")]
    assert carried == ["MIT AND GPL-3.0-only", "MIT", None, None, "CC-BY-4.0"]
    (row,) = (line for line in card.splitlines() if line.startswith("| licences |"))
    for licence, number in Counter(carried).items():
        assert f"{licence or 'unknown'} ({number})" in row


def test_the_card_says_how_many_evaluation_items_were_looked_for(folder):
    annotate(folder, "none")
    assert "Not looked for: " in card_of(folder, "without", "none")
    items = f'evaluation=["{folder / "items.txt"}"]'
    annotate(folder, "some", items)
    annotate(folder, "again", items, "heuristics=false", "personal=false")
    for names in (("some",), ("none", "some"), ("some", "again")):
        card = card_of(folder, f"of-{len(list(folder.iterdir()))}", *names)
        assert "Evaluation items that were looked for: 4. Of them too short or too common to decide: 1." in card
        assert "Evaluation items that were found: 1, in 1 documents, of which 1 stay." in card
        assert "- Evaluation items that cannot be decided, and may be in the texts: 1." in card


def test_the_card_names_what_metadata_hold(folder):
    annotate(folder, "names")
    run_alone("data.read", folder / "pages", [], [], [f'sources=["{folder / "items.txt"}"]'])
    run_alone("data.annotate", folder / "of-pages", [folder / "pages"], [], [])
    steps = 'steps=[{name="long", limits={words={at_least=1}}}]'
    run_alone("data.clean", folder / "told", [folder / "pages", folder / "of-pages"], [], [steps])
    (document,) = DocumentStore(folder / "told")
    card = (folder / "told" / "data_card.md").read_text("utf-8")
    (row,) = (line for line in card.splitlines() if line.startswith("| metadata |"))
    assert all(f"{name} (1)" in row for name in document.metadata if name not in ("kind", "extracted"))
    assert "encoding (1)" in row
