"""Twice the text takes about twice the time, also where a regular expression meets what it was not made for.

The texts are made from the expressions themselves (`attack_strings.py`), and by hand of what nests or never ends. Each
is given to the function that uses the expressions, as it does, at 20 kB and 200 kB, and the worst at 2 MB.
"""

import gc
import importlib
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
from attack_strings import Attack, attacks_of, patterns_of

from kit.containers import items_of
from kit.tables import for_each
from lmworks.corpus.documents import UnusableError
from lmworks.corpus.extract.charset import decode_html
from lmworks.corpus.extract.html_to_markdown import html_to_markdown
from lmworks.corpus.extract.mail import extract_mail
from lmworks.corpus.extract.main_content import extract_html
from lmworks.corpus.extract.markup import markdown_title, rest_title
from lmworks.corpus.modifiers.repair import repair
from lmworks.corpus.sources.docstrings import extract_docstrings
from lmworks.corpus.taggers.code import inspect_code
from lmworks.corpus.taggers.front_matter import find_matter
from lmworks.corpus.taggers.heuristics import c4, gopher, spam
from lmworks.corpus.taggers.licence import licence
from lmworks.corpus.taggers.pii.scan import find_personal_data
from lmworks.corpus.taggers.repetition import repetition
from lmworks.corpus.taggers.tagger import Text

SMALL, LARGE, HUGE = 20_000, 200_000, 2_000_000
# Ten times the text: about 10 for linear time, 100 for quadratic. Caches, and what is done once, blur it.
MOST = 40
# Seconds below which a measure is one of the clock.
LEAST = 0.002
PATIENCE = 200  # seconds of the clock for one attack, which costs some tens at most: the machine may be busy
CHOSEN, WORST = 40, 3  # attacks on each function; and how many of them at 2 MB


@dataclass(frozen=True, slots=True)
class Subject:
    """A function of a text, and the modules (below lmworks.corpus) whose expressions it uses."""

    name: str
    run: Callable[[str], Any]
    modules: tuple[str, ...]
    pieces: tuple[str, ...] = ()  # that are repeated as well


def _bytes(function: Callable[[bytes], Any], before: bytes = b"") -> Callable[[str], Any]:
    return lambda text: function(before + text.encode("utf-8", "surrogatepass"))


def _text(annotate: Callable[[Text], Any], kind: Any = "text", uri: str = "a") -> Callable[[str], Any]:
    return lambda text: annotate(Text(text, kind, "en", uri))


def _http(message: bytes) -> None:
    header = f"WARC/1.1\r\nWARC-Type: response\r\nWARC-Target-URI: u\r\nContent-Length: {len(message)}\r\n\r\n"
    assert items_of("a.warc", header.encode() + message + b"\r\n\r\n")


_TAGS = tuple(
    f"<{tag}>"
    for tag in (
        "table", "tr", "td", "table><tr><td", "ul", "ul><li", "ol", "p", "div", "b", "i><b", "code", "a href='#'", "sup",
        "pre", "blockquote", "h1", "br", "hr", "dl", "font", "td colspan=1000 rowspan=1000", "math alttext='x'", "svg",
    )
)  # fmt: skip
_HTML = (
    *_TAGS, "</p>", "<b></i>", "<!--", "<![CDATA[", "&", "&#1;", "<a ", "<a b='", "<?", "a ", "\n",
    "<p style='display:none'>a",
)  # fmt: skip
_MARKDOWN = (
    "[", "](", "![", "> ", "- ", "1. ", "*", "_", "`", "``a", "<", "<!--", "&", "\\", "[a]: ", "[a\n", "# ", "# [", "\t",
    "```\n", "-\n", "a\n- ", "- a\n ", "[a][", "*a_", "a\n===\n",
)  # fmt: skip
_BOOK = tuple(
    f"modifiers.{name}"
    for name in ("footnotes", "hyphenation", "line_wraps", "ocr", "page_breaks", "repeated_passages")
)
_PII = tuple(f"taggers.pii.{name}" for name in ("addresses", "high_recall", "keys", "numbers", "phone", "scan"))
_LOG = "<a> b\n" * 3 + "=== a "
_PERSONAL = (
    "1", "1 ", "1-", "1.", "12 ", "+1 ", "(1) ", "1, ", "a@", "@a.", "a@a.aa", "[at]", "(at)a.b", "http://", "://a",
    "www.a.", "a:", ":a", "ab:", "a=", "password=", "token: aA1!aA1! ", "_a1", "-a", "-0a", "-aa-aa-aa", "eyJ.",
    ".eyJa", "eyJaaaaaa.eyJaaaa.", "-----BEGIN PRIVATE KEY-----\n", "-----BEGIN PRIVATE KEY-----\nAAAAAAAAAAAAAAAA",
    "A: ", "AKIA", "AAAA", "sk-A1", "SG.", "DE89", "DE89 ", "AB12 ", ")", "((", "<", "\n", "é", "xoxb-1a", "1:AA",
    "0.0.0.0.", "::1",
)  # fmt: skip
_LICENCE = ("taggers.licence", "licence_statements")

SUBJECTS = (
    Subject("markdown", markdown_title, (), _MARKDOWN),
    Subject("rest", rest_title, ("extract.markup",), ("A:\n ", "=", "=\n", "a\n=", "Title:", "A: b\n")),
    Subject("xhtml", html_to_markdown, ("extract.html_to_markdown", "extract.markdown_writer"), _HTML),
    Subject("html", _bytes(extract_html), ("extract.text_blocks", "extract.main_content"), _TAGS[:8]),
    Subject("mail", _bytes(extract_mail, b"From: a\n"), ("extract.mail",), ("a: b\n", " b\n", "Subject: =?", "--a\n", "\r")),
    Subject("part of a mail", _bytes(extract_mail, b"From: a\nContent-Type: multipart/mixed; boundary=a\n\n"), ("extract.mail",),
            ("--a\n", "--a\n\nx\n", "--a\nContent-Type: multipart/mixed; boundary=a\n\n", "--a\nContent-Type: a;;;;;;;;;;\n\n")),
    Subject("alternatives", _bytes(extract_mail, b"From: a\nContent-Type: multipart/alternative; boundary=a\n\n"), (),
            ("--a\n\n\n--a\nContent-Type: text/html\n\n",)),
    Subject("signature", lambda text: extract_docstrings(f"def f(x={text!r}): 'Doc.'".encode(), "m"), (), (" ", "a ")),
    Subject("mailbox", _bytes(lambda raw: items_of("a.mbox", raw), b"From a Mon May  6 10:00:00 2024\n"),
            ("read.mailboxes",), ("From ", ">", "From Mon ", "\n\nFrom Mon Jan  1 ")),
    Subject("http", _bytes(_http, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n"), ("read.warc",),
            ("a-encoding: b\r\n", " a\r\n", "\r\n\r\n1", "Content-Type: charset ", "1\r\na\r\n")),
    Subject("encoding", _bytes(decode_html), ("extract.charset",), ("é", "é ", "é\n", "<meta ", "\x1b$B")),
    Subject("web repair", partial(repair, kind="web"), ("modifiers.web_text", "modifiers.repeated_passages")),
    Subject("book repair", partial(repair, kind="book"), _BOOK),
    Subject("front matter", find_matter, ("taggers.front_matter",)),
    Subject("mail repair", partial(repair, kind="mail"), ("modifiers.quoted_mail",)),
    Subject("chat repair", lambda text: repair(f"{_LOG}{text}", "chat"), ("modifiers.chat_log",), ("[", "[a@")),
    Subject("code", _text(inspect_code, "code", "a.c"), ("taggers.code",), ("\n", "word ", "/")),
    Subject("personal data", find_personal_data, _PII, _PERSONAL),
    Subject("licence", _text(licence), _LICENCE),
    Subject("c4", _text(c4), ("taggers.heuristics", "taggers.words")),
    Subject("gopher", _text(gopher), (), ("a ", "a\n", "- a\n", "…\n", "\n\n", "#", "é")),
    Subject("repetition", _text(repetition), ("taggers.repetition", "taggers.words")),
    Subject("spam", _text(spam), ("taggers.heuristics",)),
)  # fmt: skip


@pytest.mark.slow
@for_each("subject", SUBJECTS)
def test_time_grows_with_the_text_and_no_faster(subject: Subject) -> None:
    ratios: list[tuple[float, Attack]] = []
    for attack in _attacks(subject):
        ratio = _ratio(subject.run, attack, SMALL, LARGE)
        assert ratio < MOST, f"{attack} takes {ratio:.0f} times as long when it is ten times as long"
        ratios.append((ratio, attack))
    ratios.sort(key=lambda each: each[0])
    for _, attack in ratios[-WORST:]:
        ratio = _ratio(subject.run, attack, LARGE, HUGE)
        assert ratio < MOST, f"{attack} takes {ratio:.0f} times as long when it is ten times as long, at 2 MB"


def _attacks(subject: Subject) -> list[Attack]:
    by_hand = [Attack(start, piece, end) for piece in subject.pieces for start in ("", "a") for end in ("", "b")]
    found: dict[Attack, None] = {}
    for name in subject.modules:
        for pattern in patterns_of(importlib.import_module(f"lmworks.corpus.{name}")):
            found |= dict.fromkeys(attacks_of(pattern))
    chosen = random.Random(0).sample(list(found), min(CHOSEN, len(found)))
    assert chosen or by_hand, subject.name
    return [*by_hand, *chosen]


def _ratio(run: Callable[[str], Any], attack: Attack, small: int, large: int) -> float:
    """How many times as long the large text takes; 0 where even that takes no time to speak of. What looks too much is
    measured again, since the machine does other things as well."""
    ratio = 0.0
    with _given_up_after(PATIENCE):
        for _ in range(3):
            longer = _seconds(run, attack.of_size(large))
            if longer < 10 * LEAST:
                return 0.0
            shorter = min(_seconds(run, attack.of_size(small)) for _ in range(2))
            ratio = longer / max(shorter, LEAST)
            if ratio < MOST:
                break
    return ratio


def _seconds(run: Callable[[str], Any], text: str) -> float:
    """Of the processor. What the function refuses, it has looked at."""
    gc.disable()
    try:
        start = time.process_time()
        with suppress(UnusableError):
            run(text)
        return time.process_time() - start
    finally:
        gc.enable()


@contextmanager
def _given_up_after(seconds: float, error: type[BaseException] = pytest.fail.Exception) -> Iterator[None]:
    """Else a regular expression that backtracks would be waited for."""

    def give_up(*_: object) -> None:
        raise error(f"it took more than {seconds} s")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
