"""Candidates are exact spans of their documents, whole enough to say something."""

from lmworks.ground.candidate_sentences import only_asks
from lmworks.ground.grounded_answer import Finder
from lmworks.retrieve.index import Filters


def texts(finder: Finder, question: str) -> list[str]:
    return [candidate.text for candidate in finder.evidence(question).candidates]


def test_every_candidate_is_the_documents_text_at_its_span(finder):
    evidence = finder.evidence("How long does a cat sleep?")
    assert len(evidence.candidates) >= 5
    for candidate in evidence.candidates:
        document = finder.index.document(candidate.evidence.document)
        assert document.quote(candidate.evidence) == candidate.text
        passage = evidence.passages[candidate.passage]
        assert passage.span.start <= candidate.evidence.start < candidate.evidence.end <= passage.span.end
        assert passage.uri == candidate.uri == document.uri


def test_a_lead_in_comes_with_what_it_leads_to(finder):
    found = texts(finder, "What do cats eat?")
    assert any(text.startswith("Cats eat as follows:") and "fish on every Friday" in text for text in found)
    assert not any(text.endswith(":") for text in found)


def test_headings_and_short_fragments_are_no_candidates(finder):
    found = texts(finder, "What do cats eat?")
    assert not any(text.startswith("#") for text in found)
    assert all(len(text) >= finder.config.minimum_characters for text in found)


def test_a_sentence_is_read_under_its_headings(finder):
    evidence = finder.evidence("What do cats eat?")
    (food,) = {c.heading for c in evidence.candidates if "fish" in c.text and c.text.startswith("Cats")}
    assert food == "Cats > Food"


def test_excluded_documents_give_no_candidates(finder):
    (cats,) = [document for document in finder.index.documents() if document.uri == "cats"]
    evidence = finder.evidence("How long does a cat sleep?", filters=Filters(exclude=frozenset([cats.hash])))
    assert {candidate.uri for candidate in evidence.candidates} == {"dogs", "birds"}


def test_what_only_asks_the_question_is_no_candidate(finder):
    assert not any("Owls hunt" in text for text in texts(finder, "owls  hunt in the dark."))
    assert any("Owls hunt" in text for text in texts(finder, "Where do owls hunt?"))
    assert any("Owls hunt" in text for text in texts(finder, "owls"))


def test_a_paragraph_may_answer_what_it_asks():
    question = "When do owls hunt?"
    assert only_asks('ask "When do owls hunt?" --json', "code", question)
    assert not only_asks("When do owls  hunt? At night.", "paragraph", question)
    assert not only_asks("hunt(owls)", "code", "owls")
