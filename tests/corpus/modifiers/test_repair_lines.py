"""Wrapped paragraphs against the paragraphs that were wrapped; what is no prose stays as it is."""

import re

from kit.tables import for_each
from lmworks.corpus.modifiers.line_wraps import repair_lines, wrap_width
from noise import book, check, made_prose, wrapped
from published_data import needs_data

STANDING = {
    "verse": "Tyger Tyger, burning bright,\nIn the forests of the night;\nWhat immortal hand or eye,\nCould frame",
    "table": "name      count   share of the whole amount\nfirst        12   0.4\nsecond       18   0.6",
    "code": "    for each in the_list_of_everything:\n        print(each)\n        total += each",
    "fenced": "```\na line of some code that is quite long, as long as the\nothers are\n```",
    "list": "- the first of the items in this list, which is long enough\n- the second\n- the third",
    "numbered": "#. The first of all the items of this list, which are long enough.\n#. The second one of them",
    "targets": ".. _whale: https://example.org/of/the/whale/and/of/all/others/\n.. _ship: https://example.org/of/ships",
    "heading": "## The first heading of this text\n#### And the second one",
    "statements": "for (each_index = 0; each_index < the_number_of_them; each_index++);\nreturn;",
    "item": "And these are all the things that were to be done on that day:\n1. To leave, to go and to come.",
    "address": "Mr. J. Smith\n12, High Street\nLondon",
}


def paragraphs(text: str) -> list[str]:
    return [" ".join(each.split()) for each in re.split(r"\n\s*\n", text.strip())]


@for_each("width", [45, 65, 80, 120])
def test_made_paragraphs_come_back(width: int) -> None:
    text = made_prose()
    lines, _ = wrapped(text, width)
    assert abs(wrap_width(lines.split("\n")) - width) <= 2
    repaired = check(lines, repair_lines(lines))
    assert [each for each in repaired.strip().split("\n\n") if "\n" not in each] == paragraphs(text)


@for_each("kind", STANDING)
def test_what_is_no_prose_stays(kind: str) -> None:
    prose, _ = wrapped(made_prose(20))
    first, second = prose[:2000].rsplit("\n\n", 1)[0], prose[2000:].split("\n\n", 1)[1]
    text = f"{first}\n\n{STANDING[kind]}\n\n{second}"
    repaired = check(text, repair_lines(text))
    assert f"\n\n{STANDING[kind]}\n\n" in repaired
    assert repaired.count("\n") < text.count("\n") / 2


LINE = "我們在這裡寫了一行很長的文字直到它到達頁面的邊緣為止然後繼續寫下去沒有任何空格"


@for_each(("lines", "joined"), [
    ("The weather was fine enough to stay outside for an hour or two;\nand nobody was there.", " "),
    ("(a) The first thing that was to be done on that day, as everybody\nknew, was to leave.", " "),
    ("I. Nothing of what you say is of any use to me, as long as you do\nnot come out of it.", " "),
    ("and so he went, as everybody knew who saw him at the time, away—\nor not", ""), (f"{LINE}\n{LINE}", ""),
])  # fmt: skip
def test_short_paragraphs_of_prose_are_joined(lines: str, joined: str) -> None:
    """Also where a line ends with a semicolon, begins as an item of a list does, or goes on without a space."""
    text = f"{wrapped(made_prose(10), len(lines.split()[0]) if LINE in lines else 65)[0]}\n{lines}\n"
    assert check(text, repair_lines(text)).endswith("\n\n" + lines.replace("\n", joined) + "\n")


@needs_data
@for_each("name", ["Moby-Dick", "The Republic", "Pride and Prejudice"])
def test_hardly_a_paragraph_of_a_book_is_torn(name: str) -> None:
    blocks = [each for each in paragraphs(book(name)) if each and not each.startswith("#")]
    text = wrapped("\n\n".join(blocks), 72)[0]
    repaired = check(text, repair_lines(text)).strip().split("\n\n")
    assert len(repaired) == len(blocks)
    assert sum(a == b for a, b in zip(repaired, blocks, strict=True)) >= 0.98 * len(blocks)


def test_paragraphs_told_by_indentation_or_by_a_short_line() -> None:
    blocks = wrapped(made_prose(30))[0].strip().split("\n\n")
    indented = "\n".join("   " + block for block in blocks)
    assert len(check(indented, repair_lines(indented)).split("\n")) == len(blocks)
    flush = "\n".join(blocks)
    repaired = check(flush, repair_lines(flush)).split("\n")
    assert 0.75 * len(blocks) <= len(repaired) <= len(blocks)
