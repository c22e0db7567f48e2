"""Personal data and credentials in a text: the finders of all families over it.

Two scans look for signs that something could be there, and only around them is looked closer: a sign is a character
that is rare in prose and that every find of some family holds, such as the `@` of an address or the first digit of a
run. So a text without candidates costs two scans. Of finds that overlap one stays: a key, or one that scores one
half or more, then the one whose rule is earlier in `ORDER`, then the first, then the longer. What stood next to a find
may be found once it is gone, so the text is read again with the finds blanked out until nothing is found: a text is
clean after one redaction. A text made so that this would go on and on is marked as a whole.
"""

import re
from collections.abc import Callable, Collection, Iterator, Mapping

from lmworks.corpus.attributes import Attributes, TaggedSpan
from lmworks.corpus.taggers.pii import addresses, high_recall, keys, numbers, phone
from lmworks.corpus.taggers.tagger import Text, built_in, without_overlaps

ENTANGLED = "pii.entangled"
MEASURE = "pii_marks"  # that a text has where personal data were looked for
ORDER = (  # of overlapping finds the one of the earlier rule stays
    *(ENTANGLED, keys.KEY, keys.PASSWORD, addresses.EMAIL, numbers.IBAN, numbers.CARD, numbers.SSN, numbers.NATIONAL),
    *(addresses.IP, addresses.IP_SPECIAL, addresses.MAC, phone.RULE, addresses.URL),
)
_RANK: Mapping[str, int] = {rule: rank for rank, rule in enumerate(ORDER)}
_ROUNDS = 8  # of reading again; two are the rule
_BLANK = "<"  # like the brackets of what is written in place of a find, part of no find

_SEPARATORS = " \u00a0\u2009\u202f.()/\u2010\u2011\u2012\u2013-"
_GAPS = re.escape(_SEPARATORS)
_NUMBERS = re.compile(
    r"[0-9](?<![0-9].)(?:"
    # Two letters, and no more, before the digit: an account or a national insurance number; six: a codice fiscale.
    r"(?:(?<=[A-Za-z]{2}.)(?<![A-Za-z0-9][A-Za-z]{2}.)(?=[0-9][ \u00a0-]?[A-Za-z0-9]{4})"
    r"|(?<=[A-Z]{2} .)(?=[0-9] ?[0-9]{2} ?[0-9]{2} ?[A-D](?!\w))"
    r"|(?<=[A-Z]{6}.)(?=[0-9][A-Z][0-9]{2}[A-Z][0-9]{3}[A-Z]))(?P<lettered>)"
    # A run with a second digit, so that a year in front of a bracket is none.
    rf"|(?=[0-9]*[{_GAPS}]{{0,3}}[0-9])[0-9{_GAPS}]{{6,}}+(?P<number>)"
    r")"
)
_FEWEST_DIGITS = 7
# Two or more separators end a number, but for brackets around one of its groups: `+41 (0)44`, `(08) 8747`.
_BREAK = re.compile(rf"(?!(?: \(|\)[ ./-]|[./-]\()[0-9])[{_GAPS}]{{2,}}")
_NO_DIGIT = re.compile("[^0-9]+")

_NAME_ENDS = "(?i:rd|wd|ss|se|et|en|ey|al|ls|on)"  # of `password`, `pwd`, `pass`, `passphrase`, `secret`, `token`, ...
_SIGNS = re.compile(
    r"[.:=_A@(\[{-](?:"
    r"(?<=\.)(?:(?<=[wW]{3}.)(?=[^\W_])(?P<www>)|(?=eyJ[A-Za-z0-9_-]{4})(?P<web_token>)"
    r"|(?=[A-Za-z0-9_-]{16})(?:(?<=ya29\.)|(?<=SG\.)|(?<=hvs\.))(?P<dotted_token>))"
    r"|(?<=-)(?:(?=-{4}BEGIN )(?P<private_key>)"
    r"|(?<=[0-9A-Fa-f]{2}-)(?=[0-9A-Fa-f]{2}-[0-9A-Fa-f]{2}-[0-9A-Fa-f]{2}-)(?P<hyphens>))"
    # A run of letters and digits is taken at once, so that it is looked at once; keys hold digits.
    r"|(?<=[_-])(?=[A-Za-z0-9][A-Za-z0-9_-]{15})(?=[A-Za-z_-]{0,64}[0-9])[A-Za-z0-9_-]++(?P<token>)"
    r"|(?<=[(\[{])(?= ?[aA][tT] ?[)\]}])(?P<spelled_at>)"
    r"|(?<=:)(?=//[^\W_]|//\[)(?P<slashes>)"
    r"|(?<=[:=])(?=>?[ \t]{0,3}[\"']?[^\s\"'<>=]{5})(?:"
    rf"(?<={_NAME_ENDS}[:=])|(?<={_NAME_ENDS}[\s\"'][:=])"
    rf"|(?<={_NAME_ENDS}[\"'][\s\])][:=])|(?<={_NAME_ENDS}[\"']\]\s[:=]))(?P<assigned>)"
    r"|(?<=[0-9A-Fa-f:]:)(?=[0-9A-Fa-f]{0,4}:)[0-9A-Fa-f:]*+(?P<colons>)"
    r"|(?<=:)(?=AA[A-Za-z0-9_-]{33})(?P<bot_token>)"
    r"|(?<=A)(?=(?:KIA|SIA|BIA|CCA|3T[A-Z0-9])[A-Z2-7]{16}|Iza[A-Za-z0-9_-]{35})(?P<plain_token>)"
    r"|(?<=@)(?=[^\W_])(?P<at>)"
    r")"
)

Finder = Callable[[str, addresses.Regions], Iterator[TaggedSpan]]
_FINDERS: Mapping[str, tuple[Finder, ...]] = {
    "number": (numbers.find_cards, numbers.find_numbers, addresses.find_ipv4, phone.find_phones),
    "lettered": (numbers.find_ibans, numbers.find_lettered_numbers),
    "at": (addresses.find_emails,),
    "spelled_at": (addresses.find_spelled_emails,),
    "www": (addresses.find_urls,),
    "slashes": (addresses.find_urls,),
    "colons": (addresses.find_colon_addresses,),
    "hyphens": (addresses.find_hyphen_addresses,),
    "assigned": (keys.find_assignments,),
    "private_key": (keys.find_private_keys,),
    "web_token": (keys.find_web_tokens,),
    "token": (keys.find_tokens,),
    "dotted_token": (keys.find_short_prefixed_tokens,),
    "bot_token": (keys.find_short_prefixed_tokens,),
    "plain_token": (keys.find_short_prefixed_tokens,),
}


def personal_data(text: Text) -> Attributes:
    """Spans that do not overlap. Finds that score below one half are left out: those that are no one's (addresses of
    examples, private networks), those that are not personal (plain web addresses), and those that are rather something
    else. A policy may ask for more of what is tagged, not for less."""
    spans = find_personal_data(text.text)
    scores = {MEASURE: float(len(spans))}
    if text.text:
        scores["pii_share"] = sum(span.end - span.start for span in spans) / len(text.text)
    return Attributes(scores, spans)


PERSONAL_DATA = built_in("personal_data", personal_data)


def find_personal_data(
    text: str, at_least: float = 0.5, rules: Collection[str] = ORDER, *, loose: bool = False
) -> tuple[TaggedSpan, ...]:
    """Find what scores at least so much by these rules, in the order of the text. The spans do not overlap.

    `loose` adds the forms of `high_recall.py`, whatever they score.
    """
    found: list[TaggedSpan] = []
    rest = text
    for _ in range(_ROUNDS):
        spans = [
            span
            for sign, regions in _candidates(rest).items()
            for finder in _FINDERS[sign]
            for span in finder(rest, regions)
            if span.score >= at_least and span.rule in rules
        ]
        if loose:
            spans += high_recall.find_loose_forms(rest, rules)
        new = without_overlaps(spans, _precedence)
        if not new:
            return tuple(sorted(found, key=lambda span: span.start))
        found += new
        pieces, position = list[str](), 0
        for span in new:
            pieces += (rest[position : span.start], _BLANK * (span.end - span.start))
            position = span.end
        rest = "".join(pieces) + rest[position:]
    return (TaggedSpan(ENTANGLED, 0, len(text)),)


def _candidates(text: str) -> dict[str, list[tuple[int, int]]]:
    """The places of each kind of sign, in the order of the text; no key where there is none."""
    regions: dict[str, list[tuple[int, int]]] = {}
    for match in _NUMBERS.finditer(text):
        if match.lastgroup == "lettered":
            regions.setdefault("lettered", []).append(match.span())
            continue
        start, end = match.span()  # the parts that are long enough to be a number of any kind
        for stop, following in [*(found.span() for found in _BREAK.finditer(text, start, end)), (end, end)]:
            written = text[start:stop].rstrip(_SEPARATORS)
            # Four numbers of an address have three dots, and may have no more than four digits.
            if len(_NO_DIGIT.sub("", written)) >= _FEWEST_DIGITS or written.count(".") >= 3:
                regions.setdefault("number", []).append((start, start + len(written)))
            start = following
    for match in _SIGNS.finditer(text):
        if match.lastgroup is not None:
            regions.setdefault(match.lastgroup, []).append(match.span())
    return regions


def _precedence(span: TaggedSpan) -> tuple[bool, int, int, int, float]:
    # A part of a key gives the rest of it away, so the longest find of one stays, however sure it is.
    return span.score < 0.5 and span.rule != keys.KEY, _RANK[span.rule], span.start, -span.end, -span.score
