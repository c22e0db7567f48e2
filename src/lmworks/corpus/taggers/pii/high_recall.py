"""Forms that are personal data often enough for a log to lose them, too seldom for a corpus to be cut: they score 0.1.

Keys of any provider, known by the prefix alone; addresses of mail glued to a word; accounts and cards in any groups,
where their check digits are right; telephone numbers that are short or written unusually.
"""

import re
from collections.abc import Callable, Collection, Iterator

from stdnum import luhn
from stdnum.iso7064 import mod_97_10

from lmworks.corpus.attributes import TaggedSpan
from lmworks.corpus.taggers.pii import addresses, keys, numbers, phone

_SCORE = 0.1

_KEY = re.compile(
    r"(?<![A-Za-z0-9])(?:(?:sk|pk|rk)[-_][A-Za-z0-9_-]{16,}"  # keys of model providers and payment services
    r"|(?i:bearer)\s+[A-Za-z0-9._~+/=-]{16,}"
    r"|gh[a-z]_[A-Za-z0-9]{30,}|github_pat_[A-Za-z0-9_]{30,}|glpat-[A-Za-z0-9_-]{16,}"
    r"|(?:AKIA|ASIA)[A-Z0-9]{16}(?![A-Za-z0-9])|xox[a-z]-[A-Za-z0-9-]{10,}"
    r"|lmw-[A-Za-z0-9_-]{43,}|AIza[A-Za-z0-9_-]{35,}|(?:hf|npm)_[A-Za-z0-9]{30,})"
    # JSON Web Token, with what is glued to its front: a run of its characters has one start, or it would be read often.
    r"|(?<![A-Za-z0-9_-])(?:[A-Za-z0-9]{0,32}[_-])?"
    r"eyJ[A-Za-z0-9_-]{8,4096}\.[A-Za-z0-9_-]{8,65536}\.[A-Za-z0-9_-]*"
    r"|-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----.*?(?:-----END [A-Z ]{0,40}PRIVATE KEY-----|\Z)",
    re.DOTALL,
)
_EMAIL = re.compile(r"(?<![\w.%+-])[\w.%+'-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,8}")
_IBAN = re.compile(r"(?<![A-Za-z0-9])[A-Za-z]{2} ?[0-9]{2}(?: ?[A-Za-z0-9]){11,30}(?![A-Za-z0-9])")
_NUMBER = re.compile(r"[0-9](?:[ ./()-]{0,3}[0-9]){6}")
_CARD = re.compile(r"(?<!\w)[2-6](?:[ -]?[0-9]){12,18}(?!\w)")
_PHONE = re.compile(
    # With the code of a country; brackets stand right behind it, later ones begin another number.
    r"(?<![\w+])\+[0-9]{1,3}[ ./-]?(?:\(0\)(?:[ ./-]{0,2}[0-9]){6,11}|\([0-9]{2,5}\)(?:[ ./-]{0,2}[0-9]){3,9})(?!\w)"
    r"|(?<![\w+])\+[0-9](?:[ ./-]{0,2}[0-9]){6,14}(?!\w)"
    r"|(?<![\w.+-])(?:\([0-9]{2,5}\) ?|0[0-9]{1,4}[ /-]|[0-9]{3}[ .-])[0-9]{3,4}(?:[ .-]?[0-9]{2,4}){1,3}(?!\w)"
)


def find_loose_forms(text: str, rules: Collection[str]) -> Iterator[TaggedSpan]:
    """Spans by these rules, in no order; those of two rules may overlap."""
    has_number = _NUMBER.search(text) is not None  # most texts are done with one search
    if keys.KEY in rules:
        yield from (TaggedSpan(keys.KEY, *match.span(), _SCORE) for match in _KEY.finditer(text))
    if addresses.EMAIL in rules and "@" in text:
        yield from (TaggedSpan(addresses.EMAIL, *match.span(), _SCORE) for match in _EMAIL.finditer(text))
    if numbers.IBAN in rules:
        yield from _checked(numbers.IBAN, _IBAN, text, range(15, 35), _passes_97)
    if numbers.CARD in rules and has_number:
        yield from _checked(numbers.CARD, _CARD, text, range(13, 20), luhn.is_valid)
    if phone.RULE in rules and has_number:
        for match in _PHONE.finditer(text):
            if 7 <= sum(map(str.isdigit, match[0])) <= 15:
                yield TaggedSpan(phone.RULE, *match.span(), _SCORE)


def _passes_97(compact: str) -> bool:
    """ISO 13616: with the first four characters at the end, modulo 97 leaves 1; in any country's length."""
    return mod_97_10.is_valid(compact[4:] + compact[:4])


def _checked(
    rule: str, pattern: re.Pattern[str], text: str, lengths: range, check: Callable[[str], bool]
) -> Iterator[TaggedSpan]:
    """Numbers in groups that prove themselves: what stands before and after may look like further groups, so each start
    is tried, and for each start each end of a group, the longest first."""
    position = 0
    while match := pattern.search(text, position):
        start = position = match.start()
        position += 1
        for end, compact in numbers.whole_groups(text, *match.span()):
            if len(compact) in lengths and check(compact):
                yield TaggedSpan(rule, start, end, _SCORE)
                position = end
                break
