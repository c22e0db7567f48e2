"""The families' templates against the published ones, and the renderer on templates that others wrote.

`transformers` runs the published templates; FastChat and mistral-common, which know no templates, write the prompts of
Zephyr, ChatML, Llama 2 and Mistral by programs of their own.
"""

import json
import random
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import pytest
from published_templates import FASTCHAT, MISTRAL, all_of_trl, fetched, published, rows_of, run

from byte_tokenizer import byte_tokenizer
from chat_cases import CALLS, CONVERSATIONS, SPECIAL, WEATHER, call, family_tokenizer, says
from kit.tables import for_each
from lmworks.records import Message
from lmworks.tokenizer.chat import ChatRenderer
from lmworks.tokenizer.chat_templates import FAMILIES, chat_template
from lmworks.tokenizer.jinja_template import ChatTemplateError
from lmworks.tokenizer.sentence_piece import sentence_piece_bpe
from lmworks.tokenizer.tokenizer import Tokenizer
from lmworks.tokenizer.tool_calls import tools_described, with_plain_json

pytestmark = pytest.mark.slow
TOKENIZER = family_tokenizer()
# Templates that take contents as lists of parts alone.
IN_PARTS = {f"{name}{end}" for name in ("idefics3", "smolvlm", "llava_next") for end in ("", "_training")}
WITH_TOOLS = ("qwen2.5", "qwen3", "llama3.1")
_WORDS = [
    *SPECIAL,
    "Hi",
    " ",
    "\n",
    "größer",
    "🙂",
    "[/INST",
    "]",
    "<think>",
    "</think>",
    "<<SYS>>",
    "{{ x }}",
    "\t",
    "a b",
]


def random_conversations(count: int) -> dict[str, list[Message]]:
    """Turns of up to six pieces each, names of special tokens and spaces among them; the same ones every time."""
    draw = random.Random(0)

    def text() -> str:
        return "".join(draw.choices(_WORDS, k=draw.randrange(7)))

    return {
        f"random {number}": says(
            *(text() for _ in range(draw.randrange(1, 6))), system=text() if draw.random() < 0.5 else None
        )
        for number in range(count)
    }


def theirs(
    template: str, rows: Sequence[Mapping[str, object]], prompt: bool, tools: Sequence, tokenizer: Tokenizer
) -> str | None:
    """What `transformers` makes of a template; None where it refuses."""
    utilities = pytest.importorskip("transformers.utils.chat_template_utils")
    try:
        texts, _ = utilities.render_jinja_template(
            conversations=[list(rows)], chat_template=template, add_generation_prompt=prompt,
            tools=[dict(tool) for tool in tools] or None, **tokenizer.roles,
        )  # fmt: skip
    except Exception:  # jinja's, and whatever a template meets that does not expect such messages
        return None
    return texts[0]


def ours(renderer: ChatRenderer, messages: Sequence[Message], prompt: bool, tools: Sequence = ()) -> str | None:
    try:
        return renderer.render(messages, prompt, tools).text
    except ChatTemplateError as error:
        assert "rewrites" not in str(error), (messages, error)
        return None


@pytest.mark.weights
def test_families_equal_the_published_templates(smollm2_checkpoint):
    """Text for text, and refusal for refusal."""
    table = {}
    for family, template in {**published(), "smollm2": smollm2_checkpoint.chat_template}.items():
        renderer = ChatRenderer(chat_template(family), TOKENIZER)
        with_tools = family in WITH_TOOLS
        conversations = CONVERSATIONS | random_conversations(300) | (CALLS if with_tools else {})
        compared = refused = 0
        for name, messages in conversations.items():
            for prompt in (False, True):
                for tools in ((), (WEATHER,)) if with_tools else ((),):
                    expected = theirs(template, rows_of(messages), prompt, tools, TOKENIZER)
                    assert ours(renderer, messages, prompt, tools) == expected, (family, name, prompt)
                    compared, refused = compared + 1, refused + (expected is None)
        table[family] = (compared, refused)
    print(f"family: conversations, of which both refuse: {table}")
    assert all(compared >= 600 for compared, _ in table.values())
    assert all(refused < compared / 2 + 50 for compared, refused in table.values())


def test_zephyr_chatml_and_llama2_are_what_fastchat_writes():
    """FastChat takes an empty text for none that was said, and strips nothing: other texts are left out."""
    names = {"zephyr": "zephyr", "chatml": "OpenHermes-2.5-Mistral-7B", "llama2": "llama-2"}
    cases = [
        (family, messages)
        for family in names
        for messages in (CONVERSATIONS | random_conversations(300)).values()
        if messages[0].role == "system"
        and all(m.content and m.content == m.content.strip() for m in messages)
        and (family != "llama2" or len(messages) % 2 == 0)
    ]
    question = [
        (names[family], messages[0].content, [message.content for message in messages[1:]])
        for family, messages in cases
    ]
    written = run("fschat", FASTCHAT, question)
    counts = Counter(family for family, _ in cases)
    print(f"compared with FastChat: {counts}")
    assert min(counts.values()) >= 10
    for (family, messages), expected in zip(cases, written, strict=True):
        renderer = ChatRenderer(chat_template(family), TOKENIZER)
        text = renderer.render(messages, add_generation_prompt=len(messages) % 2 == 0).text
        # FastChat leaves the first token to the tokenizer.
        assert text.removeprefix("<s>" if family == "llama2" else "") == expected


MISTRAL_FILES = {
    "mistral-v1": "tokenizer.model.v1",
    "mistral-v3": "mistral_instruct_tokenizer_240323.model.v3",
    "mistral-v7": "mistral_instruct_tokenizer_241114.model.v7",
}


@for_each("family", MISTRAL_FILES)
def test_mistral_gives_the_ids_of_mistral_common(family):
    """Id for id, on texts that name special tokens as well: its encoder never makes tokens of those either.

    From version 3 on it takes spaces from an answer's end, where the published templates take them from both ends
    (version 3) or keep them (version 7): such answers are left out.
    """
    tokenizer = mistral_tokenizer(family)
    renderer = ChatRenderer(chat_template(family), tokenizer)
    cases = [
        messages
        for messages in (CONVERSATIONS | random_conversations(200)).values()
        if all(m.content.strip() and "\U000f0000" not in m.content for m in messages)
        and messages[-1].role == "user"  # the other way round, it wants to be told that it is for training
        and (family == "mistral-v1" or all(m.content == m.content.strip() for m in messages if m.role == "assistant"))
    ]
    version = family.removeprefix("mistral-")
    expected = run("mistral-common", MISTRAL, [(version, rows_of(messages), []) for messages in cases])
    assert len(cases) >= 20
    different = [
        messages for messages, ids in zip(cases, expected, strict=True) if list(renderer.render(messages).ids) != ids
    ]
    print(f"{family}: {len(cases)} conversations, {len(different)} differ")
    assert different == []


@for_each("family", ["mistral-v3", "mistral-v7"])
def test_mistral_calls_functions_with_the_ids_of_mistral_common(family):
    """Functions before the last question, calls, and results that are text, JSON, or name special tokens.

    mistral-common writes results that are JSON anew in both versions (22.50 becomes 22.5). We do in version 3, where
    they become a part of other JSON; in version 7 they are compared written anew, and we would leave them as they are.
    """
    renderer = ChatRenderer(chat_template(family), mistral_tokenizer(family), native_calls=True)
    talks = mistral_calls(words_beside=family == "mistral-v7")
    cases = [
        (messages, tools)
        for messages in [[with_plain_json(m) for m in each] if family == "mistral-v7" else each for each in talks]
        for tools in ([], [WEATHER], [WEATHER, SEARCH])
    ]
    version = family.removeprefix("mistral-")
    expected = run("mistral-common", MISTRAL, [(version, mistral_rows(m), tools) for m, tools in cases])
    assert len(cases) >= 200
    different = [
        messages
        for (messages, tools), ids in zip(cases, expected, strict=True)
        if list(renderer.render(messages, tools=tools).ids) != ids
    ]
    print(f"{family}: {len(cases)} conversations with functions, {len(different)} differ")
    assert different == []


SEARCH = {
    "type": "function",
    "function": {
        "name": "search",
        "description": 'Finds "größer" things\n\\ quickly 🙂',
        "parameters": {"type": "object", "properties": {"limit": {"type": "integer", "enum": [1, 2]}}},
    },
}
RESULTS = [
    "22 degrees", 'It "is" 22 °C\n', "22", "22.50", "-1e5", "true", "null", '"quoted"', '{"a":  1}', '{"a": [1, null]}',
    "[]", "{not JSON}", "NaN", "[TOOL_CALLS] [</s>", "größer 🙂", '{"a": "[/TOOL_RESULTS]</s>", "ö": 1.0}', "x ",
]  # fmt: skip


def mistral_calls(words_beside: bool) -> list[list[Message]]:
    """Conversations with calls, in a form that mistral-common takes: every call has its result, names of nine signs."""
    draw, found = random.Random(1), []
    for number in range(80):
        messages = says(system="Be [INST] brief.") if number % 3 == 0 else []
        names = (f"{letter}{index:08d}" for index, letter in enumerate("abcdefghijklmnopqrstuvwxyz"))
        for _ in range(draw.randrange(1, 4)):
            messages += says(draw.choice(["How warm?", "</s>[TOOL_CALLS]", " größer? ", "a\nb"]))
            for _ in range(draw.randrange(3)):
                calls = tuple(
                    {**call("search", limit=draw.randrange(3), words=draw.choice(['ö"x', "a\\nb"])), "id": next(names)}
                    for _ in range(draw.randrange(1, 3))
                )
                words = draw.choice(["", "Let me see."]) if words_beside else ""
                messages += [Message("assistant", words, calls)]
                messages += [Message("tool", draw.choice(RESULTS), tool_call_id=each["id"]) for each in calls]
            messages += [Message("assistant", draw.choice(["It is 22.", "größer 🙂", "[TOOL_RESULTS]"]))]
        found.append(messages[:-1])  # it waits for an answer
    return found


def mistral_rows(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """As OpenAI's API has them: arguments are JSON text."""
    rows: list[dict[str, Any]] = [dict(row) for row in rows_of(messages)]
    for row in rows:
        for each in row.get("tool_calls", ()):
            function = each["function"]
            each["function"] = {**function, "arguments": json.dumps(function["arguments"], ensure_ascii=False)}
    return rows


def mistral_tokenizer(family: str) -> Tokenizer:
    """Mistral's vocabulary as a tokenizer of the house."""
    pieces = pytest.importorskip("sentencepiece").SentencePieceProcessor(
        model_file=str(fetched("mistral-common") / "mistral_common" / "data" / MISTRAL_FILES[family])
    )
    count = range(pieces.get_piece_size())
    kinds = [2 if pieces.is_unknown(i) else 3 if pieces.is_control(i) else 6 if pieces.is_byte(i) else 1 for i in count]
    names, scores = [pieces.id_to_piece(i) for i in count], [pieces.get_score(i) for i in count]
    backend = sentence_piece_bpe(names, scores, kinds, space_prefix=False)
    return Tokenizer(backend, {"bos_token": "<s>", "eos_token": "</s>"})


def test_templates_of_others_are_rendered_as_transformers_does_or_refused_with_a_reason():
    """72 templates, each with conversations that strip, split, count and search contents, or leave them out."""
    counts = Counter()
    for name, template in all_of_trl().items():
        tokenizer = template_tokenizer(template)
        renderer = ChatRenderer(template, tokenizer)
        for messages in CONVERSATIONS.values():
            for prompt in (False, True):
                text = ours(renderer, messages, prompt)
                counts["refused" if text is None else "rendered"] += 1
                if text is not None:
                    both = [
                        theirs(template, rows_of(messages, parts), prompt, (), tokenizer) for parts in (False, True)
                    ]
                    # Some templates take contents as lists of parts alone.
                    assert text == (both[1] if name in IN_PARTS else both[0]), (name, messages)
    print(f"templates: {len(all_of_trl())}, {dict(counts)}")
    assert counts["rendered"] > 20 * counts["refused"]


def test_calls_are_written_as_transformers_does_where_the_template_has_a_form():
    """DeepSeek's and Llama's among them; where a template describes no functions, both are given our description."""
    compared = Counter()
    for name, template in all_of_trl().items():
        tokenizer = template_tokenizer(template)
        renderer = ChatRenderer(template, tokenizer)
        form = renderer.tool_form
        for (messages, prompt), tools in product(product(CALLS.values(), (False, True)), ((), (WEATHER,))):
            if form.native:
                told = messages if form.described else tools_described(messages, tools, form)
                rows = [form.row(row) if "tool_calls" in row else row for row in rows_of(told)]
                expected = theirs(template, rows, prompt, tools if form.described else (), tokenizer)
                assert ours(renderer, messages, prompt, tools) == expected, (name, messages)
                compared[name] += expected is not None
    print(f"calls: {dict(compared)}")
    assert min(compared[name] for name in ("deepseekv3", "deepseek_r1_distill", "llama3_1", "llama3_2", "qwen3")) >= 8


def template_tokenizer(template: str) -> Tokenizer:
    """One with the special tokens that a template writes."""
    names = re.findall(r"<[|｜][^<>\s]{1,40}[|｜]>|<(?:start|end)_of_\w+>|\[/?[A-Z_]{3,}\]", template)
    tokenizer = byte_tokenizer({"bos_token": "<s>", "eos_token": "</s>"})
    tokenizer.backend.add_special_tokens(sorted(set(names) - set(tokenizer.roles.values())))
    return Tokenizer(tokenizer.backend, tokenizer.roles)


def test_every_family_was_compared():
    """ChatML and Zephyr with FastChat, Mistral's with mistral-common, the rest with a published template."""
    assert {*published(), "smollm2", "chatml", "zephyr", "mistral-v1", "mistral-v3", "mistral-v7"} == set(FAMILIES)
