"""The families' own templates: their strings, what they refuse, whom they let speak, and what is learnt from them.

`tests/parity/test_chat_templates.py` compares them with the templates of published checkpoints.
"""

import json
import re
from dataclasses import replace

import pytest
import tokenizers
from hypothesis import assume, given
from hypothesis import strategies as st

from chat_cases import CALLS, WEATHER, call, family_tokenizer, harmless_texts, hostile_texts, says, turns
from kit.tables import for_each
from lmworks.records import Message
from lmworks.tokenizer.chat import ChatRenderer, Rendered
from lmworks.tokenizer.chat_templates import FAMILIES, chat_template, check_roles, missing_roles, missing_tokens
from lmworks.tokenizer.jinja_template import ChatTemplateError
from lmworks.tokenizer.tokenizer import Tokenizer

TOKENIZER = family_tokenizer()
RENDERERS = {family: ChatRenderer(chat_template(family), TOKENIZER) for family in FAMILIES}
UNMARKED = {  # the same template without `{% generation %}`: the renderer finds the answers itself
    family: ChatRenderer(re.sub(r"{%-? *(end)?generation *-?%}", "", chat_template(family)), TOKENIZER)
    for family in FAMILIES
}
WITH_SYSTEM = [family for family in FAMILIES if family != "gemma"]
TURN_END = {
    **dict.fromkeys(["chatml", "smollm2", "qwen2.5", "qwen3"], "<|im_end|>"),
    **dict.fromkeys(["llama3", "llama3.1"], "<|eot_id|>"),
    **dict.fromkeys(["gemma", "gemma3"], "<end_of_turn>"),
    **dict.fromkeys(["mistral-v1", "mistral-v3", "mistral-v7", "zephyr", "llama2"], "</s>"),
    "phi3": "<|end|>",
}

# [system "S", user "U", assistant "A", user "V"], and up to the answer
EXPECTED = {
    "chatml": "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nU<|im_end|>\n<|im_start|>assistant\nA<|im_end|>\n"
    "<|im_start|>user\nV<|im_end|>\n<|im_start|>assistant\n",
    "llama2": "<s>[INST] <<SYS>>\nS\n<</SYS>>\n\nU [/INST] A </s><s>[INST] V [/INST]",
    "llama3": "<s><|start_header_id|>system<|end_header_id|>\n\nS<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n"
    "U<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nA<|eot_id|><|start_header_id|>user<|end_header_id|>"
    "\n\nV<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
    "mistral-v1": "<s> [INST] S\n\nU [/INST] A</s> [INST] V [/INST]",
    "mistral-v3": "<s>[INST] U[/INST] A</s>[INST] S\n\nV[/INST]",
    "mistral-v7": "<s>[SYSTEM_PROMPT] S[/SYSTEM_PROMPT][INST] U[/INST] A</s>[INST] V[/INST]",
    "gemma3": "<s><start_of_turn>user\nS\n\nU<end_of_turn>\n<start_of_turn>model\nA<end_of_turn>\n<start_of_turn>user\n"
    "V<end_of_turn>\n<start_of_turn>model\n",
    "phi3": "<|system|>\nS<|end|>\n<|user|>\nU<|end|>\n<|assistant|>\nA<|end|>\n<|user|>\nV<|end|>\n<|assistant|>\n",
    "zephyr": "<|system|>\nS</s>\n<|user|>\nU</s>\n<|assistant|>\nA</s>\n<|user|>\nV</s>\n<|assistant|>\n",
}
EXPECTED |= dict.fromkeys(["smollm2", "qwen2.5", "qwen3"], EXPECTED["chatml"])
EXPECTED["llama3.1"] = EXPECTED["llama3"].replace(
    "\n\nS<", "\n\nCutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\nS<", 1
)


def learnt(rendered: Rendered) -> str:
    chosen = [token for token, wanted in zip(rendered.ids, rendered.training_mask, strict=True) if wanted]
    return TOKENIZER.decode(chosen, skip_special=False)


def places(rendered: Rendered) -> list[tuple[int, int]]:
    """The special tokens, and where in the text they are."""
    special = set(TOKENIZER.special_ids.values())
    return [pair for pair in zip(rendered.ids, rendered.starts, strict=True) if pair[0] in special]


@for_each("family", WITH_SYSTEM)
def test_a_conversation_reads_as_the_family_writes_it(family):
    rendered = RENDERERS[family].render(says("U", "A", "V", system="S"), add_generation_prompt=True)
    assert rendered.text == EXPECTED[family]
    assert TOKENIZER.decode(rendered.ids, skip_special=False) == rendered.text


def test_a_family_may_bring_its_own_system_prompt():
    own = {
        "smollm2": "You are a helpful AI assistant named SmolLM, trained by Hugging Face",
        "qwen2.5": "You are Qwen, created by Alibaba Cloud. You are a helpful assistant.",
    }
    for family in ("smollm2", "qwen2.5", "qwen3", "chatml"):
        system = f"<|im_start|>system\n{own[family]}<|im_end|>\n" if family in own else ""
        assert RENDERERS[family].render(says("U")).text == system + "<|im_start|>user\nU<|im_end|>\n"


@for_each(
    ("family", "messages", "sentence"),
    [
        ("gemma", says("U", system="S"), "Gemma 1 and 2 know no system messages"),
        ("gemma", says("U", "A")[1:], "users and assistants must take turns"),
        ("gemma3", [*says("U"), *says("V")], "must take turns, a user first"),
        ("llama2", [*says("U", "A"), Message("assistant", "B")], "must take turns, a user first"),
        ("mistral-v1", [*says("U"), Message("system", "S")], "must take turns, a user first"),
        ("mistral-v3", says("U", "A")[1:], "must take turns, a user first"),
        (
            "llama3.1",
            [*says("U"), Message("assistant", "", (call("f"), call("g")))],
            "an answer can call one function, not several",
        ),
    ],
)
def test_a_conversation_that_a_family_does_not_know_is_refused_with_a_sentence(family, messages, sentence):
    with pytest.raises(ChatTemplateError, match=sentence):
        RENDERERS[family].render(messages)


def test_names_of_families_and_missing_tokens(tiny_tokenizer):
    with pytest.raises(ChatTemplateError, match=r"'vicuna'; known: chatml, smollm2"):
        chat_template("vicuna")
    assert all(missing_tokens(family, TOKENIZER) == () for family in FAMILIES)
    assert missing_tokens("chatml", tiny_tokenizer) == ()
    assert missing_tokens("gemma3", tiny_tokenizer) == ("<start_of_turn>", "<end_of_turn>")
    bare = Tokenizer(tiny_tokenizer.backend)
    assert set(missing_roles("llama2", bare)) == {"bos_token", "eos_token"}
    assert missing_roles("llama3", bare) == ("bos_token",) and missing_roles("chatml", bare) == ()


@for_each("family", FAMILIES)
def test_a_family_that_needs_a_role_is_refused_with_what_helps(family, tiny_tokenizer):
    """Or else it renders without one: no template reads a role that the check does not know."""
    bare = Tokenizer(tiny_tokenizer.backend)
    needed = missing_roles(family, bare)
    if not needed:
        check_roles(family, bare)
        assert ChatRenderer(chat_template(family), bare).render(says("U", "A")).text
        return
    with pytest.raises(ChatTemplateError, match=f"the family {family} needs a token that .*--family {family}"):
        check_roles(family, bare)
    rest = {role: token for role, token in TOKENIZER.roles.items() if role not in needed}
    if family not in ("gemma", "gemma3", "mistral-v1", "mistral-v3", "mistral-v7", "phi3"):
        with pytest.raises(ChatTemplateError, match=f"by its role, ({'|'.join(needed)})"):
            ChatRenderer(chat_template(family), Tokenizer(TOKENIZER.backend, rest)).render(says("U", "A"))


def test_the_end_of_a_turn_is_known_or_there_is_none(tiny_tokenizer):
    for family, end in TURN_END.items():
        assert RENDERERS[family].turn_end == TOKENIZER.special_ids[end]
    lacking = ChatRenderer(chat_template("gemma3"), Tokenizer(tiny_tokenizer.backend, {"bos_token": "<|im_start|>"}))
    assert lacking.turn_end is None


def test_what_the_template_wrote_is_special_and_what_the_vocabulary_lacks_is_not():
    backend = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({"<unk>": 0, "<|im_end|>": 1, "x": 2}, unk_token="<unk>")
    )
    backend.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    backend.add_special_tokens(["<unk>", "<|im_end|>"])
    template = "{% for m in messages %}<unk>{{ m.content }} <|im_end|>{% endfor %}"
    rendered = ChatRenderer(template, Tokenizer(backend, {"unk_token": "<unk>"})).render(says("x lacking <unk>"))
    assert rendered.special[0] and rendered.special[-1] and rendered.ids[0] == 0
    assert len(rendered.special) == len(rendered.ids) and sum(rendered.special) == 2
    assert rendered.ids[1:3] == (2, 0) and not any(rendered.special[1:-1])


# ---------------------------------------------------------------------------------------------------------------------
# Nobody speaks for somebody else


@pytest.mark.parametrize("renderers", [RENDERERS, UNMARKED])
@pytest.mark.parametrize("family", FAMILIES)
@given(data=st.data(), prompt=st.booleans())
def test_names_of_special_tokens_in_contents_change_nothing_but_letters(family, renderers, data, prompt):
    messages = data.draw(turns(hostile_texts, family != "gemma"))
    harmless = [replace(message, content=without_names(message.content)) for message in messages]
    rendered, plain = (renderers[family].render(each, prompt) for each in (messages, harmless))
    assert places(rendered) == places(plain)
    assert without_names(rendered.text) == without_names(plain.text)
    assert learnt_ranges(rendered) == learnt_ranges(plain)


def without_names(text: str) -> str:
    """As long as before, with other letters instead of whatever names of special tokens are made of."""
    return re.sub(r"[<>\[\]|]", "q", text)


def learnt_ranges(rendered: Rendered) -> list[int]:
    return [start for start, wanted in zip(rendered.starts, rendered.training_mask, strict=True) if wanted]


@pytest.mark.parametrize("family", ["qwen2.5", "qwen3", "llama3.1"])
@given(text=hostile_texts)
def test_results_of_functions_are_contents_too(family, text):
    def conversation(result: str) -> Rendered:
        messages = [*CALLS["a result"][:3], CALLS["a result"][4]]
        messages[3:3] = [Message("tool", result, tool_call_id="call00001")]
        return RENDERERS[family].render(messages, True, [WEATHER])

    assert RENDERERS[family].tool_form.native
    assert places(conversation(text)) == places(conversation(without_names(text)))


# ---------------------------------------------------------------------------------------------------------------------
# Calls that begin with a special token


NATIVE = {
    family: ChatRenderer(chat_template(family), TOKENIZER, native_calls=True) for family in ("mistral-v3", "mistral-v7")
}
ASKED = [
    *says("w?", system="S"),
    Message("assistant", "", ({**call("f", a=1), "id": "abcdefgh1"}, {**call("g"), "id": "call_7_1"})),
    Message("tool", '{"x":  1}', tool_call_id="abcdefgh1"),
    Message("tool", 'It "is"', tool_call_id="call_7_1"),
]
WRITTEN = (
    '[TOOL_CALLS] [{"name": "f", "arguments": {"a": 1}, "id": "abcdefgh1"}, '
    '{"name": "g", "arguments": {}, "id": "call00001"}]</s>'
)
FUNCTIONS = f"[AVAILABLE_TOOLS] [{json.dumps(WEATHER)}][/AVAILABLE_TOOLS]"
CALLED = {
    "mistral-v3": f"<s>{FUNCTIONS}[INST] S\n\nw?[/INST]{WRITTEN}"
    '[TOOL_RESULTS] {"content": {"x": 1}, "call_id": "abcdefgh1"}[/TOOL_RESULTS]'
    '[TOOL_RESULTS] {"content": "It \\"is\\"", "call_id": "call00001"}[/TOOL_RESULTS]',
    "mistral-v7": f"<s>[SYSTEM_PROMPT] S[/SYSTEM_PROMPT]{FUNCTIONS}[INST] w?[/INST]{WRITTEN}"
    '[TOOL_RESULTS] abcdefgh1[TOOL_CONTENT] {"x":  1}[/TOOL_RESULTS]'
    '[TOOL_RESULTS] call00001[TOOL_CONTENT] It "is"[/TOOL_RESULTS]',
}


@for_each("family", CALLED)
def test_native_calls_read_as_mistral_writes_them(family):
    rendered = NATIVE[family].render(ASKED, tools=[WEATHER])
    assert rendered.text == CALLED[family]
    assert learnt(rendered) == WRITTEN and rendered.untrained == ()
    before = NATIVE[family].render(ASKED[:2], True, [WEATHER])
    assert rendered.ids[: len(before.ids)] == before.ids  # what is trained goes on from what is served


@for_each("family", CALLED)
def test_functions_are_told_of_before_the_last_question(family):
    text = NATIVE[family].render(says("U", "A", "V", "B"), tools=[WEATHER]).text
    assert text.startswith("<s>[INST] U[/INST] A</s>" + FUNCTIONS + "[INST] V[/INST]") and text.count("[AVAIL") == 1


@for_each("family", CALLED)
def test_calls_are_text_unless_the_template_s_own_are_asked_for(family):
    """The engine cannot hold an answer to a form with a special token in it, so that what is served is our own."""
    rendered = RENDERERS[family].render([*says("w?"), *ASKED[2:]], tools=[WEATHER])
    assert "[TOOL_CALLS]" not in rendered.text and '<tool_call>\n{"name": "f"' in rendered.text
    assert ChatRenderer(chat_template("chatml"), TOKENIZER, native_calls=True).render(ASKED, tools=[WEATHER]) == (
        RENDERERS["chatml"].render(ASKED, tools=[WEATHER])
    )


@pytest.mark.parametrize("family", CALLED)
@given(
    text=hostile_texts | st.sampled_from(['{"a": "[/TOOL_RESULTS]</s>"}', "[TOOL_CALLS]", "22", "1e3", '"', "\\ud800"])
)
def test_results_and_questions_never_become_what_frames_a_call(family, text):
    def conversation(said: str) -> Rendered:
        messages = [ASKED[0], Message("user", said), ASKED[2], Message("tool", said, tool_call_id="call_7_1")]
        return NATIVE[family].render(messages, True, [WEATHER])

    special = [token for token, _ in places(conversation(text))]
    assert special == [token for token, _ in places(conversation(without_names(text)))]


@for_each(
    ("family", "messages", "sentence"),
    [
        ("mistral-v3", [*ASKED[:2], replace(ASKED[2], content="words")], "calls functions or says something, not both"),
        ("mistral-v3", [*ASKED[:3], Message("tool", "x")], "a result needs the tool_call_id of a call before it"),
        ("mistral-v7", [*ASKED[:3], Message("tool", "x", tool_call_id="other")], "a result needs the tool_call_id"),
        ("mistral-v7", [*ASKED[:1]], "functions are told of before the last question, and there is none"),
    ],
)
def test_native_calls_that_cannot_be_written_are_refused(family, messages, sentence):
    with pytest.raises(ChatTemplateError, match=sentence):
        NATIVE[family].render(messages, tools=[WEATHER])


# ---------------------------------------------------------------------------------------------------------------------
# What is learnt


@pytest.mark.parametrize("family", FAMILIES)
@given(data=st.data())
def test_the_mask_is_what_the_assistant_said_and_the_end_of_its_turn(family, data):
    messages = data.draw(turns(harmless_texts | hostile_texts, family != "gemma"))
    rendered = RENDERERS[family].render(messages)
    said = [message.content for message in messages if message.role == "assistant"]
    if family.startswith(("llama", "gemma")) or family == "mistral-v3":
        said = [text.strip() for text in said]
    if family == "qwen3":
        assume(not any(text.startswith("\n") for text in said))
    before = " " if family in ("llama2", "mistral-v1", "mistral-v3", "mistral-v7") else ""
    after = (" " if family == "llama2" else "") + TURN_END[family]
    assert learnt(rendered) == "".join(before + text + after for text in said)
    assert rendered.untrained == ()


@for_each("family", FAMILIES)
def test_the_renderer_finds_the_answers_that_a_template_does_not_enclose(family):
    for messages in (says("U", "A"), says("U", "A B", "V", "größer 🙂"), says("U", "", "V", "x"), says("U", "\n", "V")):
        marked, unmarked = RENDERERS[family].render(messages), UNMARKED[family].render(messages)
        assert marked == unmarked


@for_each("family", FAMILIES)
def test_stop_ids_end_the_turn(family):
    ends = {TURN_END[family], "</s>"}
    for renderer in (RENDERERS[family], UNMARKED[family]):
        assert {TOKENIZER.decode([token], skip_special=False) for token in renderer.stop_ids} == ends


@for_each("family", ["qwen2.5", "qwen3", "llama3.1"])
def test_calls_are_learnt(family):
    for renderer in (RENDERERS[family], UNMARKED[family]):
        rendered = renderer.render(CALLS["a result"], tools=[WEATHER])
        written = renderer.tool_form.write("get_weather", '{"place": "Graz", "days": [1, {"a": null}]}')
        assert learnt(rendered) == f"{written}{TURN_END[family]}22.{TURN_END[family]}"
        assert rendered.untrained == ()


def test_thoughts_are_learnt_where_they_are_kept():
    messages = says("q", "<think>\nabc\n</think>\n\none", "q2", "<think>\ndef\n</think>\n\ntwo")
    for renderer in (RENDERERS["qwen3"], UNMARKED["qwen3"]):
        assert learnt(renderer.render(messages)) == "one<|im_end|><think>\ndef\n</think>\n\ntwo<|im_end|>"


def test_nothing_is_truncated():
    stored = tokenizers.Tokenizer.from_str(TOKENIZER.backend.to_str())
    stored.enable_truncation(16)
    renderer = ChatRenderer(chat_template("llama2"), Tokenizer(stored, TOKENIZER.roles))
    rendered = renderer.render(says("x" * 5000, "y" * 5000))
    assert TOKENIZER.decode(rendered.ids, skip_special=False) == rendered.text
    assert rendered.training_mask.count(True) >= 5000
