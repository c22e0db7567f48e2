"""The compiled walk over bytes against py3langid's own: the same features, counts, order and probabilities."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from py3langid.langid import MODEL_FILE, LanguageIdentifier, visit_counts

from lmworks.data.annotate.language_walk import CompiledIdentifier, Walk, load, load_identifier

LIBRARY = load()
compiled = pytest.mark.skipif(LIBRARY is None, reason="lmworks was installed without its compiled parts")
TEXTS = [
    "Гавань была тиха, когда",
    "the first boats came back",
    "Der Hafen lag still",
    "漁港は静か",
    "",
    "\ud800",
    "ABC DEF",
]


@st.composite
def automata(draw: st.DrawFn) -> tuple[list[int], list[int], list[int]]:
    """Some states, of which several share a row, and few features, so that many texts come to one again."""
    states, rows = draw(st.integers(1, 12)), draw(st.integers(1, 5))
    generator = random.Random(draw(st.integers(0, 2**32)))
    following = [generator.randrange(states) for _ in range(256 * rows)]
    starts = [256 * generator.randrange(rows) for _ in range(states)]
    return following, starts, [generator.randint(-2, 4) for _ in range(states)]


@compiled
@given(automata(), st.binary(max_size=300))
def test_any_automaton_on_any_bytes(automaton: tuple[list[int], list[int], list[int]], text: bytes) -> None:
    assert LIBRARY is not None
    found = Walk(LIBRARY, *automaton)(text)
    expected = visit_counts(*automaton, text) or {}
    assert list(found.items()) == list(expected.items())


@compiled
@pytest.mark.parametrize(
    "automaton", [([1] * 256, [0], [0]), ([0] * 255, [0], [0]), ([0] * 256, [0, 1], [0, 0]), ([0] * 256, [0], [0, 0])]
)
def test_an_automaton_that_leads_out_of_itself_is_refused(automaton: tuple[list[int], list[int], list[int]]) -> None:
    assert LIBRARY is not None
    with pytest.raises(ValueError, match="automaton"):
        Walk(LIBRARY, *automaton)


@compiled
@given(st.lists(st.sampled_from(TEXTS) | st.text(max_size=40), max_size=6).map(" ".join))
def test_identifies_as_py3langid_does(text: str) -> None:
    assert OURS.classify(text) == THEIRS.classify(text)
    assert OURS.rank(text) == THEIRS.rank(text)


OURS = load_identifier()
THEIRS = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


@compiled
def test_the_walk_is_compiled() -> None:
    assert isinstance(OURS, CompiledIdentifier)


def test_without_the_compiled_part_it_is_py3langid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lmworks.data.annotate.language_walk.load", lambda: None)
    assert type(load_identifier()) is LanguageIdentifier
