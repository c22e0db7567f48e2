"""What readers are shown of marked up text, against the text of the page that a renderer of Markdown makes of it."""

import re
from html.parser import HTMLParser
from pathlib import Path

from markdown_it import MarkdownIt

from lmworks.records import Span
from lmworks.retrieve.rendered_text import rendered, rendered_quote

PAGES = sorted((Path(__file__).parents[2] / "docs").glob("*.md"))


def letters(text: str) -> str:
    return re.sub(r"[\W\d]+", "", text)


def page_text(markdown: str) -> str:
    texts: list[str] = []
    reader = HTMLParser()
    reader.handle_data = texts.append  # type: ignore[method-assign]
    reader.feed(MarkdownIt("commonmark").enable("table").render(markdown))
    return "".join(texts)


def test_the_letters_are_those_of_the_rendered_page(document):
    wrong = []
    for page in PAGES[::3]:
        text = re.sub(r"!\[[^\]]*\]\([^)]*\)|<[^>\n]*>", "", page.read_text("utf-8"))  # an image shows no words there
        if letters(rendered(document(text, extractor="markdown"), 0, len(text))) != letters(page_text(text)):
            wrong.append(page.stem)
    assert wrong == []


CASES = [
    ("markdown", "### Use **it**\n", "Use it"),
    ("markdown", "See [the page](https://a.example/b_c_d \"T\") and ![a *plot*](x.png).", "See the page and a plot."),
    ("markdown", "- first\n- [pip][1] `x`\n\n[1]: https://b.example", "first\n• pip x"),
    ("markdown", "3. third\n4. fourth", "3. third\n4. fourth"),
    ("markdown", "| a | b |\n| --- | --- |\n| `c` | *d* |", "a | b\nc | d"),
    ("markdown", "```python\nf(**a, **b)  # __x__\n```", "f(**a, **b)  # __x__"),
    ("markdown", r"2 \* 3 &amp; __init__.py", "2 * 3 & init.py"),
    ("markdown", "a ~~b~~ <i>", "a b <i>"),
    ("web-page", "**I**t is 2*3*4, *a*b, __init__ &copy; <i> C:\\_x [y](z)",
     "It is 2*3*4, *a*b, __init__ &copy; <i> C:\\_x [y](z)"),
    ("docx", "| a\\|b |\n| --- |\n| `c_d*e*f` |", "a|b\nc_d*e*f"),
    ("plain", "# __init__ takes *args and `x`", "# __init__ takes *args and `x`"),
    ("rest", "``json`` --- *fast*\n===================\n\nSee :func:`a.b` and `it <https://c.example>`_.",
     "json --- fast\n\nSee a.b and it."),
    ("python-docstrings", "If *maxsize* is ``None``, f(*args, **kwargs) and a * b * c, *.py",
     "If maxsize is None, f(*args, **kwargs) and a * b * c, *.py"),
    ("rest", "As in::\n\n    print(`x`, **y, **z)\n", "As in::\n\n    print(`x`, **y, **z)\n"),
]  # fmt: skip


def test_marks_are_not_shown(document):
    assert [rendered(document(text, extractor=extractor), 0, len(text)) for extractor, text, _ in CASES] == [
        shown for *_, shown in CASES
    ]


def test_a_part_of_a_code_block_is_shown_as_it_is(document):
    whole = document("Text.\n\n```python\na = *b\nc = [`x`](y)\nd\n```\n", extractor="markdown")
    start = whole.text.index("c =")
    assert rendered(whole, start, whole.text.index("\nd")) == "c = [`x`](y)"


def test_a_quote_that_its_document_does_not_hold_is_shown_as_it_was_recorded(document):
    whole = document("One `word` here. Two.", extractor="markdown")
    unit = Span(whole.hash, 0, 16)
    assert rendered_quote("One `word` here.", unit, {whole.hash: whole}) == "One word here."
    assert rendered_quote("One `[name]` here.", unit, {whole.hash: whole}) == "One `[name]` here."
    assert rendered_quote("One `word` here.", unit, {}) == "One `word` here."
