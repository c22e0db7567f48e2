"""The markup of MediaWiki that nests or encloses: tags, comments, templates and links; in time linear in the text."""

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from lmworks.data.extractors.markdown_writer import code_block, lowered, raised
from lmworks.data.extractors.wikitext_links import link_text
from lmworks.data.extractors.wikitext_marks import BLOCK, BREAK, GONE, KEPT, KEPT_END, QUOTE_BEGINS, QUOTE_ENDS
from lmworks.data.extractors.wikitext_templates import expand

MAX_NESTING = 40  # as MediaWiki has it for templates; what is further in is text, or left out with what it is in

_MARKUP_TAG = re.compile(r"<!--|<(/?)([A-Za-z][A-Za-z0-9]{0,20}+)(\s[^<>]*+|/|)>")
_BRACKETS = re.compile(r"\{{2,}+|\}{2,}+|\[{2,}+|\]{2,}+|\|")
_LANGUAGE = re.compile(r"lang\s{0,3}=\s{0,3}[\"']?([\w+#.-]{1,30})")
_INLINE = re.compile(r"\binline\b")
_NOWIKI = re.compile(r"</?nowiki\s{0,9}/?>", re.I)

# Elements that are left out with their content: notes, pictures, and what only programs read.
_REMOVED = frozenset(
    "categorytree gallery graph hiero imagemap includeonly indicator inputbox mapframe maplink ref references score "
    "script style templatedata templatestyles timeline".split()
)
_VERBATIM = frozenset("ce chem math nowiki pre source syntaxhighlight".split())
_BLOCK_TAGS = frozenset("center dd div dl dt h1 h2 h3 h4 h5 h6 ol p poem section table tr ul".split())
_REPLACED = {
    "b": "'''", "code": "`", "em": "''", "hr": "\n----\n", "i": "''", "kbd": "`", "samp": "`", "strong": "'''",
    "td": f"{GONE} ", "th": f"{GONE} ", "tt": "`",
}  # fmt: skip
_DROPPED = frozenset(
    "abbr bdi bdo big blink caption cite data del dfn font includeonly ins li noinclude nowiki onlyinclude q rb rp rt "
    "rtc ruby s small span strike sub sup tbody thead time tvar translate u var wbr languages".split()
)


def set_aside(text: str, kept: list[str]) -> str:
    """The text without comments and tags. What is to stay as it is goes into `kept`, with a mark in its place.

    Tags that neither HTML nor MediaWiki has, such as `List<String>`, are text.
    """
    if "<" not in text:
        return text
    closings = _Closings(text)
    pieces: list[str] = []
    position = 0
    while (tag := _MARKUP_TAG.search(text, position)) is not None:
        pieces.append(text[position : tag.start()])
        position = tag.end()
        if tag[0] == "<!--":
            end = text.find("-->", position)
            position = len(text) if end < 0 else end + 3
            pieces.append(GONE)
            continue
        name, opens = tag[2].lower(), not tag[1] and not tag[3].endswith("/")
        if opens and name in ("sub", "sup"):
            position = _script(text, position, name, pieces)
            continue
        content_end = closings.after(name, position) if opens and (name in _REMOVED or name in _VERBATIM) else None
        if content_end is None:
            pieces.append(_replacement(name, tag))
            continue
        content = text[position : content_end[0]]
        position = content_end[1]
        pieces.append(_keep(name, tag[3], content, kept) if name in _VERBATIM else GONE)
    pieces.append(text[position:])
    return "".join(pieces)


def _script(text: str, position: int, name: str, pieces: list[str]) -> int:
    """Takes the content of a raised or lowered text that is short and has no tags, and says where to go on."""
    end = text.find("<", position)
    closing = f"</{name}>"
    if not 0 <= end - position <= 20 or text[end : end + len(closing)].lower() != closing:
        return position
    pieces.append((raised if name == "sup" else lowered)(text[position:end]))
    return end + len(closing)


class _Closings:
    """Finds the end tag of an element. A name without a further end tag is not searched for again."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._exhausted: set[str] = set()

    def after(self, name: str, position: int) -> tuple[int, int] | None:
        """Where the next end tag begins and ends."""
        if name in self._exhausted:
            return None
        found = re.compile(rf"</{name}\s{{0,9}}>", re.I).search(self._text, position)
        if found is None:
            self._exhausted.add(name)
            return None
        return found.span()


def _replacement(name: str, tag: re.Match[str]) -> str:
    """What stands for a tag that encloses nothing to be kept or left out as a whole."""
    if name == "br":
        return BREAK
    if name == "blockquote":
        return QUOTE_ENDS if tag[1] else QUOTE_BEGINS
    if name == "li" and not tag[1]:
        return "\n* "
    if name in _BLOCK_TAGS:
        return BLOCK
    if name in _REPLACED:
        return _REPLACED[name]
    return GONE if name in _REMOVED else "" if name in _DROPPED or name in _VERBATIM else tag[0]


def _keep(name: str, attributes: str, content: str, kept: list[str]) -> str:
    if name in ("math", "chem", "ce"):
        text, block = f"${content.strip()}$", False
    elif name == "nowiki":
        text, block = html.unescape(content), False
    elif _INLINE.search(attributes):
        text, block = f"`{content.strip()}`", False
    else:
        language = _LANGUAGE.search(attributes) if name != "pre" else None
        plain = html.unescape(_NOWIKI.sub("", content)) if name == "pre" else content
        text, block = code_block(plain, language[1] if language else ""), True
    kept.append(text)
    mark = f"{KEPT}{len(kept) - 1}{KEPT_END}"
    return f"\n\n{mark}\n\n" if block else mark


# ---------------------------------------------------------------------------------------------------------------------
# Templates and links


@dataclass(slots=True)
class _Frame:
    """An open template (`{`, of width 2), parameter (`{`, of width 3) or link (`[`), and its parts so far."""

    kind: str
    width: int
    parts: list[list[str]] = field(default_factory=lambda: [[]])

    def literal(self) -> Iterator[str]:
        """The text as it was written, for one that is never closed."""
        yield self.kind * self.width
        for number, part in enumerate(self.parts):
            if number:
                yield "|"
            yield from part

    def texts(self) -> list[str]:
        return ["".join(part) for part in self.parts]

    def value(self) -> str:
        """What stands for it in the text."""
        if self.kind == "[":
            return link_text(self.texts()) or GONE
        if self.width == 3:
            return "".join(self.parts[1]) if len(self.parts) > 1 else GONE  # the default of a parameter
        name, *arguments = self.texts()
        text = expand(name, arguments)
        return GONE if text is None else text


class _Resolver:
    """Reads brackets from left to right with the open ones on a stack, so that each is looked at once."""

    def __init__(self) -> None:
        self.root: list[str] = []
        self.stack: list[_Frame] = []
        self.links = self.braces = 0  # open ones
        self.deeper = {"{": 0, "[": 0}  # brackets that were opened beyond the limit, and are text

    def add(self, text: str) -> None:
        (self.stack[-1].parts[-1] if self.stack else self.root).append(text)

    def separate(self) -> None:
        if self.stack and not (self.deeper["{"] or self.deeper["["]):
            self.stack[-1].parts.append([])
        else:
            self.add("|")

    def begin(self, run: str) -> None:
        """Opens as many as the run has: of braces pairs and threes, the threes inside; of square brackets pairs."""
        kind, length = run[0], len(run)
        if not self.stack:
            self.deeper = {"{": 0, "[": 0}
        if len(self.stack) < MAX_NESTING:
            if kind == "[" and length % 2:
                self.add("[")
                length -= 1
            widths = _widths(length) if kind == "{" else [2] * min(length // 2, MAX_NESTING)
            self.stack.extend(_Frame(kind, width) for width in widths)
            length -= sum(widths)
            if kind == "{":
                self.braces += len(widths)
            else:
                self.links += len(widths)
        if length:
            self.deeper[kind] += length
            self.add(kind * length)

    def end_braces(self, length: int) -> None:
        length -= self._end_deeper("{", "}", length)
        while length >= 2 and self.braces:
            while self.stack[-1].kind == "[":
                self._abandon()
            frame = self.stack.pop()
            self.braces -= 1
            if frame.width > length:
                self.add("{")
                frame.width = length
            length -= frame.width
            self.add(frame.value())
        self.add("}" * length)

    def end_links(self, length: int) -> None:
        length -= self._end_deeper("[", "]", length)
        if length % 2 and self.links:
            self.add("]")
            length -= 1
        while length >= 2 and self.stack and self.stack[-1].kind == "[":
            frame = self.stack.pop()
            self.links -= 1
            length -= 2
            self.add(frame.value())
        self.add("]" * length)

    def _end_deeper(self, kind: str, closing: str, length: int) -> int:
        """The number of closing brackets that belong to opening ones beyond the limit."""
        inner = min(length, self.deeper[kind])
        self.deeper[kind] -= inner
        if inner:
            self.add(closing * inner)
        return inner

    def finish(self) -> str:
        while self.stack:
            self._abandon()
        return "".join(self.root)

    def _abandon(self) -> None:
        """The innermost was never closed: it is text. No piece is moved more often than brackets nest."""
        frame = self.stack.pop()
        if frame.kind == "[":
            self.links -= 1
        (self.stack[-1].parts[-1] if self.stack else self.root).extend(frame.literal())


def resolve(text: str) -> str:
    """The text with templates left out or replaced by their words, and with links replaced by their labels."""
    resolver = _Resolver()
    position = 0
    for brackets in _BRACKETS.finditer(text):
        resolver.add(text[position : brackets.start()])
        position = brackets.end()
        run = brackets[0]
        if run == "|":
            resolver.separate()
        elif run[0] in "{[":
            resolver.begin(run)
        elif run[0] == "}":
            resolver.end_braces(len(run))
        else:
            resolver.end_links(len(run))
    resolver.add(text[position:])
    return resolver.finish()


def _widths(length: int) -> list[int]:
    """How a run of opening braces divides, outermost first; what is beyond the limit on nesting is cut off."""
    threes, rest = divmod(length, 3)
    widths = [2, 2] + [3] * (threes - 1) if rest == 1 else [2] * (rest // 2) + [3] * threes
    return widths[:MAX_NESTING]
