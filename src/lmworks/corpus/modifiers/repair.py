"""The modifiers of each kind of text, in their order, and what they do as edits of the text as it was."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial

from lmworks.corpus.documents import Kind
from lmworks.corpus.edits import apply_edits, compose
from lmworks.corpus.modifiers.chat_log import repair_chat
from lmworks.corpus.modifiers.footnotes import repair_footnotes
from lmworks.corpus.modifiers.hyphenation import repair_hyphenation, repair_soft_hyphens
from lmworks.corpus.modifiers.line_wraps import repair_lines
from lmworks.corpus.modifiers.ocr import OcrModel, repair_ligatures, repair_ocr
from lmworks.corpus.modifiers.page_breaks import repair_pages
from lmworks.corpus.modifiers.quoted_mail import repair_mail
from lmworks.corpus.modifiers.repeated_passages import repair_passages
from lmworks.corpus.modifiers.web_text import repair_characters, repair_encoding, repair_machinery
from lmworks.records import Edit

Modifier = Callable[[str], list[Edit]]
_PAGE = (repair_encoding, repair_characters, repair_machinery)
MODIFIERS: Mapping[Kind, tuple[Modifier, ...]] = {  # none changes what a program reads: code has none
    "book": (
        repair_characters,
        repair_pages,  # notes end with their page, which the repair of pages sees to
        repair_footnotes,  # so that a word broken at the end of a page meets its other half
        repair_hyphenation,
        repair_soft_hyphens,
        repair_ocr,
        repair_ligatures,
        repair_passages,  # of words that are whole and right
        repair_lines,
    ),
    "web": _PAGE,
    "manual": _PAGE,
    "mail": (repair_characters, repair_mail, repair_lines),
    "chat": (repair_characters, repair_chat),
    "code": (),
    "text": (repair_characters,),
}


def repair(text: str, kind: Kind, vocabulary: OcrModel | None = None, given: Iterable[Edit] = ()) -> list[Edit]:
    """The edits of all modifiers of a kind, in order and without overlaps, written against `text`.

    `vocabulary`: the words of the other books of a corpus, for errors of OCR; whether they print "black-bird" says
    nothing of this one. `given`: edits that come first, such as those of front matter, which is told by page numbers.
    """
    modifiers = (partial(repair_ocr, others=vocabulary) if each is repair_ocr else each for each in MODIFIERS[kind])
    return apply_modifiers(text, modifiers, given)


def apply_modifiers(text: str, modifiers: Iterable[Modifier], given: Iterable[Edit] = ()) -> list[Edit]:
    """The edits of `text` that do what the modifiers do one after the other, each with what the last one left."""
    edits = sorted(given)
    current = apply_edits(text, edits).text
    for modify in modifiers:
        if found := modify(current):
            edits = compose(text, edits, found)
            current = apply_edits(text, edits).text
    return edits
