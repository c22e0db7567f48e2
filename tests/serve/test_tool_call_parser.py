"""Calls told apart from words, however the text is cut into pieces."""

import json
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from kit.tables import for_each
from lmworks.generate.constraint import FunctionCalls, JsonSchema
from lmworks.serve.openai.tool_call_parser import (
    ArgumentsDelta,
    TextPart,
    ToolCallParser,
    ToolCallStart,
    parse_completion,
)
from lmworks.tokenizer.tool_calls import OWN_FORM, ToolForm

FORMS = [
    OWN_FORM,
    ToolForm('{"name": "', '", "parameters": ', "}", None, native=True),
    ToolForm("<function=", ">", "</function>", "", native=True),
    ToolForm("<call>function<sep>", "\n```json\n", "\n```</call>", "\n", True, "<calls>", "</calls>"),
    ToolForm("<｜call｜>", "<｜sep｜>", "<｜call▁end｜>", "", True, "<｜calls｜>", "<｜calls▁end｜>"),
    ToolForm('{"name": "', '", "arguments": ', "}", ", ", True, "<calls>[", "]</calls>"),
]


def held_to(form: ToolForm, **options) -> FunctionCalls:
    names = ("before", "between", "after", "marker", "separator", "opening", "closing")
    fields = {name: getattr(form, name) for name in names}
    return FunctionCalls(**fields, functions=(("f", "{}"),), **options)


OWN = held_to(OWN_FORM)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=8)
    | st.sampled_from(['"', "\\", "}", "{", "</", "]["]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
arguments = st.dictionaries(st.text(max_size=5), values, max_size=3)
calls = st.lists(st.tuples(st.from_regex(r"[a-zA-Z0-9_-]{1,20}", fullmatch=True), arguments), max_size=3)
words = st.lists(
    st.sampled_from(["<", "tool", "<tool_cal", "<func", '{"nam', "hello", " ", "\n", "é", "}"]), max_size=8
).map("".join)


@given(form=st.sampled_from(FORMS), said=words, made=calls, data=st.data(), compact=st.booleans())
def test_calls_are_read_back_from_any_pieces(form, said, made, data, compact):
    made = made[: None if form.separator is not None else 1]
    if form.marker in said or any(form.marker in said[k:] + form.marker[:-1] for k in range(len(said))):
        said = ""
    separators = (",", ":") if compact else None
    inner = replace(form, opening="", closing="")
    written = [inner.write(name, json.dumps(given, separators=separators)) for name, given in made]
    text = f"{form.opening}{(form.separator or '').join(written)}{form.closing}" if made else ""
    text = f"{said}\n{text}" if said and made else said + text
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=12)))
    reader, parts = ToolCallParser(held_to(form), "i"), []
    for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True):
        parts += reader.feed(text[start:end])
    parts += reader.end()
    assert "".join(part.text for part in parts if isinstance(part, TextPart)) == (said.rstrip() if made else said)
    begun = [part for part in parts if isinstance(part, ToolCallStart)]
    assert [(part.number, part.name) for part in begun] == [(n, name) for n, (name, _) in enumerate(made)]
    for number, (_, wanted) in enumerate(made):
        pieces = [part.text for part in parts if isinstance(part, ArgumentsDelta) and part.number == number]
        assert json.loads("".join(pieces)) == wanted
    assert reader.calls == len(made) and len({part.id for part in begun}) == len(made)


def test_words_come_at_once_where_no_call_can_begin():
    reader = ToolCallParser(OWN, "i")
    assert reader.feed("One") == [TextPart("One")]
    assert reader.feed(" two <") == [TextPart(" two")]
    assert reader.feed("b>") == [TextPart(" <b>")]
    assert reader.feed("\n<tool_c") == [] and reader.end() == [TextPart("\n<tool_c")]


def test_arguments_come_as_they_are_written():
    reader = ToolCallParser(OWN, "i")
    (begins,) = reader.feed('<tool_call>\n{"name": "f", "arguments": ')
    assert begins.name == "f"
    assert reader.feed('{"a": "x') == [ArgumentsDelta(0, '{"a": "x')]
    assert reader.feed('}"}') == [ArgumentsDelta(0, '}"}')]
    assert reader.feed("}\n</tool_call>") == reader.end() == []


@for_each(("end", "calls"), [(15, 0), (30, 0), (45, 1)])
def test_a_completion_that_ends_inside_a_call(end, calls):
    text = OWN_FORM.write("get_it", '{"key": "a long value"}')
    said = parse_completion(OWN, "i", text[:end])
    assert said.text == "" and len(said.calls) == calls and said.cut
    assert not parse_completion(OWN, "i", text).cut


@given(value=values, data=st.data(), made=st.integers(0, 2))
def test_what_looks_like_a_call_inside_of_json_is_a_part_of_it(value, data, made):
    """Where words are held to a form, they are the whole answer, or there are none."""
    text = json.dumps([OWN_FORM.marker, OWN_FORM.write("f", "{}"), value], ensure_ascii=False)
    if made:
        text = "\n".join([OWN_FORM.write("f", json.dumps({"text": text}))] * made)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=12)))
    reader, parts = ToolCallParser(held_to(OWN_FORM, answer=JsonSchema("{}")), "i"), []
    for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True):
        parts += reader.feed(text[start:end])
    parts += reader.end()
    assert "".join(part.text for part in parts if isinstance(part, TextPart)) == ("" if made else text)
    assert reader.calls == made and not reader.cut


BLOCK = '```json\n{"name": "f", "arguments": {"city": "a ``` b"}}\n```'
NO_CALLS = (
    '```json\n{"name": "g", "arguments": {}}\n```',  # of no function that was offered
    '```json\n{"name": "f", "arguments": 3}\n```',
    '```json\n{"name": "f", "arguments": {}} is how it is called\n```',
    '```json\n{"city": "Graz"}\n```',
    '```python\nprint({"name": "f"})\n```',
    '```json\n{"name": "f", "arg',
    "`` `",
)


@given(said=st.lists(st.sampled_from([*NO_CALLS, BLOCK, "words", "\n"]), max_size=4), data=st.data())
def test_a_code_block_that_names_a_function_is_a_call_however_it_is_cut(said, data):
    text = "\n".join(said)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    parser, got, made = ToolCallParser(OWN, "i"), "", []
    for piece in (text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)):
        for part in parser.feed(piece):
            got += part.text if isinstance(part, TextPart) else ""
            made += [part.text] if isinstance(part, ArgumentsDelta) else []
    got += "".join(part.text for part in parser.end() if isinstance(part, TextPart))
    if '"arg' not in [one[-4:] for one in said]:  # behind a block without an end all is text
        assert [json.loads(one) for one in made] == [{"city": "a ``` b"}] * said.count(BLOCK)
        assert "".join(got.split()) == "".join("".join(one for one in said if one != BLOCK).split())
    assert made or got == text
    assert not parser.cut
