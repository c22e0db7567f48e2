"""An answer's text with its citation marks told apart from its words."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

from lmworks.records import Span, Verdict


@dataclass(frozen=True, slots=True)
class Run:
    """Words, or (with `number`) the mark of a citation."""

    text: str
    number: int | None = None


def runs(text: str, citations: Sequence[Verdict]) -> tuple[Run, ...]:
    """The text cut at its citation marks.

    The mark of a citation stands right after the words that it cites; "[1]" that a document or a model wrote is text
    like any other. Where the words were changed since (redacted), it is the first such mark at the end of a line.
    """
    result: list[Run] = []
    done = 0
    for number, citation in enumerate(citations, start=1):
        place = _mark_after(text, done, citation.text, number)
        if place == -1:
            break
        mark = f"[{number}]"
        result += [Run(text[done:place]), Run(mark, number)]
        done = place + len(mark)
    if done < len(text):
        result.append(Run(text[done:]))
    return tuple(result)


def _mark_after(text: str, begin: int, words: str, number: int) -> int:
    """Where the mark of a citation stands; -1 when it does not. Lines may be broken in other places than in `words`."""
    flowing = r"\s+".join(map(re.escape, words.split()))
    found = re.compile(rf"\s*{flowing}\s*(?P<mark>\[{number}\])").match(text, begin)
    found = found or re.compile(rf"(?P<mark>\[{number}\])$", re.MULTILINE).search(text, begin)
    return found.start("mark") if found else -1


def document_link(span: Span) -> str:
    """Where the page of a document shows a span."""
    return f"/documents/{span.document}?{urlencode({'start': span.start, 'end': span.end})}#cite"
