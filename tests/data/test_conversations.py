"""Rows of conversations to what is learned: every row type, what is cut and refused, and packing without leaks."""

import copy
import json
import random

import pyarrow
import pyarrow.parquet
import pytest

from kit.tables import for_each
from lmworks.artefact import StageContext, StageResult
from lmworks.data.config import TokenizeConfig
from lmworks.data.conversations import parse_row, read_dialogues, turns_of
from lmworks.data.document_tokens import tokenize_conversations
from lmworks.data.duplicate_rows import find_duplicates
from lmworks.data.token_dataset import TokenDataset
from lmworks.data.training_rows import read_preference_rows
from lmworks.model.stage_tokenize import tokenize
from lmworks.records import Conversation, Message, PromptCompletion
from lmworks.tokenizer.chat import ChatRenderer
from lmworks.tokenizer.chat_templates import FAMILIES, chat_template, missing_tokens
from lmworks.tokenizer.tokenizer import Tokenizer
from tiny_system import CHAT_TEMPLATE
from token_cases import hash_of

USER, ASSISTANT = {"role": "user", "content": "the thing?"}, {"role": "assistant", "content": "in the end"}
MORE = [{"role": "user", "content": "and then?"}, {"role": "assistant", "content": "ö, nothing"}]
LONG = {"messages": [USER, ASSISTANT, *MORE]}
CALL = {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}
RESULT = {"role": "tool", "content": "5"}


@pytest.fixture
def made(tmp_path, tiny_tokenizer):
    """A function: files of rows and settings → the shards, and what the stage says."""
    tiny_tokenizer.save(tmp_path / "vocabulary", CHAT_TEMPLATE)

    def make(files: dict[str, list], **settings) -> tuple[TokenDataset, StageResult]:
        number = len(list(tmp_path.iterdir()))
        rows, output, work = (tmp_path / f"{name}{number}" for name in ("rows", "output", "work"))
        for folder in (rows, output, work):
            folder.mkdir()
        for name, content in files.items():
            if name.endswith(".parquet"):
                pyarrow.parquet.write_table(pyarrow.Table.from_pylist(content), rows / name)
            else:
                lines = json.dumps(content) if name.endswith(".json") else "\n".join(map(json.dumps, content))
                (rows / name).write_text(lines, "utf-8")
        context = StageContext({"vocabulary": tmp_path / "vocabulary"}, output, work, base=tmp_path)
        result = tokenize(TokenizeConfig(conversations=(rows.name,), **settings), context)
        return TokenDataset(output), result

    return make


def learned(dataset: TokenDataset, tokenizer) -> list[str]:
    """What is learned of each conversation."""
    spans = [dataset.offsets[n : n + 2].tolist() for n in range(dataset.documents)]
    return [tokenizer.decode(dataset.read(*s)[dataset.mask(*s)].tolist(), skip_special=False) for s in spans]


@for_each("suffix", [".jsonl", ".json", ".parquet"])
def test_each_row_type_is_read_from_each_kind_of_file(made, tiny_tokenizer, suffix):
    """The same turns are the same tokens; of a prompt nothing is learned, though an assistant speaks in it."""
    rows = [
        {"messages": [USER, ASSISTANT], "source": "a", "id": "7"},
        {"prompt": [USER], "completion": [ASSISTANT]},
        {"prompt": USER["content"], "completion": ASSISTANT["content"], "annotator": "b"},
        {"prompt": [USER, ASSISTANT, MORE[0]], "completion": [MORE[1]]},
    ]
    dataset, result = made({f"{n}{suffix}": [row] for n, row in enumerate(rows)})
    first, last = "in the end<|im_end|>", "ö, nothing<|im_end|>"
    assert learned(dataset, tiny_tokenizer) == [first, first, first, last]
    assert result.metrics["learned_tokens"] == dataset.mask(0, dataset.tokens).sum() == dataset.learned_tokens
    assert len({hash_of(dataset, n) for n in range(3)}) == 1
    assert dataset.lengths[:3].tolist() == [dataset.lengths[0]] * 3
    assert learned(made({"a.jsonl": [LONG]})[0], tiny_tokenizer) == [first + last]
    assert learned(made({"a.jsonl": [LONG]}, learn="last")[0], tiny_tokenizer) == [last]


QUESTION, ANSWER = USER["content"], ASSISTANT["content"]
TALK = [{"from": "human", "value": QUESTION}, {"from": "gpt", "value": ANSWER}]
CALLING = [
    {"from": "human", "value": QUESTION}, {"from": "function_call", "value": '{"name": "f", "arguments": {}}'},
    {"from": "observation", "value": "5"}, {"from": "gpt", "value": ANSWER},
]  # fmt: skip


@for_each(("name", "text", "same"), [
    ("a.jsonl", json.dumps({"conversations": TALK, "system": "s"}), [{"role": "system", "content": "s"}]),
    ("a.jsonl", json.dumps({"conversations": CALLING}), [USER, CALL, RESULT, ASSISTANT]),
    ("a.json", json.dumps([{"instruction": QUESTION, "input": "", "output": ANSWER, "text": f"… {ANSWER}"}]), []),
    ("a.csv", f'instruction,input,output\nthe,thing?,"{ANSWER}"\n', [{**USER, "content": "the\n\nthing?"}, ASSISTANT]),
    ("a.csv", f"prompt,completion,source\n{QUESTION},{ANSWER},\n", []),
    ("a.tsv", f"prompt\tcompletion\n{QUESTION}\t{ANSWER}\n", []),
])  # fmt: skip
def test_rows_of_other_tools_and_tables_are_the_conversations_that_they_hold(tmp_path, name, text, same):
    (tmp_path / name).write_text(text)
    expected = same if len(same) > 1 else [*same, USER, ASSISTANT]
    ((_, row),) = read_dialogues([tmp_path / name])
    plain = parse_row({"messages": expected}, "")
    assert turns_of(row)[0] == turns_of(plain)[0]


def test_pairs_of_other_tools_and_tables_are_preferences(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps([{"instruction": "q", "input": "", "chosen": "a", "rejected": "b"}]))
    (tmp_path / "b.tsv").write_text("prompt\tchosen\trejected\nq\ta\tb\n")
    (tmp_path / "c.csv").write_text("prompt,completion,label\nq,a,True\n")
    first, second, third = read_preference_rows([tmp_path / name for name in ("a.json", "b.tsv", "c.csv")])
    assert (
        (first.prompt, first.chosen, first.rejected) == (second.prompt, second.chosen, second.rejected) == tuple("qab")
    )
    assert third.label is True


def test_copies_are_counted_and_never_on_both_sides(made):
    """Two rows that differ in a comma have different questions: with either side's hash alone, they would be parted."""
    rows = [
        {
            "prompt": f"when does the public library of town number {n} open",
            "completion": f"it opens at {n % 12} o'clock",
        }
        for n in range(40)
    ]
    near = [{**row, "prompt": row["prompt"].replace("when does", "When, does") + "?"} for row in rows]
    texts = {}
    for part in ("training", "held_out"):
        dataset, result = made({"a.jsonl": [*rows, *near, *rows[:7]]}, held_out=0.3, part=part)
        texts[part] = dataset.documents
        assert result.metrics["equal_rows"] == 7 and result.metrics["near_equal_rows"] == 40
    assert sum(texts.values()) == 87
    sides = find_duplicates([parse_row(row, "") for row in [*rows, *near]]).sides
    assert sides[:40] == sides[40:] and len(set(sides)) == 40


@for_each("family", FAMILIES)
def test_by_every_template_an_answer_and_its_end_are_learned_behind_any_prompt(family, tiny_tokenizer):
    backend = copy.deepcopy(tiny_tokenizer.backend)
    backend.add_special_tokens(list(missing_tokens(family, tiny_tokenizer)))
    renderer = ChatRenderer(chat_template(family), Tokenizer(backend, tiny_tokenizer.roles))
    turns = tuple(Message(**message) for message in LONG["messages"])
    for row, learn in ((PromptCompletion(turns[:3], turns[3:]), "all"), (Conversation(turns), "last")):
        (found,) = tokenize_conversations([row], renderer, learn)
        ids = found.ids[found.mask].tolist()
        assert renderer.tokenizer.decode(ids, skip_special=True).strip() == MORE[1]["content"]
        assert ids[-1] in renderer.stop_ids


@for_each(("row", "problem"), [
    ({"question": "x", "output": "y"}, "columns; got question, output"),
    ({"conversations": [{"from": "narrator", "value": "x"}]}, "message 1 is from 'narrator'"),
    ({"messages": [USER, ASSISTANT], "label": True}, "unknown columns label"),
    ({"prompt": "x", "completion": " "}, "message 2, the assistant's, is empty"),
    ({"prompt": [USER, ASSISTANT], "completion": [USER]}, "must begin with the assistant's message"),
    ({"messages": [USER]}, "nothing to learn"),
    ({"messages": [ASSISTANT]}, "message 1 is the assistant's, at the beginning"),
    ({"messages": [USER, ASSISTANT, RESULT]}, "message 3 is the tool's, after the assistant's without tool_calls"),
    ([USER, {**ASSISTANT, "content": "\ud800"}], "not JSON"),
    ([USER, {**CALL, "tool_calls": [{"name": "f", "arguments": '{"a": NaN}'}]}], "arguments of f is not JSON"),
])  # fmt: skip
def test_a_row_that_cannot_be_trained_on_is_refused_before_anything_is_written(made, tmp_path, row, problem):
    rows = [LONG, {"messages": [USER, CALL, RESULT, ASSISTANT]}, row, [], row, LONG]
    with pytest.raises(ValueError, match=r"a\.jsonl, line 3") as refused:
        made({"a.jsonl": rows, "b.jsonl": [LONG]})
    assert problem in str(refused.value) and "2 more rows" in str(refused.value)
    assert not list(tmp_path.glob("work*/*"))


def test_what_is_too_long_is_cut_between_turns_and_counted(made, tiny_tokenizer):
    whole, _ = made({"a.jsonl": [LONG, {"messages": LONG["messages"][:2]}]})
    all_turns, first = whole.lengths.tolist()
    waiting = {"messages": [*LONG["messages"], USER]}  # what is kept ends with an answer
    rows = {"a.jsonl": [LONG, waiting, {"messages": [USER | {"content": "x" * 200}, *LONG["messages"][1:]]}]}
    for length, kept in ((all_turns, all_turns), (all_turns - 1, first), (first, first)):
        dataset, result = made(rows, length=length)
        assert dataset.lengths.tolist() == [kept] * 2
        assert all(text.endswith("<|im_end|>") for text in learned(dataset, tiny_tokenizer))
        assert (result.metrics["cut"], result.metrics["too_long"]) == (1 + (kept == first), 1)
        assert len(result.sections[0].alarms) == 2
    with pytest.raises(ValueError, match="length=5"):
        made(rows, length=5)


def test_quotas_choose_the_same_rows_in_any_order_and_company(made):
    rows = [{"prompt": f"the {n}", "completion": f"in {n}"} for n in range(40)]
    files = {"big.jsonl": rows, "small.jsonl": [LONG]}

    def chosen(files, **settings):
        dataset, result = made(files, **settings)
        return sorted(hash_of(dataset, n) for n in range(dataset.documents)), result.metrics["over_quota"]

    some, over = chosen(files, quotas={"big.jsonl": 10})
    assert (len(some), over) == (11, 30)
    mixed = random.Random(0).sample(rows, 40)
    assert chosen(files | {"big.jsonl": mixed}, quotas={"big.jsonl": 10}) == (some, over)
    alone, _ = chosen({"big1.jsonl": mixed[:20], "big2.jsonl": mixed[20:]}, quotas={"big*.jsonl": 10})
    assert set(alone) < set(some)
    sides = [chosen(files, quotas={"big.jsonl": 10}, held_out=0.4, part=part)[0] for part in ("training", "held_out")]
    assert sorted(sides[0] + sides[1]) == some
    with pytest.raises(ValueError, match=r"quotas: x\.jsonl"):
        made(files, quotas={"x.jsonl": 1})
