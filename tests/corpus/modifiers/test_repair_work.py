"""The work of each repair grows with the text and no faster, for pieces that its expressions look at repeatedly."""

from collections.abc import Callable
from sys import settrace
from typing import Any

import pytest

from lmworks.corpus.modifiers.chat_log import repair_chat
from lmworks.corpus.modifiers.footnotes import repair_footnotes
from lmworks.corpus.modifiers.hyphenation import repair_hyphenation
from lmworks.corpus.modifiers.line_wraps import repair_lines
from lmworks.corpus.modifiers.ocr import repair_ocr
from lmworks.corpus.modifiers.page_breaks import repair_pages
from lmworks.corpus.modifiers.quoted_mail import repair_mail
from lmworks.corpus.modifiers.repeated_passages import repair_passages
from lmworks.corpus.modifiers.web_text import repair_characters, repair_machinery
from lmworks.corpus.taggers.code import inspect_code
from lmworks.corpus.taggers.front_matter import repair_matter
from lmworks.corpus.taggers.tagger import Text


def inspect(text: str) -> object:
    return inspect_code(Text(text, "code", uri="a.unknown"))


UNITS: dict[Callable[[str], object], tuple[str, ...]] = {
    repair_chat: ("<a> b\n", "=== a is now known as b\n<c> d\n", "<a> a: a a\n", "[12:18] <\n", "* a\n"),
    inspect: ('"', '\\"', "'\\", "1,", "0x1, ", "A", "-1.0e5,\n", "#" * 25 + "\n", "# a = b\n", "x" * 600 + "\n"),
    repair_footnotes: ("a* ", "* a\n", "a[1] ", "[1] a\n", "[Footnote 1:\n", "a*\n\n* b\n\n", "[", "¹", "*"),
    repair_hyphenation: ("a-\n", "a-", "-\n", "a- ", "a\u00ad", "ab-\ncd ef", "a'", "a-\n\f", "- \n"),
    repair_lines: ("a\n", " \n", "    \n", "```\n", "- a\n", "=" * 50 + "a\n", "some words\n", " " * 40),
    repair_mail: (">\n", "a wrote:\n>\n", "From: a\nTo: b\nDate: c\n\n", "-- \n", "______\n", "confidential\n", " \n"),
    repair_matter: ("Contents\n1. a\n2. b\n3. c\n", "Index\n", "Advertisements\na\n\n\n", "Chapter 1\n\n", "I\n\n"),
    repair_ocr: ("tlie ", "a1", "l8O5 ", "ﬁ", "rnrnrn", "the "),
    repair_pages: ("1\n", "\f", "\f\n", "HEAD\n\f", "12 HEAD\nand so on\n", " \n", "i\n\n\f"),
    repair_passages: ("a ", "a b ", "word " * 30 + "other ", "--"),
    repair_machinery: ("a | b | ", "cookies ", "share\n", "x\n", "read more ", "```\n", "Facebook "),
    repair_characters: ("e\u0301", "\u200b", "a\x01"),
}


def lines_run(function: Callable[[str], object], text: str) -> int:
    count = 0

    def trace(frame: Any, event: str, argument: Any) -> Any:
        nonlocal count
        count += event == "line"
        return trace

    settrace(trace)
    try:
        function(text)
    finally:
        settrace(None)
    return count


@pytest.mark.parametrize(("repair", "unit"), [(repair, unit) for repair, units in UNITS.items() for unit in units])
def test_four_times_the_text_runs_about_four_times_the_lines(repair: Callable[[str], object], unit: str) -> None:
    few, many = lines_run(repair, unit * 150), lines_run(repair, unit * 600)
    assert many <= 5 * few + 500
