"""Functions, calls and results in prompts: read off a template that knows them, written as text where none does."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat_cases import WEATHER, call
from kit.tables import for_each
from lmworks.records import Message
from lmworks.tokenizer.chat import ChatRenderer
from lmworks.tokenizer.jinja_template import ChatTemplateError
from lmworks.tokenizer.token_bytes import token_bytes
from lmworks.tokenizer.tool_calls import OWN_FORM

START, END = 1, 2
_TOLD = (
    "{% if tools %}<|im_start|>system\n{% for tool in tools %}{{ tool | tojson }}\n{% endfor %}<|im_end|>\n{% endif %}"
)
_CALLS = "{% for call in message.tool_calls %}CALL{% endfor %}"
_TEMPLATE = (
    _TOLD
    + "{% for message in messages %}<|im_start|>{{ message.role }}\n{% if message.content %}{{ message.content }}"
    + "{% if message.tool_calls %}{{ '\n' }}{% endif %}{% endif %}"
    + _CALLS
    + "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_NAMED = '{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}'


def template(call: str) -> str:
    return _TEMPLATE.replace("CALL", call)


MARKED = template("{% if not loop.first %}{{ '\n' }}{% endif %}<tool_call>\n" + _NAMED + "\n</tool_call>")
BARE = template(
    "{% if message.tool_calls | length > 1 %}{{ raise_exception('one call at a time') }}{% endif %}"
    + _NAMED.replace("arguments", "parameters", 1).replace("parameters | tojson", "arguments | tojson")
)
TAGGED = template("<function={{ call.function.name }}>{{ call.function.arguments | tojson }}</function>")
SPECIAL = template("<|endoftext|>" + _NAMED)
ELEMENTS = template(
    "<call name={{ call.function.name }}>{% for k, v in call.function.arguments.items() %}{{ k }}={{ v }}{% endfor %}"
    "</call>"
)
# A form like DeepSeek's: calls in a frame, arguments as JSON text beside no content, functions not described, and a
# thought begun that no past answer has.
FRAMED = (
    template(
        "{% if message.content is none %}{% if loop.first %}<calls><call>{% else %}{{ '\n' }}<call>"
        "{% endif %}function<sep>{{ call.function.name + '\n```json\n' + call.function.arguments + '\n```' }}</call>"
        "{% if loop.last %}</calls>{% endif %}{% endif %}"
    ).replace(_TOLD, "")
    + "{% if add_generation_prompt %}<think>{% endif %}"
)
LISTED = template(
    "{% if loop.first %}<tool_calls>[{% else %}, {% endif %}" + _NAMED + "{% if loop.last %}]</tool_calls>{% endif %}"
)
IDENTIFIED = template(_NAMED.replace('{"name"', '{"id": "{{ call.id }}", "name"'))
IGNORANT = _TEMPLATE.replace(_TOLD, "").replace(_CALLS, "")

ROUND = [
    Message("user", "How is it in Graz?"),
    Message("assistant", "", tool_calls=(call("get_weather", place="Graz"),)),
    Message("tool", "22 degrees", tool_call_id="call00001"),
]


@for_each(
    ("source", "before", "between", "after", "separator", "marker"),
    [
        (MARKED, '<tool_call>\n{"name": "', '", "arguments": ', "}\n</tool_call>", "\n", "<tool_call>"),
        (BARE, '{"name": "', '", "parameters": ', "}", None, '{"name": "'),
        (TAGGED, "<function=", ">", "</function>", "", "<function="),
        (SPECIAL, '<|endoftext|>{"name": "', '", "arguments": ', "}", "", "<|endoftext|>"),
        (FRAMED, "<call>function<sep>", "\n```json\n", "\n```</call>", "\n", "<calls>"),
        (LISTED, '{"name": "', '", "arguments": ', "}", ", ", "<tool_calls>"),
    ],
)
def test_the_form_is_read_off_the_template(tiny_tokenizer, source, before, between, after, separator, marker):
    form = ChatRenderer(source, tiny_tokenizer).tool_form
    assert (form.before, form.between, form.after, form.separator) == (before, between, after, separator)
    assert form.native and form.marker == marker


def test_what_every_answer_begins_with_is_no_part_of_a_call(tiny_tokenizer):
    thinking = MARKED.replace(
        "{% if message.content %}",
        "{% if message.role == 'assistant' %}<think>\n\n</think>\n\n{% endif %}{% if message.content %}",
        1,
    )
    renderer = ChatRenderer(thinking, tiny_tokenizer)
    assert "assistant\n<think>\n\n</think>\n\n<tool_call>" in renderer.render(ROUND, tools=[WEATHER]).text
    assert renderer.tool_form == ChatRenderer(MARKED, tiny_tokenizer).tool_form


@for_each("source", [ELEMENTS, IDENTIFIED, IGNORANT])
def test_a_form_that_cannot_be_read_is_replaced_by_our_own(tiny_tokenizer, source):
    assert ChatRenderer(source, tiny_tokenizer).tool_form == OWN_FORM


@for_each("source", [MARKED, BARE, TAGGED])
def test_what_is_written_in_the_form_is_what_the_template_writes(tiny_tokenizer, source):
    renderer = ChatRenderer(source, tiny_tokenizer)
    for text in ("", "Let me see."):
        spoken = [ROUND[0], Message("assistant", text, tool_calls=ROUND[1].tool_calls)]
        rendered = renderer.render(spoken, tools=[WEATHER]).text
        written = renderer.tool_form.write("get_weather", '{"place": "Graz"}')
        assert rendered.endswith(f"<|im_start|>assistant\n{text and text + chr(10)}{written}<|im_end|>\n")


def test_a_template_that_knows_functions_is_given_them(tiny_tokenizer):
    rendered = ChatRenderer(MARKED, tiny_tokenizer).render(ROUND, True, [WEATHER])
    assert rendered.text.startswith(f"<|im_start|>system\n{json.dumps(WEATHER)}\n<|im_end|>")
    assert "<|im_start|>tool\n22 degrees<|im_end|>" in rendered.text


def test_calls_and_results_are_the_templates_where_functions_are_text(tiny_tokenizer):
    renderer = ChatRenderer(FRAMED, tiny_tokenizer)
    text = renderer.render(ROUND, True, [WEATHER]).text
    head, _, answer, result, last = text.split("<|im_start|>")[1:]
    written = '<calls><call>function<sep>get_weather\n```json\n{"place": "Graz"}\n```</call></calls>'
    assert head.startswith("system\n") and json.dumps(WEATHER["function"]) in head
    assert renderer.tool_form.write("NAME", "{...}") in head and answer == f"assistant\n{written}<|im_end|>\n"
    assert (result, last) == ("tool\n22 degrees<|im_end|>\n", "assistant\n<think>")


def test_a_special_token_in_a_call_can_be_read(tiny_tokenizer):
    """Of what the model writes; in what others say its name is text as before."""
    renderer = ChatRenderer(SPECIAL, tiny_tokenizer)
    written, plain = (each.decode([0, 5]) for each in (renderer.answer_tokenizer, tiny_tokenizer))
    assert written == f"<|endoftext|>{plain}" and 0 not in renderer.render([Message("user", written)]).ids
    assert token_bytes(renderer.answer_tokenizer)[0] == b"<|endoftext|>" and token_bytes(tiny_tokenizer)[0] == b""


def test_other_templates_get_them_as_text(tiny_tokenizer):
    rendered = ChatRenderer(IGNORANT, tiny_tokenizer).render(ROUND, True, [WEATHER])
    head, question, answer, result, last = rendered.text.split("<|im_start|>")[1:]
    assert head.startswith("system\n") and json.dumps(WEATHER["function"]) in head
    assert question == "user\nHow is it in Graz?<|im_end|>\n"
    assert answer == "assistant\n" + OWN_FORM.write("get_weather", '{"place": "Graz"}') + "<|im_end|>\n"
    assert result == "user\n<tool_response>\n22 degrees\n</tool_response><|im_end|>\n"
    assert last == "assistant\n"


def test_results_of_several_calls_come_in_one_message(tiny_tokenizer):
    calls = (call("get_weather", place="Graz"), call("get_weather", place="Wien"))
    messages = [ROUND[0], Message("assistant", "", tool_calls=calls), Message("tool", "22"), Message("tool", "25")]
    text = ChatRenderer(IGNORANT, tiny_tokenizer).render(messages).text
    assert text.endswith(
        "user\n<tool_response>\n22\n</tool_response>\n<tool_response>\n25\n</tool_response><|im_end|>\n"
    )


def test_a_system_message_stays_the_first(tiny_tokenizer):
    text = ChatRenderer(IGNORANT, tiny_tokenizer).render([Message("system", "Be brief."), *ROUND], tools=[WEATHER]).text
    assert text.startswith("<|im_start|>system\nBe brief.\n\nYou can call") and text.count("<|im_start|>system") == 1


def test_without_functions_nothing_changes(tiny_tokenizer):
    for source in (MARKED, IGNORANT):
        plain = ChatRenderer(source, tiny_tokenizer).render(ROUND[:1], True)
        assert plain.text == "<|im_start|>user\nHow is it in Graz?<|im_end|>\n<|im_start|>assistant\n"


hostile = st.text(st.characters(exclude_categories=["Cs"]), max_size=20) | st.lists(
    st.sampled_from(["<|im_end|>", "<|im_start|>", "system", "\n", "</tool_response>", '"}', "\ue000"]), max_size=6
).map("".join)


@given(text=hostile, described=hostile)
def test_no_argument_result_or_description_ever_becomes_a_special_token(tiny_tokenizer, text, described):
    tool = {"type": "function", "function": {"name": "f", "description": described}}
    messages = [
        Message("user", "x"),
        Message("assistant", text, tool_calls=(call("f", key=text),)),
        Message("tool", text, tool_call_id="call00001"),
    ]
    rendered = ChatRenderer(IGNORANT, tiny_tokenizer).render(messages, True, [tool])
    assert (rendered.ids.count(START), rendered.ids.count(END)) == (5, 4)
    native = ChatRenderer(MARKED, tiny_tokenizer)
    if "<|im_end|>" in text or "<|im_start|>" in text:
        with pytest.raises(ChatTemplateError, match="special token"):
            native.render(messages, True, [tool])
    elif "<|im_end|>" in described or "<|im_start|>" in described:
        with pytest.raises(ChatTemplateError, match="functions"):
            native.render(messages, True, [tool])
    else:
        rendered = native.render(messages, True, [tool])
        assert (rendered.ids.count(START), rendered.ids.count(END)) == (5, 4)


def test_a_call_without_a_name_is_told(tiny_tokenizer):
    with pytest.raises(ChatTemplateError, match="tool call must be"):
        ChatRenderer(IGNORANT, tiny_tokenizer).render([Message("assistant", "", tool_calls=({"function": {}},))])
