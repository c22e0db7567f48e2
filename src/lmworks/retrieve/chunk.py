"""Documents into chunks: whole blocks of one section, packed to an even size, as exact spans of the document's text.

A chunk never crosses a section. A block that is too long is split at its sentences or lines, then at words, then, where
even one word is too long, inside it. The headings that a reader would have seen above go into `embed_text` only.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

from lmworks.corpus.taggers.prompt_injection import addressed_ranges
from lmworks.records import Document, Span
from lmworks.retrieve.config import ChunkConfig
from lmworks.retrieve.document_structure import Section, parse
from lmworks.retrieve.evidence_unit import Unit, evidence_units, sentences_of
from lmworks.retrieve.text_block import UNITS, Block
from lmworks.tokenizer.sentence_splitter import sentence_ranges, trimmed

CountTokens = Callable[[Sequence[str]], Sequence[int]]  # tokens of each text, without special tokens

HEADING_SHARE = 1 / 3  # of `max_tokens` at most go to the headings in `embed_text`; the innermost are kept


@dataclass(frozen=True, slots=True)
class Chunk:
    """A span of a document and what the encoder reads for it: `embed_text`, which is `prefix` and the span's text.

    The last `own_headings` of the path stand in the chunk itself. `tokens` counts `embed_text`. `units` are what can be
    cited of it, as offsets in the document's text.
    """

    id: str
    span: Span
    heading_path: tuple[str, ...]
    own_headings: int
    prefix: str
    embed_text: str
    tokens: int
    units: tuple[Unit, ...]


@dataclass(frozen=True, slots=True)
class _Piece:
    """A range that is not split further unless it must be, and its number of tokens."""

    start: int
    end: int
    tokens: int


def chunk(document: Document, config: ChunkConfig, count_tokens: CountTokens) -> list[Chunk]:
    """Chunks in the order of the text; every character that is not white space lies in exactly one of them.

    `document.text[chunk.span.start : chunk.span.end]` is the chunk. No `embed_text` has more than `config.max_tokens`,
    except that of a single character that alone has more. `count_tokens` is called a few times with many texts each.
    """
    text = document.text
    instructions = addressed_ranges(text)
    sections = parse(document)
    if instructions or addressed_ranges(document.title):  # no heading above a passage commands
        paths = [tuple(title for title in section.heading_path if not addressed_ranges(title)) for section in sections]
        sections = [replace(section, heading_path=path) for section, path in zip(sections, paths, strict=True)]
    blocks = [block for section in sections for block in section.blocks]
    counts = iter(count_tokens([text[block.start : block.end] for block in blocks]))
    headings = _Headings(sections, config, count_tokens)
    drafts: list[tuple[Section, int, int]] = []
    for section in sections:
        limit = config.max_tokens - headings.tokens(section)
        sized = [(block, next(counts)) for block in section.blocks]
        pieces = [piece for group in _groups(sized, limit) for piece in _pieces(text, group, limit, count_tokens)]
        drafts += [(section, start, end) for start, end in _pack(pieces, min(config.target_tokens, limit), limit)]
    units_of = partial(evidence_units, text, sentences=sentences_of(text), instructions=instructions)
    return _finish(document, drafts, headings, config, count_tokens, units_of)


# ---------------------------------------------------------------------------------------------------------------------
# Headings


class _Headings:
    """The line of headings before the text of a chunk, and its size; counted for all sections at once."""

    def __init__(self, sections: Sequence[Section], config: ChunkConfig, count_tokens: CountTokens) -> None:
        self._limit = int(config.max_tokens * HEADING_SHARE)
        paths = list(dict.fromkeys(section.heading_path for section in sections))
        titles = list(dict.fromkeys(title for path in paths for title in path))
        counts = count_tokens([f"{title} > " for title in titles])
        self._tokens = dict(zip(titles, counts, strict=True))

    def kept(self, path: Sequence[str]) -> list[str]:
        """The innermost headings that fit; none when the last alone is too long."""
        titles: list[str] = []
        total = 0
        for title in reversed(path):
            total += self._tokens[title]
            if total > self._limit:
                break
            titles.insert(0, title)
        return titles

    def tokens(self, section: Section) -> int:
        """Tokens of the whole path: an upper bound for the chunks that contain some of its headings themselves."""
        return sum(self._tokens[title] for title in self.kept(section.heading_path))

    @staticmethod
    def inside(section: Section, start: int, end: int) -> int:
        """The number of the section's headings that begin in a range."""
        return sum(block.kind == "heading" and start <= block.start < end for block in section.blocks)

    def prefix(self, section: Section, start: int) -> str:
        """The prefix of a chunk that starts at `start`: the headings above it, without those in its own text."""
        inside = self.inside(section, start, section.blocks[-1].end)
        titles = self.kept(section.heading_path[: len(section.heading_path) - inside])
        return " > ".join(titles) + "\n" if titles else ""


# ---------------------------------------------------------------------------------------------------------------------
# Pieces


def _groups(sized: Sequence[tuple[Block, int]], limit: int) -> Iterator[list[tuple[Block, int]]]:
    """Blocks that are read together: each with those that lead to it, as far as they fit."""
    group: list[tuple[Block, int]] = []
    for block, tokens in sized:
        if group and (not group[-1][0].leads or sum(size for _, size in group) + tokens > limit):
            yield group
            group = []
        group.append((block, tokens))
    if group:
        yield group


def _pieces(text: str, group: Sequence[tuple[Block, int]], limit: int, count_tokens: CountTokens) -> Iterator[_Piece]:
    """A group is one piece when it fits; a single block that does not fit is split."""
    total = sum(tokens for _, tokens in group)
    if total <= limit:
        yield _Piece(group[0][0].start, group[-1][0].end, total)
        return
    for block, tokens in group:
        if tokens <= limit:
            yield _Piece(block.start, block.end, tokens)
        else:
            ranges = _lines(text, block) if block.kind in UNITS else sentence_ranges(text, block.start, block.end)
            yield from _split(text, ranges, limit, count_tokens)


def _split(text: str, ranges: Sequence[tuple[int, int]], limit: int, count_tokens: CountTokens) -> Iterator[_Piece]:
    """Ranges as pieces; one that is too long becomes its words, and a word that is too long two halves, and so on."""
    for (start, end), tokens in zip(ranges, count_tokens([text[s:e] for s, e in ranges]), strict=True):
        if tokens <= limit or end - start <= 1:
            yield _Piece(start, end, tokens)
        else:
            yield from _split(text, _words(text, start, end) or _halves(start, end), limit, count_tokens)


def _lines(text: str, block: Block) -> list[tuple[int, int]]:
    ranges: list[tuple[int, int]] = []
    start = block.start
    while start < block.end:
        end = text.find("\n", start, block.end)
        end = block.end if end == -1 else end
        if text[start:end].strip():
            ranges.append((start, end))
        start = end + 1
    return ranges


def _words(text: str, start: int, end: int) -> list[tuple[int, int]]:
    """The words of a range; nothing when it is a single one."""
    ranges: list[tuple[int, int]] = []
    position = start
    for word in text[start:end].split():
        position = text.index(word, position)
        ranges.append((position, position + len(word)))
        position += len(word)
    return ranges if len(ranges) > 1 else []


def _halves(start: int, end: int) -> list[tuple[int, int]]:
    middle = (start + end) // 2
    return [(start, middle), (middle, end)]


# ---------------------------------------------------------------------------------------------------------------------
# Packing


def _pack(pieces: Sequence[_Piece], target: int, limit: int) -> Iterator[tuple[int, int]]:
    """Consecutive pieces into as few ranges of about `target` tokens as possible, of about the same size.

    With the rest of the section known, each range aims at an equal share of it: no crumb is left at the end.
    """
    at = 0
    remaining = sum(piece.tokens for piece in pieces)
    while at < len(pieces):
        share = remaining if remaining <= limit else remaining / -(-remaining // target)
        end, size = at + 1, pieces[at].tokens
        while end < len(pieces) and size + pieces[end].tokens <= limit and size + pieces[end].tokens / 2 <= share:
            size += pieces[end].tokens
            end += 1
        yield pieces[at].start, pieces[end - 1].end
        remaining -= size
        at = end


def _finish(
    document: Document,
    drafts: Sequence[tuple[Section, int, int]],
    headings: _Headings,
    config: ChunkConfig,
    count_tokens: CountTokens,
    units_of: Callable[..., list[Unit]],
) -> list[Chunk]:
    """Count what the encoder will read. Tokens of parts need not add up: what is too long after all is halved."""
    chunks: list[Chunk] = []
    text = document.text
    prefixes = [headings.prefix(section, start) for section, start, _ in drafts]
    embed_texts = [prefix + text[start:end] for prefix, (_, start, end) in zip(prefixes, drafts, strict=True)]
    counts = count_tokens(embed_texts)
    for (section, start, end), prefix, embed_text, tokens in zip(drafts, prefixes, embed_texts, counts, strict=True):
        if tokens > config.max_tokens and end - start > 1:
            halves = [(section, *half) for half in _halved(text, start, end)]
            chunks += _finish(document, halves, headings, config, count_tokens, units_of)
        else:
            span = Span(document.hash, start, end)
            units = tuple(units_of(section.blocks, start, end))
            # Hash of what the chunk is: the text of its document, its place, and the headings above it.
            fields = (span.document, str(span.start), str(span.end), *section.heading_path)
            name = hashlib.sha256("\0".join(fields).encode("utf-8", "surrogatepass")).hexdigest()[:32]
            own_headings = min(headings.inside(section, start, end), len(section.heading_path))
            chunks.append(Chunk(name, span, section.heading_path, own_headings, prefix, embed_text, tokens, units))
    return chunks


def _halved(text: str, start: int, end: int) -> list[tuple[int, int]]:
    """Two non-empty ranges, cut at the white space nearest to the middle where there is any."""
    words = _words(text, start, end)
    if not words:
        first, last = trimmed(text, start, end)
        return _halves(first, last) if last - first > 1 else [(first, last)]
    middle = (start + end) / 2
    cut = min(range(1, len(words)), key=lambda number: abs(words[number][0] - middle))
    return [(words[0][0], words[cut - 1][1]), (words[cut][0], words[-1][1])]
