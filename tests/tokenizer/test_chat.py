from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import product

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st

from lmworks.records import Message
from lmworks.tokenizer.chat import ChatRenderer, Rendered
from lmworks.tokenizer.jinja_template import ChatTemplate, ChatTemplateError
from lmworks.tokenizer.tokenizer import Tokenizer
from lmworks.tokenizer.vocabulary_extension import extend_for_texts

TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
TRIMMED = TEMPLATE.replace("message['content']", "(message['content'] | trim)")
GENERATION = (
    "{% for message in messages %}{% if message['role'] == 'assistant' %}{% generation %}{{ message['content'] }}"
    "{% endgeneration %}{% else %}{{ message['content'] }}{% endif %}<|im_end|>{% endfor %}"
)
START, END = 1, 2

contents = st.text(st.characters(exclude_categories=["Cs"]), max_size=20) | st.lists(
    st.sampled_from(["<|im_end|>", "<|im_start|>", "system", "\n", "hi", " ", "<|im_", "end|>", "\ue000", "\ue001"]),
    max_size=6,
).map("".join)
conversations = st.lists(st.builds(Message, st.sampled_from(["system", "user", "assistant"]), contents), max_size=5)


def learnt(rendered: Rendered, tokenizer) -> str:
    chosen = [token for token, wanted in zip(rendered.ids, rendered.training_mask, strict=True) if wanted]
    return tokenizer.decode(chosen, skip_special=False)


def naive_ids(tokenizer, text: str) -> list[int]:
    """What encoding the rendered text with special tokens enabled gives; right as long as no content holds any."""
    ids = []
    for number, piece in enumerate(text.split("<|im_start|>")):
        ids += [START] if number else []
        for inner, rest in enumerate(piece.split("<|im_end|>")):
            ids += [END] if inner else []
            ids += tokenizer.encode(rest)
    return ids


@given(messages=conversations, prompt=st.booleans(), template=st.sampled_from([TEMPLATE, TRIMMED, GENERATION]))
def test_no_content_ever_becomes_a_special_token(tiny_tokenizer, messages, prompt, template):
    rendered = ChatRenderer(template, tiny_tokenizer).render(messages, prompt)
    of_the_template = len(messages) + (prompt and template != GENERATION)
    assert rendered.ids.count(START) == (of_the_template if template != GENERATION else 0)
    assert rendered.ids.count(END) == len(messages)
    assert tiny_tokenizer.decode(rendered.ids, skip_special=False) == rendered.text


@given(messages=conversations, prompt=st.booleans(), template=st.sampled_from([TEMPLATE, TRIMMED]))
def test_harmless_conversations_get_the_ordinary_ids(tiny_tokenizer, messages, prompt, template):
    rendered = ChatRenderer(template, tiny_tokenizer).render(messages, prompt)
    if not any("<|im_" in message.content for message in messages):
        assert list(rendered.ids) == naive_ids(tiny_tokenizer, rendered.text)


@given(messages=conversations)
def test_the_assistant_is_trained_on_its_words_and_on_stopping(tiny_tokenizer, messages):
    rendered = ChatRenderer(TEMPLATE, tiny_tokenizer).render(messages)
    expected = "".join(m.content + "<|im_end|>" for m in messages if m.role == "assistant")
    assert learnt(rendered, tiny_tokenizer) == expected


@given(messages=conversations)
def test_generation_parts_of_a_template_decide_the_mask(tiny_tokenizer, messages):
    rendered = ChatRenderer(GENERATION, tiny_tokenizer).render(messages)
    assert learnt(rendered, tiny_tokenizer) == "".join(m.content for m in messages if m.role == "assistant")


def test_stop_ids_hold_what_ends_a_turn_in_this_template(tiny_tokenizer):
    assert ChatRenderer(TEMPLATE, tiny_tokenizer).stop_ids == (END,)
    other = TEMPLATE.replace("<|im_end|>", "<|endoftext|>")
    assert ChatRenderer(other, tiny_tokenizer).stop_ids == (END, 0)


def test_special_strings_outside_contents_are_refused(tiny_tokenizer):
    renderer = ChatRenderer(TEMPLATE, tiny_tokenizer)
    with pytest.raises(ChatTemplateError, match="special token"):
        renderer.render([Message("user", "x", name="<|im_start|>")])


def test_a_name_with_a_character_that_is_not_printed():
    """It is found in functions and calls as it is, not as Python would write it."""
    template = "{% for m in messages %}{{ m.role }}: {{ m.content }}<\u200b>{% endfor %}"
    words = {"<unk>": 0, "<\u200b>": 1}
    backend = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, "<unk>"))
    backend.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    backend.add_special_tokens(["<\u200b>"])
    renderer = ChatRenderer(template, Tokenizer(backend, {"eos_token": "<\u200b>"}))
    tool = {"type": "function", "function": {"name": "f", "description": "<\u200b>", "parameters": {}}}
    for value in (tool, {"<\u200b>": 1}, ["a", ("<\u200b>",)]):
        with pytest.raises(ChatTemplateError, match="special token"):
            renderer._check_no_special(value, "functions")
    renderer._check_no_special({"a": ["<", "\u200b>"]}, "functions")
    assert renderer.render([Message("user", "a")]).ids[-1] == 1


def test_templates_that_hide_where_text_comes_from_are_refused(tiny_tokenizer):
    rewriting = TEMPLATE.replace("message['content']", "message['content'].replace('b', '')[:3]")
    with pytest.raises(ChatTemplateError, match="rewrites"):
        ChatRenderer(rewriting, tiny_tokenizer).render([Message("user", "abcabc")])


def test_a_message_that_a_template_leaves_out_is_told(tiny_tokenizer):
    deaf = TEMPLATE.replace(
        "{% for message in messages %}", "{% for message in messages if message.role != 'system' %}"
    )
    renderer = ChatRenderer(deaf, tiny_tokenizer)
    with pytest.raises(ChatTemplateError, match="leaves out what message 1 says, of the role 'system'"):
        renderer.render([Message("system", "Be brief."), Message("user", "x")])
    assert renderer.render([Message("system", ""), Message("user", "x")]).ids.count(START) == 1


def test_contents_may_be_wanted_in_parts(tiny_tokenizer):
    parts = TEMPLATE.replace("message['content']", "message['content'][0]['text']")
    messages = [Message("user", "<|im_end|>"), Message("assistant", "hi")]
    assert ChatRenderer(parts, tiny_tokenizer).render(messages) == ChatRenderer(TEMPLATE, tiny_tokenizer).render(
        messages
    )


def test_settings_are_read_by_the_template_alone(tiny_tokenizer):
    thinking = TEMPLATE + "{% if enable_thinking %}<think>{% endif %}"
    rendered = ChatRenderer(thinking, tiny_tokenizer, {"enable_thinking": True}).render([Message("user", "x")], True)
    assert rendered.text.endswith("assistant\n<think>")
    with pytest.raises(ChatTemplateError, match="messages cannot be a setting"):
        ChatRenderer(TEMPLATE, tiny_tokenizer, {"messages": []})
    with pytest.raises(ChatTemplateError, match=r"special token .* in the settings"):
        ChatRenderer(TEMPLATE, tiny_tokenizer, {"date_string": "<|im_end|>"})


def test_a_template_that_writes_the_date_writes_one_date(tiny_tokenizer, monkeypatch):
    class Clock(datetime):
        ticks = 0

        @classmethod
        def now(cls, tz=None):
            cls.ticks += 1
            return cls(2026, 1, 1) + timedelta(days=cls.ticks)

    renderer = ChatRenderer("{{ strftime_now('%d %b %Y') }}" + TRIMMED, tiny_tokenizer)
    assert renderer.stop_ids == (END,)
    monkeypatch.setattr("lmworks.tokenizer.chat.datetime", Clock)
    assert renderer.render([Message("user", " x ")]).text.startswith("02 Jan 2026")


def test_a_failing_template_is_a_refusal(tiny_tokenizer):
    adding = TEMPLATE.replace("message['content']", "message['content'] + 1")
    with pytest.raises(ChatTemplateError, match="fails on these messages"):
        ChatRenderer(adding, tiny_tokenizer).render([Message("user", "x")])


def test_spaces_before_an_answer_are_the_models(tiny_tokenizer):
    """`[/INST] answer`: the prompt ends before the space, and the space is often a part of the answer's first token."""
    spaced = "{% for m in messages %}{{ '[INST] ' + m.content + ' [/INST]' if m.role == 'user' else ' ' + m.content }}"
    rendered = ChatRenderer(spaced + "{{ '<|im_end|>' if m.role != 'user' }}{% endfor %}", tiny_tokenizer).render(
        [Message("user", "x"), Message("assistant", "the end")]
    )
    assert learnt(rendered, tiny_tokenizer) == " the end<|im_end|>"
    assert tiny_tokenizer.encode(" the")[0] in rendered.ids  # one token with its space


def test_a_template_may_search_contents(tiny_tokenizer):
    """As those that take thoughts away: everything of the rest is still known to be the message's."""
    searching = TEMPLATE.replace("message['content']", "message['content'].split('</think>')[-1].lstrip('\\n')")
    renderer = ChatRenderer(searching, tiny_tokenizer)
    for thought in ("", "<think>\nabc\n</think>\n\n", "<|im_end|></think>"):
        messages = [Message("user", "x"), Message("assistant", f"{thought}<|im_start|> so")]
        rendered = renderer.render(messages)
        assert learnt(rendered, tiny_tokenizer) == "<|im_start|> so<|im_end|>"
        assert (rendered.ids.count(START), rendered.ids.count(END)) == (2, 2)


def test_templates_speak_hugging_faces_dialect():
    def render(source: str, **variables) -> str:
        return ChatTemplate(source).render(variables)

    assert render("{% if true %}\n  a\n  {% endif %}\nb") == "  a\nb"  # trim_blocks, lstrip_blocks
    assert render("{{ x | tojson }}", x={"k": "<é>"}) == '{"k": "<é>"}'
    assert render("{% for i in [1, 2, 3] %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}") == "1"
    assert len(render("{{ strftime_now('%Y') }}")) == 4
    with pytest.raises(ChatTemplateError, match="roles must alternate"):
        render("{{ raise_exception('roles must alternate') }}")
    with pytest.raises(ChatTemplateError, match="does not compile"):
        ChatTemplate("{% for %}")
    with pytest.raises(ChatTemplateError):
        render("{{ ''.__class__.__mro__[1].__subclasses__() }}")  # the sandbox
    with pytest.raises(ChatTemplateError, match="no chat template"):
        ChatRenderer(None, None)  # pyright: ignore[reportArgumentType]


def test_a_token_that_begins_before_the_answer_is_not_learnt(tiny_tokenizer):
    """The newline after `assistant` and the first of the answer are one token, which no prompt leads to writing."""
    doubled = extend_for_texts(tiny_tokenizer, ["a\n\n\nb"] * 3, 1).tokenizer  # "\n\n"
    rendered = ChatRenderer(TEMPLATE, doubled).render([Message("user", "x"), Message("assistant", "\n\nyes")])
    assert learnt(rendered, doubled) == "\nyes<|im_end|>"


CONVERSATIONS: list[Sequence[Message]] = [
    [Message("user", "What is a token?")],
    [Message("system", "Be brief."), Message("user", "Hi \n"), Message("assistant", "  Hello!"), Message("user", "1")],
    [Message("user", ""), Message("assistant", "größer 🙂\n\n\n"), Message("user", "\n\nx")],
]


def test_equals_transformers(tiny_tokenizer, tmp_path):
    transformers = pytest.importorskip("transformers")
    tiny_tokenizer.save(tmp_path, TEMPLATE)
    theirs, ours = transformers.AutoTokenizer.from_pretrained(tmp_path), ChatRenderer(TEMPLATE, tiny_tokenizer)
    assert ours.stop_ids == (theirs.eos_token_id,)
    for messages, prompt in product(CONVERSATIONS, [True, False]):
        rows = [{"role": message.role, "content": message.content} for message in messages]
        rendered = ours.render(messages, prompt)
        assert rendered.text == theirs.apply_chat_template(rows, tokenize=False, add_generation_prompt=prompt)
        assert list(rendered.ids) == theirs.apply_chat_template(rows, add_generation_prompt=prompt, return_dict=False)
