"""Stop strings: the result depends on the text alone, not on how it was cut into pieces."""

from itertools import pairwise

from hypothesis import example, given
from hypothesis import strategies as st

from lmworks.generate.request_state import StopMatcher

# Two letters make stop strings that overlap themselves and each other frequent; é and 日 are multi-byte in UTF-8.
_LETTERS = st.sampled_from("abé日")
_TEXT = st.text(_LETTERS, max_size=30)
_STOPS = st.lists(st.text(_LETTERS, min_size=1, max_size=4), max_size=3)


def _expected(text: str, stops: list[str]) -> str:
    """The definition, read letter by letter: the stop string that is complete first ends the text where it begins."""
    for end in range(len(text) + 1):
        matches = [stop for stop in stops if text[:end].endswith(stop)]
        if matches:
            return text[: end - len(max(matches, key=len))]
    return text


@given(_TEXT, _STOPS, st.lists(st.integers(0, 30)))
@example("aab", ["ab"], [1, 2])
@example("abab", ["abb", "b"], [2])
def test_any_cut_gives_the_text_up_to_the_first_stop_string(text: str, stops: list[str], cuts: list[int]) -> None:
    matcher = StopMatcher(stops)
    borders = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    shown = ""
    for start, end in pairwise(borders):
        shown += matcher.feed(text[start:end])
        assert _expected(text, stops).startswith(shown), "showed text that turned out to belong to a stop string"
    stopped = matcher.stopped
    assert shown + matcher.flush() == _expected(text, stops)
    assert stopped == any(stop in text for stop in stops)


def test_text_that_cannot_become_a_stop_string_is_shown_at_once() -> None:
    matcher = StopMatcher(["\n\nQuestion:"])
    assert matcher.feed("An answer.") == "An answer."
    assert matcher.feed("\n") == ""
    assert matcher.feed("More") == "\nMore"


def test_nothing_follows_a_stop_string() -> None:
    matcher = StopMatcher(["END"])
    assert matcher.feed("text END more") == "text "
    assert matcher.feed("and more") == "" and matcher.flush() == ""
