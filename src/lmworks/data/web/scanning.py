"""A page read by the compiled scanner: blocks, their features, and Markdown of those that are kept.

It reads bytes once and builds no tree. What is kept is a small page, put together from pieces of the page, which then
becomes Markdown as any tree does. On pages whose markup is sound, its blocks are those of `blocks.py`; broken markup it
mends by fewer rules.
"""

import ctypes
from collections.abc import Sequence
from ctypes import POINTER, byref, c_char_p, c_int64, c_void_p
from dataclasses import dataclass
from functools import cache
from html import unescape

import numpy as np

from lmworks.compiled import open_library
from lmworks.data.extractors.xhtml import tree_to_markdown
from lmworks.data.web.blocks import parse_bytes
from lmworks.data.web.features import NAMES, Measured, tables_of

CHOICE = "LMWORKS_DATA"  # environment variable: "reference" has everything run in Python
_CELLS = frozenset(("td", "th"))


@dataclass(frozen=True, slots=True)
class ScannedPage:
    """`texts` and `tags` (the element around) of all blocks in their order, what was measured of them, the title."""

    texts: Sequence[str]
    tags: Sequence[str]
    measured: Measured
    title: str
    _html: bytes
    _blocks: Sequence[Sequence[int]]  # text end, first piece, kind, element of structure, whether that is what holds it
    _structure: Sequence[Sequence[int]]  # the one around it, kind, where the start tag begins and ends
    _pieces: Sequence[Sequence[int]]  # where they begin and end

    def markdown(self, kept: Sequence[bool]) -> str:
        """The text of the kept blocks. Raises UnusableError where their inline elements are nested too deeply."""
        tree = parse_bytes(self._page_of(kept)) if any(kept) else None
        return "" if tree is None else tree_to_markdown(tree)

    def _page_of(self, kept: Sequence[bool]) -> bytes:
        """The kept blocks with the elements around them that say what they are: lists, tables, quotations, headings."""
        parts: list[bytes] = []
        around: list[int] = []  # what is open in what is written
        last_cells: dict[int, int] = {}  # row -> its last cell that was written
        ends = [block[1] for block in self._blocks[1:]] + [len(self._pieces)]
        for (_, first, _, innermost, own), end, keep in zip(self._blocks, ends, kept, strict=True):
            if not keep:
                continue
            chain = self._chain(innermost)
            shared = 0
            while shared < min(len(around), len(chain)) and around[shared] == chain[shared]:
                shared += 1
            parts += [f"</{self._name(each)}>".encode() for each in reversed(around[shared:])]
            for each in chain[shared:]:
                if self._name(each) in _CELLS:
                    parts += self._empty_cells_before(each, last_cells)
                parts.append(self._start_of(each))
            around = chain
            text = b"".join([self._html[start:stop] for start, stop in self._pieces[first:end]])
            parts.append(text if own and len(chain) > shared else b"<div>" + text + b"</div>")
        return b"".join(parts)

    def _name(self, number: int) -> str:
        return kinds()[self._structure[number][1]]

    def _chain(self, number: int) -> list[int]:
        found: list[int] = []
        while number >= 0:
            found.append(number)
            number = self._structure[number][0]
        return found[::-1]

    def _start_of(self, number: int) -> bytes:
        """The start tag, for the numbers of lists, the spans of cells and the language of code."""
        _, _, start, end = self._structure[number]
        tag = self._html[start:end]
        concealing = b"display" in tag or b"hidden" in tag  # though it is shown
        return f"<{self._name(number)}>".encode() if concealing or not tag.endswith(b">") else tag

    def _empty_cells_before(self, cell: int, last_cells: dict[int, int]) -> list[bytes]:
        """Those of the row that are not kept: without them the others would stand in other columns."""
        row = self._structure[cell][0]
        skipped = range(last_cells.get(row, row) + 1, cell)
        last_cells[row] = cell
        left_out = [each for each in skipped if self._structure[each][0] == row and self._name(each) in _CELLS]
        return [self._start_of(each) + f"</{self._name(each)}>".encode() for each in left_out]


@cache
def load() -> ctypes.CDLL | None:
    """The library; None where it was not built, or where the environment variable asks for the reference."""
    library = open_library("data", CHOICE, "the fast mode reads web pages by lxml, some four times as slowly")
    if library is None:
        return None
    sizes, pointer = POINTER(c_int64), c_void_p
    signatures: dict[str, tuple[type, ...]] = {
        "read_page": (c_char_p, c_int64, sizes, sizes, POINTER(pointer)),
        "take_page": (pointer,) * 7,
        "close_page": (pointer,),
        "page_kind": (c_int64,),
    }
    for name, arguments in signatures.items():
        function = getattr(library, f"lmworks_data_{name}")
        function.restype, function.argtypes = (c_char_p if name == "page_kind" else c_int64), arguments
    return library


@cache
def kinds() -> tuple[str, ...]:
    """The names of elements by their numbers; "" for an element that is not known."""
    library = load()
    found: list[str] = []
    while library is not None and (name := library.lmworks_data_page_kind(len(found))) is not None:
        found.append(name.decode("ascii"))
    return tuple(found)


def scan(html: str) -> ScannedPage | None:
    """The page; None where there is no compiled part. Raises MemoryError where a page does not fit into memory."""
    library = load()
    if library is None:
        return None
    raw = html.encode("utf-8", "replace")
    sizes, title, page = (c_int64 * 4)(), (c_int64 * 2)(), c_void_p()
    if library.lmworks_data_read_page(raw, len(raw), sizes, title, byref(page)) < 0:
        raise MemoryError("not enough memory to read a web page: lower max_bytes")
    try:
        return _taken(library, page, raw, tuple(sizes), raw[title[0] : title[1]])
    finally:
        library.lmworks_data_close_page(page)


def _taken(library: ctypes.CDLL, page: c_void_p, raw: bytes, sizes: tuple[int, ...], title: bytes) -> ScannedPage:
    number, structural, cut, length = sizes
    text = np.empty(length, dtype=np.uint8)
    blocks, structure = np.empty((number, 5), dtype=np.int64), np.empty((structural, 4), dtype=np.int64)
    pieces, table = np.empty((cut, 2), dtype=np.int64), np.empty((number, len(NAMES)), dtype=np.float64)
    flags = np.empty(number, dtype=np.uint8)
    arrays = (text, blocks, structure, pieces, table, flags)
    if library.lmworks_data_take_page(page, *(array.ctypes.data for array in arrays)) < 0:
        raise MemoryError("not enough memory to read a web page: lower max_bytes")
    rows, elements, names, content = blocks.tolist(), structure.tolist(), kinds(), text.tobytes()
    starts = [0, *(row[0] for row in rows[:-1])]
    tables = [*tables_of([row[0] for row in elements], [names[row[1]] for row in elements]), -1]  # -1 of no element
    return ScannedPage(
        [_plain(content[start : row[0]]) for start, row in zip(starts, rows, strict=False)],
        [names[row[2]] for row in rows],
        Measured(table, (flags & 1) > 0, (flags & 2) > 0, np.array(tables)[blocks[:, 3]], 0),
        " ".join(unescape(title.decode("utf-8", "replace")).split()),
        raw,
        rows,
        elements,
        pieces.tolist(),
    )


def _plain(text: bytes) -> str:
    decoded = text.decode("utf-8", "replace")
    return " ".join(unescape(decoded).split()) if "&" in decoded else decoded
