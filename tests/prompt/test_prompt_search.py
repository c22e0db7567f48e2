"""Search for a better prompt: it finds what there is to find, on training cases alone, and says what that is worth."""

import json

import pytest

from lmworks.evaluate.task import read_tasks
from lmworks.prompt.prompt_file import parse_prompt
from lmworks.prompt.prompt_grid import read_cases
from lmworks.prompt.prompt_search import search_prompt
from prompt_cases import Answering

TASK = """
name = "letters"
purpose = "the kind of a word is that of its first letter"
source = "this test"
files = ["rows.jsonl"]
request = "generation"
prompt = "{word}"
answer = "kind"
metrics = ["exact-match"]
"""


def searched(tmp_path, answer, **options):
    rows = [{"word": f"{'abcd'[n % 4]}{n}", "kind": f"k{n % 4}"} for n in range(80)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    (tmp_path / "letters.toml").write_text(TASK, "utf-8")
    (task,) = read_tasks(["letters.toml"], tmp_path)
    prompt = parse_prompt('name = "p"\ninstruction = "Sort."\ninput = "{word}"\n[slots.word]\n', "p")
    asked = []

    def recorded(messages):
        asked.append([one.content for one in messages])
        return answer(messages)

    engine = Answering(recorded)
    result = search_prompt(
        task, read_cases(task, tmp_path), prompt, engine, tmp_path / "runs", **{"train": 40, **options}
    )
    return result, asked


def test_examples_that_help_are_found_and_nothing_held_out_is_seen_before_the_end(tmp_path):
    """The model knows a letter once an example shows it, and else always says k0."""

    def answer(messages):
        shown = {one.content[0]: two.content for one, two in zip(messages[1:-1:2], messages[2:-1:2], strict=True)}
        return shown.get(messages[-1].content[0], "k0")

    result, asked = searched(tmp_path, answer)
    assert result.comparison and result.comparison.verdict == "better"
    shown = {row["word"] for row in result.prompt.examples.rows}
    train = {f"{'abcd'[n % 4]}{n}" for n in range(40)}
    assert len({word[0] for word in shown}) >= 3 and shown <= train
    searching = asked[: len(asked) - 80]  # the held-out cases are asked twice, at the end
    assert all(set(one[1:]) <= train | {"k0", "k1", "k2", "k3"} for one in searching if len(one) > 1 or one[0] in train)
    assert (result.train, result.held_out) == (40, 40)
    assert result.tokens == sum(1 for one in asked if one[-1][1:].isdecimal()) and result.per_case == (1.0, 1.0)
    first = result.trials[0]
    assert (first.name, first.score, first.tokens) == ("as it was", 0.25, 40)


def test_where_nothing_helps_the_prompt_stays_and_a_wording_that_helps_is_taken(tmp_path):
    result, _ = searched(tmp_path, lambda messages: "k0")
    assert result.comparison is None and result.prompt.instruction == "Sort." and not result.prompt.examples.rows
    good = {"abcd"[n]: f"k{n}" for n in range(4)}
    result, _ = searched(
        tmp_path, lambda messages: good[messages[-1].content[0]] if "letter" in messages[0].content else "k0",
        instructions=["Sort by letter."], seed=1,
    )  # fmt: skip
    assert result.prompt.instruction == "Sort by letter." and result.comparison.difference.value == 0.75
    with pytest.raises(ValueError, match="10 are needed"):
        searched(tmp_path, lambda messages: "k0", train=75)
