"""A part of a document's text, cut where its chunks and the passage asked for begin and end."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from lmworks.serve.pages.page_templates import whole_number

WINDOW = 20_000  # characters shown at once, so that a document of any size is a page of a size that a browser likes
_LEAD = WINDOW // 4  # of them before the passage
_LINE = 400  # how far a window reaches to begin or end with a line


@dataclass(frozen=True, slots=True)
class Passage:
    """Code points `[start, end)` of a document to point at; empty where nothing is."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class ChunkRange:
    """A chunk of the document: its number from 1, its place, and the headings above it."""

    number: int
    start: int
    end: int
    headings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Segment:
    """A run of text from `start` on that belongs to one chunk or none, and lies inside or outside the passage.

    `opens` is the number of the chunk that begins here, `first` marks the beginning of the passage.
    """

    text: str
    start: int
    chunk: int | None
    opens: int | None
    cited: bool
    first: bool


@dataclass(frozen=True, slots=True)
class Window:
    """The part `[start, end)` of a text of `length` code points; `earlier` and `later`: where its neighbours start."""

    segments: tuple[Segment, ...]
    start: int
    end: int
    length: int
    earlier: int | None
    later: int | None

    @property
    def whole(self) -> bool:
        return self.end - self.start == self.length


@dataclass(frozen=True, slots=True)
class Heading:
    """A line of the outline: where its first chunk starts, and how deep it stands (0 is the top)."""

    title: str
    start: int
    level: int


def passage(length: int, start: str | None, end: str | None) -> Passage | None:
    """The offsets of a link; None when it names none. ValueError that says what is wrong with them."""
    if start is None and end is None:
        return None
    if not start or not end:
        raise ValueError("a passage needs both start and end")
    cited = Passage(whole_number(start, 0, "start", length), whole_number(end, 0, "end", length))
    if cited.start > cited.end:
        raise ValueError(f"a passage begins before its end, got [{cited.start:,}, {cited.end:,})")
    return cited


def window(text: str, chunks: Sequence[ChunkRange], cited: Passage | None, at: int | None = None) -> Window:
    """About `WINDOW` characters: from `at` on, else around the passage, else from the beginning.

    The window around a passage holds all of it, or its beginning when it is longer than a window.
    """
    begin, stop = bounds(text, cited, at)
    return Window(
        segments=segments(text, begin, stop, chunks, cited),
        start=begin,
        end=stop,
        length=len(text),
        earlier=max(0, begin - WINDOW) if begin else None,
        later=stop if stop < len(text) else None,
    )


def bounds(text: str, cited: Passage | None, at: int | None) -> tuple[int, int]:
    """Where the window begins and ends: at line ends, where some are near."""
    if len(text) <= WINDOW + _LINE:
        return 0, len(text)
    begin = at
    if begin is None:
        fits = cited is not None and cited.end - cited.start < WINDOW - _LEAD
        begin = cited.start - (_LEAD if fits else 0) if cited else 0
        begin = max(0, min(begin, len(text) - WINDOW))
    stop = min(len(text), begin + WINDOW)
    if stop < len(text):
        line = text.find("\n", stop, stop + _LINE)
        stop = line + 1 if line != -1 else stop
    if at is None:
        line = text.rfind("\n", max(0, begin - _LINE), begin)
        begin = line + 1 if line != -1 else begin
    return begin, stop


def segments(
    text: str, begin: int, stop: int, chunks: Sequence[ChunkRange], cited: Passage | None
) -> tuple[Segment, ...]:
    """`text[begin:stop]` cut at every border of a chunk or of the passage; the pieces join to it."""
    inside = [chunk for chunk in chunks if chunk.end > begin and chunk.start < stop]
    borders = {begin, stop}
    for low, high in ((c.start, c.end) for c in [*inside, *([cited] if cited else [])]):
        borders |= {border for border in (low, high) if begin < border < stop}
    cuts = sorted(borders)
    result: list[Segment] = []
    waiting = iter(inside)
    chunk = next(waiting, None)
    for low, high in pairwise(cuts):
        while chunk is not None and chunk.end <= low:
            chunk = next(waiting, None)
        owner = chunk if chunk is not None and chunk.start <= low else None
        is_cited = cited is not None and cited.start <= low < cited.end
        result.append(
            Segment(
                text=text[low:high],
                start=low,
                chunk=owner.number if owner else None,
                opens=owner.number if owner and owner.start == low else None,
                cited=is_cited,
                first=is_cited and cited is not None and low == max(begin, cited.start),
            )
        )
    return tuple(result)


def outline(chunks: Sequence[ChunkRange]) -> list[Heading]:
    """The headings above the chunks, each where it is met first."""
    result: list[Heading] = []
    above: tuple[str, ...] = ()
    for chunk in chunks:
        shared = 0
        while shared < min(len(above), len(chunk.headings)) and above[shared] == chunk.headings[shared]:
            shared += 1
        result += [
            Heading(title, chunk.start, level) for level, title in enumerate(chunk.headings[shared:], start=shared)
        ]
        above = chunk.headings
    return result
