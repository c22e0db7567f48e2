"""Marks into edits: each find is replaced by its type, or by a pseudonym that is the same wherever the find is.

What stands in its place holds no digit and no sign that could be found in turn, and is in brackets `<` and `>`, which
no find crosses. So a text that was redacted is clean, whatever stood beside the finds.
"""

import hashlib
import ipaddress
import re
from collections.abc import Callable, Iterable

from lmworks.data.annotate.pii.scan import rank
from lmworks.data.annotation import Mark
from lmworks.records import Edit

SHORTEST_KEY, LONGEST_KEY = 16, 64  # bytes; 64 is the most of BLAKE2b (RFC 7693, section 2.1)

_LETTERS = str.maketrans("0123456789abcdef", "abcdefghijklmnop")
_WRITING = re.compile(r"[\s().:/+\u00a0\u2009\u202f\u2010-\u2013-]+")
_NUMBERS = frozenset({"pii.phone", "pii.card", "pii.iban", "pii.ssn", "pii.national_id", "pii.mac"})


def type_of(rule: str) -> str:
    """`EMAIL` of the rule `pii.email`."""
    return rule.rpartition(".")[2].upper()


def redact_by_type(marks: Iterable[Mark]) -> list[Edit]:
    """`<EMAIL>` in place of each find of `pii.email`, and so on. The edits do not overlap and are in order."""
    return _edits(marks, lambda mark, start, end: f"<{type_of(mark.rule)}>")


def redact_by_pseudonym(text: str, marks: Iterable[Mark], key: bytes) -> list[Edit]:
    """`<EMAIL-kfojmapdlgbnecih>` in place of each find: the same for the same find in every text under one key.

    text   The one that the marks are of.
    key    16 to 64 bytes, random and secret: whoever has it can try out all telephone numbers. ValueError otherwise.

    The letters are 64 bits of BLAKE2b (RFC 7693), keyed, over the rule and the find in one way of writing: equal are
    numbers whatever is between their digits, and addresses of e-mail whatever their case.
    """
    if not SHORTEST_KEY <= len(key) <= LONGEST_KEY:
        raise ValueError(f"the key has {len(key)} bytes: give it {SHORTEST_KEY} to {LONGEST_KEY} random ones")
    return _edits(
        marks, lambda mark, start, end: f"<{type_of(mark.rule)}-{_pseudonym(mark.rule, text[start:end], key)}>"
    )


def one_writing(rule: str, found: str) -> str:
    """A find without the freedom that people take in writing it."""
    if rule in _NUMBERS:
        return _WRITING.sub("", found).casefold()
    if rule == "pii.ip":
        try:
            return str(ipaddress.ip_address(found))
        except ValueError:
            return found
    return found.casefold() if rule == "pii.email" else found


def _pseudonym(rule: str, found: str, key: bytes) -> str:
    message = f"{rule}\0{one_writing(rule, found)}".encode("utf-8", "surrogatepass")
    return hashlib.blake2b(message, key=key, digest_size=8, person=b"lmworks.pii").hexdigest().translate(_LETTERS)


def _edits(marks: Iterable[Mark], replacement: Callable[[Mark, int, int], str]) -> list[Edit]:
    """One edit for each group of overlapping marks, over all of it: half a number is no less personal. It has the rule
    that comes first in `ORDER`."""
    edits: list[Edit] = []
    group: list[Mark] = []
    end = 0
    for mark in sorted((mark for mark in marks if mark.start < mark.end), key=lambda mark: (mark.start, -mark.end)):
        if group and mark.start >= end:
            edits.append(_edit(group, end, replacement))
            group = []
        end = max(end, mark.end) if group else mark.end
        group.append(mark)
    if group:
        edits.append(_edit(group, end, replacement))
    return edits


def _edit(group: list[Mark], end: int, replacement: Callable[[Mark, int, int], str]) -> Edit:
    first = min(group, key=lambda mark: rank(mark.rule))
    start = group[0].start
    return Edit(start, end, replacement(first, start, end), first.rule)
