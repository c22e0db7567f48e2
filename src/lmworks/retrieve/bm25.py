"""BM25 (Robertson & Zaragoza, 2009, section 3.6) over headings, words and pairs of words, by SQLite's FTS5."""

import re
from itertools import pairwise

from lmworks.retrieve.hits import Hits, ranking
from lmworks.retrieve.index import EVERYTHING, Filters, Index

# Words that nearly every chunk holds: their weight in BM25 is next to nothing, their cost a pass over the whole index.
STOP_WORDS = frozenset({
    "a", "an", "and", "any", "are", "as", "at", "be", "but", "by", "can", "do", "does", "for", "from", "had", "has",
    "have", "how", "i", "if", "in", "into", "is", "it", "its", "me", "my", "of", "on", "or", "so", "such", "than",
    "that", "the", "their", "them", "then", "there", "these", "they", "this", "to", "was", "we", "were", "what", "when",
    "where", "which", "who", "why", "will", "with", "would", "you", "your",
})  # fmt: skip
TITLE_WEIGHT = 1.5  # of a word in the headings, where one in the text counts 1


def lexical(index: Index, question: str, k: int, filters: Filters = EVERYTHING) -> Hits:
    """The `k` best chunks by BM25 over the words and word pairs of the question; the filters apply before the choice.

    Words are stemmed (Porter) and compared without case and accents. A name such as `max_tokens` is looked for as a
    phrase. Scores: `bm25`, higher is better, and `bm25_rank` from 1.
    """
    expression = match_expression(question)
    scored = index.match(expression, TITLE_WEIGHT, k, filters) if expression and k > 0 else []
    return ranking("bm25", [key for key, _ in scored], [score for _, score in scored])


def match_expression(question: str) -> str:
    """A question as an FTS5 query: its words, and each pair of neighbours as a phrase, joined by OR.

    Everything is quoted: whatever the user writes, none of it is syntax. Stop words count only in a pair with another
    word ("with statement"), unless there is nothing else.
    """
    words = [word.lower() for word in re.findall(r"\w+", question) if word.strip("_")]
    content_words = [word for word in words if word not in STOP_WORDS] or words
    pairs = [f"{first} {second}" for first, second in pairwise(words) if not {first, second} <= STOP_WORDS]
    return " OR ".join(f'"{term}"' for term in dict.fromkeys([*content_words, *pairs]))
