"""Interactions to log, plain ones and random ones."""

import random
import string
from typing import Any

from hypothesis import strategies as st

from lmworks.records import Feedback, Interaction, Message, Retrieved, Span, Verdict

DOCUMENT = "ab" * 32


def event(number: int = 0, **changes: Any) -> Interaction:
    """A small interaction whose id is `number`."""
    values: dict[str, Any] = {
        "id": f"{number:016x}",
        "time": 1000.0 + number,
        "messages": (Message("user", f"What is number {number}?"),),
        "response": f"It is {number}.",
        "timings": {"queued": 0.25, "prefill": 0.5, "decode": 0.75, "total": 1.5},
    }
    return Interaction(**{**values, **changes})


def full_event(number: int = 0) -> Interaction:
    """An interaction with something in every field."""
    key = f"{number:016x}"
    verdict = Verdict("It closes.", "quoted", Span(DOCUMENT, 3, 13), "docs/a.md", 0.75, -0.125, "cited")
    return Interaction(
        id=key,
        time=1_700_000_000.123456,
        messages=(
            Message("system", "Be brief."),
            Message("assistant", "", ({"function": {"name": "f", "arguments": {"x": [1, 2.5, None]}}},), "tool", "c1"),
            Message("user", "What does `with` do? \ud800 \0 ü"),
        ),
        response="It closes. [1] \ud83d \0",
        operation="chat",
        tools=({"type": "function", "function": {"name": "f"}},),
        rendered_prompt="<|im_start|>...",
        prompt_ids=(1, 2, 3),
        token_ids=(4, 5),
        token_log_probabilities=(-0.1, float("-inf")),
        parameters={"temperature": 0.7, "stop": ["\n"], "logit_bias": {"5": 1.0}},
        finish_reason="length",
        error="DeadlineError",
        retrieved=(Retrieved("c1", Span(DOCUMENT, 0, 20), "docs/a.md", "so it closes", {"dense": 0.5}),),
        verdicts=(verdict,),
        query_embedding=(0.5, -0.25, 0.0),
        timings={"queued": 0.1, "search": 0.2, "total": 0.3},
        input_tokens=3,
        output_tokens=2,
        model="f" * 64,
        prompt="a" * 64,
        index="b" * 64,
        lineage={"index": "b" * 64},
        route="assistant",
        conversation="c" * 16,
        parent="d" * 16,
        experiment="tone",
        unit="user-1",
        arm="B",
        seed=2**64 - 1,
        confidence=0.625,
        abstained=True,
        redacted=("email",),
        feedback=(
            Feedback(key, 5.0, "thumbs", "down", "wrong \0 \ud800", "ann"),
            Feedback(key, 6.0, "note", None, "look again"),
        ),
    )


_VOCABULARY = ("with", "With", "statement", "über", "naïve", "a", "42", "x_y", "don't", "file.txt")


def random_events(count: int, seed: int) -> list[Interaction]:
    """Interactions over few values, so that filters find some and leave some."""
    draw = random.Random(seed)
    events = []
    for number in range(count):
        key = f"{number:016x}"
        thumbs = [
            Feedback(key, float(n), "thumbs", draw.choice(("up", "down", None))) for n in range(draw.randrange(3))
        ]
        notes = [Feedback(key, 9.0, "note", None, f"n{n}") for n in range(draw.randrange(2))]
        events.append(
            Interaction(
                id=key,
                time=float(draw.randrange(40)),
                messages=(Message("system", "with"), Message("user", _text(draw)), Message("assistant", "naïve")),
                response=_text(draw),
                operation=draw.choice(("chat", "text_completion", "embeddings")),
                route=draw.choice(("assistant", "tiny model", "")),
                conversation=draw.choice(("", "c1", "c2")),
                model=draw.choice(("ab12", "ab34", "")),
                error=draw.choice(("", "", "DeadlineError")),
                finish_reason=draw.choice(("stop", "length")),
                timings=draw.choice(({}, {"total": float(draw.randrange(4))})),
                input_tokens=draw.randrange(5),
                output_tokens=draw.randrange(5),
                confidence=draw.choice((None, 0.25, 0.5, 0.75)),
                abstained=draw.random() < 0.5,
                redacted=draw.choice(((), ("email",))),
                feedback=(*thumbs, *notes),
            )
        )
    return events


def _text(draw: random.Random) -> str:
    return draw.choice((" ", ", ", "\n")).join(draw.choices(_VOCABULARY, k=draw.randrange(5)))


words = st.sampled_from(_VOCABULARY)
_texts = st.text(max_size=20)
_names = st.text(string.ascii_letters + string.digits + " -_:", max_size=12)
_numbers = st.floats(allow_nan=False)
_counts = st.integers(0, 2**31)
_spans = st.builds(lambda start, size: Span(DOCUMENT, start, start + size), _counts, st.integers(0, 99))
_json = st.recursive(
    st.none() | st.booleans() | st.integers() | _numbers | _texts, lambda inner: st.lists(inner), max_leaves=4
)

interactions = st.builds(
    Interaction,
    id=st.just("0" * 16),
    time=st.floats(0, 1e10),
    messages=st.lists(
        st.builds(
            Message,
            role=st.sampled_from(("system", "user", "assistant", "tool")),
            content=_texts,
            tool_calls=st.lists(st.dictionaries(_texts, _json, max_size=2), max_size=2).map(tuple),
            name=st.none() | _names,
        ),
        max_size=3,
    ).map(tuple),
    response=_texts,
    operation=st.sampled_from(("chat", "text_completion", "embeddings")),
    rendered_prompt=_texts,
    prompt_ids=st.lists(_counts, max_size=4).map(tuple),
    token_ids=st.lists(_counts, max_size=4).map(tuple),
    token_log_probabilities=st.lists(_numbers, max_size=4).map(tuple),
    parameters=st.dictionaries(_names, _json, max_size=3),
    finish_reason=_names,
    error=_names,
    retrieved=st.lists(
        st.builds(Retrieved, _names, _spans, _names, _texts, st.dictionaries(_names, _numbers, max_size=2)), max_size=2
    ).map(tuple),
    verdicts=st.lists(
        st.builds(
            Verdict,
            _texts,
            st.sampled_from(("quoted", "generated")),
            _spans,
            _names,
            _numbers,
            st.none() | _numbers,
            st.sampled_from(("cited", "abstained", "unsupported", "repeated", "not needed", "not a quote")),
        ),
        max_size=2,
    ).map(tuple),
    query_embedding=st.lists(st.floats(-1, 1, width=32), max_size=4).map(tuple),
    timings=st.dictionaries(st.sampled_from(("queued", "decode", "total")), st.floats(0, 1e6)),
    input_tokens=_counts,
    output_tokens=_counts,
    model=_names,
    prompt=_names,
    index=_names,
    lineage=st.dictionaries(_names, _names, max_size=2),
    route=_names,
    conversation=_names,
    parent=st.none() | _names,
    experiment=_names,
    unit=_names,
    arm=_names,
    seed=st.none() | st.integers(0, 2**64 - 1),
    confidence=st.none() | st.floats(0, 1),
    abstained=st.booleans(),
    redacted=st.lists(st.sampled_from(("email", "phone")), max_size=2, unique=True).map(tuple),
)
