"""(X)HTML to Markdown: a Markdown parser reads the same structure, and no word is lost."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import html as lxml_html
from markdown_it import MarkdownIt

from lmworks.corpus.documents import UnusableError
from lmworks.corpus.extract.html_to_markdown import xhtml_to_markdown

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
    markdown = xhtml_to_markdown(as_html(tree))
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
    text = xhtml_to_markdown(page)
    assert [word for word in words if word not in text] == []


@given(st.text(st.sampled_from("<>/ab!-[]&;#\"'= \n\0") | st.characters(), max_size=200))
def test_any_characters_can_be_read(page: str) -> None:
    assert isinstance(xhtml_to_markdown(page), str)


def test_blocks_and_inline_marks() -> None:
    page = "<h2>A <b>title</b></h2><p>One <b>two </b>three<br/>four <i>five</i> <code>six</code></p>tail<hr/><p> </p>"
    assert xhtml_to_markdown(page) == "## A title\n\nOne **two** three\nfour *five* `six`\n\ntail\n\n---"


def test_quotations_and_code() -> None:
    page = "<blockquote><p>a</p><p>b</p></blockquote><pre><code class='language-c'>if (x)\n  ```\n</code></pre>"
    assert xhtml_to_markdown(page) == "> a\n>\n> b\n\n````c\nif (x)\n  ```\n````"


def test_references_to_notes_and_raised_text() -> None:
    page = (
        '<p>a<a href="#n1"><sup>1</sup></a> b<sup><a href="n.xhtml#n2">2</a></sup> '
        'c<a epub:type="noteref" href="#n3">3</a> d<a href="#n4">4</a> x<sup>2</sup> H<sub>2</sub>O 1<sup>st</sup></p>'
    )
    assert xhtml_to_markdown(page) == "a[1] b[2] c[3] d4 x² H₂O 1st"


def test_tables_of_data_and_of_layout() -> None:
    page = "<table><tr><th>a|b</th><th>c</th></tr><tr><td>1<p>2</p></td><td>3</td></tr></table>"
    assert xhtml_to_markdown(page) == "| a\\|b | c |\n| --- | --- |\n| 1 2 | 3 |"
    outer = f"<table><tr><td>left</td><td>{page}</td></tr></table>"
    assert xhtml_to_markdown(outer) == f"left\n\n{xhtml_to_markdown(page)}"
    assert xhtml_to_markdown("<table role='presentation'><tr><td>a</td><td>b</td></tr></table>") == "a\n\nb"


def test_what_is_not_shown_is_left_out() -> None:
    page = (
        "<html><head><title>t</title><style>s</style></head><body><script>x()</script><img alt='picture'/>"
        "<!-- comment --><p style='display: none'>hidden</p>in\u00advisible<svg><text>s</text></svg></body></html>"
    )
    assert xhtml_to_markdown(page) == "invisible"


def test_xhtml_is_read_as_it_is_written() -> None:
    page = '<?xml version="1.0" encoding="latin-1"?><!DOCTYPE html [<!ENTITY e "x">]><html><head><title/></head><body>'
    page += '<a id="x"/>one<div/>two&nbsp;&eacute;<script/><![CDATA[a < b & c]]></body></html>'
    assert xhtml_to_markdown(page) == "one\n\ntwo\xa0éa < b & c"


def test_entities_of_the_page_are_not_expanded() -> None:
    declared = "".join(f"<!ENTITY e{n} '{f'&e{n - 1};' * 10}'>" for n in range(1, 10))
    page = f"<!DOCTYPE html [<!ENTITY e0 'lol'>{declared}]><p>&e9;</p>"
    assert len(xhtml_to_markdown(page)) < 2 * len(page)


def test_elements_too_deep_are_refused_and_not_cut_off() -> None:
    with pytest.raises(UnusableError, match="too deeply nested"):
        xhtml_to_markdown("<div>" * 100_000 + "deep")
    assert "deep" in xhtml_to_markdown("<div>" * 1000 + "deep" + "</div>" * 1000)


def test_the_text_does_not_grow_with_the_depth() -> None:
    assert len(xhtml_to_markdown("<blockquote>" * 1000 + "<p>a</p><p>b</p>")) < 200
    assert xhtml_to_markdown("<b>" * 1000 + "a") == "**a**"
    assert len(xhtml_to_markdown("<ul><li>a" * 500)) < 500 * 60


def test_a_page_reads_as_it_would_without_its_permalinks() -> None:
    for mark in ("¶", "#", "§", "🔗", "Permalink", "Link to this heading"):
        link = f"<a class='x' href='#a'>{mark}</a>"
        for around in ("<h2 id=a>Ships {}</h2>", "<h2><span>{}</span> Ships</h2>", "<dl><dt>Ships{} <dd>sail</dl>"):
            assert xhtml_to_markdown(around.format(link)) == xhtml_to_markdown(around.format("")), mark
    assert xhtml_to_markdown("<li><b>size</b><a href='#size'>¶</a> – of it") == "- **size** – of it"
    kept = {
        "<h3><a href='#eq'>==</a></h3>": "### ==",
        "<td><a href='#hash'>#</a></td>": "#",
        "<p>Price<a href='#n'>*</a></p>": "Price*",
        "<p>See <a href='b.html#c'>Link to the report</a></p>": "See Link to the report",
        "<p>Operator <a href='b.html#c'>+=</a></p>": "Operator +=",
    }
    assert {html: xhtml_to_markdown(html) for html in kept} == kept
