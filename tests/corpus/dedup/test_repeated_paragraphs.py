"""Repeated paragraphs: against a dictionary of words, for documents in any parts."""

import re
from collections import defaultdict
from dataclasses import fields

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lmworks.corpus.dedup.hashes import words
from lmworks.corpus.dedup.repeated_substrings import Paragraphs, paragraphs_of, repeated_paragraphs

PARAGRAPHS = st.sampled_from(["one two", "One, two.", "  one two  ", "three four", "five", "-- --", "漢字 é"])
TEXTS = st.lists(st.lists(PARAGRAPHS, max_size=5).map(lambda parts: "\n \n\n".join(parts)), max_size=6)

Place = tuple[int, int, int]  # document, start, end


def by_definition(texts: list[str], least: int) -> set[tuple[Place, ...]]:
    """The places of each paragraph that two documents have."""
    places: dict[tuple[str, ...], list[Place]] = defaultdict(list)
    for document, text in enumerate(texts):
        start = 0
        for part in re.split(r"(\n\s*\n)", text):
            content = part.strip()
            if len(content) >= least and words(content):
                begin = start + part.index(content)
                places[tuple(words(content))].append((document, begin, begin + len(content)))
            start += len(part)
    return {tuple(where) for where in places.values() if len({document for document, _, _ in where}) > 1}


@given(TEXTS, st.integers(1, 8), st.integers(0, 6))
def test_the_places_are_those_of_paragraphs_that_documents_share(texts, least, cut):
    parts = [paragraphs_of(texts[:cut], least), paragraphs_of(texts[cut:], least, len(texts[:cut]))]
    names = [field.name for field in fields(Paragraphs)]
    joined = Paragraphs(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))
    found = repeated_paragraphs(joined)
    groups: dict[int, list[Place]] = defaultdict(list)
    for group, *place in zip(found.group, found.document, found.start, found.end, strict=True):
        groups[int(group)].append(tuple(map(int, place)))
    assert {tuple(where) for where in groups.values()} == by_definition(texts, least)
