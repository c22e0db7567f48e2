"""Rules that write a text otherwise and say the same: each a pure function of a text and a seeded source of numbers.

None of them adds, drops or swaps a word. A rule gives a text back as it is where it finds nothing that it may change;
chat has no rules, since its marks of turns are its sense.
"""

import hashlib
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from lmworks.data.annotation import Kind, Text
from lmworks.data.balance.rewriting_code import reindent, strip_comments
from lmworks.data.balance.rewriting_prose import lowercase, plain_punctuation, rewrap, spacing

Rewrite = Callable[[Text, random.Random], str]
_PROSE: tuple[Kind, ...] = ("web", "manual", "book", "mail", "text")


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule and the kinds of text that it is for."""

    rewrite: Rewrite
    kinds: tuple[Kind, ...]


RULES: Mapping[str, Rule] = {
    "rewrap": Rule(rewrap, _PROSE),
    "spacing": Rule(spacing, _PROSE),
    "lowercase": Rule(lowercase, _PROSE),
    "plain_punctuation": Rule(plain_punctuation, _PROSE),
    "strip_comments": Rule(strip_comments, ("code",)),
    "reindent": Rule(reindent, ("code",)),
}


def choose_rule(shares: Mapping[str, float], kind: Kind, numbers: random.Random) -> str:
    """Which rule writes a repeat: each with its share among those for this kind; "" for none."""
    left = numbers.random()
    for name in sorted(shares):
        if kind in RULES[name].kinds:
            left -= shares[name]
            if left < 0:
                return name
    return ""


def numbers_of(document_hash: str, copy: int, seed: int) -> random.Random:
    """What chance is for one copy of a document: the same wherever it is made."""
    digest = hashlib.sha256(f"{seed} {copy} {document_hash}".encode()).digest()
    return random.Random(int.from_bytes(digest[:16]))
