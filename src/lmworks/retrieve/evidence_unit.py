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
    """A citable unit, `text[start:end]`: a sentence, a short paragraph, or a whole block of `kind`."""

    start: int
    end: int
    kind: Kind


SentencesOf = Callable[[Block], list[tuple[int, int]]]


def sentences_of(text: str) -> SentencesOf:
    """The sentences of a block as ranges of `text`. Each block is read once, however many chunks lie in it."""
    return cache(lambda block: sentence_ranges(text, block.start, block.end))


def evidence_units(
    text: str, blocks: Sequence[Block], start: int, end: int, sentences: SentencesOf | None = None
) -> list[Unit]:
    """The citable units inside `text[start:end]`: sentences, and as one unit each short block, code, grammar or table.

    A unit that leads to the next one ("as follows:") is one with it: alone it would say nothing. A heading names its
    text and metadata describe it: neither is cited, but for a heading that is a signature, `name(arguments)`. Calls
    for several parts of one text share `sentences`.
    """
    units, sentences = list[Unit](), sentences or sentences_of(text)
    for block in blocks:
        if block.kind == "metadata" or block.end <= start or block.start >= end:
            continue
        if block.kind == "heading":
            if start <= block.start and (signature := _SIGNATURE.match(text, block.start, block.end)):
                units.append(Unit(signature.start(1), signature.end(1), "heading"))
            continue
        whole = block.kind in UNITS or block.end - block.start <= SHORT
        ranges = [(block.start, block.end)] if whole else sentences(block)
        begin = bisect_right(ranges, start, key=lambda one: one[1])
        for first, last in ranges[begin : bisect_right(ranges, end, key=lambda one: one[0])]:
            first, last = trimmed(text, max(first, start), min(last, end))
            if first >= last:
                continue
            if units and units[-1].kind != "heading" and text[units[-1].end - 1] == ":":
                first = units.pop().start
            units.append(Unit(first, last, block.kind))
    return units
