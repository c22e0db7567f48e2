"""The words of all books of a corpus, from which the repair of each learns how the others spell.

A book alone does not tell a word that was misread from one that it uses once. The counts are made of the extracted
texts before any is repaired, shard by shard. Of each book its own words are taken from them, so that what is misread in
it does not speak for itself, and nothing but the corpus decides what comes out.
"""

import json
from collections import Counter
from collections.abc import Callable, Mapping
from functools import cache
from heapq import nsmallest
from pathlib import Path

from lmworks.corpus.documents import Shard, document_from_json, kind_of
from lmworks.corpus.modifiers.hyphenation import unbroken_counts
from lmworks.corpus.modifiers.ocr import OcrModel, ocr_model

OthersWords = Callable[[str], OcrModel | None]  # of a book's text, the words of the other books

_MOST = 300_000  # different words that are kept, the most frequent ones: some 100 MB in each process
_LEAST = 100_000  # words of other books; fewer lack too many to tell which are none
_SHARED = 0.6  # of a book's running words, which the others have; else it is in another language
_IS_BOOK = b'"kind": "book"'  # quotes within a text have a backslash before them


def count_books(shard: Shard, path: Path) -> None:
    """Count how often each word stands in the books of a shard, into a new file."""
    counts: Counter[str] = Counter()
    with shard.path.open("rb") as stream:
        for number, line in enumerate(stream, start=1):
            if _IS_BOOK in line:
                document = document_from_json(line, f"{shard.path}, line {number}")
                if kind_of(document) == "book":
                    counts.update(unbroken_counts(document.text))
    path.write_text(json.dumps(_frequent(counts), ensure_ascii=False), "utf-8", "surrogatepass")


def join_counts(files: tuple[Path, ...], path: Path) -> None:
    """Add the counts of all shards, into one file."""
    counts: Counter[str] = Counter()
    for file in files:
        counts.update(json.loads(file.read_text("utf-8", "surrogatepass")))
        if len(counts) > 4 * _MOST:
            counts = Counter(_frequent(counts))
    path.write_text(json.dumps(_frequent(counts), ensure_ascii=False), "utf-8", "surrogatepass")


def _frequent(counts: Mapping[str, int]) -> dict[str, int]:
    """The most frequent words, sorted by their counts and then by themselves."""
    return dict(nsmallest(_MOST, counts.items(), key=lambda item: (-item[1], item[0])))


@cache
def words_of_others(path: Path) -> OthersWords:
    """Read what `join_counts` wrote, for the books of that corpus, one after the other."""
    counts: dict[str, int] = json.loads(path.read_text("utf-8", "surrogatepass"))
    model = ocr_model(counts) if sum(counts.values()) > _LEAST else None
    return lambda text: None if model is None else without(model, text)


def without(model: OcrModel, text: str) -> OcrModel | None:
    """The model of a corpus less the words of one text of it; None where the rest is too little, or another language.

    The letters in words are those of the whole corpus.
    """
    own = unbroken_counts(text)
    others = model.without(own)
    shared = sum(count for word, count in own.items() if others.count(word))
    return others if others.total >= _LEAST and shared >= _SHARED * own.total() else None
