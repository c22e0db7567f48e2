"""What pages state about themselves, how their bytes are decoded, and the three ways of reading one."""

import gzip
import json
import pydoc

from kit.tables import for_each
from lmworks.corpus.extract.html_to_markdown import parse_html
from lmworks.corpus.extract.main_content import extract_html
from lmworks.corpus.extract.page_metadata import page_metadata
from published_data import DATA, needs_data

PROSE = "The harbour was closed for three weeks, and the ships lay at anchor outside of the breakwater, waiting. " * 4
CC = "https://creativecommons.org/licenses/by-sa/4.0/"


@for_each(
    ("html", "expected"),
    [
        ("<html lang=de><p>x", {"language": "de"}),
        ("<html xml:lang='pt-BR'><p>x", {"language": "pt-BR"}),
        ("<html lang='{{lang}}'><meta property=og:locale content=en_US>", {"language": "en-US"}),
        ("<META NAME='Date' CONTENT='2024-05-06T10:00Z'>", {"date": "2024-05-06"}),
        ("<meta property='article:published_time' content=2024-05-06><meta name=date content=2020-01-01>",
         {"date": "2024-05-06"}),
        ("<meta name=citation_publication_date content=2024/05/06>", {"date": "2024-05-06"}),
        ("<meta name=date content=yesterday><p><time itemprop=datePublished datetime='2024-05-06'>May</time>",
         {"date": "2024-05-06"}),
        ("<meta property=og:title content='A &amp; B'>", {"title": "A & B"}),
        ("<meta property=og:title content=no><TITLE lang=en>\nA &amp;\nB</TITLE>", {"title": "A & B"}),
        (f"<link rel=license href='{CC}'>", {"licence": "CC-BY-SA-4.0"}),
        (f"<p>under <a href='{CC}' rel='noopener license'>this</a>", {"licence": "CC-BY-SA-4.0"}),
        (f"<p>I like <a href='{CC}'>this licence</a>", {}),
        (f"<a rel=license href={CC}>1</a><a rel=license href=https://creativecommons.org/licenses/by/4.0/>2</a>", {}),
        ("<a rel=license href=https://example.org/terms/>", {"licence_address": "https://example.org/terms"}),
        ("<body><meta name=date content=2024-05-06>", {}),
        (
            '<script type="application/ld+json">{"@graph": [{"@type": "Organization", "name": "Paper"},'
            ' {"@type": ["Thing", "NewsArticle"], "headline": "H", "datePublished": "2024-05-06T01:02", "inLanguage":'
            f' "fr", "license": "{CC}"}}]}}</script>',
            {"title": "H", "date": "2024-05-06", "language": "fr", "licence": "CC-BY-SA-4.0"},
        ),
        ('<script type="application/ld+json">{"@type": "Article", "headline": 3}</script>', {}),
        ('<script type="application/ld+json">{"@type": </script>', {}),
    ],
)  # fmt: skip
def test_what_a_page_states_is_found(html: str, expected: dict[str, str]) -> None:
    assert page_metadata(parse_html(html)) == expected


@for_each("html", [
    pydoc.HTMLDoc().page("json", pydoc.HTMLDoc().docmodule(json)),
    "<head><meta name=generator content='Doxygen 1.9'></head><p>A class.",
    "<head><link href=genindex.html rel=index></head><p>An option of the program.",
    "<p>Call <code>read</code>, <code>write</code> or <code>close</code>.",
    "<table><tr><td>max_size()<td>the largest<tr><td>QWidget::show()<td>shows it</table>",
])  # fmt: skip
def test_pages_of_documentation_are_manuals(html: str) -> None:
    assert extract_html(html.encode()).metadata["kind"] == "manual"


@needs_data
def test_news_pages_are_no_manuals() -> None:
    pages = [gzip.decompress(path.read_bytes()) for path in sorted((DATA / "article-extraction").glob("*.html.gz"))]
    assert len(pages) == 88 and not any("kind" in extract_html(page).metadata for page in pages)


def page(head: str = "", body: str = f"<p>{PROSE}</p>") -> str:
    return f"<html lang=en><head>{head}<title>T</title></head><body><nav><a href=/>Menu</a></nav>{body}</body></html>"


def test_modes_differ_in_what_they_keep() -> None:
    html = page(f"<link rel=license href={CC}><meta name=date content=2024-05-06>", f"<p>{PROSE} Да</p>")
    told = {"encoding": "koi8-r", "date": "2024-05-06", "language": "en", "licence": "CC-BY-SA-4.0"}
    text = f"{PROSE}Да"
    for web, expected in (("main", text), ("whole", f"Menu\n\n{text}")):
        found = extract_html(html.encode("koi8-r"), "koi8-r", web)
        assert (found.text, found.title, found.extractor) == (expected, "T", "web-page")
        assert found.metadata == (told if web == "main" else {**told, "web": web})
