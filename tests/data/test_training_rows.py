"""Rows of training: ids and masks of completions are the chat renderer's own, pairs are framed as texts are, and
nothing is cut or left out silently."""

import numpy as np
import pytest

from byte_tokenizer import byte_tokenizer
from kit.tables import for_each
from lmworks.corpus.sources.files import NoSourceError
from lmworks.data.conversations import pair_files
from lmworks.data.training_rows import group_completions, pair_groups, read_pairs, split_rows
from lmworks.records import Message, Preference, Provenance, RejectedRecord, TextPair
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


@for_each("row", ROWS)
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
    rejected: list[RejectedRecord] = []
    groups = group_completions([short, hopeless, long], RENDERER, 200, rejected)
    assert [each.uri for each in rejected] == ["file, line 3"]
    assert groups.cut == 1
    batch = groups.batch([0, 1])
    assert batch.lengths[1, 0] == 200 == batch.lengths.max()


FRAMING = byte_tokenizer({"cls_token": "[CLS]", "sep_token": "[SEP]"})


def test_files_are_found_in_order_and_the_rest_is_told(tmp_path):
    (tmp_path / "b.jsonl").write_text('\ufeff{"anchor": "q", "positive": "p"}\n\n', "utf-8")
    (tmp_path / "a.jsonl").write_text('{"anchor": "first", "positive": "p"}', "utf-8")
    (tmp_path / "c.txt").write_text("text")
    rejected: list[RejectedRecord] = []
    files = pair_files([str(tmp_path)], tmp_path, rejected)
    assert [pair.anchor for pair in read_pairs(files)] == ["first", "q"]
    assert len(rejected) == 1
    with pytest.raises(NoSourceError, match=r"\.jsonl"):
        pair_files([str(tmp_path / "c.txt")], tmp_path)


def test_all_answers_of_an_anchor_are_on_one_side():
    pairs = [TextPair(f"q{number}", f"p{k}") for number in range(2000) for k in range(2)]
    held_out = {id(pair) for pair in split_rows(pairs, 0.2, lambda pair: pair.anchor)[1]}
    sides = [id(pair) in held_out for pair in pairs]
    assert sides[::2] == sides[1::2]
    assert 0.16 < np.mean(sides) < 0.24  # 4.5 standard deviations of a binomial share of 2,000


def test_texts_that_are_too_long_lose_their_ends_and_are_counted():
    groups = pair_groups([TextPair("abcdefghij", "ok", ("no",)), TextPair("b", "c" * 50)], FRAMING, 6)
    batch = groups.batch([1, 0])
    assert groups.cut == 2
    texts = [
        [FRAMING.decode(row[mask].tolist(), skip_special=False) for row, mask in zip(*group, strict=True)]
        for group in zip(batch.ids, batch.attention_mask, strict=True)
    ]
    framed = [["b", "cccc", None], ["abcd", "ok", "no"]]
    assert texts == [["" if text is None else f"[CLS]{text}[SEP]" for text in group] for group in framed]
