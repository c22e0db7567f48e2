"""Lists of documents and passages of the index, read from its catalogue without loading every text."""

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

from lmworks.config import from_mapping
from lmworks.corpus.documents import REJECTED
from lmworks.records import Document, RejectedRecord, Retrieved
from lmworks.retrieve.bm25 import STOP_WORDS
from lmworks.retrieve.config import SearchConfig
from lmworks.retrieve.encoder import Encoder
from lmworks.retrieve.index import Index
from lmworks.retrieve.rendered_text import rendered, rendered_title
from lmworks.retrieve.search import search
from lmworks.serve.pages.cited_documents import document_link
from lmworks.serve.pages.document_text import ChunkRange

ORDERS = ("name", "title", "chunks", "tokens")
PASSAGES = 50  # that a search brings
EXCERPT = 360  # characters shown of each

SEARCH = SearchConfig(k=PASSAGES, candidates=2 * PASSAGES)

PassageOrder = Literal["relevance", "document"]


@dataclass(frozen=True, slots=True)
class Entry:
    """A document in a list."""

    hash: str
    uri: str
    title: str  # as it is shown
    media_type: str
    chunks: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Opened:
    """A document to be shown, with its chunks and the other names of the same text."""

    document: Document
    chunks: tuple[ChunkRange, ...]
    other_uris: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Reason:
    """Why sources were left out: how many, and the first of them."""

    reason: str
    count: int
    examples: tuple[str, ...]

    @property
    def unnamed(self) -> int:
        return self.count - len(self.examples)


def entries(index: Index) -> tuple[Entry, ...]:
    """All documents, by uri."""
    return tuple(
        Entry(
            row["hash"],
            row["uri"],
            rendered_title(row["title"], row["extractor"]),
            *(row[name] for name in ("media_type", "chunks", "tokens")),
        )
        for row in index.summary()
    )


def open_document(index: Index, document_hash: str) -> Opened:
    """The document with this text; KeyError when the index holds none."""
    document = index.document(document_hash)
    uris = tuple(uri for uri in index.uris(document_hash) if uri != document.uri)[:100]
    chunks = tuple(ChunkRange(number, *span) for number, span in enumerate(index.ranges(document.uri), start=1))
    return Opened(document, chunks, uris)


def matching(listed: Sequence[Entry], words: str) -> tuple[Entry, ...]:
    """The documents whose name or title holds every one of the words, without regard to case."""
    terms = words.casefold().split()
    return tuple(e for e in listed if all(word in f"{e.uri} {e.title}".casefold() for word in terms))


def alike(listed: Sequence[Entry], words: str) -> tuple[Entry, ...]:
    """The documents with a word of their name or title that begins like one of these, those with most of them first."""
    terms = [word for word in re.findall(r"\w+", words.casefold()) if word not in STOP_WORDS and len(word) > 1]
    scored: list[tuple[int, Entry]] = []
    for entry in listed:
        entry_words = re.findall(r"[^\W_]+", f"{entry.uri} {entry.title}".casefold())
        score = sum(any(entry_word.startswith(word) for entry_word in entry_words) for word in terms)
        if score:
            scored.append((score, entry))
    return tuple(entry for _, entry in sorted(scored, key=lambda pair: (-pair[0], len(pair[1].uri), pair[1].uri)))


def ordered(listed: Sequence[Entry], order: str, *, descending: bool) -> tuple[Entry, ...]:
    """Sorted by one of `ORDERS`, then by uri."""
    keys = {
        "name": lambda e: e.uri.casefold(),
        "title": lambda e: (e.title or e.uri).casefold(),
        "chunks": lambda e: e.chunks,
        "tokens": lambda e: e.tokens,
    }
    return tuple(sorted(sorted(listed, key=lambda e: e.uri), key=keys[order], reverse=descending))


def left_out(folder: Path, examples: int = 20) -> tuple[Reason, ...]:
    """The sources that were left out when the documents were read, by reason, the most frequent first."""
    path = folder / REJECTED
    if not path.is_file():
        return ()
    rows = [from_mapping(RejectedRecord, json.loads(line)) for line in path.read_text("utf-8").split("\n")[:-1]]
    counts: Counter[str] = Counter()
    names: dict[str, list[str]] = {}
    for row in rows:
        counts[row.reason] += row.count
        names.setdefault(row.reason, []).append(row.uri)
    return tuple(Reason(reason, count, tuple(names[reason][:examples])) for reason, count in counts.most_common())


@dataclass(frozen=True, slots=True)
class ExcerptRun:
    """A run of an excerpt; `hit` when it is one of the words that were searched for."""

    text: str
    hit: bool


@dataclass(frozen=True, slots=True)
class FoundPassage:
    """One result: `scores` are those that the legs gave, with names that a reader knows."""

    rank: int
    uri: str
    link: str
    excerpt: tuple[ExcerptRun, ...]
    scores: tuple[tuple[str, str], ...]


def find_passages(index: Index, question: str, encoder: Encoder) -> tuple[FoundPassage, ...]:
    """The best passages for a question, best first."""
    ranked = search(index, question, encoder, SEARCH)
    document = lru_cache(maxsize=8)(index.document)
    return tuple(
        _shown(rank, passage, document(passage.span.document), question) for rank, passage in enumerate(ranked, start=1)
    )


def in_order(passages: Sequence[FoundPassage], order: PassageOrder) -> tuple[FoundPassage, ...]:
    """By relevance, or by document and, within one, by relevance."""
    return tuple(sorted(passages, key=lambda p: (p.uri, p.rank) if order == "document" else ("", p.rank)))


def _shown(rank: int, passage: Retrieved, document: Document, question: str) -> FoundPassage:
    scores = []
    if "dense" in passage.scores:
        scores.append(("cosine", f"{passage.scores['dense']:.3f}"))
    if "bm25" in passage.scores:
        scores.append(("BM25", f"{passage.scores['bm25']:.1f}"))
    text = " ".join(rendered(document, passage.span.start, passage.span.end).split())
    return FoundPassage(rank, passage.uri, document_link(passage.span), excerpt(text, question), tuple(scores))


def excerpt(text: str, question: str, length: int = EXCERPT) -> tuple[ExcerptRun, ...]:
    """About `length` characters around the first word that the question has too, those words marked."""
    words = [w for w in re.findall(r"\w+", question.casefold()) if w not in STOP_WORDS]
    pattern = re.compile(r"\b(?:" + "|".join(map(re.escape, words)) + r")\w*", re.IGNORECASE) if words else None
    first = pattern.search(text) if pattern else None
    begin = max(0, first.start() - length // 3) if first and first.start() > length * 2 // 3 else 0
    if begin:
        begin = text.rfind(" ", 0, begin) + 1
    end = min(len(text), begin + length)
    if end < len(text):
        end = max(text.rfind(" ", begin, end), begin + length // 2)
    result = [ExcerptRun("… ", False)] if begin else []
    done = begin
    for match in pattern.finditer(text, begin, end) if pattern else ():
        if done < match.start():
            result.append(ExcerptRun(text[done : match.start()], False))
        result.append(ExcerptRun(match[0], True))
        done = match.end()
    if done < end:
        result.append(ExcerptRun(text[done:end], False))
    if end < len(text):
        result.append(ExcerptRun(" …", False))
    return tuple(result)
