"""The language of the filter box, against plain Python over the same rows."""

import operator
from datetime import UTC, datetime

import pytest
from events import random_events, words
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from kit.tables import for_each
from lmworks.monitor import FilterError, Log
from lmworks.monitor.filter import WORDS, Condition, in_quotes, parse, words_of
from lmworks.records import Interaction, question_of

_OPERATORS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}


def holds(condition: Condition, interaction: Interaction) -> bool:
    """What a condition means, without any database."""
    key, value = condition.key, condition.value
    if key == WORDS:
        texts = question_of(interaction.messages), interaction.response
        found = any(_follow(words_of(str(value)), words_of(text)) for text in texts)
    elif key == "thumbs":
        thumbs = sorted((f for f in interaction.feedback if f.kind == "thumbs"), key=lambda f: f.time)
        found = (thumbs[-1].value or "" if thumbs else "") == value
    elif key in ("model", "prompt", "index"):
        found = getattr(interaction, key).startswith(value)
    elif key == "notes":
        found = any(f.kind == "note" for f in interaction.feedback)
    elif key in ("abstained", "error", "redacted"):
        found = bool(getattr(interaction, key))
    elif condition.operator == ":":
        found = getattr(interaction, key) == value
    else:
        number = interaction.timings.get("total") if key == "seconds" else getattr(interaction, key)
        found = number is not None and _OPERATORS[condition.operator](number, value)
    return found != condition.negated


def _follow(phrase: list[str], text: list[str]) -> bool:
    return any(text[start : start + len(phrase)] == phrase for start in range(len(text)))


@pytest.fixture(scope="module")
def logged(module_location):
    events = random_events(80, seed=1)
    with Log(module_location) as log:
        futures = [log.record(one) for one in events]
        for future in futures:
            future.result(20)
        yield log.reader, events


_conditions = st.one_of(
    words,
    st.lists(words, min_size=1, max_size=3).map(lambda found: f'"{" ".join(found)}"'),
    st.sampled_from(
        [
            *("route:assistant", 'route:"tiny model"', "operation:chat", "conversation:c1", "finish_reason:stop"),
            *("id:0000000000000003", "model:ab", "model:ab12", "model:b", "thumbs:up", "thumbs:down", "thumbs:none"),
            *("abstained:yes", "abstained:NO", "error:yes", "error:no", "notes:yes", "redacted:no", "index:x", "arm:A"),
            *("since:1970-01-01T00:00:20", "until:1970-01-01T00:00:30", "since:20s", "until:.5m"),
        ]
    ),
    st.builds(
        lambda key, symbol, value: f"{key}{symbol}{value}",
        st.sampled_from(["seconds", "confidence", "input_tokens", "output_tokens"]),
        st.sampled_from(list(_OPERATORS)),
        st.sampled_from(["0", "1", "2.5", ".5", "0.25", "-1", "3e0"]),
    ),
)
_filters = st.lists(st.builds(lambda minus, one: minus + one, st.sampled_from(["", "", "-"]), _conditions), max_size=4)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(parts=_filters, blank=st.sampled_from([" ", "  ", "\t", "\n"]))
@example(parts=["-confidence<0.5"], blank=" ")  # holds for what has no confidence at all
@example(parts=["UBER"], blank=" ")
@example(parts=["don't", "-x_y"], blank=" ")
def test_a_filter_finds_what_its_conditions_say(logged, parts, blank) -> None:
    reader, events = logged
    text = blank.join(parts)
    now = 40.0
    conditions = parse(text, now)
    expected = sorted((e.time, e.id) for e in events if all(holds(c, e) for c in conditions))[::-1]
    if not any(part.lstrip("-") in ("since:20s", "until:.5m") for part in parts):  # `find` counts from the clock
        assert [(row.time, row.id) for row in reader.find(text, limit=1000)] == expected
        assert reader.count(text) == len(expected)
    assert [row[-2:] for page in reader._pages("id", conditions, 7) for row in page] == expected


_snippets = st.sampled_from(
    [*"-:\"<>=*^()'%?\\", "route:", "seconds<", "since:", "thumbs:", "NOT", "OR", "NEAR(", "{a}:", "\0"]
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(max_size=40) | st.lists(_snippets | st.text(max_size=5), max_size=8).map("".join))
def test_any_text_is_a_filter_or_an_error_of_the_filter(logged, text) -> None:
    reader, events = logged
    try:
        conditions = parse(text)
    except FilterError as error:
        assert 0 <= error.position <= len(text)
        return
    assert 0 <= reader.count(text) <= len(events)
    assert len(conditions) or not text.strip()


@for_each(
    ("text", "position", "says"),
    [
        ("rout:assistant", 0, 'did you mean "route"'),
        ("a  rout:assistant", 3, "allowed: abstained, arm,"),
        ("https://example.org", 0, "put it in quotes"),
        ("route:", 6, "a value must follow route:"),
        ('route:" "', 6, "a value must follow"),
        ('seconds>"2', 8, "has no end"),
        ('"with', 0, "has no end"),
        ("seconds:2", 0, "seconds<, seconds<=, seconds> or seconds>="),
        ("seconds>two", 8, "not a number"),
        ("seconds>1e999", 8, "not a number"),
        ("seconds>nan", 8, "not a number"),
        ("route<2", 0, "route:value"),
        ("abstained:maybe", 10, "yes, no"),
        ("thumbs:sideways", 7, "up, down, none"),
        ("since:yesterday", 6, "2h (s, m, h, d, w)"),
        ("since:9999999999-01-01", 6, "2026-01-31"),
        ("- word", 1, "no letter or digit"),
        ("word ?!", 5, "no letter or digit"),
        ("a\0b", 1, "no text can hold"),
        (" ".join(["w"] * 65), 128, "at most 64"),
    ],
)
def test_errors_say_where_and_what_is_allowed(text, position, says) -> None:
    with pytest.raises(FilterError) as caught:
        parse(text)
    assert caught.value.position == position
    assert says in str(caught.value)
    assert f"character {position + 1}:" in str(caught.value)


def test_the_example_of_the_documentation() -> None:
    text = "route:assistant abstained:yes thumbs:down confidence<0.5 seconds>2 error:yes since:2h with statement"
    assert parse(text, now=7200.0) == (
        Condition("route", ":", "assistant"),
        Condition("abstained", ":", "yes"),
        Condition("thumbs", ":", "down"),
        Condition("confidence", "<", 0.5),
        Condition("seconds", ">", 2.0),
        Condition("error", ":", "yes"),
        Condition("time", ">=", 0.0),
        Condition(WORDS, ":", "with"),
        Condition(WORDS, ":", "statement"),
    )
    phrase, flag = parse('-"with statement" abstained:no')
    assert phrase == Condition(WORDS, ":", "with statement", True) and flag == Condition("abstained", ":", "yes", True)
    assert parse("  ") == ()


def test_dates_are_utc_unless_they_say_otherwise() -> None:
    midnight = datetime(2026, 1, 31, tzinfo=UTC).timestamp()
    assert parse("since:2026-01-31") == (Condition("time", ">=", midnight),)
    assert parse("until:2026-01-31T01:00+01:00") == (Condition("time", "<", midnight),)


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1))
def test_any_value_can_be_written_in_quotes(value) -> None:
    assume(value.strip())
    assert parse(f"conversation:{in_quotes(value)}") == (Condition("conversation", ":", value),)
