"""Personal data next to the text of a document: in its title, in its metadata with their names, and in its uri.

Their spans have rules such as `title:pii.email`, `metadata.author:pii.phone` (in the value of `author`),
`metadata_name.author:pii.email` (in the name itself) and `uri:pii.email`; their places are those in that string, as it
came, and not in the text.
"""

import re

from lmworks.corpus.attributes import TaggedSpan
from lmworks.corpus.languages import DECLARED
from lmworks.corpus.taggers.pii.keys import PASSWORD
from lmworks.corpus.taggers.pii.scan import ORDER, find_personal_data
from lmworks.records import Document

# What readers and stages write down themselves: hashes, numbers, dates, encodings. Some look like numbers of people.
_OWN = frozenset(
    {
        "attachments", "augmented", "chapters", "commit", "copy", "date", "dbname", "encoding", "extracted",
        "headings", "language", "modified", "origin", "page", "pages", "revision", "truncated",
        "unreadable_chapters", "unreadable_pages",
    }
)  # fmt: skip
_TABLE = "row"  # the extractor of documents whose metadata are columns, which may have any name
_RECORD = re.compile("<?urn:uuid:[0-9a-f-]{36}>?")  # of a crawl: some look like the number of an account
_JOINTS = re.compile("[_-]")
# Columns whose values are secrets as a whole, however they look.
_SECRET = re.compile(
    r"(?:.*[ _-])?(?:password|passwort|passwd|passphrase|pwd|pw|(?:api|access|private|secret)[ _-]?key"
    r"|client[ _-]?secret)",
    re.IGNORECASE,
)
_WORDS = frozenset(("token", "tokens"))  # columns that say nothing of what they hold: there are tables of words
_SHORTEST_SECRET = 4  # characters: a column may also say whether there is one
_RULE = re.compile(rf"(title|uri|(?:metadata|metadata_name)\..*):({'|'.join(map(re.escape, ORDER))})", re.DOTALL)


def metadata_spans(document: Document) -> list[TaggedSpan]:
    """Find personal data next to the text. A declared language counts as metadata, since it may hold anything."""
    own = frozenset() if document.extractor == _TABLE else _OWN
    values = {DECLARED: document.language or "", **document.metadata}
    found = [("title", _finds(document.title)), ("uri", _finds(document.uri))]
    for name, value in values.items():
        if name not in own:
            found += [(f"metadata_name.{name}", _finds(name)), (f"metadata.{name}", _finds(value, name))]
    return [
        TaggedSpan(f"{field}:{span.rule}", span.start, span.end, span.score) for field, spans in found for span in spans
    ]


def field_of(rule: str) -> tuple[str, str] | None:
    """The field in the rule of such a span, as `metadata.author`, and the rule of what was found, as `pii.email`; None
    for the rule of a span of the text."""
    found = _RULE.fullmatch(rule)
    return (found[1], found[2]) if found else None


def _finds(value: str, name: str = "") -> list[TaggedSpan]:
    """Find personal data in a value. Its name is read like words in front of it: a bare number in a column `phone` is
    one of a telephone. All of a value is a password where its name says so."""
    if _RECORD.fullmatch(value):
        return []
    if len(value) >= _SHORTEST_SECRET and _SECRET.fullmatch(name):
        return [TaggedSpan(PASSWORD, 0, len(value), 1.0)]
    before = f"{_JOINTS.sub(' ', name)}: " if name and name.lower() not in _WORDS else ""
    shift = len(before)
    spans = find_personal_data(before + value)
    return [TaggedSpan(s.rule, max(s.start - shift, 0), s.end - shift, s.score) for s in spans if s.end > shift]
