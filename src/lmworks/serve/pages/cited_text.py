"""An answer's text, split into its words and its citation marks, and the documents that it cites."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from urllib.parse import urlencode

from lmworks.records import Document, Span, Verdict
from lmworks.retrieve.index import Index
from lmworks.serve.service import Service


@dataclass(frozen=True, slots=True)
class TextRun:
    """Words, or (with `number`) the mark of a citation."""

    text: str
    number: int | None = None


def text_runs(text: str, citations: Sequence[Verdict]) -> tuple[TextRun, ...]:
    """The text cut at its citation marks.

    The mark of a citation stands right after the words that it cites; "[1]" that a document or a model wrote is text
    like any other. Where the words were changed since (redacted), it is the first such mark at the end of a line.
    """
    result: list[TextRun] = []
    done = 0
    for number, citation in enumerate(citations, start=1):
        place = _mark_after(text, done, citation.text, number)
        if place == -1:
            break
        mark = f"[{number}]"
        result += [TextRun(text[done:place]), TextRun(mark, number)]
        done = place + len(mark)
    if done < len(text):
        result.append(TextRun(text[done:]))
    return tuple(result)


def _mark_after(text: str, begin: int, words: str, number: int) -> int:
    """The place of a citation's mark; -1 when there is none. Lines may be broken in other places than in `words`."""
    flowing = r"\s+".join(map(re.escape, words.split()))
    found = re.compile(rf"\s*{flowing}\s*(?P<mark>\[{number}\])").match(text, begin)
    found = found or re.compile(rf"(?P<mark>\[{number}\])$", re.MULTILINE).search(text, begin)
    return found.start("mark") if found else -1


def with_words(runs: Sequence[TextRun], words: Mapping[str, str]) -> tuple[TextRun, ...]:
    """The runs whose text, on one line, is among `words` with what it stands for there."""
    result: list[TextRun] = []
    for run in runs:
        said = run.text.strip()
        result.append(replace(run, text=run.text.replace(said, words.get(" ".join(said.split()), said), 1)))
    return tuple(result)


async def cited_documents(service: Service, hashes: Collection[str]) -> dict[str, Document]:
    """The documents of these hashes that the index still holds."""

    def read(index: Index) -> dict[str, Document]:
        found: dict[str, Document] = {}
        for document in hashes:
            try:
                found[document] = index.document(document)
            except KeyError:  # built anew without it since
                continue
        return found

    return await service.read_index(read) if hashes and service.state == "ready" else {}


def document_link(span: Span) -> str:
    """The address at which the page of a document shows a span."""
    return f"/documents/{span.document}?{urlencode({'start': span.start, 'end': span.end})}#cite"
