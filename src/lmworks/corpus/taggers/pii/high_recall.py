"""Forms that are personal data often enough for a log to lose them, too seldom for a corpus to be cut: they score 0.1.

Keys of any provider, known by the prefix alone; addresses of mail glued to a word; accounts and cards in any groups,
where their check digits are right; telephone numbers that are short or written unusually.
"""

import re
from collections.abc import Callable, Collection, Iterator

from stdnum import luhn
from stdnum.iso7064 import mod_97_10

from lmworks.corpus.attributes import TaggedSpan
from lmworks.corpus.patterns import read_patterns
from lmworks.corpus.taggers.pii import addresses, keys, numbers, phone

_SCORE = 0.1

PATTERNS = read_patterns(__file__)


def find_loose_forms(text: str, rules: Collection[str]) -> Iterator[TaggedSpan]:
    """Spans by these rules, in no order; those of two rules may overlap."""
    has_number = PATTERNS["number"].search(text) is not None  # most texts are done with one search
    if keys.KEY in rules:
        yield from (TaggedSpan(keys.KEY, *match.span(), _SCORE) for match in PATTERNS["key"].finditer(text))
    if addresses.EMAIL in rules and "@" in text:
        yield from (TaggedSpan(addresses.EMAIL, *match.span(), _SCORE) for match in PATTERNS["email"].finditer(text))
    if numbers.IBAN in rules:
        yield from _checked(numbers.IBAN, PATTERNS["iban"], text, range(15, 35), _passes_97)
    if numbers.CARD in rules and has_number:
        yield from _checked(numbers.CARD, PATTERNS["card"], text, range(13, 20), luhn.is_valid)
    if phone.RULE in rules and has_number:
        for match in PATTERNS["phone"].finditer(text):
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
