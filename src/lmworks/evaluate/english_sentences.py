"""Sentences of English text as Punkt's English model divides them (Kiss and Strunk 2006), without its tables.

Punkt learnt from newspapers which tokens are abbreviations and which words occur in lower case. Here the abbreviations
are a list, and a word occurs in lower case when it does so in the text itself, or is one of the frequent ones. A
question or exclamation mark ends a sentence wherever something follows, a line break none.
"""

import re
from itertools import groupby

_ABBREVIATIONS = frozenset(
    "adm ala ariz aug ave bros calif cie co col colo conn corp cos ct dec dr feb fla fri ft ga gen ill inc jan jr kan "
    "ky lt ltd maj messrs mg mich minn mr mrs ms nev nov oct ok okla ore pa ph.d prof rep sen sep sept sr st tenn tues "
    "va vs vt wash wed wis a.c a.d a.m c.v d.c l.a m.b.a n.c n.d n.h n.j n.m n.y p.m r.i s.a s.c u.k u.n u.s u.s.a "
    "c d e f g h k l m n p r s t u v w".split()
)
_FREQUENT = frozenset(
    "a about after all also although an and another any as at because before both but by each even every finally first "
    "for from here however if in instead it its let make many maybe moreover most my next no not now of often on once "
    "one or other our please seated some so such that the their then there these they this those to turn until use we "
    "what when where which while who why with yes yet you your".split()
)
_CLOSERS = r"\"'’‘“”«»)\]}"
_END = re.compile(rf"[.?!](?=[{_CLOSERS};:*@({{\[!?]|\s+\S)")
_TOKEN = re.compile(rf"[^\s{_CLOSERS}(;:*@{{\[!?,]*\Z")
_NEXT = re.compile(r"\s*([^\W_]*)")
_CLOSING = re.compile(rf"[{_CLOSERS}]+?(?:\s+|(?=--)|$)", re.MULTILINE)
_NUMBER = re.compile(r"-?[.,]?\d[\d,.-]*")


def sentence_count(text: str) -> int:
    """How many sentences there are; 0 in a text of nothing but spaces."""
    return len(sentences(text))


def sentences(text: str) -> list[str]:
    """The sentences, without white space around them; none of nothing but spaces."""
    lower = _FREQUENT.union(re.findall(r"\b[a-z]+\b", text))
    ends = []
    for _, found in groupby(_END.finditer(text), key=lambda each: _word_start(text, each.start())):
        places = list(found)  # within one word with its punctuation; only the last one can end a sentence
        if any(_is_end(text, place, lower) for place in places):
            ends.append(places[-1].end())
    pieces = [text[start:end].lstrip() for start, end in zip([0, *ends], [*ends, len(text)], strict=True)]
    return [p.strip() for number, p in enumerate(pieces) if (_CLOSING.sub("", p, count=1) if number else p)]


def _word_start(text: str, place: int) -> int:
    while place and not text[place - 1].isspace():
        place -= 1
    return place


def _is_end(text: str, found: re.Match[str], lower: frozenset[str]) -> bool:
    if found[0] != ".":
        return True
    before, after = _TOKEN.search(text, max(0, found.start() - 40), found.start()), _NEXT.match(text, found.end())
    token, word = before[0].lower() if before else "", after[1] if after else ""
    begins = word[:1].isupper() and word.lower() in lower
    if len(token) == 1 and token.isalpha():
        listed = found.start() < 2 or text[found.start() - 2] == "\n"  # an outline: "A. Background"
        return token not in _ABBREVIATIONS and (begins or listed or not word[:1].isalpha())
    if token.endswith(".") or token.split("-")[-1] in _ABBREVIATIONS:
        return begins
    return not (_NUMBER.fullmatch(token) and word[:1].islower())
