"""The text of an answer, as Markdown: a line for each sentence, code and tables in fences; `[n]` follows what it cites.

    The decorator keeps the results of the last calls. [1]
    It is used like this:
    ```python
    @lru_cache(maxsize=32)
    ```
    [2]

`answer_text` writes it and `answer_parts` reads it back, for every page and for the command line.
"""

import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from lmworks.ground.candidate_sentences import Candidate, lacks_subject
from lmworks.records import Document, Retrieved, Span, Verdict
from lmworks.retrieve.rendered_text import flowing, rendered_quote, rendered_title
from lmworks.retrieve.text_block import UNITS

_FENCED = re.compile(
    r"^ {0,3}(?P<fence>`{3,})[^\n`]*\n(?P<code>.*?)(?:^ {0,3}(?P=fence)`*[ \t]*$\n?|\Z)", re.MULTILINE | re.DOTALL
)
_OPENING = re.compile(r"\A[ \t]*(?:`{3,}|~{3,})[ \t]*(?P<language>[^\n`]*)\n")
_CLOSING = re.compile(r"(?:\A|\n)[ \t]*(?:`{3,}|~{3,})[ \t]*\Z")
# Words that lead to the code that is cited with them: they end with a colon, and what begins like code is none.
_LEAD = re.compile(
    r"(?!(?:async|class|def|elif|else|except|finally|for|if|match|try|while|with)\b|[>$#@.|+])"
    r"(?P<words>[^\n]+(?:\n[^\n]+){0,5}?:)[ \t]*\n(?=[ \t]*(?:\n|`{3}|~{3}|[|+>]))\n*"
)


@dataclass(frozen=True, slots=True)
class Part:
    """Running text, or a block of code; `number` is that of the citation whose mark follows."""

    text: str
    code: bool = False
    number: int | None = None


def answer_text(citations: Sequence[Verdict], candidates: Sequence[Candidate], passages: Sequence[Retrieved]) -> str:
    """Every citation with its mark; a sentence that names no subject stands after its heading."""
    of = {(candidate.evidence.document, candidate.evidence.end): candidate for candidate in candidates}
    lines: list[str] = []
    for number, citation in enumerate(citations, start=1):
        candidate = of[citation.evidence.document, citation.evidence.end]
        words = " ".join(citation.text.split()) if candidate.kind == "list" else flowing(citation.text)
        if candidate.kind in UNITS or "\n" in words:
            lines += [*_fenced(citation, passages[candidate.passage]), f"[{number}]"]
            continue
        subject = candidate.heading.rpartition(" > ")[2]
        about = f"{subject}: " if subject and lacks_subject(citation.text) else ""
        lines.append(f"{about}{words} [{number}]")
    return "\n".join(lines)


def _fenced(citation: Verdict, passage: Retrieved) -> Iterator[str]:
    """A block, after the words that lead to it; fences and the indentation that its document gives it are left out."""
    start = citation.evidence.start - passage.span.start
    indent = passage.text[passage.text.rfind("\n", 0, start) + 1 : start]
    code = f"{indent}{citation.text}" if not indent.strip() else citation.text
    if lead := _LEAD.match(citation.text):
        yield flowing(lead["words"])
        code = citation.text[lead.end() :]
    opening = _OPENING.match(code)
    code = textwrap.dedent(_CLOSING.sub("", code[opening.end() :] if opening else code))
    fence = "`" * max(3, *(1 + len(ticks) for ticks in re.findall(r"^\s*(`{3,})", code, re.MULTILINE)), 3)
    yield f"{fence}{opening['language'].strip() if opening else ''}\n{code.rstrip()}\n{fence}"


def markdown_parts(text: str) -> tuple[Part, ...]:
    """Running text and blocks in fences; a block that is not closed continues to the end."""
    parts: list[Part] = []
    offset = 0
    for block in _FENCED.finditer(text):
        parts += [Part(text[offset : block.start()].strip("\n")), Part(block["code"].removesuffix("\n"), code=True)]
        offset = block.end()
    parts.append(Part(text[offset:].strip("\n")))
    return tuple(part for part in parts if part.text.strip())


def unfenced(text: str) -> str:
    """A Markdown text on one line, for a list: its code without fences."""
    return " ".join(" ".join(part.text for part in markdown_parts(text)).split())


def answer_parts(
    text: str, citations: Sequence[Verdict], documents: Mapping[str, Document] | None = None
) -> tuple[Part, ...]:
    """The parts of an answer, cut at the marks of its citations; `documents`, by hash, tell how quotes are rendered.

    A mark stands right after what it cites; "[1]" that a document or a model wrote is text like any other. Where the
    words were changed since (redacted), it is the first such mark at the end of a line.
    """
    parts: list[Part] = []
    waiting = list(enumerate(citations, start=1))
    for part in markdown_parts(text):
        remaining = "" if part.code else part.text
        parts += [part] if part.code else []
        while remaining and waiting:
            number, citation = waiting[0]
            follows = bool(parts) and parts[-1].code and remaining.startswith(f"[{number}]")
            offset = 0 if follows else _mark_after(remaining, citation.text, number)
            if offset == -1:
                break
            words = remaining[:offset].rstrip()
            parts[-1:] = (
                [replace(parts[-1], number=number)]
                if follows
                else [*parts[-1:], Part(_rendered(words, citation, documents or {}), number=number)]
            )
            remaining = remaining[offset + len(f"[{number}]") :].lstrip("\n")
            del waiting[0]
        if remaining.strip():
            parts.append(Part(_rendered(remaining, waiting[0][1], documents or {}) if waiting else remaining))
    return tuple(parts)


def short_answer(citations: Sequence[Verdict], documents: Mapping[str, Document] | None = None) -> str:
    """The words that answer by themselves, as they are rendered; "" where no citation has any."""
    for citation in citations:
        if citation.short is not None and citation.short_answer:
            return " ".join(rendered_quote(citation.short_answer, citation.short, documents or {}).split())
    return ""


def _mark_after(text: str, words: str, number: int) -> int:
    """The offset of a citation's mark; -1 when there is none. Lines may be broken in other places than in `words`."""
    quote = r"\s+".join(map(re.escape, words.split()))
    match = re.search(rf"{quote}\s*(?P<mark>\[{number}\])", text)
    match = match or re.search(rf"(?P<mark>\[{number}\])$", text, re.MULTILINE)
    return match.start("mark") if match else -1


def _rendered(words: str, citation: Verdict, documents: Mapping[str, Document]) -> str:
    """Quoted words without the marks of its document's markup, and so its heading; other words as they are."""
    for start in (0, *(colon.end() for colon in re.finditer(": ", words))):
        quote = re.search(r"\s+".join(map(re.escape, words[start:].split())) or r"\Z.", citation.text)
        if quote and citation.origin == "quoted":
            begin = citation.evidence.start + quote.start()
            span = Span(citation.evidence.document, begin, begin + len(quote[0]))
            document = documents.get(span.document)
            about = rendered_title(words[:start], document.extractor) if document else words[:start]
            shown = rendered_quote(quote[0], span, documents)
            return about + (shown if "\n" in words else " ".join(shown.split()))
    return words
