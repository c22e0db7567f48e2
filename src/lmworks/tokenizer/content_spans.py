"""Content spans: where the contents of messages lie in a rendered conversation.

A template is a program, so its output does not say which characters it wrote itself and which are a message's. Sentinel
marks do: a second run gets the same contents with unused private-use characters around them, and where those come out,
the contents lie. The marks prove themselves: without them, the second output must be the first. That fails where a
template looks into a content (strips it, searches it for `</think>`), so there are several ways to set marks, from the
most precise to the one that disturbs least.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from itertools import chain

Range = tuple[int, int]  # code points [start, end) of the rendered text
Fragment = tuple[str, bool]  # a part of a content, and whether marks stand around it

_PRIVATE_USE = (range(0xE000, 0xF900), range(0xF0000, 0xFFFFE), range(0x100000, 0x10FFFE))


class Marking(Enum):
    """Ways to set marks into a content."""

    WHOLE = auto()  # around it, also around an empty one
    FILLED = auto()  # around it, unless it is empty: some templates ask whether it is
    BARE = auto()  # inside its outer spaces, which some templates strip
    APART = auto()  # around what lies between the strings that the template searches contents for


@dataclass(frozen=True, slots=True)
class ContentSpans:
    """A rendered text, and where contents lie in it, by the marks that were in it.

    text        the output without them.
    contents    the ranges of every marked fragment, by the index of its message, in the order of the text.
    generation  the ranges of the `{% generation %}` parts.
    """

    text: str
    contents: Mapping[int, Sequence[Range]]
    generation: Sequence[Range]

    @property
    def guarded(self) -> list[Range]:
        """All ranges that hold a message's characters, in order."""
        return sorted(chain.from_iterable(self.contents.values()))


def split_content(content: str, marking: Marking, searched: re.Pattern[str] | None) -> list[Fragment]:
    """A content in fragments; `searched` matches the strings that stay without marks when cut `APART`."""
    if marking is Marking.WHOLE:
        return [(content, True)]
    if marking is Marking.FILLED:
        return [(content, bool(content))]
    if marking is Marking.BARE or searched is None:
        return _bare(content)
    fragments: list[Fragment] = []
    done = 0
    for match in searched.finditer(content):
        fragments += [*_bare(content[done : match.start()]), (match.group(), False)]
        done = match.end()
    return fragments + _bare(content[done:])


def _bare(text: str) -> list[Fragment]:
    core = text.strip()
    start = text.index(core) if core else len(text)
    pieces = ((text[:start], False), (core, True), (text[start + len(core) :], False))
    return [piece for piece in pieces if piece[0]]


@dataclass
class SentinelMarks:
    """A pair of unused characters for each fragment, so that it is known again, and one for generation parts."""

    unused: Iterator[str]
    generation: tuple[str, str] = field(init=False)
    _owner: dict[str, tuple[int, bool]] = field(default_factory=dict)  # mark -> message or -1, whether it closes

    def __post_init__(self) -> None:
        self.generation = self._pair(-1)

    def put(self, fragments: Iterable[Fragment], message: int) -> str:
        """The content with its marks; StopIteration when there are not enough unused characters."""
        return "".join(text.join(self._pair(message)) if marked else text for text, marked in fragments)

    def _pair(self, message: int) -> tuple[str, str]:
        pair = next(self.unused), next(self.unused)
        self._owner |= {pair[0]: (message, False), pair[1]: (message, True)}
        return pair

    def read(self, output: str) -> ContentSpans | None:
        """Takes the marks out again; None if one came out without its partner."""
        partner = dict(zip(*[iter(self._owner)] * 2, strict=True))
        unmarked: list[str] = []
        opened: dict[str, int] = {}  # the closing mark that is waited for -> where its fragment starts
        contents: dict[int, list[Range]] = {}
        for character in output:
            message, closes = self._owner.get(character, (None, False))
            if message is None:
                unmarked.append(character)
            elif not closes and partner[character] not in opened:
                opened[partner[character]] = len(unmarked)
            elif closes and character in opened:
                contents.setdefault(message, []).append((opened.pop(character), len(unmarked)))
            else:
                return None
        generation = contents.pop(-1, [])
        return None if opened else ContentSpans("".join(unmarked), contents, generation)


def unused_characters(texts: Iterable[str]) -> Iterator[str]:
    """Private-use characters that occur in none of the texts."""
    present = set().union(*texts)
    return (character for character in map(chr, chain(*_PRIVATE_USE)) if character not in present)


def content_ranges(marked: ContentSpans, message: int, fragments: Sequence[Fragment]) -> list[Range]:
    """The range of a message's content as a whole: from its first fragment to its last, with what lies between.

    What the content has before its first marked fragment and after its last is taken in where it stands there, but for
    spaces. Several ranges where another message's content lies between them; none where no fragment came out.
    """
    ranges = sorted(marked.contents.get(message, ()))
    if not ranges:
        return []
    start, end = ranges[0][0], ranges[-1][1]
    other_spans = chain.from_iterable(spans for index, spans in marked.contents.items() if index != message)
    if any(low >= start and high <= end for low, high in other_spans):
        return ranges
    kinds = [has_marks for _, has_marks in fragments]
    first, last = kinds.index(True), len(kinds) - 1 - kinds[::-1].index(True)
    head = "".join(text for text, _ in fragments[:first]).strip()
    tail = "".join(text for text, _ in fragments[last + 1 :]).strip()
    before, after = marked.text[:start].rstrip(), marked.text[end:]
    if head and before.endswith(head):
        start = len(before) - len(head)
    if tail and after.lstrip().startswith(tail):
        end += len(after) - len(after.lstrip()) + len(tail)
    return [(start, end)]
