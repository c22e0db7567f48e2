"""Personal data beside the text of a document, in its title and in its metadata.

What a step of the policy takes out of a text it takes out of the title and the metadata as well: the same finds, by the
same scopes and thresholds. Where the step would drop the document, the type is written: one word of a title is no
reason to lose a text. A uri is what a document is known by, so it stays.
"""

import re
from collections.abc import Iterator, Mapping, Sequence

from lmworks.corpus.attributes import TaggedSpan
from lmworks.corpus.edits import apply_edits
from lmworks.corpus.filtering.decide import clipped, type_in_place
from lmworks.corpus.filtering.filter_policy import Step
from lmworks.corpus.taggers.pii.keys import PASSWORD
from lmworks.corpus.taggers.pii.scan import find_personal_data
from lmworks.records import Document, Edit

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


def clean_fields(document: Document, steps: Sequence[Step], metadata: Mapping[str, str]) -> tuple[str, dict[str, str]]:
    """The title of a document and its metadata, as the steps leave them, which are those that look at it."""

    def cleaned(value: str, name: str = "") -> str:
        spans = _finds(value, name)
        edits = [edit for cuts in clipped([_cuts(step, spans) for step in steps], len(value)) for edit in cuts]
        return apply_edits(value, edits).text if spans else value

    own = frozenset() if document.extractor == _TABLE else _OWN
    left: dict[str, str] = {}
    for name, value in metadata.items():
        key = name if name in own else _new_key(cleaned(name), left)
        left[key] = value if name in own else cleaned(value, name)
    return cleaned(document.title), left


def _new_key(name: str, taken: Mapping[str, str]) -> str:
    """`name`, or `name-2`, `name-3`, … where two columns have one name without what was taken out of it."""
    candidates = (name if number == 1 else f"{name}-{number}" for number in range(1, len(taken) + 2))
    return next(candidate for candidate in candidates if candidate not in taken)


def _finds(value: str, name: str) -> list[TaggedSpan]:
    """Personal data in a value. Its name is read like words in front of it: a bare number in a column `phone` is
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


def _cuts(step: Step, spans: Sequence[TaggedSpan]) -> Iterator[Edit]:
    """The places that a step takes out."""
    for span in spans:
        wanted = step.on_span(span.rule)
        if wanted is not None and span.score >= wanted.at_least:
            written = "" if wanted.action == "cut" else type_in_place(span.rule)
            yield Edit(span.start, span.end, written, span.rule)
