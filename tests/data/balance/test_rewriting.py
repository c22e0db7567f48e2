"""Rules of augmentation: what they change, and that nothing else changes, in prose and in real code."""

import ast
import re
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

import lmworks
from lmworks.data.annotation import Kind, Text
from lmworks.data.balance.augmentation import RULES, choose_rule, numbers_of

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


def written(rule, text, kind: Kind = "text", uri="folder/file.txt", language="en", seed=0):
    return RULES[rule].rewrite(Text(text, kind, language, uri), Random(seed))


# ---------------------------------------------------------------------------------------------------------------------
# Prose


def test_rewrap_keeps_words_and_reaches_other_widths():
    made = {written("rewrap", PARAGRAPH, seed=seed) for seed in range(40)}
    assert len(made) > 5 and PARAGRAPH in made  # one line is a choice, too
    for text in made:
        assert text.split() == PARAGRAPH.split()
        assert max(map(len, text.split("\n"))) <= 100 or "\n" not in text
    assert WRAPPED.replace("\n", " ") in {written("rewrap", WRAPPED, seed=seed) for seed in range(20)}


@pytest.mark.parametrize(
    "text",
    [
        "Tyger Tyger, burning bright,\nIn the forests of the night;\nWhat immortal hand or eye,\nCould frame it?",
        "ein Wort das am Ende der Zeile auseinander gerissen wurde, wie die-\nses hier, bleibt so wie es war",
        "漢字かな交じり文は空白なしで書かれるので、改行を入れると空白になってしまうことがある。\n" * 2 + "それは困る。",
        "A line with a break that is meant, by two spaces at the end of it  \nso that the other line stays a line",
    ],
)
def test_rewrap_leaves_lines_that_are_meant(text):
    assert {written("rewrap", text, seed=seed) for seed in range(10)} == {text}


def test_rewrap_makes_no_markup():
    """A word such as `#` or `1.` at the beginning of a line would begin a heading or a list."""
    text = "and then came number 1. of the # signs - which are + many * of > them 2) and | more ~ of = those " * 5
    for seed in range(30):
        rows = written("rewrap", text.strip(), seed=seed).split("\n")
        assert not any(re.match(r"[#\-+*>|~=]|\d+[.)] ", row) for row in rows)


def test_spacing_doubles_or_halves():
    text = "He came. She went! Did it (e.g. this) rain? No. it did not."
    double = "He came.  She went!  Did it (e.g. this) rain?  No. it did not."
    assert written("spacing", text) == double
    assert written("spacing", double) == text


def test_lowercase_leaves_names_of_files_and_code():
    text = "See README.md and /Usr/Local in The Book (“Élan”, O'Neill's Well-Known) at HTTP://X.org or Foo_Bar2 now."
    assert written("lowercase", text) == (
        "see README.md and /Usr/Local in the book (“élan”, o'neill's well-known) at HTTP://X.org or Foo_Bar2 now."
    )
    assert written("lowercase", "Işık İstanbul DIR", language="tr") == "Işık İstanbul DIR"


def test_plain_punctuation():
    text = "“So,” he said – it’s 5\u00a0km … or—well—not."
    assert written("plain_punctuation", text) == '"So," he said - it\'s 5 km ... or--well--not.'


@pytest.mark.parametrize("rule", ["rewrap", "spacing", "lowercase", "plain_punctuation"])
def test_what_is_no_paragraph_stays(rule):
    assert {written(rule, KEPT, seed=seed) for seed in range(10)} == {KEPT}


PROSE = st.lists(
    st.text(st.sampled_from("aB é“’—…. ,!?\n\t#-|>`0\u00a0漢İß")) | st.just(PARAGRAPH) | st.just("\n\n"), max_size=6
).map("".join)


@given(PROSE, st.integers(0, 50))
def test_rules_of_prose_change_what_they_say_and_nothing_else(text, seed):
    assert written("rewrap", text, seed=seed).split() == text.split()
    assert written("spacing", text, seed=seed).split() == text.split()
    assert written("lowercase", text, seed=seed).casefold() == text.casefold()
    plain = written("plain_punctuation", text, seed=seed)
    assert re.findall(r"\w+", plain) == re.findall(r"\w+", text)
    assert written("plain_punctuation", plain, seed=seed) == plain
    assert written("lowercase", written("lowercase", text), seed=seed) == written("lowercase", text)


# ---------------------------------------------------------------------------------------------------------------------
# Code

PYTHON = sorted(Path(lmworks.__file__).parent.glob("data/*.py"))[::8]


@pytest.mark.parametrize("path", PYTHON, ids=lambda path: path.name)
def test_real_python_parses_to_the_same(path):
    text = path.read_text()
    bare = written("strip_comments", text, "code", path.name)
    assert ast.dump(ast.parse(bare)) == ast.dump(ast.parse(text))
    assert "  # " not in bare and bare.count("\n") <= text.count("\n")
    indented = {written("reindent", text, "code", path.name, seed=seed) for seed in range(5)}
    assert len(indented) == 2  # two spaces, or tabs
    for other in indented:
        assert ast.dump(ast.parse(other)) == ast.dump(ast.parse(text))


C = """\
#include <stdio.h> /* for printf */
#define LONG(x) \\
    ((x) + 1)

/* The main
   function. */
int main(void) // begins
{
    const char *url = "http://example.org/* no comment */"; // it is none
    if (1)/*here*/return 0;
    // only a comment
    for (int i = 0; i < 3; i++) {
        printf("%d\\n", i); /* ends */ }
    return LONG(2);
}
"""
C_BARE = """\
#include <stdio.h>
#define LONG(x) \\
    ((x) + 1)

int main(void)
{
    const char *url = "http://example.org/* no comment */";
    if (1) return 0;
    for (int i = 0; i < 3; i++) {
        printf("%d\\n", i);   }
    return LONG(2);
}
"""


def test_comments_of_c_go():
    assert written("strip_comments", C, "code", "main.c") == C_BARE


def test_literals_of_several_lines_stay():
    text = (
        'def f():\n    """One.\n\n        Two.\n    """\n    x = """\n    # no comment\n\tb"""\n    return x  # one\n'
    )
    bare = written("strip_comments", text, "code", "f.py")
    assert bare == text.replace("  # one", "")
    tabs = next(t for seed in range(20) if "\treturn" in (t := written("reindent", text, "code", "f.py", seed=seed)))
    assert tabs.split("\n")[2:5] == ["", "        Two.", '    """']
    assert ast.dump(ast.parse(tabs)) == ast.dump(ast.parse(text))


def test_comments_that_programs_read_stay():
    for name, text in (
        ("a.py", "#!/usr/bin/python\n# -*- coding: utf-8 -*-\nx = 1\n"),
        ("a.go", "//go:build linux\n\npackage a\n"),
    ):
        assert written("strip_comments", text, "code", name) == text


@pytest.mark.parametrize("name", ["Makefile", "a.yaml", "a.tex", "a.unknown", "a.sh"])
def test_other_languages_stay(name):
    text = "all:\n\techo 1 # one\n\techo 2\n"
    assert written("strip_comments", text, "code", name) == text
    assert written("reindent", text, "code", name) == text


# ---------------------------------------------------------------------------------------------------------------------
# Which rule


def test_rules_are_drawn_by_their_shares_and_only_for_their_kinds():
    """3,000 draws; the standard error of a share is at most 0.009, and five of these are allowed."""
    shares = {"rewrap": 0.5, "lowercase": 0.2, "strip_comments": 0.7}
    hashes = [f"{number:064x}" for number in range(3000)]
    prose = [choose_rule(shares, "book", numbers_of(each, 2, 0)) for each in hashes]
    assert abs(prose.count("rewrap") / 3000 - 0.5) < 0.046
    assert abs(prose.count("lowercase") / 3000 - 0.2) < 0.046
    assert set(prose) == {"rewrap", "lowercase", ""}
    assert {choose_rule(shares, "code", numbers_of(each, 2, 0)) for each in hashes} == {"strip_comments", ""}
    assert {choose_rule(shares, "chat", numbers_of(each, 2, 0)) for each in hashes} == {""}
    assert prose != [choose_rule(shares, "book", numbers_of(each, 3, 0)) for each in hashes]
