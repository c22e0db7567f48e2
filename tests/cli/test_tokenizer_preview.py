"""The verb `tokenizer preview`: what it shows of a conversation, and what it says of files that hold none."""

import json
import re

import pytest
import tokenizers
from typer.testing import CliRunner

from byte_tokenizer import byte_tokenizer
from kit.tables import for_each
from lmworks.cli.tokenizer_command import app
from lmworks.cli.tokenizer_preview_command import read_row
from lmworks.tokenizer.chat_templates import FAMILIES, chat_template
from lmworks.tokenizer.tokenizer import Tokenizer

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
ASKED = [{"role": "user", "content": "the\tin"}, {"role": "assistant", "content": "on ö\x1b[2J"}]


@pytest.fixture
def folder(tiny_tokenizer, tmp_path):
    made = tmp_path / "mine"
    made.mkdir()
    tiny_tokenizer.save(made, TEMPLATE)
    return made


def written(path, content) -> str:
    path.write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")
    return str(path)


def shown(*arguments: str, **environment: str | None) -> str:
    environment = {"COLUMNS": "40", "NO_COLOR": None, "FORCE_COLOR": None, **environment}
    result = CliRunner(env=environment).invoke(app, ["preview", *arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_signs_show_tokens_and_what_is_learnt(folder, tmp_path):
    text = shown(str(folder), "--conversation", written(tmp_path / "one.json", ASKED))
    assert "⟦<|im_start|>⟧│u│s│er│⏎\nt│he│⇥│in│⟦<|im_end|>⟧│⏎\n" in text
    assert "│⏎\n«on│·││ö│\\x1b│[│2│J│⟦<|im_end|>⟧»⏎\n" in text  # ö is two tokens
    assert "\x1b" not in text
    assert re.search(r"\d+ tokens by the chat template of mine: 9 trained \(\d+%\), 4 special", text)
    assert "a turn ends with: 2 <|im_end|>" in text


def test_of_a_prompt_and_its_completion_the_completion_is_trained_on(folder, tmp_path):
    rows = [
        {"prompt": [*ASKED, ASKED[0]], "completion": [{"role": "assistant", "content": "x"}]},
        {"messages": ASKED * 2},
    ]
    file = written(tmp_path / "a.json", rows)
    for row, learned in ((("--row", "1"), 1), (("--row", "2"), 2), (("--row", "2", "--learn", "last"), 1)):
        assert shown(str(folder), "--conversation", file, *row).count("«") - 1 == learned  # the legend has one


def test_colours_come_next_to_signs(folder, tmp_path):
    file = written(tmp_path / "one.json", ASKED)
    coloured = shown(str(folder), "--conversation", file, FORCE_COLOR="1")
    green = "".join(re.findall(r"\x1b\[(?:1;)?3[05];42m([^\x1b]*)", coloured))
    assert green == "on·ö\\x1b[2J⟦<|im_end|>⟧"
    assert re.sub(r"\x1b\[[\d;]*m", "", coloured) == shown(str(folder), "--conversation", file)


def test_without_a_conversation_there_is_an_example(folder):
    text = shown(str(folder))
    assert "<│|│i│m│_│e│n│d│|│>" in text and "4│.│⟦<|im_end|>⟧»" in text
    assert text.count("⟦<|im_end|>⟧") == 4
    prompt, note = shown(str(folder), "--prompt"), "where another one would begin"
    assert prompt.count("⟦<|im_start|>⟧") == 5
    assert note in prompt and note not in text


def test_a_family_instead_of_the_own_template(folder, tmp_path):
    text = shown(str(folder), "--family", "gemma3", "--conversation", written(tmp_path / "one.json", ASKED))
    assert "by the template of the family gemma3" in text
    assert "no tokens of this vocabulary, so that a model would read them letter by letter: <start_of_turn>, <" in text
    assert "--family gemma3" in text
    assert "no token ends a turn" in text and "2 <|im_end|> would end a text, and no answer" in text
    assert "a turn ends with" not in text


def test_what_cannot_be_seen_is_written_out_and_what_is_unknown_is_told_apart(tmp_path):
    backend = tokenizers.Tokenizer(tokenizers.models.Unigram([("<unk>", 0.0), ("▁", -1.0), ("a", -1.0)], 0, False))
    backend.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace()
    backend.add_special_tokens(["<unk>"])
    folder = tmp_path / "lacking"
    folder.mkdir()
    Tokenizer(backend, {"unk_token": "<unk>"}).save(folder, "{% for m in messages %}{{ m.content }}<unk>{% endfor %}")
    file = written(tmp_path / "one.json", [{"role": "user", "content": "aß\r\u200b\u202ea"}])
    text = shown(str(folder), "--conversation", file)
    assert "⟨ß\\r\\u200b\\u202e⟩" in text and "⟦<unk>⟧" in text and "⟨unknown to the vocabulary⟩" in text
    assert "1 special, 1 unknown" in text
    coloured = shown(str(folder), "--conversation", file, FORCE_COLOR="1")
    assert "\x1b[1;31m⟨ß" in coloured and "\x1b[1;35m⟦<unk>" in coloured


def test_rows_functions_and_what_ends_a_text(folder, tmp_path):
    call = {"id": "c", "function": {"name": "find", "arguments": '{"key": "on"}'}}
    rows = [ASKED, {"messages": [ASKED[0], {"role": "assistant", "content": None, "tool_calls": [call]}]}]
    file = written(tmp_path / "rows.jsonl", "\n\n".join(json.dumps(row) for row in rows))
    functions = written(tmp_path / "functions.json", [{"name": "find", "description": "Finds"}])
    (folder / "generation_config.json").write_text('{"eos_token_id": [0, 2]}', "utf-8")
    text = shown(str(folder), "--conversation", file, "--row", "2", "--tools", functions)
    plain = text.replace("│", "").replace("·", " ")
    assert (
        "You can call these functions." in plain
        and '«<tool_call>⏎\n{"name": "find", "arguments": {"key": "on"}}' in plain
    )
    assert "a turn ends with: 2 <|im_end|>, 0 <|endoftext|>" in text


def test_calls_as_the_template_writes_them(tmp_path):
    tokenizer = byte_tokenizer({"bos_token": "<s>", "eos_token": "</s>"})
    tokenizer.backend.add_special_tokens([*FAMILIES["mistral-v3"].tokens])
    folder = tmp_path / "mistral"
    folder.mkdir()
    Tokenizer(tokenizer.backend, tokenizer.roles).save(folder, chat_template("mistral-v3"))
    call = {"id": "abcdefgh1", "function": {"name": "find", "arguments": {}}}
    file = written(tmp_path / "one.json", [ASKED[0], {"role": "assistant", "content": None, "tool_calls": [call]}])
    assert "functions and calls are text here" in shown(str(folder), "--conversation", file)
    native = shown(str(folder), "--conversation", file, "--native-calls")
    assert "«⟦[TOOL_CALLS]⟧│·│[│{" in native and "are text here" not in native


def test_a_template_that_hides_an_answer_is_told(folder, tmp_path):
    hiding = TEMPLATE.replace("m.content", "(m.content if m.role == 'user' or loop.last else '')")
    (folder / "chat_template.jinja").write_text(hiding, "utf-8")
    file = written(tmp_path / "long.json", [*ASKED, *ASKED])
    text = shown(str(folder), "--conversation", file)
    assert "message 2" not in text  # the turn is there, without its words: its end is what is learnt
    (folder / "chat_template.jinja").write_text(
        "{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}"
    )
    assert "message 2, the assistant's, is not trained on" in shown(str(folder), "--conversation", file)


# ---------------------------------------------------------------------------------------------------------------------
# Files


@for_each(
    ("name", "content", "problem"),
    [
        ("a.json", "{", "a.json"),
        ("a.json", '{"messages": []}\n{"messages": []}', ".jsonl"),
        ("a.json", {"rows": []}, "rows"),
        ("a.json", ["x"], "message 1"),
        ("a.json", [{"from": "human", "value": "x"}], "from, value"),
        ("a.json", [ASKED[0], {"role": "bot", "content": "x"}], "message 2.role"),
        ("a.json", [{"role": "user", "content": None}], "message 1.content"),
        ("a.json", [{"role": "user", "content": [{"type": "image"}]}], "message 1.content"),
        ("a.json", [{"role": "assistant", "tool_calls": [{"name": "f", "arguments": "{"}]}], "of f"),
        ("a.json", {"messages": ASKED, "tools": [{"x": 1}]}, "function 1"),
        ("a.jsonl", f"{json.dumps(ASKED)}\n", "--row"),
        ("a.jsonl", "\n\n{}\n{}\n[]", "line 5"),
    ],
)
def test_a_file_without_a_conversation_is_one_message(name, content, problem, tmp_path):
    path = tmp_path / name
    written(path, content)
    with pytest.raises(ValueError, match=re.escape(problem)):
        read_row(path, 3 if name == "a.jsonl" else 1)
