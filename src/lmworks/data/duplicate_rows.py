"""Rows that repeat others: how many, and on which side of a split each is, so that what is held out was not learned."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lmworks.artefact import hash_json
from lmworks.corpus.dedup.kept_duplicates import equal_texts, linked
from lmworks.corpus.dedup.near_duplicates import NearDuplicatesConfig, compare, keys_of_texts
from lmworks.data.conversations import Dialogue, turns_of
from lmworks.data.document_tokens import conversation_hash

_ALIKE = NearDuplicatesConfig(threshold=0.8, words=3)  # shorter shingles than documents', as rows are short
_NEVER = "f" * 64  # the hash that no share holds out


@dataclass(frozen=True, slots=True)
class DuplicateRows:
    """hashes  SHA-256 of each conversation.
    sides   The SHA-256 that decides on which side of a split each row is: its question's, or one for all rows that say
            nearly the same (80 % of their shingles of three words), or ask what one of them asks; where these are more
            than a quarter of all rows, one that no share holds out.
    equal   Rows that are copies of another, to the letter.
    near    Rows that say nearly the same as another, next to these.
    """

    hashes: list[str]
    sides: list[str]
    equal: int
    near: int


def find_duplicates(dialogues: Iterable[Dialogue]) -> DuplicateRows:
    texts, hashes, questions = list[str](), list[str](), list[str]()
    for row in dialogues:
        messages = turns_of(row)[0]
        texts.append("\n".join(message.content for message in messages))
        hashes.append(conversation_hash(row))
        # By the first message of the user all answers to a question are on one side.
        questions.append(hash_json(next((message.content for message in messages if message.role == "user"), "")))
    pairs = compare(texts, np.arange(len(texts)), keys_of_texts(texts, _ALIKE), _ALIKE).pairs
    links = (pairs.first, pairs.second), equal_texts(hashes)
    equal, distinct = len(hashes) - len(set(hashes)), len(set(_groups(len(texts), *links)))
    groups = _groups(len(texts), *links, equal_texts(questions))
    asked: dict[int, set[str]] = {}
    for group, question in zip(groups, questions, strict=True):
        asked.setdefault(group, set()).add(question)
    sides = {group: hash_json(sorted(own)) if len(own) > 1 else min(own) for group, own in asked.items()}
    sides |= {
        group: _NEVER for group, rows in Counter(groups).items() if len(asked[group]) > 1 and 4 * rows > len(texts)
    }
    return DuplicateRows(hashes, [sides[group] for group in groups], equal, len(texts) - distinct - equal)


def _groups(rows: int, *links: tuple[NDArray[np.int64], NDArray[np.int64]]) -> list[int]:
    """The number of the group of each row, where linked ones are of one group."""
    first, second = np.concatenate(links, axis=1)
    return linked(first, second, rows).tolist()
