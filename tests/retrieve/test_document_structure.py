"""Sections and blocks of each format: hand-checked examples, and coverage of whatever text there is."""

import ast
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

import lmworks
from lmworks.corpus.sources.docstrings import extract_docstrings
from lmworks.records import Document
from lmworks.retrieve.document_structure import Section, parse


def outline(sections: list[Section], text: str) -> list[tuple[tuple[str, ...], list[tuple[str, str]]]]:
    """Path and (kind, first line) of each block."""
    return [
        (section.heading_path, [(b.kind, text[b.start : b.end].split("\n")[0].strip()) for b in section.blocks])
        for section in sections
    ]


def parsed(text: str, extractor: str, title: str = "") -> list[tuple[tuple[str, ...], list[tuple[str, str]]]]:
    document = Document(text, "u", "text/plain", extractor, "1", "", title=title)
    return outline(parse(document), text)


MARKDOWN = """---
title: settings
---
Intro with *one*
paragraph.

# Guide to `foo`

[link]: http://example.org

## Empty

## Install

Run:

```sh
# not a heading
pip install foo
```

- one item
  over two lines
- two

  with a second paragraph

| a | b |
|---|---|
| 1 | 2 |

Setext
------
> # quoted heading
> text

    indented code
***
"""


def test_markdown() -> None:
    assert parsed(MARKDOWN, "markdown") == [
        ((), [("metadata", "---"), ("paragraph", "Intro with *one*")]),
        (("Guide to foo",), [("heading", "# Guide to `foo`"), ("paragraph", "[link]: http://example.org")]),
        (("Guide to foo", "Empty"), [("heading", "## Empty")]),
        (
            ("Guide to foo", "Install"),
            [
                ("heading", "## Install"),
                ("paragraph", "Run:"),
                ("code", "```sh"),
                ("list", "- one item"),
                ("list", "- two"),
                ("list", "with a second paragraph"),
                ("table", "| a | b |"),
            ],
        ),
        (
            ("Guide to foo", "Setext"),
            [
                ("heading", "Setext"),
                ("paragraph", "> # quoted heading"),
                ("paragraph", "> text"),
                ("code", "indented code"),
                ("paragraph", "***"),
            ],
        ),
    ]


REST = """PEP: 999
Title: On Things
Author: A. Person <a@example.org>,
        B. Person <b@example.org>

========
Overline
========

Part
====

A paragraph that shows::

    code = 1

    more(code)

- An item with code::

    y = f(x)

  The item goes on.

.. code-block:: python
   :caption: x

   if x:
       pass

.. note::

   A note in prose.

=====  =====
A      B
=====  =====
1      2

3      4
=====  =====

+---+
| a |
+---+

Sub
---
Text of it.

>>> 1 + 1
2
"""


def test_restructured_text() -> None:
    assert parsed(REST, "rest", title="On Things") == [
        (("On Things",), [("metadata", "PEP: 999")]),
        (
            ("On Things", "Overline", "Part"),
            [
                ("heading", "========"),
                ("heading", "Part"),
                ("paragraph", "A paragraph that shows::"),
                ("code", "code = 1"),
                ("list", "- An item with code::"),
                ("code", "y = f(x)"),
                ("paragraph", "The item goes on."),
                ("code", ".. code-block:: python"),
                ("paragraph", ".. note::"),
                ("paragraph", "A note in prose."),
                ("table", "=====  ====="),
                ("table", "+---+"),
            ],
        ),
        (
            ("On Things", "Overline", "Part", "Sub"),
            [("heading", "Sub"), ("paragraph", "Text of it."), ("code", ">>> 1 + 1")],
        ),
    ]


TOPIC = """Things
******

   thing ::= "a" | "b"
             | "c"

Is the same as:

   if a:
       b()

   else_part = 1

object.__new__(cls[, ...])

   Called to create it.

   It is a static method.

object.__lt__(self, other)
object.__le__(self, other)

   Both compare.

Text after the definitions.
"""


def test_topics_of_pydoc() -> None:
    definition = "object.__lt__(self, other); object.__le__(self, other)"
    assert parsed(TOPIC, "pydoc-topics", title="Things") == [
        (
            ("Things",),
            [
                ("heading", "Things"),
                ("grammar", 'thing ::= "a" | "b"'),
                ("paragraph", "Is the same as:"),
                ("code", "if a:"),
            ],
        ),
        (
            ("Things", "object.__new__(cls[, ...])"),
            [
                ("heading", "object.__new__(cls[, ...])"),
                ("paragraph", "Called to create it."),
                ("paragraph", "It is a static method."),
            ],
        ),
        (("Things", definition), [("heading", "object.__lt__(self, other)"), ("paragraph", "Both compare.")]),
        (("Things",), [("paragraph", "Text after the definitions.")]),
    ]


def test_a_docstring_is_not_read_as_markdown() -> None:
    source = b'''"""Module.

# a comment, not a heading

    Indented prose is no code, it says nothing but words.
"""
class A:
    """Class.

    ## nor this

    Notes
    -----
    A part of the docstring.
    """
    def f(self): "Method."
'''
    extracted = extract_docstrings(source, "m")
    document = Document(extracted.text, "m.py", "text/x-python", extracted.extractor, "1", "", title=extracted.title,
                        metadata=extracted.metadata)  # fmt: skip
    assert outline(parse(document), document.text) == [
        (
            ("module m",),
            [
                ("heading", "# module m"),
                ("paragraph", "Module."),
                ("paragraph", "# a comment, not a heading"),
                ("paragraph", "Indented prose is no code, it says nothing but words."),
            ],
        ),
        (("module m", "class A"), [("heading", "## class A"), ("paragraph", "Class."), ("paragraph", "## nor this")]),
        (
            ("module m", "class A", "Notes"),
            [("heading", "Notes"), ("paragraph", "A part of the docstring.")],
        ),
        (("module m", "class A", "A.f(self)"), [("heading", "### A.f(self)"), ("paragraph", "Method.")]),
    ]


def test_what_belongs_together_says_so() -> None:
    text = "# T\n\nShown here:\n\n    x = 1\n\nterm\n\n  Body of it.\n"
    blocks = [block for section in parse(Document(text, "u", "", "plain", "1", "")) for block in section.blocks]
    assert [(text[b.start : b.end].strip(), b.leads) for b in blocks] == [
        ("# T", False),
        ("Shown here:", True),
        ("x = 1", False),
        ("term", True),
        ("Body of it.", False),
    ]


def test_own_headings_are_counted() -> None:
    text = "# A\n\n## B\n\ntext\n\n## C\n\ntext\n"
    sections = parse(Document(text, "u", "", "markdown", "1", ""))
    assert [(section.heading_path, section.own_headings) for section in sections] == [(("A", "B"), 2), (("A", "C"), 1)]


def extractor_names() -> set[str]:
    """Every name that the package's readers give a document's extractor, as its source has them."""
    names = set()
    for path in (Path(lmworks.__file__).parent / "corpus").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            match node:
                case ast.Assign(targets=[ast.Name(id=name)], value=ast.Constant(value=str(value))):
                    names |= {value} if name.endswith("EXTRACTOR") else set()
                case ast.keyword(arg="extractor", value=ast.Constant(value=str(value))):
                    names.add(value)
                case ast.Call(func=ast.Name(id="Extracted"), args=[_, ast.Constant(value=str(value)), *_]):
                    names.add(value)
    return names


def test_there_is_a_parser_for_every_extractor_and_for_those_of_others() -> None:
    names = extractor_names()
    assert names >= {"mail", "row", "pdf", "docx", "epub", "wikitext", "web-page", "python-docstrings"}
    for name in sorted(names | {"markdown", "plain", "of-a-plugin", ""}):
        text = "# A\n\nfirst\n\n# B\n\n- second\n"
        sections = parse(Document(text, "u", "", name, "1", ""))
        covers_everything(text, sections)
        headings = [block.title for section in sections for block in section.blocks if block.kind == "heading"]
        written = name in ("markdown", "web-page", "docx", "epub", "wikitext")
        assert headings == (["A", "B"] if written else []), name


def test_text_before_the_first_heading_of_docstrings_is_kept() -> None:
    text = "What is left of a module.\n\n# f()\n\nBody.\n"
    sections = parse(Document(text, "u", "", "python-docstrings", "1", "", metadata={"headings": "27"}))
    covers_everything(text, sections)
    assert [section.heading_path for section in sections] == [(), ("f()",)]


LINES = st.sampled_from([
    "", "", "  ", "Some words here.", "# Head", "## Sub", "Head", "====", "----", "====", "- item", "  - nested",
    "1. one", "    x = f(1)", "```", "> quote", "| a | b |", "|---|---|", "a ::= b", ".. note::", ".. code::",
    "   :opt: 1", "+--+", "==  ==", "foo.bar(x)", "   body of it", "shown::", "\ttab", "<div>", "---", "[a]: b",
    "é — “x”", "\x0c", "a\u2028b", ">>> x", "*", "\x00", "term\x85x", "-", "+", "1)", "  \u00a0",
])  # fmt: skip
TEXTS = st.lists(LINES, max_size=25).map("\n".join) | st.text(max_size=80)


@given(
    TEXTS,
    st.sampled_from(["markdown", "rest", "plain", "pydoc-topics", "web-page", "mail", "row", "pdf", "epub"]),
)
def test_every_character_belongs_to_exactly_one_block(text: str, extractor: str) -> None:
    covers_everything(text, parse(Document(text, "u", "", extractor, "1", "", title="T")))


@given(st.lists(TEXTS, min_size=1, max_size=4))
def test_every_character_of_docstrings_too(parts: list[str]) -> None:
    text, offsets = "", []
    for number, part in enumerate(parts):
        offsets.append(len(text))
        text += f"{'#' * (number % 3 + 1)} name{number}()\n\n{part}\n\n"
    metadata = {"headings": " ".join(map(str, offsets))}
    covers_everything(text, parse(Document(text, "u", "", "python-docstrings", "1", "", metadata=metadata)))


def covers_everything(text: str, sections: list[Section]) -> None:
    position = 0
    for section in sections:
        assert section.blocks
        for block in section.blocks:
            assert position <= block.start < block.end
            assert not text[position : block.start].strip()
            assert not text[block.end - 1].isspace()
            position = block.end
    assert not text[position:].strip()
