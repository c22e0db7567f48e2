"""Gold quotes are resolved to spans; automatic questions are unambiguous and follow their seed."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hashing_encoder import make_document
from kit.tables import for_each
from lmworks.artefact import StageContext
from lmworks.config import ConfigError
from lmworks.corpus.documents import DOCUMENTS, write_documents
from lmworks.evaluate.question_set import (
    find_quote,
    read_gold,
    read_questions,
    resolve_gold,
    write_questions,
)
from lmworks.ground.config import QuestionsConfig
from lmworks.ground.question_generation import make_automatic, make_questions

PROSE = "This section says a good deal about its subject, in several sentences. " * 4


def gold_file(folder: Path, *rows: dict) -> Path:
    path = folder / "gold.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def row(identifier: str = "a", **fields: object) -> dict:
    gold = [{"uri": "u", "quote": "two words"}]
    return {"id": identifier, "question": "?", "split": "test", "answerable": True, "gold": gold} | fields


def test_a_quote_is_found_whatever_white_space_is_between_its_words():
    document = make_document("one\n  two\n   words three. two words")
    assert [document.quote(span) for span in find_quote(document, "two words")] == ["two\n   words", "two words"]
    assert find_quote(document, "two  three") == []
    assert find_quote(document, "  ") == []


@given(st.text(min_size=1).filter(str.strip))
def test_any_text_is_found_in_itself(text):
    document = make_document(f"before {text} after")
    assert find_quote(document, text)


def test_resolving_leaves_out_what_cannot_be_scored(tmp_path):
    rows = [row("found", answer="two"), row("lost", gold=[{"uri": "u", "quote": "absent"}])]
    rows.append(row("none", answerable=False, gold=[]))
    document = make_document("here are two words")
    questions, left_out = resolve_gold(read_gold(gold_file(tmp_path, *rows)), lambda uri: [document])
    assert [question.id for question in questions] == ["found", "none"]
    assert document.quote(questions[0].gold[0]) == "two words" and questions[0].answer == "two"
    assert [item.uri for item in left_out] == ["lost"]
    write_questions(tmp_path, questions)
    assert read_questions(tmp_path) == questions


def test_gold_questions_of_other_documents_are_left_out_whole_in_one_line(tmp_path):
    """Those without an answer too: about documents that nobody gave, none has one."""

    def made(text):
        folder = tmp_path / text
        folder.mkdir(exist_ok=True)
        if not (folder / DOCUMENTS).exists():
            write_documents(folder, [make_document(text)])
        context = StageContext({"documents": folder}, tmp_path, tmp_path, base=tmp_path)
        result = make_questions(QuestionsConfig(gold=(Path("gold.jsonl"),)), context)
        return result, [question.id for question in read_questions(tmp_path)]

    gold_file(tmp_path, row("a"), row("b", gold=[{"uri": "u", "quote": "absent"}]), row("c", answerable=False, gold=[]))
    result, questions = made("here are two words")
    assert questions == ["a", "c", "a-hidden"] and result.metrics["left_out"] == 1
    result, questions = made("nothing of them")
    assert questions == [] and result.metrics == {"gold": 0, "automatic": 0, "left_out": 3}
    told = "none of their quotes stands in the documents: all 3 are taken to be about others"
    assert result.sections[0].tables[1].rows == (("gold.jsonl", told),)
    gold_file(tmp_path, row("c", answerable=False, gold=[]))  # it names no document, so that nothing speaks against it
    assert made("nothing of them")[1] == ["c"]


@for_each(
    ("rows", "problem"),
    [
        ([row(answerable=False)], "answerable is False, but there are 1 gold quotes"),
        ([row(split="train")], "'calibration', 'test'"),
        ([row(), row()], "ids occur twice: a"),
        ([row(), row("b", qeustion="?")], 'line 2.*did you mean "question"'),
    ],
)
def test_a_malformed_gold_file_is_refused_with_its_place(tmp_path, rows, problem):
    with pytest.raises(ValueError, match=problem):
        read_gold(gold_file(tmp_path, *rows))


def test_a_line_that_is_not_json_is_named(tmp_path):
    path = gold_file(tmp_path, row())
    path.write_text(path.read_text() + "{oops\n")
    with pytest.raises(ConfigError, match="line 2: not JSON"):
        read_gold(path)


def test_automatic_questions_point_to_their_section_or_hide_their_document():
    documents = [
        make_document(f"# Guide {n}\n\n{PROSE}\n\n## Topic {n}\n\n{PROSE}\n", f"guide/{n}", "markdown", f"Guide {n}")
        for n in range(12)
    ]
    questions = make_automatic(documents, 10, seed=3)
    by_hash = {document.hash: document for document in documents}
    assert [question.kind for question in questions].count("heading") == 10
    assert [question.kind for question in questions].count("removed source") == 5
    assert {question.split for question in questions} == {"calibration", "test"}
    assert len({question.text for question in questions}) == len(questions)
    for question in questions:
        if question.kind == "heading":
            (span,) = question.gold
            assert by_hash[span.document].quote(span).startswith("This section says")
        else:
            assert not question.answerable
            assert by_hash[question.excluded[0]].title in question.text
    assert make_automatic(documents, 10, seed=3) == questions
    assert make_automatic(documents, 10, seed=4) != questions


def test_a_heading_that_two_places_share_asks_nothing():
    documents = [make_document(f"# Same\n\n{PROSE}{n}\n", f"u/{n}", "markdown", "Same") for n in range(2)]
    assert make_automatic(documents, 10, seed=0) == []
