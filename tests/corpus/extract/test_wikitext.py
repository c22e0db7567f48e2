"""MediaWiki's markup: the words of the article, none of its apparatus."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.tables import for_each
from lmworks.corpus.documents import UnusableError
from lmworks.corpus.extract.wikitext import extract_wikitext, wikitext_to_markdown

# Correct markup around words, `{}` standing for one that is to be kept.
AROUND = [
    "{} ", "'''{}''' ", "''{}'' ", "[[{}]] ", "[[Target|{}]]s ", "[http://example.org {}] ", "<b>{}</b> ", "\n\n{}\n\n",
    "\n* {}\n", "\n#: {}\n", "\n; {}\n", "\n== {} ==\n", "\n{{|\n! {}\n|-\n| x || y\n|}}\n", "{{{{lang|fr|{}}}}} ",
    "<nowiki>{}</nowiki> ", "<math>{}</math> ", "\n<pre>{}</pre>\n", "\n {}\n", "{{{{quote|{}}}}}", "{}<br>",
    "{}<ref>gone</ref> ", "{}{{{{gone|a=[[b]]|{{{{c}}}}}}}} ", "{}<!-- gone --> ", "[[File:gone.png|thumb|gone]]{} ",
    "<blockquote>{}</blockquote>", "{} &amp; ", "({{{{gone}}}}, {}) ", "[[de:gone]] {} ", "{}{{{{{{p|}}}}}} ",
    "<gallery>\ngone\n</gallery> {} ",
]  # fmt: skip


@given(st.lists(st.sampled_from(AROUND), max_size=20))
def test_every_word_is_kept_and_no_apparatus(parts: list[str]) -> None:
    words = [f"word{number}x" for number in range(len(parts))]
    text = wikitext_to_markdown("".join(part.format(word) for part, word in zip(parts, words, strict=True)))
    assert [word for word in words if word not in text] == []
    assert "gone" not in text
    assert not any(mark in text for mark in ("{{", "[[", "<ref", "'''", "\x03"))


def test_what_is_nested_too_deep_does_not_take_the_page_along() -> None:
    page = "{{lang|fr|" * 60 + "deep" + "}}" * 60 + " and [[more|words]]"
    assert wikitext_to_markdown(page).endswith("and words")
    assert wikitext_to_markdown("a {{never closed\n\nb [[c|d]]\n\n== e ==") == "a {{never closed\n\nb d\n\n## e"


@for_each(("page", "text"), [
    ("'''Foo''' ({{IPA|fr|fu}}; born{{sfn|x}} 1950<ref name=a /> ) is", "**Foo** (fu; born 1950 ) is"),
    ("Foo ({{audio|x}}) is", "Foo is"), ("Foo ({{audio|x}}; 1950) is", "Foo (1950) is"),
    ("{{Infobox\n| a = {{b|c}}\n}}\nThe text.\n{{hatnote}}\ngoes on", "The text.\ngoes on"),
    ("{{convert|3|to|5|km|mi}}, {{convert|6|ft|2|in|m}}, {{cvt|10|kg}}", "3 to 5 km, 6 ft 2 in, 10 kg"),
    ("{{frac|3|1|2}} {{val|1.5|u=m}} {{lang-de|Haus}} {{nowrap|1={{pi}}=3}}", "3 1/2 1.5 m Haus π=3"),
    ("a {{{1|default}}} b {{{2}}} c", "a default b c"),
    ("[[Bus]]es [[a b|c]] [[:Category:X]] [[Category:Y]] [[category]]", "Buses c Category:X category"),
    ("[[Datei:x.jpg|mini|Ein [[Wort]] dazu]]Text [[es:Texto]]", "Text"), ("[[a|[b]]] c", "[b] c"),
    ("''a'' '''b''' '''''c'''''", "*a* **b** ***c***"),
    ("l'''île'' d'''e\nd'''e l'''île''", "l**île d**e\nd**e l**île"), ("l'''île''\na'''b", "l'*île*\nab"),
    ("x<sup>2</sup> H<sub>2</sub>O 1<sup>st</sup> List<String>", "x² H₂O 1st List<String>"),
    ("a &lt;b&gt; &nbsp;&#8364; &unknown; AT&T", "a <b> \xa0€ &unknown; AT&T"),
    ("<nowiki>[[a]] {{b}} ''c''</nowiki> <math>\\frac{a}{{b}}</math>", "[[a]] {{b}} ''c'' $\\frac{a}{{b}}$"),
    ("<pre>\n{{a}}\n  [[b]]\n</pre>", "```\n{{a}}\n  [[b]]\n```"),
    ('a\n<syntaxhighlight lang="c">\nint x[2];\n</syntaxhighlight>\nb', "a\n\n```c\nint x[2];\n```\n\nb"),
    ("== A ==\n=== ''B'' ===\n==C==\ntext", "## A\n\n### *B*\n\n## C\n\ntext"),
    ("* a\n** b\n* c\n# d\n# e\n#* f\n# g", "- a\n  - b\n- c\n\n1. d\n2. e\n   - f\n3. g"),
    (" code\n   more\n\ntext", "```\ncode\n  more\n```\n\ntext"),
    ("{{quote|To be|Hamlet}}\nafter", "> To be\n>\n> — Hamlet\n\nafter"), ("__NOTOC__\na<br />b\n----\nc", "a\nb\n\nc"),
    ("a <!-- {{ --> b <ref>[[</ref>c", "a b c"),
])  # fmt: skip
def test_markup_becomes_markdown(page: str, text: str) -> None:
    assert wikitext_to_markdown(page) == text


def test_tables() -> None:
    page = """{| class="wikitable"
|+ style="x" | The ''caption''
! Name !! colspan=2 | Value
|-
| style="a" | a || 1 <nowiki>|</nowiki> || {{up}}-2
|-
| rowspan="2" | b
* with [[x|a list]]
| c
| d
|-
| e || f
|}
after
{| class="navbox"
| [[gone]] || [[gone]]
|}
{|
| one column
|}"""
    table = [
        "| Name | Value |  |",
        "| --- | --- | --- |",
        "| a | 1 \\| | -2 |",
        "| b with a list | c | d |",
        "|  | e | f |",
    ]
    assert wikitext_to_markdown(page) == "The *caption*\n\n" + "\n".join(table) + "\n\nafter\n\none column"


def test_a_page_is_extracted_with_its_encoding() -> None:
    extracted = extract_wikitext("Grüße [[an alle]]".encode())
    assert (extracted.text, extracted.extractor) == ("Grüße an alle", "wikitext")
    assert extracted.metadata == {"encoding": "utf-8"}


@for_each(("page", "reason"), [
    ("#REDIRECT [[Target]]", "a redirect"), ("\n#重定向: [[目标]]", "a redirect"),
    ("{{Infobox|a=b}}\n[[Category:X]]", "a page without text"), ("", "a page without text"), ("\0", "binary data"),
])  # fmt: skip
def test_what_gives_no_text_is_refused(page: str, reason: str) -> None:
    with pytest.raises(UnusableError, match=reason):
        extract_wikitext(page.encode())
