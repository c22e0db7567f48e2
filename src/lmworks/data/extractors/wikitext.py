"""Pages of MediaWiki as Markdown: what a reader of the article reads, without its apparatus.

Left out: templates but for the few that stand for words, notes, pictures, categories, links to other languages, and
tags. Kept: headings, paragraphs, lists, tables, quotations, code, formulas (between `$`) and the labels of links.
"""

import html
import re
from dataclasses import dataclass, field

from lmworks.data.extract import Extracted, UnusableError, normalise_newlines
from lmworks.data.extractors.encoding import decode_text
from lmworks.data.extractors.markdown_writer import BlockWriter, code_block
from lmworks.data.extractors.wikitext_marks import ALL, BREAK, GONE, KEPT, KEPT_END, QUOTE_BEGIN, QUOTE_END
from lmworks.data.extractors.wikitext_scan import resolve, set_aside
from lmworks.data.extractors.wikitext_tables import TableReader

EXTRACTOR = "wikitext"
EXTRACTOR_VERSION = "1"

_CONTROLS = re.compile(r"[\0-\x08\x0b-\x1f]")  # the marks among them
_MARKS = re.compile(f"[{ALL}]")
_REDIRECT = re.compile(
    r"\s*+#(?:redirect|redirection|redirecci[oó]n|redirecionamento|redirektilo|rinvia|weiterleitung|doorverwijzing"
    r"|patrz|przekieruj|omdirigering|ohjaus|yönlendir|перенаправление|перенаправлення|تحويل|הפניה|転送|重定向|넘겨주기)"
    r"\s*+:?\s*+\[\[",
    re.I,
)
_SWITCHES = re.compile(r"__[A-Z]{3,30}__")
_EXTERNAL_LINK = re.compile(r"\[(?:mailto:|(?:(?:https?|ftp|irc):)?//)[^\s\[\]<>\"]++(?:[ \t]++([^\[\]\n]*+))?\]")
_EMPTY_BRACKETS = re.compile(rf"\([ ,;]*+{GONE}[{GONE} ,;]*+(\))?")
_GONE_BEFORE_STOP = re.compile(rf"(?: |(?<!{GONE})){GONE}++(?=[ .,;:!?)\]]|$)")  # looked at once for each run
_APOSTROPHES = re.compile(r"('{2,}+)")
_ENTITY = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
_KEPT = re.compile(rf"{KEPT}(\d+){KEPT_END}")
_ITEM = re.compile(r"[*#:;]+")
_MAX_LEVELS = 20


def extract_wikitext(raw: bytes) -> Extracted:
    """The text of one page, without a title, which wikitext does not have.

    Raises UnusableError for a redirect and for a page that has no text.
    """
    decoded = decode_text(raw)
    if _REDIRECT.match(decoded.text):
        raise UnusableError("a redirect")
    text = wikitext_to_markdown(decoded.text)
    if not text.strip():
        raise UnusableError("a page without text")
    return Extracted(text, EXTRACTOR, EXTRACTOR_VERSION, metadata=decoded.metadata)


def wikitext_to_markdown(text: str) -> str:
    """The text of a page. Whatever is no correct markup is text; the time is linear in its length."""
    kept: list[str] = []
    text = set_aside(_CONTROLS.sub("", normalise_newlines(text)), kept)
    text = _SWITCHES.sub(GONE, resolve(text))
    text = _EXTERNAL_LINK.sub(lambda match: (match[1] or "").strip() or GONE, text)
    if GONE in text:
        text = _EMPTY_BRACKETS.sub(lambda match: GONE if match[1] else "(", text)
        text = text.replace(f"|{GONE}", "| ")  # so that `|` does not meet what makes it the sign of a row or an end
    page = _Page(kept)
    for line in text.split("\n"):
        page.take(line)
    return page.text()


@dataclass(slots=True)
class _Level:
    """One level of the list that is open: its sign, the number of items so far, and the width of their marker."""

    sign: str
    items: int = 0
    width: int = 0


@dataclass(slots=True)
class _Page:
    """Puts lines together to blocks."""

    kept: list[str]
    writer: BlockWriter = field(default_factory=BlockWriter)
    kind: str = ""  # of the block that the lines make: paragraph, list or code
    lines: list[str] = field(default_factory=list)
    levels: list[_Level] = field(default_factory=list)
    table: TableReader | None = None
    quotations: int = 0  # open ones

    def take(self, line: str) -> None:
        if GONE in line:
            line = _GONE_BEFORE_STOP.sub("", line.lstrip(f"{GONE} ") if line.startswith(GONE) else line)
            line = line.replace(GONE, "")
            if not line.strip():
                return  # a line of templates alone divides no paragraphs
        if self.table is None or self._ends_table(line):
            self._take(line)

    def text(self) -> str:
        self._close_table()
        self._flush()
        return _MARKS.sub("", self.writer.text())

    def finish(self, text: str) -> str:
        """The inline markup that is left: emphasis, entities, and what was put aside."""
        if "''" in text:
            text = _emphasis(text)
        if "&" in text:
            text = _ENTITY.sub(lambda match: html.unescape(match[0]), text)
        if KEPT in text:
            text = _KEPT.sub(lambda match: self.kept[int(match[1])], text)
        return text.replace(BREAK, " ")

    def _take(self, line: str) -> None:
        first = line[:1]
        bare = line.lstrip(" \t:")
        if not bare or line.isspace():
            self._flush()
        elif bare.startswith("{|"):
            self._flush()
            self.table = TableReader(bare, self.finish)
        elif line in (QUOTE_BEGIN, QUOTE_END):
            self._quote(line == QUOTE_BEGIN)
        elif first == "=" and (heading := _heading(line)):
            self._title(*heading)
        elif line.startswith("----"):
            self._flush()
            self._take(line.strip("- \t"))
        elif first in "*#:;":
            self._item(line)
        elif first == " " and self.kind != "paragraph":
            self._add("code", self.finish(line[1:]))
        elif _KEPT.fullmatch(line.strip()):
            self._flush()
            self.writer.block(self.finish(line.strip()))
        else:
            self._add("paragraph", self.finish("\n".join(part.strip() for part in line.split(BREAK))).strip())

    def _title(self, level: int, title: str) -> None:
        self._flush()
        while self.quotations:  # one that is never closed must not take the page along
            self._quote(False)
        if title:
            self.writer.block(f"{'#' * level} {' '.join(self.finish(title).split())}")

    def _ends_table(self, line: str) -> bool:
        """Whether the table has ended before this line, which is then to be read as a line of its own."""
        assert self.table is not None
        if line.startswith("==") and _heading(line):  # nor must a table that is never closed
            self._close_table()
            return True
        if line in (QUOTE_BEGIN, QUOTE_END):
            return False
        rest = self.table.take(line)
        if rest is not None:
            self._close_table()
            self._take(rest.strip())
        return False

    def _close_table(self) -> None:
        if self.table is not None:
            table, self.table = self.table, None
            for block in table.blocks():
                self.writer.block(block)

    def _quote(self, begins: bool) -> None:
        self._flush()
        if begins:
            self.quotations += 1
            self.writer.open("> ", "> ")
        elif self.quotations:
            self.quotations -= 1
            self.writer.close()

    def _item(self, line: str) -> None:
        found = _ITEM.match(line)
        signs = (found[0] if found else "")[:_MAX_LEVELS].replace(";", ":")
        text = " ".join(self.finish(line.lstrip("*#:;")).split())
        if not text:
            return
        if not signs.strip(":"):  # an indented line, such as a formula or an answer on a talk page
            self._flush()
            self.writer.block(text)
            return
        if self.kind != "list" or signs[0] != self.levels[0].sign:  # else the list goes on
            self._flush()
            self.kind = "list"
        level = self._level(signs)
        marker = {"*": "- ", "#": f"{level.items}. ", ":": ""}[level.sign]
        level.width = len(marker)
        self._add("list", " " * sum(above.width for above in self.levels[:-1]) + marker + text)

    def _level(self, signs: str) -> _Level:
        """The level of an item with these signs, counted on; levels that do not go on are closed."""
        common = 0
        while common < min(len(signs), len(self.levels)) and self.levels[common].sign == signs[common]:
            common += 1
        del self.levels[common:]
        self.levels.extend(_Level(sign, width=3 if sign == "#" else 2 if sign == "*" else 0) for sign in signs[common:])
        self.levels[-1].items += 1
        return self.levels[-1]

    def _add(self, kind: str, line: str) -> None:
        if kind != self.kind:
            self._flush()
            self.kind = kind
        self.lines.append(line)

    def _flush(self) -> None:
        text = "\n".join(self.lines)
        self.writer.block(code_block(text) if self.kind == "code" else text.strip("\n"))
        self.lines.clear()
        self.levels.clear()
        self.kind = ""


def _heading(line: str) -> tuple[int, str] | None:
    """Level and title of `== title ==`; the title may be empty."""
    line = line.strip()
    if not line.endswith("="):
        return None
    level = min(len(line) - len(line.lstrip("=")), len(line) - len(line.rstrip("=")), 6)
    return level, line[level : len(line) - level].strip("= ")


def _emphasis(line: str) -> str:
    """Pairs of apostrophes as Markdown's asterisks; those without a partner are left out.

    Two are italic, three bold, five both; four and more than five are apostrophes and then three or five. Of odd
    numbers of both, one bold is an apostrophe before an italic, as in `l'''île''`.
    """
    parts = _APOSTROPHES.split(line)
    runs = [_run(len(part)) for part in parts[1::2]]
    italics, bolds = (sum(width in widths for _, width in runs) for widths in ((2, 5), (3, 5)))
    if italics % 2 and bolds % 2 and 3 in (width for _, width in runs):
        first = next(number for number, (_, width) in enumerate(runs) if width == 3)
        runs[first] = (runs[first][0] + "'", 2)
        italics, bolds = italics + 1, bolds - 1
    marks = {2: "" if italics % 2 else "*", 3: "" if bolds % 2 else "**"}
    marks[5] = marks[3] + marks[2]
    parts[1::2] = [apostrophes + marks[width] for apostrophes, width in runs]
    return "".join(parts)


def _run(length: int) -> tuple[str, int]:
    """The apostrophes that are text, and the number that are markup: 2, 3 or 5."""
    markup = 5 if length >= 5 else 3 if length >= 3 else 2
    return "'" * (length - markup), markup
