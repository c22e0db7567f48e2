"""Reading sets made to fit: gold spans stand at their places, and nothing without an answer counts as answerable."""

import json

import pytest
from contenders.reading_sets import ANSWERABLE, FOREIGN, ON_TOPIC, read_set, sample

from kit.tables import for_each

PLACES = ("Oslo", "Lima", "Bern", "Riga", "Kiev", "Rome")


def _write(path, *, impossible=False, shared=False, offset=0):
    """Articles of ten paragraphs each; a paragraph answers one question, which the other articles share or not."""
    data = []
    for place in PLACES:
        paragraphs = []
        for number in range(10):
            context = f"In paragraph {number} the capital meant is {place}{number}.\n\nNothing follows."
            question = f"Which capital is meant in paragraph {number}{'' if shared else f' of {place}'}?"
            answer = {"text": f"{place}{number}", "answer_start": context.index(place) + offset}
            qa = {"id": f"{place}{number}", "question": question, "answers": [answer]}
            if impossible and number % 2:
                qa |= {"is_impossible": True, "answers": []}
            paragraphs.append({"context": context, "qas": [qa]})
        data.append({"title": place, "paragraphs": paragraphs})
    path.write_text(json.dumps({"data": data}))
    return path


@for_each("impossible", [True, False])
def test_gold_is_quoted_and_what_is_hidden_or_impossible_has_none(tmp_path, impossible) -> None:
    reading = read_set(_write(tmp_path / "a.json", impossible=impossible), 1000, 0)
    texts = {document.hash: document for document in reading.documents}
    kinds = {kind: [one for one in reading.questions if one.kind == kind] for kind in (ANSWERABLE, ON_TOPIC)}
    assert len(kinds[ANSWERABLE]) + len(kinds[ON_TOPIC]) == 60
    assert len(kinds[ON_TOPIC]) == 30 if impossible else 0 < len(kinds[ON_TOPIC]) < 30
    for question in kinds[ANSWERABLE]:
        number, place = question.text.split()[6], question.text.split()[-1].rstrip("?")
        assert [texts[span.document].quote(span) for span in question.gold] == [f"{place}{number}"]
    if not impossible:  # the paragraph that would answer is nowhere
        for question in kinds[ON_TOPIC]:
            number, place = question.text.split()[6], question.text.split()[-1].rstrip("?")
            assert not any(f"{place}{number}." in document.text for document in reading.documents)


def test_an_answer_that_is_not_at_its_place_is_an_error(tmp_path) -> None:
    with pytest.raises(ValueError, match="does not stand at"):
        read_set(_write(tmp_path / "a.json", impossible=True, offset=1), 1000, 0)


def test_questions_of_many_articles_are_asked_within_their_own(tmp_path) -> None:
    own = read_set(_write(tmp_path / "a.json", shared=True), 1000, 0)
    other = read_set(_write(tmp_path / "b.json", impossible=True), 1000, 0)
    assert own.scoped
    assert not other.scoped
    every = {document.hash for document in own.documents}
    asked = sample([own, other], 0, 20, 0)
    assert sum(one.kind == FOREIGN for one in asked) == 10
    for question in asked:
        (within,) = every - set(question.excluded)
        assert all(span.document == within for span in question.gold)
        assert question.kind == ANSWERABLE or not question.gold
