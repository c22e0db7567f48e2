"""Augmentations: what they change in prose, and that nothing else changes."""

import re
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from kit.tables import for_each
from lmworks.corpus.balance.augmentation import AUGMENTATIONS, choose_augmentation, numbers_of
from lmworks.corpus.taggers.tagger import Text

PARAGRAPH = (
    "The council met on Tuesday to talk about the new bridge over the river. Most of those who came were in favour "
    "of it, and the mayor said that the county had promised to pay. A farmer asked who would build the road."
)
WRAPPED = (
    "The council met on Tuesday to talk about the new bridge over the\nriver. Most of those who came were in favour "
    "of it, and the mayor\nsaid that the county had promised to pay."
)
KEPT = (
    "# The Bridge\n\n- One item of a list. Another sentence.\n\n> Quoted Words. More of them.\n\n```\nCode Here.\n"
    "\n\nAlso This. Here.\n```\n\n| A Table | Of “Two” |\n|---|---|\n\n    Indented Code. Stays “so”.\n\n"
    "1. Counted. Out.\n"
)


def written(name, text, language="en", seed=0):
    return AUGMENTATIONS[name](Text(text, "text", language, "folder/file.txt"), Random(seed))


def test_rewrap_keeps_words_and_reaches_other_widths():
    made = {written("rewrap", PARAGRAPH, seed=seed) for seed in range(40)}
    assert len(made) > 5 and PARAGRAPH in made  # one line is a choice, too
    for text in made:
        assert text.split() == PARAGRAPH.split()
        assert max(map(len, text.split("\n"))) <= 100 or "\n" not in text
    assert WRAPPED.replace("\n", " ") in {written("rewrap", WRAPPED, seed=seed) for seed in range(20)}


@for_each("text", [
    "Tyger Tyger, burning bright,\nIn the forests of the night;\nWhat immortal hand or eye,\nCould frame it?",
    "ein Wort das am Ende der Zeile auseinander gerissen wurde, wie die-\nses hier, bleibt so wie es war",
    "漢字かな交じり文は空白なしで書かれるので、改行を入れると空白になってしまうことがある。\n" * 2 + "それは困る。",
    "A line with a break that is meant, by two spaces at the end of it  \nso that the other line stays a line",
])  # fmt: skip
def test_rewrap_leaves_lines_that_are_meant(text):
    assert {written("rewrap", text, seed=seed) for seed in range(10)} == {text}


@for_each(
    ("name", "text", "expected"),
    [
        ("lowercase", "See README.md in The Book (“Élan”, O'Neill's)", "see README.md in the book (“élan”, o'neill's)"),
        ("plain_punctuation", "“So,” he said – it’s 5\u00a0km … or—well.", '"So," he said - it\'s 5 km ... or--well.'),
    ],
)
def test_letters_and_signs_become_plain(name, text, expected):
    assert written(name, text) == expected


@for_each("name", AUGMENTATIONS)
def test_what_is_no_paragraph_stays(name):
    assert {written(name, KEPT, seed=seed) for seed in range(10)} == {KEPT}


PROSE = st.lists(
    st.text(st.sampled_from("aB é“’—…. ,!?\n\t#-|>`0\u00a0漢İß")) | st.just(PARAGRAPH) | st.just("\n\n"), max_size=6
).map("".join)


@given(PROSE, st.integers(0, 50))
def test_augmentations_change_what_they_say_and_nothing_else(text, seed):
    assert written("rewrap", text, seed=seed).split() == text.split()
    assert written("lowercase", text, seed=seed).casefold() == text.casefold()
    plain = written("plain_punctuation", text, seed=seed)
    assert re.findall(r"\w+", plain) == re.findall(r"\w+", text)
    assert written("plain_punctuation", plain, seed=seed) == plain
    assert written("lowercase", written("lowercase", text), seed=seed) == written("lowercase", text)


def test_each_is_drawn_by_its_share_and_only_for_prose():
    """3,000 draws; the standard error of a share is at most 0.009, and five of these are allowed."""
    shares = {"rewrap": 0.5, "lowercase": 0.2}
    hashes = [f"{number:064x}" for number in range(3000)]
    prose = [choose_augmentation(shares, "book", numbers_of(each, 2, 0)) for each in hashes]
    assert abs(prose.count("rewrap") / 3000 - 0.5) < 0.046
    assert abs(prose.count("lowercase") / 3000 - 0.2) < 0.046
    assert set(prose) == {"rewrap", "lowercase", ""}
    for kind in ("code", "chat"):
        assert {choose_augmentation(shares, kind, numbers_of(each, 2, 0)) for each in hashes} == {""}
    assert prose != [choose_augmentation(shares, "book", numbers_of(each, 3, 0)) for each in hashes]
