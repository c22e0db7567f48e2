"""The shape of an answer: what a reader needs next to the sentences that were chosen, from the same passages.

a subject     a sentence that begins with "It" is cited with the one before it, which names what it is about
an example    a question that asks how gets the code that follows, or the signature that stands above
"""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from lmworks.retrieve.text_block import UNITS

if TYPE_CHECKING:
    from lmworks.ground.candidate_sentences import Candidate

_PRONOUN = re.compile(
    r"\W*(?:it|its|he|his|she|her|hers|they|them|their|this|that|these|those|such|both|there)\b", re.IGNORECASE
)
_HOW = re.compile(
    r"\bhow (?:do|does|can|could|should|would|to|is|are)\b|\b(?:example|snippet|syntax|code|signature)\b"
    r"|^(?:show|write)\b",
    re.IGNORECASE,
)
_WHAT = re.compile(r"\W*(?:what(?:'s| is| are| does| do)|define|explain|meaning of|purpose of)\b", re.IGNORECASE)
LOOK_BACK = 2  # sentences at most that are cited for the sake of a subject


def lacks_subject(text: str) -> bool:
    """Whether a sentence begins with a pronoun, and so says nothing by itself about what it is about."""
    return bool(_PRONOUN.match(text))


def asks_how(question: str) -> bool:
    """Whether a question asks for a way to do something, which code shows best."""
    return bool(_HOW.search(question))


def asks_what(question: str) -> bool:
    """Whether a question asks what something is or does, which its definition says."""
    return bool(_WHAT.match(question))


def with_subject(candidates: "Sequence[Candidate]", place: int) -> int:
    """The place of the first of the neighbouring sentences that are read together with the one at `place`."""
    first = place
    while first > 0 and place - first < LOOK_BACK and lacks_subject(candidates[first].text):
        before, this = candidates[first - 1], candidates[first]
        if before.passage != this.passage or before.kind != this.kind:
            break
        if this.evidence.start - before.evidence.end > 1:  # a blank line, or something that is no candidate
            break
        first -= 1
    return first if not lacks_subject(candidates[first].text) else place


def opening_of(candidates: "Sequence[Candidate]", place: int) -> int:
    """The place of the first sentence of the same passage, which says what the passage is about."""
    same = (other for other, one in enumerate(candidates) if one.passage == candidates[place].passage)
    return next((other for other in same if candidates[other].kind not in UNITS), place)


def example_for(candidates: "Sequence[Candidate]", chosen: Sequence[int]) -> list[int]:
    """The place of the code that shows what the first chosen sentence says: the next code of its passage, or else the
    signature of it; empty where there is neither, or where code was chosen."""
    if not chosen or any(candidates[place].kind in UNITS for place in chosen):
        return []
    passage = candidates[chosen[0]].passage
    own = [place for place, candidate in enumerate(candidates) if candidate.passage == passage]
    after = [place for place in own if place > chosen[0] and candidates[place].kind == "code"]
    above = [place for place in own if place < chosen[0] and candidates[place].kind == "heading"]
    return after[:1] or above[-1:]
