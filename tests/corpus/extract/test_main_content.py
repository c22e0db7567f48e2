"""Main text of pages made here, whose parts are known, and of pages that mean harm."""

import re

from kit.tables import for_each
from lmworks.corpus.extract.main_content import extract_main

PROSE = [
    "The harbour was closed for three weeks, and the ships lay at anchor outside of the breakwater, waiting for word.",
    "In the second week the grain began to spoil, so the owners sent a letter to the council, which met on Thursday.",
    "Nobody had expected the vote, least of all the mayor, who had spoken against it twice in as many days before it.",
    "By the end of the month the first ship came in, and people stood on the quay to see it, as they had not before.",
]
PARAGRAPHS = "".join(f"<p>{text}</p>" for text in PROSE)
PAGE = """<!doctype html><html><head><title>The  harbour</title><style>p {{}}</style></head><body class="has-sidebar">
<header><nav class="menu"><ul><li><a href="/">Front page</a></li><li><a href="/sport">Sport news</a></li></ul></nav>
</header><div class="cookie-banner"><p>We use cookies to give you the best experience. Do you accept cookies?</p></div>
<div id="content"><article><div class="article-body">{}</div></article>
<aside class="related"><h3>Related stories</h3><ul><li><a href="/1">Another story that you may like to read</a></li>
</ul></aside><section id="comments"><h3>Comments</h3><div class="comment"><p>I was there, and it was cold.</p></div>
</section></div><footer><p>Copyright 2020 The Paper. All rights reserved. <a href="/terms">Terms</a></p></footer>
<script>var text = "not text";</script></body></html>"""


def around(between: str) -> str:
    """The article with this in its middle."""
    return PAGE.format(
        "".join(f"<p>{text}</p>" for text in PROSE[:2]) + between + PARAGRAPHS.split(PROSE[1] + "</p>")[1]
    )


def lines(html: str, headline: bool = False) -> list[str]:
    return [line for line in extract_main(html, headline).split("\n") if line]


# Of 48 characters: by their number, only the notice of twice as many would be prose.
CHINESE = "港口关闭了三个星期，船只停泊在防波堤外等待消息。第二个星期粮食开始变质，船主们给议会写了一封信。"
NOTICE = "为了获得最佳浏览效果，请使用最新的浏览器。您可以使用目前的浏览器浏览网站，但是显示效果会受影响。"


@for_each(
    ("html", "expected"),
    [
        (PAGE.format(PARAGRAPHS), PROSE),
        (around("<h2>The second week</h2>"), [*PROSE[:2], "## The second week", *PROSE[2:]]),
        (around("<ul><li>wheat</li><li>rye</li></ul>"), [*PROSE[:2], "- wheat", "- rye", *PROSE[2:]]),
        (
            around("<table><tr><th>Ship</th><th>Tons</th></tr><tr><td>Anna</td><td>90</td></tr></table>"),
            [*PROSE[:2], "| Ship | Tons |", "| --- | --- |", "| Anna | 90 |", *PROSE[2:]],
        ),
        (
            around("<pre><code class='language-python'>a = 1\n  b = 2</code></pre>"),
            [*PROSE[:2], "```python", "a = 1", "  b = 2", "```", *PROSE[2:]],
        ),
        (around(f"<figure><img src=x><figcaption>{PROSE[0]}</figcaption></figure>"), PROSE),
        (around(f"<p style='display: none'>{PROSE[0]}</p>"), PROSE),
        (f"<body style='display:none'><p>{PROSE[0]} <span style='display:none'>No</span></p>", PROSE[:1]),
        *((html, []) for html in ("", "  ", "<p></p>", "<script>x</script>", "<!-- only a comment -->")),
        (f"<body><div><ul><li>{NOTICE * 2}</ul></div><div>{f'<p>{CHINESE}</p>' * 6}</div></body>", [CHINESE] * 6),
        ("<title>T</title><body><nav><a href=x>Home</a></nav><h1>Notes</h1><p>Two words</p>", ["# Notes", "Two words"]),
        ("<p><a href=x>The yearly report</a></p>", ["The yearly report"]),
    ],
)  # fmt: skip
def test_the_article_is_kept_and_nothing_around_it(html: str, expected: list[str]) -> None:
    assert lines(html) == expected


def test_a_table_or_list_of_terms_stays_or_goes_as_a_whole() -> None:
    terms = {"insert": "puts elements into it", "erase": "takes elements out of it", "size": "counts its elements"}
    rows = "".join(f"<tr><td><a href={name}>{name}</a><td><div>{text}</div>" for name, text in terms.items())
    listed = "".join(f"<dt><a href={name}>{name}</a><dd>{text}" for name, text in terms.items())
    links = "<table><tr><td><a href=x>List</a><td><a href=y>All other containers, in the order of names</a></table>"
    middle = PARAGRAPHS + f"<table>{rows}</table>{links}<dl>{listed}</dl>" + PARAGRAPHS
    found = lines(PAGE.format(middle))[4:-4]
    assert [line.strip("| ").split(" | ") for line in (found[0], *found[2:4])] == [list(each) for each in terms.items()]
    assert found[4:] == [text for each in terms.items() for text in each]


def test_a_table_that_lays_the_page_out_is_no_table_of_the_text() -> None:
    menu, advertisement = "<a href=a>Home</a> <a href=b>News</a>", "<p>Sponsored links for you</p>"
    page = f"<table><tr><td>{menu}<td>{PARAGRAPHS * 2}<td>{advertisement}</table>"
    assert not re.search("Home|Sponsored", extract_main(page))


def test_a_headline_is_kept_where_asked_for() -> None:
    html = PAGE.format(PARAGRAPHS).replace('<div id="content">', '<h1>The harbour opens</h1><div id="content">')
    assert "# The harbour opens" not in lines(html)
    assert lines(html, headline=True) == ["# The harbour opens", *PROSE]
    html = PAGE.format("<h2>Grain</h2>" + PARAGRAPHS).replace("<header>", "<header><h1>All about harbours</h1>")
    assert lines(html, headline=True) == ["## Grain", *PROSE]  # and none of the site


def test_the_longest_section_of_a_page_is_not_all_of_it() -> None:
    """As in manuals: one section holds nearly all of the prose, and text stands before and after it."""
    prose = "".join(f"<p>{number} {PROSE[number % 4]}</p>" for number in range(30))
    short = "<p>Ships are told of it, in a letter to every captain, before they leave the open sea.</p>"
    for start, end in (("<section>", "</section>"), ("<div class='section'>", "</div>")):
        inner = f"{start}<h2>One</h2>{short}{end}{start}<h2>Two</h2>{prose}{end}{start}<h2>Three</h2>{short}{end}"
        menu = "<ul class=menu><li><a href=x>Contents</a></ul>"
        html = f"<body>{menu}{start}<h1>Harbours</h1>{short}{inner}{end}<p>Previous</p>"
        found = lines(html, headline=True)
        assert [line for line in found if line.startswith("#")] == ["# Harbours", "## One", "## Two", "## Three"]
        assert sum(line.startswith("Ships are told") for line in found) == 3 and "Previous" not in found


def test_an_element_that_holds_the_prose_is_no_boilerplate_whatever_it_is_called() -> None:
    for around in ("<div class='content-with-sidebar related share'>{}</div>", "<form id='aspnetForm'>{}</form>"):
        page = PAGE.format(PARAGRAPHS).replace('<div id="content">', "<div>")
        body = page.split("</header>")[1].split("<footer>")[0]
        assert lines(page.replace(body, around.format(body))) == PROSE
