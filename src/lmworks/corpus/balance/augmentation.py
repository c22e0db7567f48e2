"""Augmentations of prose: other lines, small letters, plain punctuation; no word is added, lost or moved.

Each is a pure function of a text and a seeded source of numbers. Only paragraphs are touched: lines without an indent
that look like no heading, list, table, quotation or markup, outside of fenced code. A text in which there is nothing to
change comes back as it is.
"""

import hashlib
from collections.abc import Callable, Mapping
from random import Random

from lmworks.corpus.dedup.hashes import UNSPACED
from lmworks.corpus.documents import Kind
from lmworks.corpus.patterns import read_patterns
from lmworks.corpus.taggers.tagger import Text

PROSE: tuple[Kind, ...] = ("web", "manual", "book", "mail", "text")  # a chat's marks of turns are its sense
PATTERNS = read_patterns(__file__, unspaced=UNSPACED)

_NARROWEST, _WIDEST = 60, 100  # columns of a line
_SHORTEST = 40  # characters of a line that was wrapped
_EVEN = 0.6  # of the longest line, for the shortest: verse and addresses vary more
_PLAIN = str.maketrans(
    {
        **dict.fromkeys("“”„‟", '"'),
        **dict.fromkeys("‘’‚‛", "'"),
        **dict.fromkeys("\u2010\u2011\u2013", "-"),
        **dict.fromkeys("\u00a0\u2009\u202f", " "),
        "—": "--",
        "…": "...",
    }
)


def choose_augmentation(shares: Mapping[str, float], kind: Kind, numbers: Random) -> str:
    """Which augmentation rewrites a repeat, each with its share; "" for none, as for what is no prose."""
    left = numbers.random()
    for name in sorted(shares) if kind in PROSE else ():
        left -= shares[name]
        if left < 0:
            return name
    return ""


def numbers_of(document_hash: str, copy: int, seed: int) -> Random:
    """The random numbers of one copy of a document: the same wherever it is made."""
    digest = hashlib.sha256(f"{seed} {copy} {document_hash}".encode()).digest()
    return Random(int.from_bytes(digest[:16]))


def _rewrap(text: Text, numbers: Random) -> str:
    """Paragraphs wrapped at another width, or each in one line; verse stays."""
    width = None if numbers.random() < 0.25 else _NARROWEST + int(numbers.random() * (_WIDEST - _NARROWEST + 1))
    return _paragraphs(text.text, lambda block: _rewrapped(block, width))


def _rewrapped(block: str, width: int | None) -> str:
    lines = block.split("\n")
    full = [len(line) for line in lines[:-1]]
    is_wrapped = bool(full) and min(full) >= max(_SHORTEST, _EVEN * max(full))
    divides_words = any(line.rstrip()[-1:] in "-\u2010\u00ad" for line in lines[:-1])
    if (full and not is_wrapped) or divides_words or PATTERNS["unspaced"].search(block):
        return block
    words = [word for line in lines for word in line.split(" ")]
    rows = [words[0]]
    for word in words[1:]:
        fits = width is None or len(rows[-1]) + 1 + len(word) <= width
        if fits or not word or PATTERNS["structure"].match(word + " "):  # at the beginning of a line it would be markup
            rows[-1] += f" {word}"
        else:
            rows.append(word)
    return "\n".join([*(row.rstrip(" ") for row in rows[:-1]), rows[-1]])


def _lowercase(text: Text, numbers: Random) -> str:
    """Small letters; words that hold anything but letters, such as names of files, stay, and so do Turkish and
    Azerbaijani, whose small letter of I is another one."""
    if text.language in ("tr", "az"):
        return text.text
    return _paragraphs(text.text, lambda block: PATTERNS["word"].sub(lambda match: match[0].lower(), block))


def _plain_punctuation(text: Text, numbers: Random) -> str:
    """Quotation marks, dashes, ellipses and fixed spaces as a typewriter has them."""
    return _paragraphs(text.text, lambda block: block.translate(_PLAIN))


AUGMENTATIONS: Mapping[str, Callable[[Text, Random], str]] = {
    "rewrap": _rewrap,
    "lowercase": _lowercase,
    "plain_punctuation": _plain_punctuation,
}


def _paragraphs(text: str, rewrite: Callable[[str], str]) -> str:
    """`rewrite` applied to each paragraph; all else, and the gaps between them, as it is."""
    parts = PATTERNS["blank"].split(text)
    fenced = False
    for place in range(0, len(parts), 2):
        block = parts[place]
        fences = len(PATTERNS["fence"].findall(block))
        has_end = block[:1] == "\n" or block[-1:] == "\n"  # the newlines at the ends of a text are no lines of it
        marked = has_end or PATTERNS["table"].search(block) or any(map(PATTERNS["structure"].match, block.split("\n")))
        if not fenced and not fences and not marked and PATTERNS["letters"].search(block):
            parts[place] = rewrite(block)
        fenced ^= fences % 2 == 1
    return "".join(parts)
