"""(X)HTML to Markdown: a Markdown parser reads the same structure, and no word is lost."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import html as lxml_html
from markdown_it import MarkdownIt

from kit.tables import for_each
from lmworks.corpus.documents import UnusableError
from lmworks.corpus.extract.html_to_markdown import html_to_markdown
from lmworks.corpus.extract.markdown_writer import Cell, markdown_table

# (ordered, [(text, list inside or None), ...])
LISTS = st.recursive(
    st.tuples(
        st.booleans(), st.lists(st.tuples(st.sampled_from(["a", "b c", "d"]), st.none()), min_size=1, max_size=3)
    ),
    lambda inner: st.tuples(
        st.booleans(),
        st.lists(st.tuples(st.sampled_from(["a", "b c", "d"]), st.none() | inner), min_size=1, max_size=3),
    ),
    max_leaves=6,
)
TAGS = ["div", "p", "b", "i", "em", "span", "ul", "ol", "li", "table", "tr", "td", "th", "h2", "blockquote", "pre", "a"]
TAGS += ["code", "sup", "sub", "br", "hr", "dl", "dd", "caption", "math", "unknown", "body"]


def as_html(tree: tuple) -> str:
    ordered, items = tree
    inner = "".join(f"<li>{text}{as_html(below) if below else ''}</li>" for text, below in items)
    return f"<{'ol' if ordered else 'ul'}>{inner}</{'ol' if ordered else 'ul'}>"


def as_tree(element) -> tuple:
    items = []
    for item in element.findall("li"):
        below = next((child for child in item if child.tag in ("ul", "ol")), None)
        paragraph = item.find("p")
        text = (item.text or "") + (paragraph.text if paragraph is not None else "")
        items.append((text.strip(), as_tree(below) if below is not None else None))
    return element.tag == "ol", items


@given(LISTS)
def test_a_parser_reads_the_lists_that_the_page_has(tree: tuple) -> None:
    markdown = html_to_markdown(as_html(tree))
    rendered = lxml_html.fragment_fromstring(MarkdownIt("commonmark").render(markdown))
    assert as_tree(rendered) == (tree[0], [(text, below) for text, below in tree[1]])


@given(st.lists(st.tuples(st.sampled_from(TAGS), st.booleans(), st.booleans()), max_size=40))
def test_every_word_of_a_page_is_in_the_text(parts: list[tuple[str, bool, bool]]) -> None:
    page, words = "", []
    for number, (tag, closing, with_word) in enumerate(parts):
        page += f"<{'/' if closing else ''}{tag}>"
        if with_word:
            words.append(f"word{number}x")
            page += f" {words[-1]} "
    text = html_to_markdown(page)
    assert [word for word in words if word not in text] == []


TABLE = "<table><tr><th>a|b</th><th>c</th></tr><tr><td>1<p>2</p></td><td>3</td></tr></table>"
WRITTEN = "| a\\|b | c |\n| --- | --- |\n| 1 2 | 3 |"
XHTML = '<?xml version="1.0" encoding="latin-1"?><!DOCTYPE html [<!ENTITY e "x">]><html><head><title/></head><body>'


@for_each(
    ("page", "text"),
    [
        ("<h2>A <b>title</b></h2><p>One <b>two </b>three<br/>four <i>five</i> <code>six</code></p>tail<hr/><p> </p>",
         "## A title\n\nOne **two** three\nfour *five* `six`\n\ntail\n\n---"),
        ("<blockquote><p>a</p><p>b</p></blockquote><pre><code class='language-c'>if (x)\n  ```\n</code></pre>",
         "> a\n>\n> b\n\n````c\nif (x)\n  ```\n````"),
        # references to notes, and raised text
        ('a<a href="#n1"><sup>1</sup></a> b<sup><a href="n.xhtml#n2">2</a></sup>', "a[1] b[2]"),
        ('c<a epub:type="noteref" href="#n3">3</a> d<a href="#n4">4</a>', "c[3] d4"),
        ("x<sup>2</sup> H<sub>2</sub>O 1<sup>st</sup>", "x² H₂O 1st"),
        # tables of data and of layout
        (TABLE, WRITTEN),
        (f"<table><tr><td>left</td><td>{TABLE}</td></tr></table>", f"left\n\n{WRITTEN}"),
        ("<table role='presentation'><tr><td>a</td><td>b</td></tr></table>", "a\n\nb"),
        # what is not shown
        ("<html><head><title>t</title><style>s</style></head><body><script>x()</script><img alt='picture'/>in", "in"),
        ("<!-- comment --><p style='display: none'>hidden</p>in\u00advisible<svg><text>s</text></svg>", "invisible"),
        # XHTML as it is written
        (XHTML + '<a id="x"/>one<div/>two&nbsp;&eacute;<script/></body></html>',
         "one\n\ntwo\xa0é"),
    ],
)  # fmt: skip
def test_what_a_reader_sees_is_written(page: str, text: str) -> None:
    assert html_to_markdown(page) == text


def test_what_is_too_deep_is_refused_and_the_text_does_not_grow_with_the_depth() -> None:
    with pytest.raises(UnusableError, match="nested"):
        html_to_markdown("<div>" * 100_000 + "deep")
    assert "deep" in html_to_markdown("<div>" * 1000 + "deep" + "</div>" * 1000)
    assert len(html_to_markdown("<blockquote>" * 1000 + "<p>a</p><p>b</p>")) < 200
    assert html_to_markdown("<b>" * 1000 + "a") == "**a**"
    assert len(html_to_markdown("<ul><li>a" * 500)) < 500 * 60


def test_a_page_reads_as_it_would_without_its_permalinks() -> None:
    for mark in ("¶", "#", "§", "🔗", "Permalink", "Link to this heading"):
        link = f"<a class='x' href='#a'>{mark}</a>"
        for around in ("<h2 id=a>Ships {}</h2>", "<h2><span>{}</span> Ships</h2>", "<dl><dt>Ships{} <dd>sail</dl>"):
            assert html_to_markdown(around.format(link)) == html_to_markdown(around.format("")), mark
    assert html_to_markdown("<li><b>size</b><a href='#size'>¶</a> – of it") == "- **size** – of it"
    kept = {
        "<h3><a href='#eq'>==</a></h3>": "### ==",
        "<td><a href='#hash'>#</a></td>": "#",
        "<p>Price<a href='#n'>*</a></p>": "Price*",
        "<p>See <a href='b.html#c'>Link to the report</a></p>": "See Link to the report",
        "<p>Operator <a href='b.html#c'>+=</a></p>": "Operator +=",
    }
    assert {html: html_to_markdown(html) for html in kept} == kept


PIECES = st.lists(st.sampled_from(["a", "bc", "|", "\\|", "\\d", " "]), max_size=6).map("".join)
ROWS = st.lists(st.lists(PIECES, min_size=1, max_size=4), min_size=1, max_size=4)


def parsed(table: str) -> list[list[str]]:
    """The texts of the cells, as markdown-it reads them."""
    tokens = MarkdownIt("commonmark").enable("table").parse(table)
    rows: list[list[str]] = []
    for number, token in enumerate(tokens):
        if token.type == "tr_open":
            rows.append([])
        elif token.type in ("th_open", "td_open"):
            rows[-1].append("".join(child.content for child in tokens[number + 1].children or ()))
    return rows


@given(ROWS)
def test_a_parser_reads_the_cells_that_were_written(rows: list[list[str]]) -> None:
    wanted = [[" ".join(text.split()) for text in row] for row in rows]
    wanted = [row for row in wanted if any(row)]
    width = max(map(len, wanted), default=0)
    read = parsed(markdown_table([[Cell(text) for text in row] for row in rows]))
    assert read == [row + [""] * (width - len(row)) for row in wanted]


def test_spans_cannot_make_a_table_large() -> None:
    rows = [[Cell("x", columns=1000, rows=1000)] * 50] * 50
    assert markdown_table(rows).count("|") < 50_000
    assert html_to_markdown("<table><tr><td colspan=65534999>a<td rowspan=-2>b</table>") == "| a | b |\n| --- | --- |"
    assert markdown_table([]) == markdown_table([[Cell(" "), Cell("")]]) == ""
