"""Chunks that define a name of the question, such as `lru_cache`, print() or --flag."""

import re

from lmworks.retrieve.bm25 import STOP_WORDS
from lmworks.retrieve.hits import Hits
from lmworks.retrieve.index import EVERYTHING, Filters, Index
from lmworks.retrieve.symbols import written_names

WHOLE_NAME = 3.0  # the score of a chunk that defines a name as the question writes it; of a member, one less
NAMED_FIRST = 3  # chunks at most that stand first because they define a name that is asked for


def named(index: Index, question: str, filters: Filters = EVERYTHING) -> Hits:
    """The chunks that define a name of the question: what is written as a name first, then words that are names too.

    Scores: `named`, 3 for what is written as code and defined as it is written, 2 for a member of that name, 1 for a
    plain word ("how do I open a file").
    """
    written = written_names(question)
    plain = [word for word in re.findall(r"\w+", question.lower()) if word not in STOP_WORDS and word not in written]
    scores: dict[int, float] = {}
    for name in [*written, *dict.fromkeys(plain)]:
        for key, is_member in index.defining(name, filters):
            if name in written or not is_member:
                scores.setdefault(key, WHOLE_NAME - is_member if name in written else 1.0)
    keys = sorted(scores, key=lambda key: -scores[key])
    return Hits(tuple(keys), tuple({"named": scores[key]} for key in keys))


def asked_by_name_first(hits: Hits) -> Hits:
    """Move the chunks up that define a name which the question writes as code: the whole name before a member's."""
    scores = [scored.get("named", 0.0) for scored in hits.scores]
    first = sorted((rank for rank in range(len(hits)) if scores[rank] > 1), key=lambda rank: -scores[rank])
    first = first[:NAMED_FIRST]
    return hits.take([*first, *(rank for rank in range(len(hits)) if rank not in first)])
