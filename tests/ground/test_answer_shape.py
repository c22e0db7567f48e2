"""The shape of an answer: subjects of sentences that have none, and code where a question asks how."""

from kit.tables import for_each
from lmworks.ground.candidate_sentences import Candidate, asks_how, example_for, lacks_subject, opening_of, with_subject
from lmworks.records import Span


def units(*items: tuple[str, str], passage: int = 0) -> list[Candidate]:
    """Neighbouring units, one space apart, of (kind, text)."""
    made: list[Candidate] = []
    start = 0
    for kind, text in items:
        made.append(Candidate(text, Span("d", start, start + len(text)), passage, "u", "Heading", kind))  # type: ignore[arg-type]
        start += len(text) + 1
    return made


def test_a_sentence_without_a_subject_is_read_with_those_before_it() -> None:
    found = units(
        ("paragraph", "Geneva lies on the Fox River."),
        ("paragraph", "It is the county seat."),
        ("paragraph", "It has a museum."),
        ("paragraph", "Visitors come by train."),
    )
    assert [with_subject(found, place) for place in range(4)] == [0, 0, 0, 3]
    assert with_subject(found[1:], 0) == 0 and with_subject(found[1:], 1) == 1, "nothing before names it"
    apart = [found[0], Candidate("It is old.", Span("d", 99, 109), 0, "u", "Heading")]
    assert with_subject(apart, 1) == 1, "another paragraph stands between"
    assert lacks_subject("They were sold.") and not lacks_subject("Items are sold.")


@for_each(
    ("question", "how"),
    [
        ("How do I sort a list?", True),
        ("an example of a decorator", True),
        ("What is a decorator?", False),
        ("How many threads are there?", False),
    ],
)
def test_code_is_looked_for_where_a_question_asks_how(question: str, how: bool) -> None:
    assert asks_how(question) == how


def test_the_example_is_the_next_code_or_the_signature_above() -> None:
    with_code = units(("heading", "sort(key=None)"), ("paragraph", "Sort the list."), ("code", ">>> a.sort()"))
    assert example_for(with_code, [1]) == [2]
    assert opening_of(with_code, 2) == 1
    assert example_for(with_code[:2], [1]) == [0]
    assert example_for(with_code, [2]) == [], "code was chosen already"
    assert example_for(units(("paragraph", "Sort the list.")), [0]) == []
    assert example_for([*with_code[1:2], *units(("code", ">>> b"), passage=1)], [0]) == [], "of another passage"
