"""Answers under `FunctionCalls`: random walks under the mask are answers, and every answer is allowed."""

import json
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.tables import for_each
from lmworks.generate.constrained_decoding import ConstraintCompiler
from lmworks.generate.constraint import ConstraintError, FunctionCalls, JsonSchema, Regex
from lmworks.generate.engine import Engine
from lmworks.generate.protocol import Request, SamplingParameters

PLACE = '{"type": "object", "properties": {"at": {"enum": ["Graz", "Wien"]}, "n": {"type": "integer", "maximum": 99}}}'
CLOSED = PLACE[:-1] + ', "required": ["at"], "additionalProperties": false}'
NONE = '{"type": "object", "properties": {}, "additionalProperties": false}'
FORM = {"before": '<tool_call>\n{"name": "', "between": '", "arguments": ', "after": "}\n</tool_call>"}
MARKED = FunctionCalls(**FORM, marker="<tool_call>", functions=(("weather", CLOSED), ("time", NONE)), separator="\n")
CALL = re.compile(r'<tool_call>\n\{"name": "(\w+)", "arguments": (.*?)\}\n</tool_call>', re.DOTALL)


@pytest.fixture(scope="module")
def compiler(tiny_tokenizer):
    made = ConstraintCompiler(tiny_tokenizer, tiny_tokenizer.vocabulary_size, tiny_tokenizer.eos_ids)
    yield made
    made.close()


def allowed(mask: np.ndarray) -> np.ndarray:
    return np.flatnonzero(np.unpackbits(mask.view(np.uint8), bitorder="little"))


def walk(matcher, tokenizer, generator: np.random.Generator, most: int = 3000) -> str | None:
    """Text of tokens drawn evenly among those that are allowed; None when it does not end."""
    ids = []
    for _ in range(most):
        token = int(generator.choice(allowed(matcher.mask())))
        matcher.advance(token)
        if matcher.finished:
            return tokenizer.decode(ids)
        ids.append(token)
    return None


def is_call(name: str, arguments: str) -> bool:
    given = json.loads(arguments)
    if name == "time":
        return given == {}
    return given["at"] in ("Graz", "Wien") and set(given) <= {"at", "n"} and given.get("n", 0) <= 99


@for_each("seed", range(6))
@for_each("before", ["", "Well, <tool", "{"])
def test_what_follows_the_marker_is_a_call(compiler, tiny_tokenizer, seed, before):
    matcher = compiler.compile(MARKED).start()
    for token in tiny_tokenizer.encode(f"{before}\n<tool_call>"):
        matcher.advance(token)
    text = walk(matcher, tiny_tokenizer, np.random.default_rng(seed))
    assert text is not None
    text = f"<tool_call>{text}"
    calls = CALL.findall(text)
    assert calls and all(is_call(*call) for call in calls)
    assert "\n".join(found.group() for found in CALL.finditer(text)) == text


@for_each("seed", range(6))
def test_a_call_that_is_required_is_made(compiler, tiny_tokenizer, seed):
    required = FunctionCalls(**FORM, marker="<tool_call>", functions=(("weather", CLOSED),), required=True)
    text = walk(compiler.compile(required).start(), tiny_tokenizer, np.random.default_rng(seed))
    assert text is not None and (found := CALL.fullmatch(text)) and is_call(*found.groups())


FRAME = {"opening": "<calls>", "before": "<call>", "between": "<sep>", "after": "</call>", "closing": "</calls>"}


@for_each("seed", range(4))
def test_calls_stand_in_their_frame(compiler, tiny_tokenizer, seed):
    functions = (("weather", CLOSED), ("time", NONE))
    wanted = FunctionCalls(**FRAME, marker="<calls>", functions=functions, separator="\n", most=2, required=True)
    text = walk(compiler.compile(wanted).start(), tiny_tokenizer, np.random.default_rng(seed))
    one = r"<call>(\w+)<sep>(.*?)</call>"
    assert text is not None and (found := re.fullmatch(rf"<calls>{one}(?:\n{one})?</calls>", text, re.DOTALL))
    assert is_call(*found.groups()[:2]) and (found[3] is None or is_call(*found.groups()[2:]))
    matcher = compiler.compile(wanted).start()
    for token in tiny_tokenizer.encode("<calls><call>time<sep>{}</call>\n<call>time<sep>{}</call></calls>"):
        matcher.advance(token)
    assert allowed(matcher.mask()).tolist() == sorted(tiny_tokenizer.eos_ids)


@given(
    words=st.text(st.sampled_from("<tol_ca>{\n é"), max_size=30).filter(lambda text: "<tool_call>" not in text),
    calls=st.lists(
        st.sampled_from([("weather", '{"at":"Graz"}'), ("weather", '{"at":"Wien","n":7}'), ("time", "{}")]),
        max_size=8,
    ),
)
def test_every_answer_is_allowed(compiler, tiny_tokenizer, words, calls):
    written = "\n".join(f"{FORM['before']}{name}{FORM['between']}{given}{FORM['after']}" for name, given in calls)
    if "<tool_call>" in words + written[:10]:
        return
    matcher = compiler.compile(MARKED).start()
    for token in tiny_tokenizer.encode(words + written):
        matcher.advance(token)
    ends = set(tiny_tokenizer.eos_ids)
    assert ends <= set(allowed(matcher.mask()).tolist())


@for_each(("separator", "most"), [("\n", 3), (None, 1)])
def test_there_are_at_most_so_many_calls(compiler, tiny_tokenizer, separator, most):
    wanted = FunctionCalls(**FORM, marker="<tool_call>", functions=(("time", NONE),), separator=separator, most=3)
    matcher = compiler.compile(wanted).start()
    call = f"{FORM['before']}time{FORM['between']}{{}}{FORM['after']}"
    for token in tiny_tokenizer.encode("\n".join([call] * most)):
        matcher.advance(token)
    assert allowed(matcher.mask()).tolist() == sorted(tiny_tokenizer.eos_ids)


@for_each(
    "text",
    [
        "<tool_call> x",
        '<tool_call>\n{"name": "weather", "arguments": {}}',  # a required argument is missing
        '<tool_call>\n{"name": "weather", "arguments": {"at": "Linz"',
        '<tool_call>\n{"name": "clock"',
        '<tool_call>\n{"name": "time", "arguments": {}}\n</tool_call> and so on',
    ],
)
def test_nothing_else_is_allowed(compiler, tiny_tokenizer, text):
    matcher = compiler.compile(MARKED).start()
    with pytest.raises(ConstraintError):
        for token in tiny_tokenizer.encode(text):
            matcher.advance(token)


def test_words_may_have_to_be_json(compiler, tiny_tokenizer):
    wanted = FunctionCalls(**FORM, marker="<tool_call>", functions=(("time", NONE),), answer=JsonSchema('{"const": 1}'))
    first = compiler.compile(wanted).start().mask()
    assert {tiny_tokenizer.decode([token])[0] for token in allowed(first)} == {"1", "<"}


def test_an_argument_schema_that_cannot_be_kept_to_is_refused_by_name(compiler):
    functions = (("f", '{"type": "object", "not": {}}'),)
    with pytest.raises(ConstraintError, match="not"):
        compiler.compile(FunctionCalls(**FORM, marker="<tool_call>", functions=functions))


@for_each(
    "change",
    [{"marker": ""}, {"marker": "<other>"}, {"between": ""}, {"functions": ()}],
)
def test_a_form_without_its_parts_is_refused(change):
    with pytest.raises(ValueError, match="call"):
        FunctionCalls(**{**FORM, "marker": "<tool_call>", "functions": (("f", NONE),), **change})


def test_a_guess_may_not_go_beyond_the_end(tiny_llama):
    """The prompt shows a text and its end again and again, so that both are guessed."""
    encode, (end, *_) = tiny_llama.tokenizer.encode, tiny_llama.tokenizer.eos_ids
    prompt = (*[*encode("of abcdefghij"), end] * 4, *encode("of "))
    engine = Engine(tiny_llama, weights="float32")
    made = [
        engine.generate([Request(prompt, sampling=SamplingParameters(constraint=Regex("abcdefghij"), speculate=guess))])
        for guess in (True, False)
    ]
    assert [one.text for (one,) in made] == ["abcdefghij"] * 2 and made[0][0].ids == made[1][0].ids
