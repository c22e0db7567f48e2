"""The body of a DOCX document as Markdown (WordprocessingML, ISO 29500-1, section 17), in the order of the document."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from xml.etree.ElementTree import Element

from lmworks.corpus.documents import UnusableError
from lmworks.corpus.extract.docx_styles import Level, Listed, Style, child, heading_and_list, is_on, number_of, value
from lmworks.corpus.extract.markdown_writer import Cell, markdown_table
from lmworks.corpus.extract.package import attribute, local_name

_MAX_NESTING = 40  # of tables and text boxes in each other
_MAX_SPAN = 1000
# Elements that only hold others. Deleted text (`del`, `moveFrom`) is not among them; inserted text is.
_TRANSPARENT = ("customXml", "ins", "moveTo", "sdtContent", "smartTag")
# Inside of a paragraph everything else is looked into: hyperlinks, fields, insertions, pictures that hold text boxes.
_LEFT_OUT = (
    "del", "delInstrText", "delText", "instrText", "moveFrom", "pPr", "rPr", "rt", "sdtEndPr", "sdtPr",
)  # fmt: skip
_CHARACTERS = {"br": "\n", "cr": "\n", "noBreakHyphen": "\u2011", "ptab": " ", "tab": " "}
_PRIVATE = 0xF000  # from here on, `sym` means a character of a symbol font, which is none in Unicode


@dataclass(frozen=True, slots=True)
class _Block:
    text: str
    item: bool = False  # of a list: no empty line between two of them


@dataclass(slots=True)
class Body:
    """Reads the body, and remembers what runs through it: the numbers of lists and of notes."""

    styles: Mapping[str, Style]
    lists: Mapping[Listed, Level]
    notes: dict[tuple[str, str], Element]  # (footnote or endnote, id) -> its element
    first_heading: str = ""
    _note_numbers: dict[tuple[str, str], int] = field(default_factory=dict)
    _note_order: list[tuple[str, str]] = field(default_factory=list)
    _counts: dict[str, dict[int, int]] = field(default_factory=dict)  # list -> level -> the number of its last item
    _widths: dict[int, int] = field(default_factory=dict)  # level of the list that goes on -> width of its marker

    def text(self, body: Element) -> str:
        """The whole document, with the notes at the end, each as `[n] text`."""
        blocks = self._blocks(body, 0)
        written = 0
        while written < len(self._note_order):  # a note may refer to a further one
            key = self._note_order[written]
            written += 1
            if key in self.notes and (text := self._flat(self.notes[key], 0)):
                blocks.append(_Block(f"[{written}] {text}"))
        return _join(blocks)

    def _blocks(self, container: Element, depth: int) -> list[_Block]:
        if depth > _MAX_NESTING:
            raise UnusableError(f"tables or text boxes nested more than {_MAX_NESTING} levels deep")
        blocks: list[_Block] = []
        for element in _children(container, ("p", "tbl")):
            if local_name(element.tag) == "tbl":
                self._widths.clear()
                blocks.extend(self._table(element, depth + 1))
                continue
            text, boxes = self._inline(element)
            block = self._paragraph(element, text.strip())
            if block.text:
                blocks.append(block)
            for box in boxes:
                blocks.extend(self._blocks(box, depth + 1))
        return blocks

    def _paragraph(self, paragraph: Element, text: str) -> _Block:
        heading, listed = heading_and_list(child(paragraph, "pPr"), self.styles)
        if not text:
            return _Block("")
        if heading:
            self._widths.clear()
            text = " ".join(text.split())
            self.first_heading = self.first_heading or text
            return _Block(f"{'#' * heading} {text}")
        if listed is None:
            self._widths.clear()
            return _Block(text)
        return _Block(self._item(listed, text), item=True)

    def _item(self, listed: Listed, text: str) -> str:
        """An item of a list, indented as far as the text of the items above it."""
        level = self.lists.get(listed, Level(ordered=False, start=1))
        counts = self._counts.get(listed.number, {})
        number = counts.get(listed.level, level.start - 1) + 1
        above = {higher: count for higher, count in counts.items() if higher < listed.level}
        self._counts[listed.number] = {**above, listed.level: number}
        marker = f"{number}. " if level.ordered else "- "
        indent = " " * sum(self._widths.get(higher, 2) for higher in range(listed.level))
        self._widths = {higher: width for higher, width in self._widths.items() if higher < listed.level}
        self._widths[listed.level] = len(marker)
        return indent + marker + text.replace("\n", "\n" + indent + " " * len(marker))

    def _table(self, table: Element, depth: int) -> list[_Block]:
        """A table; the content of one that has a single cell, which is a frame around a text."""
        rows = [list(_children(row, ("tc",))) for row in _rows(table)]
        if len(rows) == 1 and len(rows[0]) == 1:
            return self._blocks(rows[0][0], depth)
        text = markdown_table([self._row(row, depth) for row in _rows(table)])
        return [_Block(text)] if text else []

    def _row(self, row: Element, depth: int) -> list[Cell]:
        properties = child(row, "trPr")
        before = 0 if properties is None else number_of(value(properties, "gridBefore"), 0, _MAX_SPAN)
        cells = [Cell("", before)] if before else []
        for cell in _children(row, ("tc",)):
            shape = child(cell, "tcPr")
            columns = 1 if shape is None else number_of(value(shape, "gridSpan"), 1, _MAX_SPAN)
            merge = None if shape is None else child(shape, "vMerge")
            goes_on = merge is not None and attribute(merge, "val") != "restart"  # of the cell above
            cells.append(Cell("" if goes_on else self._flat(cell, depth), columns))
        return cells

    def _flat(self, container: Element, depth: int) -> str:
        """All text of a cell or a note on one line, that of tables and text boxes inside as well."""
        if depth > _MAX_NESTING:
            raise UnusableError(f"tables or text boxes nested more than {_MAX_NESTING} levels deep")
        pieces: list[str] = []
        for element in _children(container, ("p", "tbl")):
            if local_name(element.tag) == "tbl":
                pieces.extend(self._flat(cell, depth + 1) for row in _rows(element) for cell in _children(row, ("tc",)))
                continue
            text, boxes = self._inline(element)
            pieces.append(text)
            pieces.extend(self._flat(box, depth + 1) for box in boxes)
        return " ".join(" ".join(pieces).split())

    def _inline(self, paragraph: Element) -> tuple[str, list[Element]]:
        """The text of a paragraph, and the text boxes that are anchored in it."""
        pieces: list[str] = []
        boxes: list[Element] = []
        stack = [iter(paragraph)]  # no recursion: the depth of the elements is the author's
        while stack:
            element = next(stack[-1], None)
            if element is None:
                stack.pop()
                continue
            name = local_name(element.tag)
            if name == "t":
                pieces.append(element.text or "")
            elif name in _CHARACTERS:
                pieces.append(_CHARACTERS[name])
            elif name == "txbxContent":
                boxes.append(element)
            elif name in ("footnoteReference", "endnoteReference"):
                pieces.append(f"[{self._note_number(name.removesuffix('Reference'), attribute(element, 'id') or '')}]")
            elif name == "sym":
                pieces.append(_symbol(attribute(element, "char") or ""))
            elif name not in _LEFT_OUT and not _is_hidden(element, name):
                stack.append(iter(_alternative(element) if name == "AlternateContent" else element))
        return "".join(pieces), boxes

    def _note_number(self, kind: str, identifier: str) -> int:
        key = (kind, identifier)
        if key not in self._note_numbers:
            self._note_order.append(key)
            self._note_numbers[key] = len(self._note_order)
        return self._note_numbers[key]


def _join(blocks: list[_Block]) -> str:
    parts: list[str] = []
    for number, block in enumerate(blocks):
        if number:
            parts.append("\n" if block.item and blocks[number - 1].item else "\n\n")
        parts.append(block.text)
    return "".join(parts)


def _children(container: Element, names: tuple[str, ...]) -> Iterator[Element]:
    """The elements of these names in the container, also those that others only wrap."""
    stack = [iter(container)]
    while stack:
        element = next(stack[-1], None)
        if element is None:
            stack.pop()
            continue
        name = local_name(element.tag)
        if name in names:
            yield element
        elif name == "AlternateContent":
            stack.append(iter(_alternative(element)))
        elif name in _TRANSPARENT or (name == "sdt" and not _is_hidden(element, name)):
            stack.append(iter(element))


def _rows(table: Element) -> Iterator[Element]:
    """The rows of a table without those that are deleted."""
    for row in _children(table, ("tr",)):
        properties = child(row, "trPr")
        if properties is None or child(properties, "del") is None:
            yield row


def _alternative(element: Element) -> Element:
    """Of the same content in a new and an old form (text boxes, mostly) the first, so that it is there once."""
    return next((part for part in element if local_name(part.tag) == "Choice"), element[0] if len(element) else element)


def _is_hidden(element: Element, name: str) -> bool:
    """A run of hidden text, or a field of a form that only shows what to enter."""
    if name == "r":
        properties = child(element, "rPr")
        return properties is not None and is_on(properties, "vanish")
    if name == "sdt":
        properties = child(element, "sdtPr")
        return properties is not None and is_on(properties, "showingPlcHdr")
    return False


def _symbol(code: str) -> str:
    try:
        number = int(code, 16)
    except ValueError:
        return ""
    return chr(number) if 0x20 <= number < _PRIVATE and not 0xD800 <= number <= 0xDFFF else ""
