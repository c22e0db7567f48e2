"""Web addresses (RFC 3986), those that name a person, and passwords in them.

A plain address is hardly personal, and scores 0.2. The page of a person, `/@name` or `/~name`, is, and scores 0.8.
"""

import re
from collections.abc import Iterator

from lmworks.data.annotate.pii.context import Regions
from lmworks.data.annotate.pii.keys import PASSWORD
from lmworks.data.annotation import Mark

RULE, PROFILE = "pii.url", "pii.profile"

_LONGEST = 2000
_SCHEME = re.compile(
    r"(?<![^\W_])(?i:https?|s?ftps?|wss?|ssh|git|svn|smb|postgres(?:ql)?|mysql|mongodb(?:\+srv)?|rediss?|amqps?|smtps?"
    r"|imaps?|ldaps?)\Z"
)
_BODY = re.compile(
    r"(?:\[[0-9A-Fa-f:.]{2,45}\]|[^\W_])[^\s<>\"{}|\\^`\[\]\u3000-\u3002\u300c-\u3011\uff08\uff09\uff0c]"
    rf"{{0,{_LONGEST}}}+"
)
_PUNCTUATION = ".,;:!?'*_~"
_LOGIN = re.compile(r"[^\s/?#@:<>\[\]\"']{1,64}:([^\s/?#@<>\[\]\"']{1,128})@")
_NO_PASSWORD = re.compile(r"(?:pass(?:word|wd|phrase)?|pwd|secret|user|x{3,}|\*{2,}|\.{3}|[$%].*)", re.IGNORECASE)

# Paths that look like a person's page and are the site's own.
_OF_THE_SITE = (
    r"(?:about|accounts?|blog|contact|dialog|discover|docs|events|explore|features|groups|hashtag|help|home|i|intent"
    r"|jobs|joinchat|legal|login|marketplace|pages|plugins|policies|press|pricing|privacy|public|p|reel|s|search"
    r"|settings|shared?|sharer|signup|sponsors|stories|terms|topics|tos|tr|trending|watch)(?:[/?#.]|$)"
)
_PROFILE = re.compile(
    r"(?:www\.|m\.|old\.|[a-z]{2}(?:-[a-z]{2})?\.)?(?:"
    r"(?:(?:facebook|twitter|x|instagram|github|gitlab|pinterest|vk)\.com|bitbucket\.org)"
    rf"/(?!{_OF_THE_SITE})@?[\w.%-]{{2,64}}/?(?:[?#]|$)"
    rf"|t\.me/(?!{_OF_THE_SITE})\w{{4,32}}/?(?:[?#]|$)"
    r"|linkedin\.com/(?:in|pub)/[\w%.-]{2,100}"
    r"|reddit\.com/u(?:ser)?/[\w-]{3,20}"
    r"|(?:[\w-]{1,63}\.){1,4}[a-z]{2,24}/(?:@[\w.-]{2,64}|~[\w.-]{2,32})/?(?:[?#]|$)"
    r")",
    re.IGNORECASE,
)
_PERSON, _LOGGED_IN, _PLACEHOLDER, _PLAIN = 0.8, 0.9, 0.2, 0.2


def find_urls(text: str, regions: Regions) -> Iterator[Mark]:
    """Marks of addresses with a scheme; each region begins with the colon of `://`."""
    done = 0
    for colon, _ in regions:
        if colon < done:  # one address inside another
            continue
        scheme = _SCHEME.search(text, max(0, colon - 16), colon)
        body = _BODY.match(text, colon + 3, colon + 3 + _LONGEST) if scheme else None
        if scheme is None or body is None:
            continue
        login = _LOGIN.match(text, body.start(), body.end())
        if login is not None:
            score = _PLACEHOLDER if _NO_PASSWORD.fullmatch(login[1]) else _LOGGED_IN
            yield Mark(PASSWORD, login.start(), login.end() - 1, score)
        done = body.end()
        yield _mark(scheme.start(), body.start(), trimmed(body[0]))


def find_bare_hosts(text: str, regions: Regions) -> Iterator[Mark]:
    """Marks of addresses that begin with `www.`; each region begins with its dot."""
    done = 0
    for dot, _ in regions:
        start = dot - 3
        before = text[start - 1 : start] if start else ""
        if dot < done or before.isalnum() or before in (".", "-", "_", "@"):
            continue
        body = _BODY.match(text, start, start + _LONGEST)
        if body is not None:
            done = body.end()
            yield _mark(start, start, trimmed(body[0]))


def trimmed(address: str) -> str:
    """An address without the punctuation of the sentence that it stands in, and closing brackets that none opens."""
    for _ in range(4):  # `http://x.org/).` and the like; whoever writes more of them loses nothing
        address = address.rstrip(_PUNCTUATION)
        unopened = address.count(")") - address.count("(")
        closing = len(address) - len(address.rstrip(")"))
        if unopened <= 0 or not closing:
            break
        address = address[: len(address) - min(unopened, closing)]
    return address


def _mark(start: int, body_start: int, body: str) -> Mark:
    rule, score = (PROFILE, _PERSON) if _PROFILE.match(body) else (RULE, _PLAIN)
    return Mark(rule, start, body_start + len(body), score)
