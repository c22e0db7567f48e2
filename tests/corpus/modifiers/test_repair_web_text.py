"""Leftovers of web pages, and characters that were garbled by a wrong encoding."""

import pytest

from kit.tables import for_each
from lmworks.corpus.modifiers.web_text import repair_characters, repair_encoding, repair_machinery
from noise import check

ARTICLE = """\
 # How to bake bread

-Home | About us | Contact | Privacy
-Skip to content

 Bread is baked in the oven – it needs an hour, as you can read in any book about it.
-We use cookies to give you the best experience. Accept all cookies

-Share on Facebook
-Tweet

 Latest news
 The dough rests for a night, and you may read more about that below, where we look at cookies made of it.
-Latest news
-Read more »
 - Latest news
 It is done when it sounds hollow.

-Leave a Reply
-© 2020 Example Inc. All rights reserved.
-Latest news
"""  # what has a minus before it goes


LINES = ARTICLE.splitlines(keepends=True)
STAYS = [
    "Like to the lark at break of day arising\n", "| Home | About | Contact |\n|---|---|---|\n| a | b | c |\n",
    "See all the people.\n", "Yes.\nYes.\nYes.\n", "```\nRead more\nx\nx\nx\n```\n",
    "    return x\n    return x\n    return x\n", "Print the page, and read it.\n",
    "Sign up for the bundle of both, with the same address as before\n",
]  # fmt: skip
ALL = ("".join(line[1:] or line for line in LINES), "".join(line[1:] or line for line in LINES if line[0] != "-"))


@for_each(("text", "repaired"), [ALL, *((text, text) for text in STAYS)])
def test_machinery_goes_and_text_stays(text: str, repaired: str) -> None:
    edits = repair_machinery(text)
    assert check(text, edits) == repaired
    assert {edit.rule for edit in edits} == ({"web.cookies", "web.machinery", "web.navigation"} if edits else set())


def garbled(text: str) -> str:
    """UTF-8 read as Windows-1252, with the five bytes that it lacks as browsers read them."""
    bytes_ = text.encode("utf-8")
    return "".join(chr(byte) if byte in b"\x81\x8d\x8f\x90\x9d" else bytes([byte]).decode("cp1252") for byte in bytes_)


def test_encoding_is_as_ftfy_says() -> None:
    ftfy = pytest.importorskip("ftfy")
    lines = [garbled("Ça va à l’école"), "Ã\xa0 la", "voilÃ le", "plain", "русский", garbled("日本語"), "«ça»"]
    text = "\n".join(lines)
    assert check(text, repair_encoding(text)) == "\n".join(map(ftfy.fix_encoding, lines))


@for_each(("text", "repaired"), [
    ("a\x00b\x1bc\x90d\x7fe\tf\n\fg\r\n", "abcde\tf\n\fg\r\n"), ("don\x92t \x93go\x94\x85\x00", "don’t “go”…"),
    ("a\u200bb\ufeffc\u2060d", "abcd"),
    ("a\u200db \u0915\u094d\u200d\u0937 👩\u200d🔬", "ab \u0915\u094d\u200d\u0937 👩\u200d🔬"),
    ("cafe\u0301 \u212b", "café Å"), ("e\u200b\u0301", "é"), ("ASCII", "ASCII"),
])  # fmt: skip
def test_characters(text: str, repaired: str) -> None:
    assert check(text, repair_characters(text)) == repaired
