"""Credentials that leaked into texts: tokens with a published prefix, private keys, web tokens, assigned passwords.

Strings that merely look random are left alone: most of them in a text are hashes and identifiers.
"""

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence

from lmworks.corpus.attributes import TaggedSpan
from lmworks.corpus.patterns import read_patterns

KEY, PASSWORD = "pii.key", "pii.password"

PATTERNS = read_patterns(__file__)
_PREFIX = 16  # at most so many characters of a token stand in front of the sign that it is found by


_LONGEST_BEGINNING = 1200
_LONGEST_KEY = 16_000  # characters; of a key of RSA with 16,384 bits, 12,700

_IN_SIGHT = 32
_SHORTEST = 6
_DIGIT, _LETTER, _SYMBOL = re.compile("[0-9]"), re.compile("[A-Za-z]"), re.compile(r"[!@#$%^&*+=?~]")
_SURE, _LIKELY, _UNLIKELY = 0.95, 0.7, 0.2


def find_tokens(text: str, regions: Sequence[tuple[int, int]]) -> Iterator[TaggedSpan]:
    """Spans of tokens; each region runs from a hyphen or an underscore inside to the end of letters and digits."""
    for start, end in regions:
        for match in PATTERNS["token"].finditer(text, max(0, start - _PREFIX), end):
            yield TaggedSpan(KEY, *match.span(), _token_score(match[0]))


def find_short_prefixed_tokens(text: str, regions: Sequence[tuple[int, int]]) -> Iterator[TaggedSpan]:
    """Spans of tokens without such a sign; each region begins with their first letter, or with the dot or colon that
    ends their first part."""
    for sign, _ in regions:
        head = PATTERNS["head"].search(text, max(0, sign - 10), sign)
        start = head.start() if head and text[sign] in ".:" else sign
        match = PATTERNS["token"].match(text, start, start + 320)
        if match is not None:
            yield TaggedSpan(KEY, *match.span(), _token_score(match[0]))


def find_web_tokens(text: str, regions: Sequence[tuple[int, int]]) -> Iterator[TaggedSpan]:
    """Spans of JSON Web Tokens; each region begins with the dot in front of the claims."""
    done = 0
    for dot, _ in regions:
        header = PATTERNS["header_backwards"].match(text[max(0, dot - 512) : dot][::-1]) if dot >= done else None
        begin = header[0][::-1].find("eyJ") if header else -1
        claims = PATTERNS["claims"].match(text, dot, dot + 5200) if begin >= 0 else None
        if header is not None and claims is not None:
            done = claims.end()
            yield TaggedSpan(KEY, dot - header.end() + begin, done, _SURE if claims["signature"] else _LIKELY)


def find_private_keys(text: str, regions: Sequence[tuple[int, int]]) -> Iterator[TaggedSpan]:
    """Spans of private keys, with their first and last lines; each region begins with the first hyphen."""
    for start, _ in regions:
        first = PATTERNS["first_lines"].match(text, start, start + _LONGEST_BEGINNING)
        others = PATTERNS["other_lines"].match(text, first.end(), first.end() + _LONGEST_KEY) if first else None
        if others is not None:
            yield TaggedSpan(KEY, start, others.end(), _SURE)


def find_assignments(text: str, regions: Sequence[tuple[int, int]]) -> Iterator[TaggedSpan]:
    """Spans of what is assigned to a name such as `password`; each region begins with the colon or equals sign.

    Names of code, placeholders and plain words score 0.2.
    """
    for sign, _ in regions:
        if not PATTERNS["name"].search(text, max(0, sign - _IN_SIGHT), sign):
            continue
        value = PATTERNS["value"].match(text, sign + 1, sign + 240)
        if value is not None and value.lastgroup is not None:
            start, end = value.span(value.lastgroup)
            if value.lastgroup == "bare":  # what follows is the punctuation of a sentence
                end = start + len(text[start:end].rstrip(".:!?"))
            if end - start >= _SHORTEST:
                word = text[start:end]
                is_mixed = _SYMBOL.search(word) or (_DIGIT.search(word) and _LETTER.search(word))
                bits = entropy(word)
                is_plain = PATTERNS["placeholder"].search(word) or PATTERNS["reference"].fullmatch(word)
                score = _SURE if len(word) >= 16 and bits >= 3.5 else _LIKELY
                if not is_mixed or bits < 2.5 or is_plain:
                    score = _UNLIKELY
                yield TaggedSpan(PASSWORD, start, end, score)


def entropy(text: str) -> float:
    """Shannon's entropy of the frequencies of characters, in bits a character; 0 of the empty text."""
    return sum(count / len(text) * math.log2(len(text) / count) for count in Counter(text).values())


def _token_score(token: str) -> float:
    if PATTERNS["placeholder"].search(token) or entropy(token) < 3:
        return _UNLIKELY
    return _SURE
