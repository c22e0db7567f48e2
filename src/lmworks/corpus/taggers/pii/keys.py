"""Credentials that leaked into texts: tokens with a published prefix, private keys, web tokens, assigned passwords.

Strings that merely look random are left alone: most of them in a text are hashes and identifiers.
"""

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence

from lmworks.corpus.attributes import TaggedSpan

KEY, PASSWORD = "pii.key", "pii.password"

# As their providers document them, most for the scanning of secrets.
_TOKEN = re.compile(
    r"(?<![A-Za-z0-9])(?:"
    r"gh[oprsu]_[A-Za-z0-9]{36,255}|github_pat_[A-Za-z0-9_]{50,255}"  # GitHub
    r"|glpat-[A-Za-z0-9_-]{20,64}"  # GitLab
    r"|(?:A3T[A-Z0-9]|AKIA|ASIA|ABIA|ACCA)[A-Z2-7]{16}"  # Amazon Web Services
    r"|AIza[A-Za-z0-9_-]{35}|ya29\.[A-Za-z0-9_-]{20,255}"  # Google
    r"|sk-(?=[a-z0-9_-]{0,64}[A-Z])(?=[A-Za-z_-]{0,64}[0-9])(?=[A-Za-z0-9_-]{0,48}?[A-Za-z0-9]{16})"
    r"[A-Za-z0-9_-]{24,255}"  # providers of models
    r"|(?:gsk|hf|npm|r8)_[A-Za-z0-9]{30,64}|sq0(?:atp|csp)-[A-Za-z0-9_-]{22,64}"  # Groq, Hugging Face, npm, ...
    r"|pypi-AgE[A-Za-z0-9_-]{50,255}|nvapi-[A-Za-z0-9_-]{40,80}"
    r"|dckr_pat_[A-Za-z0-9_-]{20,64}|lin_api_[A-Za-z0-9]{32,64}"  # PyPI, NVIDIA, Docker, Linear
    r"|xox[a-z]-[A-Za-z0-9-]{10,255}|xapp-[A-Za-z0-9-]{20,255}"  # Slack
    r"|[rs]k_(?:live|test)_[A-Za-z0-9]{16,255}"  # Stripe
    r"|shp(?:at|ca|pa|ss)_[A-Fa-f0-9]{32}|do[opr]_v1_[a-f0-9]{64}"  # Shopify, DigitalOcean
    r"|xkeysib-[a-f0-9]{64}-[A-Za-z0-9]{16}|key-[a-f0-9]{32}"  # Brevo, Mailgun
    r"|SG\.[A-Za-z0-9_-]{16,32}\.[A-Za-z0-9_-]{16,64}|hvs\.[A-Za-z0-9_-]{24,120}"  # SendGrid, Vault
    r"|[0-9]{8,10}:AA[A-Za-z0-9_-]{33}"  # bots of Telegram
    r"|AGE-SECRET-KEY-1[A-Z0-9]{58}"
    r")(?![A-Za-z0-9])"
)
_PREFIX = 16  # at most so many characters of a token stand in front of the sign that it is found by
_HEAD = re.compile(r"[A-Za-z0-9]{1,10}\Z")

# RFC 7519 and 7515: header, claims and signature in base64url; `eyJ` is `{"`.
_HEADER_BACKWARDS = re.compile(r"[A-Za-z0-9_-]{1,512}")
_CLAIMS = re.compile(r"\.eyJ[A-Za-z0-9_-]{4,4096}+(?P<signature>\.[A-Za-z0-9_-]{16,1024}+)?")

# RFC 7468 and 4880: a line of base64 belongs to every key; without one, a text tells of keys.
_FIRST_LINES = re.compile(
    r"-----BEGIN (?:[A-Z0-9]{1,12} ){0,3}PRIVATE KEY(?: BLOCK)?-----(?:\\[nr]|\s){0,8}"
    r"(?:[A-Za-z-]{2,24}: [^\n<>]{0,120}\n\s{0,4}){0,6}[A-Za-z0-9+/=]{16,128}"
)
_OTHER_LINES = re.compile(
    r"(?:(?:\\[nr]|\s){0,6}[A-Za-z0-9+/=]{16,128}){0,400}"
    r"(?:(?:(?:\\[nr]|\s){0,6}[A-Za-z0-9+/=]{1,64}){0,2}(?:\\[nr]|\s){0,6}"
    r"-----END (?:[A-Z0-9]{1,12} ){0,3}PRIVATE KEY(?: BLOCK)?-----)?"
)
_LONGEST_BEGINNING = 1200
_LONGEST_KEY = 16_000  # characters; of a key of RSA with 16,384 bits, 12,700

_NAME = re.compile(
    r"(?:(?i:password|passwd|passphrase|secret|token|credentials?|authorization"
    r"|(?:access|account|api|app|auth|client|encryption|master|private|secret)[ _-]?key)|(?<![A-Za-z])(?i:pwd|pass))"
    r"[\"'\])]{0,3}[ \t]?\Z"
)
_IN_SIGHT = 32
_SHORTEST = 6
_VALUE = re.compile(
    r">?[ \t]{0,3}(?:(?i:bearer|basic|token)[ \t]{1,3})?"
    r"(?:\"(?P<double>[^\"\s<>]{6,200})\"|'(?P<single>[^'\s<>]{6,200})'"
    r"|(?!(?i:bearer|basic|token)(?!\w))(?P<bare>[^\s\"'<>,;(){}\[\]`|]{6,200}+)(?![(\[]))"
)
_PLACEHOLDER = re.compile(
    r"example|change.?me|placeholder|your[_-]|x{4}|\*{3}|\.\.|[$%][({]|%[sd]|dummy|redacted|insert"
    r"|012345|12345678|abcdef|://|^(?:test|secret|password|passw0rd|admin|user|foo|bar)[0-9]{0,4}$"
    r"|^(?:base|sha|utf|int|uint|float|md)-?[0-9]+$",
    re.IGNORECASE,
)
_REFERENCE = re.compile(r"[A-Za-z_]\w*(?:(?:\.|->|::)[A-Za-z_]\w*)+")  # `settings.TOKEN_1` is code
_DIGIT, _LETTER, _SYMBOL = re.compile("[0-9]"), re.compile("[A-Za-z]"), re.compile(r"[!@#$%^&*+=?~]")
_SURE, _LIKELY, _UNLIKELY = 0.95, 0.7, 0.2


def find_tokens(text: str, regions: Sequence[tuple[int, int]]) -> Iterator[TaggedSpan]:
    """Spans of tokens; each region runs from a hyphen or an underscore inside to the end of letters and digits."""
    for start, end in regions:
        for match in _TOKEN.finditer(text, max(0, start - _PREFIX), end):
            yield TaggedSpan(KEY, *match.span(), _token_score(match[0]))


def find_short_prefixed_tokens(text: str, regions: Sequence[tuple[int, int]]) -> Iterator[TaggedSpan]:
    """Spans of tokens without such a sign; each region begins with their first letter, or with the dot or colon that
    ends their first part."""
    for sign, _ in regions:
        head = _HEAD.search(text, max(0, sign - 10), sign)
        start = head.start() if head and text[sign] in ".:" else sign
        match = _TOKEN.match(text, start, start + 320)
        if match is not None:
            yield TaggedSpan(KEY, *match.span(), _token_score(match[0]))


def find_web_tokens(text: str, regions: Sequence[tuple[int, int]]) -> Iterator[TaggedSpan]:
    """Spans of JSON Web Tokens; each region begins with the dot in front of the claims."""
    done = 0
    for dot, _ in regions:
        header = _HEADER_BACKWARDS.match(text[max(0, dot - 512) : dot][::-1]) if dot >= done else None
        begin = header[0][::-1].find("eyJ") if header else -1
        claims = _CLAIMS.match(text, dot, dot + 5200) if begin >= 0 else None
        if header is not None and claims is not None:
            done = claims.end()
            yield TaggedSpan(KEY, dot - header.end() + begin, done, _SURE if claims["signature"] else _LIKELY)


def find_private_keys(text: str, regions: Sequence[tuple[int, int]]) -> Iterator[TaggedSpan]:
    """Spans of private keys, with their first and last lines; each region begins with the first hyphen."""
    for start, _ in regions:
        first = _FIRST_LINES.match(text, start, start + _LONGEST_BEGINNING)
        others = _OTHER_LINES.match(text, first.end(), first.end() + _LONGEST_KEY) if first else None
        if others is not None:
            yield TaggedSpan(KEY, start, others.end(), _SURE)


def find_assignments(text: str, regions: Sequence[tuple[int, int]]) -> Iterator[TaggedSpan]:
    """Spans of what is assigned to a name such as `password`; each region begins with the colon or equals sign.

    Names of code, placeholders and plain words score 0.2.
    """
    for sign, _ in regions:
        if not _NAME.search(text, max(0, sign - _IN_SIGHT), sign):
            continue
        value = _VALUE.match(text, sign + 1, sign + 240)
        if value is not None and value.lastgroup is not None:
            start, end = value.span(value.lastgroup)
            if value.lastgroup == "bare":  # what follows is the punctuation of a sentence
                end = start + len(text[start:end].rstrip(".:!?"))
            if end - start >= _SHORTEST:
                yield TaggedSpan(PASSWORD, start, end, _secrecy(text[start:end]))


def entropy(text: str) -> float:
    """Shannon's entropy of the frequencies of characters, in bits a character; 0 of the empty text."""
    return sum(count / len(text) * math.log2(len(text) / count) for count in Counter(text).values())


def _token_score(token: str) -> float:
    if _PLACEHOLDER.search(token) or entropy(token) < 3:
        return _UNLIKELY
    return _SURE


def _secrecy(value: str) -> float:
    mixed = (_DIGIT.search(value) and _LETTER.search(value)) or _SYMBOL.search(value)
    bits = entropy(value)
    if not mixed or bits < 2.5 or _PLACEHOLDER.search(value) or _REFERENCE.fullmatch(value):
        return _UNLIKELY
    return _SURE if len(value) >= 16 and bits >= 3.5 else _LIKELY
