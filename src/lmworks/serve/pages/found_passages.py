"""Passages that a search of the documents found, as the Documents page lists them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from lmworks.records import Retrieved
from lmworks.retrieve.config import SearchConfig
from lmworks.retrieve.index import Encode, Index
from lmworks.retrieve.search import STOP_WORDS, search
from lmworks.serve.pages.cited_text import document_link

PASSAGES = 50  # that a search brings
EXCERPT = 360  # characters shown of each

# Two legs, dense and lexical, fused; reranking is left to the questions, which have the time for it.
SEARCH = SearchConfig(k=PASSAGES, candidates=2 * PASSAGES, rerank=0)

PassageOrder = Literal["relevance", "document"]


@dataclass(frozen=True, slots=True)
class Words:
    """A run of an excerpt; `hit` when it is one of the words that were searched for."""

    text: str
    hit: bool


@dataclass(frozen=True, slots=True)
class FoundPassage:
    """One result: `scores` are those that the legs gave, with names that a reader knows."""

    rank: int
    uri: str
    link: str
    excerpt: tuple[Words, ...]
    scores: tuple[tuple[str, str], ...]


def find_passages(index: Index, question: str, encode: Encode) -> tuple[FoundPassage, ...]:
    """The best passages for a question, best first."""
    found = search(index, question, encode, SEARCH)
    return tuple(_shown(rank, passage, question) for rank, passage in enumerate(found, start=1))


def in_order(passages: Sequence[FoundPassage], order: PassageOrder) -> tuple[FoundPassage, ...]:
    """By relevance, or by document and, within one, by relevance."""
    return tuple(sorted(passages, key=lambda p: (p.uri, p.rank) if order == "document" else ("", p.rank)))


def _shown(rank: int, passage: Retrieved, question: str) -> FoundPassage:
    scores = []
    if "dense" in passage.scores:
        scores.append(("cosine", f"{passage.scores['dense']:.3f}"))
    if "bm25" in passage.scores:
        scores.append(("BM25", f"{passage.scores['bm25']:.1f}"))
    text = " ".join(passage.text.split())
    return FoundPassage(rank, passage.uri, document_link(passage.span), excerpt(text, question), tuple(scores))


def excerpt(text: str, question: str, length: int = EXCERPT) -> tuple[Words, ...]:
    """About `length` characters around the first word that the question has too, those words marked."""
    words = [w for w in re.findall(r"\w+", question.casefold()) if w not in STOP_WORDS]
    wanted = re.compile(r"\b(?:" + "|".join(map(re.escape, words)) + r")\w*", re.IGNORECASE) if words else None
    first = wanted.search(text) if wanted else None
    begin = max(0, first.start() - length // 3) if first and first.start() > length * 2 // 3 else 0
    if begin:
        begin = text.rfind(" ", 0, begin) + 1
    end = min(len(text), begin + length)
    if end < len(text):
        end = max(text.rfind(" ", begin, end), begin + length // 2)
    result = [Words("… ", False)] if begin else []
    done = begin
    for match in wanted.finditer(text, begin, end) if wanted else ():
        if done < match.start():
            result.append(Words(text[done : match.start()], False))
        result.append(Words(match[0], True))
        done = match.end()
    if done < end:
        result.append(Words(text[done:end], False))
    if end < len(text):
        result.append(Words(" …", False))
    return tuple(result)
