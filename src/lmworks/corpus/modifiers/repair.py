"""Which repairs a kind of text gets, in which order, and all of them as edits of the text as it was."""

from collections.abc import Callable, Mapping
from functools import partial

from lmworks.corpus.attributes import Attributes, Kind, TaggedSpan
from lmworks.corpus.edits import apply_edits, compose
from lmworks.corpus.modifiers.chat_log import find_bot_lines, repair_chat
from lmworks.corpus.modifiers.footnotes import repair_footnotes
from lmworks.corpus.modifiers.hyphenation import repair_hyphenation
from lmworks.corpus.modifiers.line_wraps import repair_lines
from lmworks.corpus.modifiers.ocr import OcrModel, measure_ocr, repair_ocr
from lmworks.corpus.modifiers.page_breaks import repair_pages
from lmworks.corpus.modifiers.quoted_mail import find_mail_parts, repair_mail
from lmworks.corpus.modifiers.repeated_passages import repair_passages
from lmworks.corpus.modifiers.web_text import repair_characters, repair_encoding, repair_machinery
from lmworks.corpus.taggers.code import inspect_code
from lmworks.corpus.taggers.front_matter import find_matter, repair_matter
from lmworks.corpus.taggers.tagger import Text
from lmworks.records import Edit

Repair = Callable[[str], list[Edit]]
REPAIRED: Mapping[str, str] = {  # in words, what `repairs_of` a kind are about
    "book": "front and back matter, running heads, page numbers, notes, broken and misread words, repeated passages",
    "chat": "time stamps, notices, names of speakers",
    "code": "nothing",
    "mail": "quotes, signatures, footers",
    "manual": "broken characters, what is left of menus and scripts",
    "text": "broken characters",
    "web": "broken characters, what is left of menus and scripts",
}


def repairs_of(kind: Kind, others: OcrModel | None = None) -> tuple[Repair, ...]:
    """The repairs of a kind of text, in order. None change what a program reads: code has none.

    `others`: the words of the other books of a corpus, for errors of OCR; whether they print "black-bird" says nothing
    of this one.
    """
    if kind == "book":
        return (
            repair_characters,
            repair_matter,  # contents are told by their page numbers, so before those go
            repair_pages,  # notes end with their page, which the repair of pages sees to
            repair_footnotes,  # so that a word broken at the end of a page meets its other half
            repair_hyphenation,
            partial(repair_ocr, others=others),
            repair_passages,  # of words that are whole and right
            repair_lines,
        )
    if kind in ("web", "manual"):
        return repair_encoding, repair_characters, repair_machinery
    if kind == "mail":
        return repair_characters, repair_mail, repair_lines
    if kind == "chat":
        return repair_characters, repair_chat
    return () if kind == "code" else (repair_characters,)


def repair(text: str, kind: Kind, others: OcrModel | None = None) -> list[Edit]:
    """The edits of all repairs of a kind, in order and without overlaps, written against `text`."""
    return apply_repairs(text, repairs_of(kind, others))


def apply_repairs(text: str, repairs: tuple[Repair, ...]) -> list[Edit]:
    """The edits of `text` that do what the repairs do one after the other, each with what the last one left."""
    edits: list[Edit] = []
    current = text
    for each in repairs:
        if found := each(current):
            edits = compose(text, edits, found)
            current = apply_edits(text, edits).text
    return edits


def annotate_repairs(text: Text) -> Attributes:
    """What the repairs see in a text besides what they mend: measures and marks, by its kind.

    Books: front and back matter, and what is left of OCR errors. Mail: quotes, signatures and the like. Chat: messages
    of programs. Code: see `inspect_code`.
    """
    if text.kind == "book":
        ocr = measure_ocr(text)
        marks: list[TaggedSpan] = [*find_matter(text.text), *ocr.spans]
        return Attributes(ocr.scores, tuple(sorted(marks, key=lambda mark: (mark.start, mark.end, mark.rule))))
    if text.kind == "mail":
        return Attributes(spans=tuple(find_mail_parts(text.text)))
    if text.kind == "chat":
        return Attributes(spans=tuple(find_bot_lines(text.text)))
    return inspect_code(text) if text.kind == "code" else Attributes()
