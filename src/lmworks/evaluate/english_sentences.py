"""Sentences of English text as Punkt's English model divides them (Kiss and Strunk 2006), without its tables.

Punkt learnt from newspapers which tokens are abbreviations, and which words are capitalised only where a sentence
begins. Here both are short lists. A question or exclamation mark ends a sentence wherever something follows, a line
break none.
"""

import re
from bisect import bisect_right
from itertools import groupby

_ABBREVIATIONS = frozenset(
    "adm ala ariz aug ave bros calif cie co col colo conn corp cos ct dec dr feb fla fri ft ga gen ill inc jan jr kan "
    "ky lt ltd maj messrs mg mich minn mr mrs ms nev nov oct ok okla ore pa ph.d prof rep sen sep sept sr st tenn tues "
    "va vs vt wash wed wis a.c a.d a.m c.v d.c l.a m.b.a n.c n.d n.h n.j n.m n.y p.m r.i s.a s.c u.k u.n u.s u.s.a "
    "c d e f g h k l m n p r s t u v w".split()
)
_BEGINNINGS = frozenset(
    "according although among both but despite even finally he here however i if in indeed instead it many "
    "meanwhile moreover most nevertheless nonetheless nor please seated separately similarly since so some such the "
    "there these they this though thus turn under when which while yes yet your".split()
)
_CLOSERS = r"\"'’‘“”«»)\]}"
_END = re.compile(rf"[.?!](?=[{_CLOSERS};:*@({{\[!?]|\s+\S)")
_TOKEN = re.compile(rf"[^\s{_CLOSERS}(;:*@{{\[!?,]*\Z")
_NEXT = re.compile(r"\s*([^\W_]*)")
_CLOSING = re.compile(rf"[{_CLOSERS}]+?(?:\s+|(?=--)|$)", re.MULTILINE)
_NUMBER = re.compile(r"-?[.,]?\d[\d,.-]*")


def sentences(text: str) -> list[str]:
    """The sentences, without white space around them; none of nothing but spaces."""
    ends, words = [], [word.start() for word in re.finditer(r"\S+", text)]
    for _, found in groupby(_END.finditer(text), key=lambda place: bisect_right(words, place.start())):
        places = list(found)  # within one word with its punctuation; only the last one can end a sentence
        if any(_is_end(text, place) for place in places):
            ends.append(places[-1].end())
    pieces = [text[start:end].lstrip() for start, end in zip([0, *ends], [*ends, len(text)], strict=True)]
    return [p.strip() for number, p in enumerate(pieces) if (_CLOSING.sub("", p, count=1) if number else p)]


def _is_end(text: str, found: re.Match[str]) -> bool:
    if found[0] != ".":
        return True
    before, after = _TOKEN.search(text, max(0, found.start() - 40), found.start()), _NEXT.match(text, found.end())
    token, word = before[0].lower() if before else "", after[1] if after else ""
    begins = word[:1].isupper() and word.lower() in _BEGINNINGS
    if len(token) == 1 and token.isalpha():
        listed = found.start() < 2 or text[found.start() - 2] == "\n"  # an outline: "A. Background"
        return token not in _ABBREVIATIONS and (begins or listed or not word[:1].isalpha())
    if token.endswith(".") or token.split("-")[-1] in _ABBREVIATIONS:
        return begins
    return not (_NUMBER.fullmatch(token) and word[:1].islower())
