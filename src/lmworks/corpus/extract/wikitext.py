"""Pages of MediaWiki as Markdown: what a reader of the article reads, without its apparatus.

Left out: templates but for the few that stand for words, notes, pictures, categories, links to other languages, and
tags. Kept: headings, paragraphs, lists, tables, quotations, code, formulas (between `$`) and the labels of links.
mwparserfromhell parses the page; its nodes become lines of HTML, and these Markdown. A hostile page may take it time
that grows with the square of its length: call this in a `Sandbox`.
"""

import html
import re
from collections.abc import Iterable, Mapping
from itertools import takewhile
from typing import Any

from lmworks.corpus.documents import Extracted, UnusableError
from lmworks.corpus.extract.charset import decode, normalise_newlines
from lmworks.corpus.extract.html_to_markdown import BLOCKS, html_to_markdown

EXTRACTOR = "wikitext"
EXTRACTOR_VERSION = "2"

_KEPT, _KEPT_END = "\x01", "\x02"  # around the number of a piece of HTML that the lines are made without
_GONE = "\x03"  # something was left out here
_CONTROLS = re.compile(r"[\0-\x08\x0b-\x1f]")
_REDIRECT = re.compile(r"\s*+#[^\W\d]\w*+\s*+:?\s*+\[\[")  # `#REDIRECT [[Target]]`, in the words of any language
_SWITCHES = re.compile(r"__[A-Z]{3,30}__")
_EMPTY_BRACKETS = re.compile(rf"\([ ,;]*+{_GONE}[{_GONE} ,;]*+(\))?")
_GONE_BEFORE_STOP = re.compile(rf"(?: |(?<!{_GONE})){_GONE}++(?=[ .,;:!?)\]]|$)")
_APOSTROPHES = re.compile(r"('{2,}+)")
_PIECE = re.compile(rf"{_KEPT}(\d+){_KEPT_END}")
_ITEM = re.compile(r"([*#:;]{1,20}+)[*#:;]*+(.*)")
_LIST = {"*": ("<ul><li>", "</ul>"), "#": ("<ol><li>", "</ol>"), ":": ("<dl><dd>", "</dl>")}
# Classes of tables that help to find one's way or to keep the wiki: no part of the article.
_APPARATUS = re.compile(r"\b(?:navbox|metadata|ambox|mbox|noprint)\b")
# Elements that are left out with their content: notes, pictures, and what only programs read.
_REMOVED = frozenset(
    "categorytree gallery graph hiero imagemap includeonly indicator inputbox mapframe maplink ref references score "
    "script style templatedata templatestyles timeline".split()
)
_CODE = frozenset(("pre", "source", "syntaxhighlight"))
_INLINE = frozenset("b br code em i kbd samp strong sub sup tt".split())
_DROPPED = frozenset(
    "abbr bdi bdo big blink cite data del dfn font ins languages noinclude onlyinclude poem q rb rp rt rtc ruby s "
    "small span strike time translate tvar u var wbr".split()
)
_KNOWN_TAG = re.compile(rf"</?(?:{'|'.join(sorted(_DROPPED | _INLINE | _REMOVED | BLOCKS))})(?:\s[^<>]*+)?/?>", re.I)
_FILE = re.compile(r"\.(?:djvu|flac|gif|jpe?g|mid|mp3|og[agv]|opus|pdf|png|svg|tiff?|wav|web[mp])\Z", re.I)
_CATEGORIES = frozenset(  # the namespace in larger Wikipedias
    "catégorie categoria categorie category categoría kategori kategoria kategorie kategorija kategorio kategória "
    "luokka κατηγορία категорија категория категорія קטגוריה تصنيف رده カテゴリ 分类 分類 분류".split()
)
_LANGUAGE_LINK = re.compile(r"(?:[a-z]{2,3}(?:-[a-z-]{2,12})?|simple):")  # `[[de:Titel]]`, at the side of the page


def extract_wikitext(raw: bytes) -> Extracted:
    """The text of one page, without a title, which wikitext does not have.

    Raises UnusableError for a redirect and for a page that has no text.
    """
    decoded = decode(raw)
    if _REDIRECT.match(decoded.text):
        raise UnusableError("a redirect")
    text = wikitext_to_markdown(decoded.text)
    if not text.strip():
        raise UnusableError("a page without text")
    return Extracted(text, EXTRACTOR, EXTRACTOR_VERSION, metadata=decoded.metadata)


def wikitext_to_markdown(text: str) -> str:
    """The text of a page. Whatever is no correct markup is text."""
    from mwparserfromhell import parse

    text = _SWITCHES.sub("", _CONTROLS.sub("", normalise_newlines(text)))
    return html_to_markdown(_Page().blocks(parse(text, skip_style_tags=True)))


class _Page:
    """Makes HTML of nodes. A piece of it that is no line of text is put aside, and a mark stands for it in the line."""

    def __init__(self) -> None:
        self._pieces: list[str] = []

    def blocks(self, code: Any, in_cell: bool = False) -> str:
        """Nodes as blocks of HTML: their lines as paragraphs, lists and code."""
        text = self.lines(code).strip() if in_cell else self.lines(code)
        lines = _EMPTY_BRACKETS.sub(lambda match: _GONE if match[1] else "(", text).split("\n")
        return _PIECE.sub(lambda match: self._pieces[int(match[1])], "".join(_html_of(lines)))

    def lines(self, code: Any) -> str:
        """Nodes as lines of HTML without blocks, in which `*`, `#`, `:`, `;` and spaces begin lines as in wikitext."""
        return "".join(map(self._line, code.nodes)) if code is not None else ""

    def _line(self, node: Any) -> str:
        match type(node).__name__:
            case "Text":
                return html.escape(_KNOWN_TAG.sub("", node.value), quote=False)
            case "Heading":
                title = " ".join(self.lines(node.title).replace(_GONE, "").split())
                return self._block(f"<h{node.level}>{_emphasis(title)}</h{node.level}>")
            case "Wikilink":
                return self._link(node)
            case "ExternalLink" if node.brackets:
                return self.lines(node.title).strip() or _GONE
            case "ExternalLink" | "HTMLEntity":
                return html.escape(html.unescape(str(node)), quote=False)
            case "Argument":
                return self.lines(node.default) or _GONE
            case "Template":
                return self._template(node)
            case "Tag":
                return self._tag(node)
            case _:  # a comment
                return _GONE

    def _link(self, node: Any) -> str:
        """The label; nothing for pictures, categories and the same page in other languages."""
        target = str(node.title).strip()
        namespace = target.partition(":")[0].strip().lower() if ":" in target else ""
        if namespace and (_FILE.search(target) or namespace in _CATEGORIES):
            return _GONE
        if node.text is None and _LANGUAGE_LINK.match(target):
            return _GONE
        label = self.lines(node.text).strip()
        return label or html.escape(target.removeprefix(":").replace("_", " ").strip(), quote=False) or _GONE

    def _template(self, node: Any) -> str:
        name = " ".join(str(node.name).replace("_", " ").split()).lower()
        if found := _FUNCTION.fullmatch(str(node.name)):
            return html.escape(found[1].strip(), quote=False)
        pattern = _TEMPLATES.get("lang" if name.startswith("lang-") else name)
        if pattern is None:
            return _GONE
        arguments = {str(each.name).strip(): self.lines(each.value).strip() for each in node.params}
        text = pattern.format_map(_Arguments(arguments))
        return self._block(f"<blockquote>{text}</blockquote>") if text.startswith("<p>") else text

    def _tag(self, node: Any) -> str:
        name, content = str(node.tag).strip().lower(), node.contents
        if node.wiki_markup and name != "table":  # of lists and rules
            return "\n" if name == "hr" else str(node.wiki_markup)
        if name in _REMOVED:
            return _GONE
        if name in ("math", "chem", "ce"):
            return self._aside(f"${html.escape(str(content).strip())}$")
        if name == "nowiki":
            return self._aside(html.escape(html.unescape(str(content or ""))))
        if name in _CODE:
            return self._code(node, name)
        if name == "table":
            is_apparatus = _APPARATUS.search(" ".join(map(str, node.attributes)))
            return _GONE if is_apparatus else self._block(f"<table>{self._rows(content)}</table>")
        if name == "br":
            return "<br>"
        if name in _INLINE:
            return f"<{name}>{self.lines(content)}</{name}>"
        if name == "li":
            return f"\n* {self.lines(content)}\n"
        if name == "blockquote":
            return self._block(f"<blockquote>{self.blocks(content)}</blockquote>")
        return f"\n\n{self.lines(content)}\n\n" if name in BLOCKS else self.lines(content)

    def _code(self, node: Any, name: str) -> str:
        content = html.escape(html.unescape(str(node.contents or "")) if name == "pre" else str(node.contents or ""))
        attributes = {str(each.name).strip(): str(each.value or "").strip() for each in node.attributes}
        if "inline" in attributes:
            return self._aside(f"<code>{content.strip()}</code>")
        language = attributes.get("lang", "") if name != "pre" else ""
        return self._block(f"<pre class='language-{html.escape(language)}'>{content}</pre>")

    def _rows(self, code: Any) -> str:
        """The rows, cells and captions of a table; of text between them nothing."""
        found = ""
        for part in code.nodes:
            name = str(part.tag) if type(part).__name__ == "Tag" else ""
            if name == "tr":
                found += f"<tr>{self._rows(part.contents)}</tr>"
            elif name in ("td", "th"):
                inside = " ".join(self.blocks(part.contents, in_cell=True).split())
                if str(part).startswith("|+"):
                    found += f"<caption>{inside.replace('<p>+', '<p>', 1)}</caption>"
                    continue
                named = ((str(each.name).strip(), each.value) for each in part.attributes)
                spans = "".join(f' {key}="{value}"' for key, value in named if key in ("colspan", "rowspan"))
                found += f"<{name}{spans}>{inside}</{name}>"
        return found

    def _block(self, piece: str) -> str:
        return f"\n\n{self._aside(piece)}\n\n"

    def _aside(self, piece: str) -> str:
        self._pieces.append(_PIECE.sub(lambda match: self._pieces[int(match[1])], piece))
        return f"{_KEPT}{len(self._pieces) - 1}{_KEPT_END}"


def _html_of(lines: Iterable[str]) -> Iterable[str]:
    """Lines as paragraphs, nested lists and preformatted text."""
    levels, inside = "", ""  # the signs of the open list; `p` or `pre` where one is open
    for line in lines:
        if _GONE in line:
            line = _GONE_BEFORE_STOP.sub("", line.lstrip(f"{_GONE} ") if line.startswith(_GONE) else line)
            line = line.replace(_GONE, "")
            if not line.strip():
                continue  # a line of templates alone divides no paragraphs
        found = _ITEM.fullmatch(line)
        signs = found[1].replace(";", ":") if found else ""
        is_item = bool(signs.strip(":"))
        kind = "" if found or not line.strip() else "pre" if line[0] == " " and inside != "p" else "p"
        if levels and not (is_item and signs[0] == levels[0]):
            yield "".join(_LIST[sign][1] for sign in reversed(levels))
            levels = ""
        continues = kind == inside
        if not continues:
            yield (f"</{inside}>" if inside else "") + (f"<{kind}>" if kind else "")
            inside = kind
        if is_item and found:
            shared = len(list(takewhile(lambda pair: pair[0] == pair[1], zip(signs, levels, strict=False))))
            yield "".join(_LIST[sign][1] for sign in reversed(levels[shared:]))
            yield "<li>" if shared == len(signs) else "".join(_LIST[sign][0] for sign in signs[shared:])
            yield _emphasis(found[2].strip())
            levels = signs
        elif found:  # an indented line, such as a formula or an answer on a talk page
            yield f"<p>{_emphasis(found[2].strip())}</p>"
        elif kind == "pre":
            yield _emphasis(line[1:]) + "\n"
        elif kind:
            yield ("<br>" if continues else "") + _emphasis(line.strip())
    yield "".join(_LIST[sign][1] for sign in reversed(levels)) + (f"</{inside}>" if inside else "")


def _emphasis(line: str) -> str:
    """Pairs of apostrophes as Markdown's asterisks; those without a partner are left out."""
    if "''" not in line:
        return line
    for width, mark in ((5, "***"), (3, "**"), (2, "*")):
        line = re.sub(f"'{{{width}}}(?!')(.+?)'{{{width}}}", rf"{mark}\1{mark}", line)
    return _APOSTROPHES.sub("", line)


# ---------------------------------------------------------------------------------------------------------------------
# The templates that stand for words of a sentence; all others are decoration, data or notes. The names are those of the
# English Wikipedia, which many other wikis have taken over.

_FUNCTION = re.compile(r"\s*(?:formatnum|lc|lcfirst|uc|ucfirst)\s*:(.*)", re.I | re.S)
_TEMPLATES: Mapping[str, str] = {
    **dict.fromkeys((
        "abbr", "angbr", "big", "bigmath", "code", "em", "gloss", "ill", "interlanguage link", "kbd", "math", "mono",
        "mvar", "nihongo", "nobold", "nobr", "noitalic", "nowrap", "samp", "sc", "sic", "small", "smallcaps", "strong",
        "tooltip", "tt", "unicode", "var",
    ), "{first}"),
    **dict.fromkeys(
        ("color", "font color", "ipa", "lang", "langx", "transl", "transliteration", "wikt-lang"), "{last}"
    ),
    **dict.fromkeys(("hms", "sclass", "ship", "uss"), "{all}"),
    **dict.fromkeys(("c.", "ca.", "circa"), "c. {first}"),
    **dict.fromkeys(("convert", "cvt"), "{quantity}"),
    **dict.fromkeys(("frac", "fraction", "sfrac"), "{fraction}"),
    **dict.fromkeys(("blockquote", "bquote", "cquote", "poem quote", "poemquote", "quotation", "quote"), "{quotation}"),
    **dict.fromkeys(("em dash", "emdash", "mdash"), "—"),
    **dict.fromkeys(("en dash", "endash", "ndash"), "–"),
    **dict.fromkeys(("snd", "spaced en dash", "spaced ndash", "spnd"), " – "),
    **dict.fromkeys(("·", "dot", "middot"), " · "),
    "!": "|", "=": "=", "'": "'", "as of": "As of {first}", "bull": " • ", "ellipsis": "…", "minus": "−", "n/a": "n/a",
    "nbsp": " ", "no": "No", "pi": "π", "sub": "<sub>{first}</sub>", "sup": "<sup>{first}</sup>", "times": "×",
    "val": "{first}{power} {u}", "yes": "Yes",
}  # fmt: skip


class _Arguments(dict[str, str]):
    """Those of a template, and what the table says of them; empty for those that it does not have."""

    def __missing__(self, name: str) -> str:
        numbered = [value for key, value in self.items() if key.isdigit()]
        match name:
            case "first":
                return self.get("1", "")
            case "last":
                return numbered[-1] if numbered else ""
            case "all":
                return " ".join(filter(None, numbered))
            case "quantity":  # as the author wrote it: `3|to|5|km|mi` is 3 to 5 km, `6|ft|2|in|m` 6 ft 2 in
                return " ".join(numbered[: 4 if len(numbered) > 3 and numbered[2].isdigit() else 2])
            case "fraction":  # `2`, `1|2`, `3|1|2`: 1/2, 1/2, 3 1/2
                numbered = numbered if len(numbered) > 1 else ["1", *numbered]
                return " ".join([*numbered[:-2], "/".join(numbered[-2:])])
            case "power" if self["e"]:
                return f" × 10<sup>{self['e']}</sup>"
            case "quotation":
                text, author = (
                    next(filter(None, map(self.get, names)), "")
                    for names in (("text", "quote", "1"), ("author", "sign", "2"))
                )
                return f"<p>{text}</p>" + (f"<p>— {author}</p>" if author else "")
        return ""
