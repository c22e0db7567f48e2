"""Personal data beside the text of a document: in its title, in its metadata, and in its uri.

What a step of the policy takes out of a text it takes out of the title and the metadata as well: the same finds, by the
same scopes and thresholds. Where the step would drop the document, the type is written: one word of a title is no
reason to lose a text. A uri is what a document is known by, so it stays, and what is found in it is counted.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from lmworks.corpus.attributes import TaggedSpan
from lmworks.corpus.edits import apply_edits
from lmworks.corpus.filtering.apply import apply_steps
from lmworks.corpus.filtering.decide import Cut, FieldFind, type_in_place
from lmworks.corpus.filtering.filter_policy import Step
from lmworks.corpus.taggers.pii.keys import PASSWORD
from lmworks.corpus.taggers.pii.scan import find_personal_data
from lmworks.records import Document

Field = Literal["title", "metadata", "uri"]

# What readers and stages write down themselves: hashes, numbers, dates, encodings. Some look like numbers of people.
_OWN = frozenset(
    {
        "attachments", "augmented", "chapters", "commit", "copy", "date", "dbname", "encoding", "extracted",
        "headings", "language", "modified", "origin", "page", "pages", "revision", "truncated",
        "unreadable_chapters", "unreadable_pages",
    }
)  # fmt: skip
_RECORD = re.compile("<?urn:uuid:[0-9a-f-]{36}>?")  # of a crawl: some look like the number of an account
_TABLE = "row"  # the extractor of documents whose metadata are columns, which may have any name
_JOINTS = re.compile("[_-]")
# Columns whose values are secrets as a whole, however they look.
_SECRET = re.compile(
    r"(?:.*[ _-])?(?:password|passwort|passwd|passphrase|pwd|pw|(?:api|access|private|secret)[ _-]?key"
    r"|client[ _-]?secret)",
    re.IGNORECASE,
)
_WORDS = frozenset(("token", "tokens"))  # columns that say nothing of what they hold: there are tables of words
_SHORTEST_SECRET = 4  # characters: a column may also say whether there is one


@dataclass(frozen=True, slots=True)
class CleanedFields:
    """The title and the metadata as a policy leaves them, and what was found in them and in the uri."""

    title: str
    metadata: Mapping[str, str]
    found: tuple[FieldFind, ...] = ()


def clean_fields(
    document: Document,
    steps: Sequence[Step],
    kind: str,
    language: str | None,
    more: Mapping[str, str] = MappingProxyType({}),
) -> CleanedFields:
    """The fields of a document of this kind and language, as the steps leave them that look at such documents; `more`
    metadata come behind its own."""
    looking = [step for step in steps if step.marks and step.looks_at(document.source, kind, language)]
    found: list[FieldFind] = []

    def cleaned(field: Field, value: str, name: str = "") -> str:
        marks = _finds(value, name)
        if not marks:
            return value
        applied = apply_steps([_cuts(step, marks) for step in looking] if field != "uri" else [])
        gone = {place for edit in applied.edits for place in range(edit.start, edit.end)}
        found.extend(FieldFind(field, mark.rule, gone.issuperset(range(mark.start, mark.end))) for mark in marks)
        return apply_edits(value, applied.edits).text

    cleaned("uri", document.uri)
    title = cleaned("title", document.title)
    own = frozenset() if document.extractor == _TABLE else _OWN
    metadata: dict[str, str] = {}
    for name, value in (*document.metadata.items(), *more.items()):
        key = name if name in own else _new_key(cleaned("metadata", name), metadata)
        metadata[key] = value if name in own else cleaned("metadata", value, name)
    return CleanedFields(title, metadata, tuple(found))


def _new_key(name: str, taken: Mapping[str, str]) -> str:
    """`name`, or `name-2`, `name-3`, … where two columns have one name without what was taken out of it."""
    candidates = (name if number == 1 else f"{name}-{number}" for number in range(1, len(taken) + 2))
    return next(candidate for candidate in candidates if candidate not in taken)


def _finds(value: str, name: str) -> list[TaggedSpan]:
    """What is personal in a value. Its name is read like words in front of it: a bare number in a column `phone` is
    one of a telephone. All of a value is a password where its name says so."""
    if _RECORD.fullmatch(value):
        return []
    if len(value) >= _SHORTEST_SECRET and _SECRET.fullmatch(name):
        return [TaggedSpan(PASSWORD, 0, len(value), 1.0)]
    before = f"{_JOINTS.sub(' ', name)}: " if name and name.lower() not in _WORDS else ""
    shift = len(before)
    marks = find_personal_data(before + value)
    return [
        TaggedSpan(mark.rule, max(mark.start - shift, 0), mark.end - shift, mark.score)
        for mark in marks
        if mark.end > shift
    ]


def _cuts(step: Step, marks: Sequence[TaggedSpan]) -> list[Cut]:
    """The places that a step takes out."""
    cuts = []
    for mark in marks:
        wanted = step.on_mark(mark.rule)
        if wanted is not None and mark.score >= wanted.at_least:
            replacement = "" if wanted.action == "cut" else type_in_place(mark.rule)
            cuts.append(Cut(mark.start, mark.end, replacement, mark.rule))
    return cuts
