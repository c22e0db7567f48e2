"""Rows of completions: their ids and masks are the chat renderer's own, and nothing is cut or left out silently."""

import pytest

from byte_tokenizer import byte_tokenizer
from lmworks.data.training_rows import group_completions
from lmworks.records import Message, Preference, Provenance, RejectedRecord
from lmworks.tokenizer.chat import ChatRenderer
from lmworks.tokenizer.chat_templates import chat_template

TOKENIZER = byte_tokenizer({"bos_token": "<|im_start|>", "eos_token": "<|im_end|>"})
RENDERER = ChatRenderer(chat_template("qwen2.5"), TOKENIZER)
SYSTEM, QUESTION = Message("system", "Be brief."), Message("user", "What is 2 + 3?")
EARLIER = (Message("user", "hello"), Message("assistant", "hello there"), QUESTION)
TOOLS = ({"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}},)
CALL = Message("assistant", "", ({"type": "function", "function": {"name": "add", "arguments": {"a": 2, "b": 3}}},))
RESULT, ANSWER = Message("tool", "5"), Message("assistant", "It is 5.")
ROWS = [
    Preference("What is 2 + 3?", "5", "6, I believe"),
    Preference((SYSTEM, *EARLIER), "5", (Message("assistant", "6"),)),
    Preference((SYSTEM, QUESTION), (CALL, RESULT, ANSWER), (ANSWER,), tools=TOOLS),
]


def messages_of(row: Preference):
    prompt = (Message("user", row.prompt),) if isinstance(row.prompt, str) else row.prompt
    for said in (row.chosen, row.rejected):
        yield prompt, (Message("assistant", said),) if isinstance(said, str) else said


@pytest.mark.parametrize("row", ROWS, ids=["texts", "turns", "tools"])
def test_ids_and_masks_are_those_of_the_renderer(row):
    batch = group_completions([row], RENDERER, 2000, []).batch([0])
    for number, (prompt, completion) in enumerate(messages_of(row)):
        whole = RENDERER.render([*prompt, *completion], tools=row.tools)
        length = int(batch.lengths[0, number])
        learned = batch.completion_mask[0, number, :length].tolist()
        assert batch.ids[0, number, :length].tolist() == list(whole.ids)
        # What the assistant said in the prompt is not learned: with the prompt as a conversation of its own, it is all
        # that the renderer's mask has besides.
        before = RENDERER.render(prompt, tools=row.tools)
        assert [*before.training_mask, *learned[len(before.ids) :]] == list(whole.training_mask)
        assert not any(learned[: len(before.ids)])


def test_what_is_too_long_is_cut_and_counted_and_a_row_without_an_answer_left_out():
    short, long = Preference("q", "yes", "no"), Preference("q", "x" * 200, "no")
    hopeless = Preference("q" * 400, "yes", "no", Provenance(source="file, line 3"))
    left_out: list[RejectedRecord] = []
    groups = group_completions([short, hopeless, long], RENDERER, 200, left_out)
    assert [each.uri for each in left_out] == ["file, line 3"]
    assert groups.cut == 1
    batch = groups.batch([0, 1])
    assert batch.lengths[1, 0] == 200 == batch.lengths.max()
