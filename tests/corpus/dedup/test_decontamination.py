"""Evaluation items in documents: every shared run by brute force, short items told of, and what is shown."""

import gzip
import json
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.tables import for_each
from lmworks.corpus.dedup import decontamination
from lmworks.corpus.dedup.decontamination import (
    RULE,
    SIZE,
    EvaluationItem,
    count_statuses,
    find_overlaps,
    index_items,
    read_items,
)
from lmworks.corpus.dedup.hashes import words

WORDS = st.lists(st.sampled_from("abc"), max_size=30).map(" ".join)
QUESTIONS = WORDS.filter(lambda text: not 3 <= len(text.split()) < 8)  # the short ones are apart
QUESTION = "How many red clips did Natalia sell altogether to her friends in April and in May last year?"


def units(item: EvaluationItem) -> list[list[str]]:
    """Of items with a question of eight words or none, and one answer."""
    long = [words(part) for part in item.parts if len(words(part)) >= 8]
    whole = words(item.question) + words(item.answers[0] if item.answers else "")
    return long or ([whole] if len(whole) >= 5 else [])


def places_of(run: list[str], found: list[str]) -> list[int]:
    return [n for n in range(len(found) - len(run) + 1) if found[n : n + len(run)] == run]


def by_definition(item: EvaluationItem, text: str) -> tuple[float, set[int]]:
    """(the share of the item's words, the words of the document) in shared runs."""
    found, covered, shares = words(text), set[int](), []
    for unit in units(item):
        length, mine = min(SIZE, len(unit)), set()
        for start in range(len(unit) - length + 1):
            places = places_of(unit[start : start + length], found)
            if places:
                mine.update(range(start, start + length))
            for place in places:
                covered.update(range(place, place + length))
        shares.append((len(mine), len(unit)))
    if not shares:
        return 0.0, covered
    whole = sum(mine for mine, _ in shares) / sum(size for _, size in shares)
    return max(whole, shares[0][0] / shares[0][1] if len(words(item.question)) >= 8 else 0.0), covered


@given(st.lists(st.tuples(QUESTIONS, WORDS), max_size=4), st.lists(WORDS, max_size=4))
def test_every_shared_run_is_found(pairs, texts):
    items = [EvaluationItem(str(number), question, (answer,)) for number, (question, answer) in enumerate(pairs)]
    texts += [f"c a {question}, b" for question, _ in pairs[:2]]
    found = {(o.document, o.item): o for o in find_overlaps(index_items(items), texts)}
    for document, text in enumerate(texts):
        for item in items:
            share, covered = by_definition(item, text)
            overlap = found.pop((document, item.id), None)
            if not covered:
                assert overlap is None
                continue
            assert overlap is not None and overlap.share == pytest.approx(share)
            assert overlap.matched in text and words(overlap.matched)
            shown = [word for span in overlap.spans for word in words(text[span.start : span.end])]
            assert shown == [word for place, word in enumerate(words(text)) if place in covered]
            assert all(span.score == overlap.share and span.rule == RULE for span in overlap.spans)
    assert not found


def status_of(items: list[EvaluationItem], texts: list[str]) -> dict[str, str]:
    index = index_items(items)
    found = {overlap.item for overlap in find_overlaps(index, texts)}
    statuses = {
        each.item.id: "contaminated" if each.item.id in found else each.undecided or "clean" for each in index.wanted
    }
    assert {name: count for name, count in count_statuses(index, found).items() if count} == Counter(statuses.values())
    return statuses


@for_each(("text", "found"), [
    ("Who wrote the play Hamlet? William Shakespeare.", True),
    ("Who wrote the play Hamlet?\n(a) Marlowe (b) William Shakespeare (c) Jonson", True),
    ("Who wrote the play Hamlet? Not Marlowe. It was, as most believe, William Shakespeare.", False),
    ("Who wrote the play Hamlet? a) Christopher Marlowe; b) Jonson. William Shakespeare", True),
    ("Who wrote the play Hamlet?", False), ("William Shakespeare. Who wrote the play Hamlet?", False),
    ("Christopher Marlowe, William Shakespeare, Jonson", False),
])  # fmt: skip
def test_a_short_question_counts_with_its_answer(text, found):
    """Seven words, question and answer: the answer right behind it, or else all choices."""
    choices = ("Christopher Marlowe", "William Shakespeare", "Jonson")
    item = EvaluationItem("a", "Who wrote the play Hamlet?", choices[1:2], choices)
    overlaps = list(find_overlaps(index_items([item]), [text]))
    assert [(o.share, o.matched) for o in overlaps] == ([(1.0, "Who wrote the play Hamlet")] if found else [])


def test_what_all_items_share_is_left_out(monkeypatch):
    instruction = "Read the passage below and then answer the question that follows it in one short sentence"
    items = [EvaluationItem(str(n), f"{instruction}: {QUESTION.replace('red', f'red{n}')}") for n in range(12)]
    items.append(EvaluationItem("only", instruction))
    statuses = status_of(items, [f"{instruction}.", QUESTION.replace("red", "red3")])
    assert statuses.pop("only") == "too common to decide"
    assert statuses == {str(n): "contaminated" if n == 3 else "clean" for n in range(12)}
    monkeypatch.setattr(decontamination, "MOST_ITEMS", 100)
    assert status_of(items, [instruction])["only"] == "contaminated"


def test_items_are_read_from_lines_and_objects(tmp_path):
    (tmp_path / "plain.txt").write_text("first question\n\n  second question \n", "utf-8")
    assert [item.id for item in read_items(tmp_path / "plain.txt")] == ["plain/1", "plain/3"]
    rows = [
        {"question": "q0", "answer": 1, "choices": ["x", "y"], "id": "k"},
        {"question": "q1", "answer": "B", "choices": {"text": ["x", "y"], "label": ["A", "B"]}},
        {"prompt": "q2", "canonical_solution": "return 1", "task_id": "HumanEval/2"},
        {"question": "q3", "answer": ["one", "1"]},
    ]
    path = tmp_path / "set.jsonl.gz"
    path.write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode()))
    assert read_items(path) == [
        EvaluationItem("set/k", "q0", ("y",), ("x", "y")),
        EvaluationItem("set/2", "q1", ("y",), ("x", "y")),
        EvaluationItem("set/HumanEval/2", "q2", ("return 1",)),
        EvaluationItem("set/4", "q3", ("one", "1")),
    ]
