"""Citable units of a document: its sentences, and what is cited as a whole."""

import re
from bisect import bisect_right
from collections.abc import Callable, Sequence
from functools import cache
from typing import NamedTuple

from lmworks.retrieve.text_block import UNITS, Block, Kind
from lmworks.tokenizer.sentence_splitter import sentence_ranges, trimmed

_SIGNATURE = re.compile(r"[#\s]*((?:async )?[A-Za-z_][\w.]*\(.*\)(?: -> .*)?)$", re.MULTILINE)
SHORT = 300  # characters: a paragraph up to here is read at a glance, and says more than one sentence of it


class Unit(NamedTuple):
    """A citable unit, `text[start:end]`: a sentence, a short paragraph, or a whole block of `kind`.

    One of kind "instruction" is not citable: it commands a language model, and no model may read it.
    """

    start: int
    end: int
    kind: Kind


SentencesOf = Callable[[Block], list[tuple[int, int]]]


def sentences_of(text: str) -> SentencesOf:
    """The sentences of a block as ranges of `text`. Each block is read once, however many chunks lie in it."""
    return cache(lambda block: sentence_ranges(text, block.start, block.end))


def evidence_units(
    text: str,
    blocks: Sequence[Block],
    start: int,
    end: int,
    sentences: SentencesOf | None = None,
    instructions: Sequence[tuple[int, int]] = (),
) -> list[Unit]:
    """The citable units inside `text[start:end]`: sentences, and as one unit each short block, code, grammar or table.

    A unit that leads to the next one ("as follows:") is one with it: alone it would say nothing. A heading names its
    text and metadata describe it: neither is cited, but for a heading that is a signature, `name(arguments)`. Calls
    for several parts of one text share `sentences`. Of a block with `instructions` to a model, ranges of the text, the
    other sentences are citable; of code or a table nothing is.
    """
    units, sentences = list[Unit](), sentences or sentences_of(text)
    marked = [Unit(max(first, start), min(last, end), "instruction") for first, last in instructions]
    marked = [unit for unit in marked if unit.start < unit.end]

    def commands(first: int, last: int) -> bool:
        return any(unit.start < last and first < unit.end for unit in marked)

    for block in blocks:
        if block.kind == "metadata" or block.end <= start or block.start >= end:
            continue
        if block.kind == "heading":
            signature = _SIGNATURE.match(text, block.start, block.end)
            if start <= block.start and signature and not commands(*signature.span(1)):
                units.append(Unit(signature.start(1), signature.end(1), "heading"))
            continue
        short = block.end - block.start <= SHORT and not commands(block.start, block.end)
        undivided = block.kind in UNITS or short
        ranges = [(block.start, block.end)] if undivided else sentences(block)
        begin = bisect_right(ranges, start, key=lambda bounds: bounds[1])
        for first, last in ranges[begin : bisect_right(ranges, end, key=lambda bounds: bounds[0])]:
            first, last = trimmed(text, max(first, start), min(last, end))
            if first >= last or commands(first, last):
                continue
            leads = bool(units) and units[-1].kind != "heading" and text[units[-1].end - 1] == ":"
            if leads and not commands(units[-1].start, last):
                first = units.pop().start
            units.append(Unit(first, last, block.kind))
    return [*units, *marked]
