"""A grid of prompts, models and cases: paired differences, what is run again, the gate, the spread of variants."""

import json

import pytest

from command_line import refused, run
from lmworks.cli.prompt_command import review_cases
from lmworks.evaluate.comparison import assert_not_worse
from lmworks.evaluate.task import read_tasks
from lmworks.generate.engine import Engine
from lmworks.monitor import review
from lmworks.monitor.config import ReviewConfig
from lmworks.monitor.log import Log
from lmworks.prompt.grid_report import grid_sections
from lmworks.prompt.prompt_file import parse_prompt, prompt_hash
from lmworks.prompt.prompt_grid import Variant, all_cells, fill_cases, gate_of, read_cases, run_grid
from lmworks.prompt.sensitivity import sensitivity_variants, spreads
from lmworks.report import to_html
from prompt_cases import Answering

TASK = """
name = "echo"
purpose = "say the word again"
source = "this test"
files = ["rows.jsonl"]
request = "generation"
prompt = "{word}"
answer = "word"
contexts = "passages"
metrics = ["exact-match"]
"""
PROMPT = 'name = "echo"\ninstruction = "{i}"\ninput = "{word}"\n[slots.word]\n'


def parrot():
    """An engine that says the last word it read, but for the cases whose numbers its instruction names."""

    def answer(messages):
        word = messages[-1].content
        return "?" if word[1:] in messages[0].content.split() else word

    return Answering(answer)


def prompt(instruction):
    return parse_prompt(PROMPT.replace("{i}", instruction), "p.toml")


@pytest.fixture
def task(tmp_path):
    rows = [{"word": f"w{n}", "passages": [f"text {n}"]} for n in range(60)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    (tmp_path / "echo.toml").write_text(TASK, "utf-8")
    return read_tasks(["echo.toml"], tmp_path)[0]


def test_a_grid_pairs_by_case_and_runs_only_what_is_new(task, tmp_path):
    engine, runs = parrot(), tmp_path / "runs"
    some, more = (
        Variant("some", prompt("wrong 1 2 3")),
        Variant("more", prompt("wrong " + " ".join(map(str, range(30))))),
    )
    grid = run_grid(task, read_cases(task, tmp_path), [some, more], {"parrot": engine}, runs)
    assert engine.asked == 120 and len(all_cells(runs)) == 2
    values = [grid.scores(cell)["exact-match"].score.value for cell in grid.cells]
    assert values == [57 / 60, 30 / 60]
    (found,) = grid.comparisons.values()
    assert found.verdict == "worse" and found.difference.value == pytest.approx(-27 / 60)
    assert found.p_adjusted == pytest.approx(2 * 0.5**27 * (1 - 0.5), rel=1e-6)  # McNemar's mid-p of 27 against 0
    with pytest.raises(AssertionError, match="WORSE"):
        assert_not_worse(grid.run("more"), grid.run("some"), 0.05)
    run_grid(task, read_cases(task, tmp_path), [some, more, Variant("third", prompt("none"))], {"again": engine}, runs)
    assert engine.asked == 180
    page = to_html("t", "l", grid_sections(grid))
    assert "w7" in page and "<script" not in page


def test_the_gate_takes_the_runs_of_both_versions_on_the_same_cases(task, tmp_path):
    one, two, three = (prompt(text) for text in ("wrong 1 2", "wrong 3", "wrong " + " ".join(map(str, range(20)))))
    hashes = [prompt_hash(each) for each in (one, two, three)]
    assert gate_of(tmp_path, "echo", hashes[1], hashes[0]) is None
    variants = [Variant(str(number), each) for number, each in enumerate((one, two, three))]
    run_grid(task, read_cases(task, tmp_path), variants, {"p": parrot()}, tmp_path)
    better, worse = (gate_of(tmp_path, "echo", each, hashes[0], 0.1) for each in hashes[1:])
    assert better and better.passed and worse and not worse.passed and "WORSE" in worse.text


def test_cases_that_do_not_fit_a_prompt_are_refused_before_anything_is_generated(task, tmp_path, tiny):
    engine = parrot()
    other = parse_prompt('name = "q"\ninput = "{word} {tone}"\n[slots.word]\n[slots.tone]\n', "q")
    with pytest.raises(ValueError, match=r"row rows:1: the slot tone of q has no value.*its columns: .*word"):
        run_grid(
            task, read_cases(task, tmp_path), [Variant("a", prompt("x")), Variant("b", other)], {"p": engine}, tmp_path
        )
    assert engine.asked == 0
    with pytest.raises(ValueError, match="the context is 64: lower the budgets"):
        run_grid(
            task,
            read_cases(task, tmp_path),
            [Variant("a", prompt("long " * 80))],
            {"t": Engine(tiny, context_length=64)},
            tmp_path,
        )


def test_passages_of_the_cases_are_shown_where_the_prompt_shows_passages(task, tmp_path, tiny):
    shown = parse_prompt(PROMPT.replace("{i}", "x") + '[context]\ntemplate = "<{text}>"\n', "p")
    found, _ = read_cases(task, tmp_path)
    filled = fill_cases(task, found, shown, Engine(tiny, slots=1))["rows:5"]
    assert filled.messages[-1].content == "<text 4>\n\nw4"
    tokens = len(tiny.tokenizer.encode("<text 4>"))
    assert filled.tokens == {"instruction": 1, "context": tokens, "input": len(tiny.tokenizer.encode("w4"))}


def test_the_spread_is_that_of_the_worst_and_the_best_variant(task, tmp_path):
    base = prompt("Wrong 1 2.")
    variants = [Variant("base", base), *sensitivity_variants(base, ["wrong 1 2 3 4 5 6"], orders=2)]
    assert {one.name.split(":")[0] for one in variants} == {"base", "form", "wording"}  # it has no examples to order
    found = {
        one.kind: one
        for one in spreads(run_grid(task, read_cases(task, tmp_path), variants, {"p": parrot()}, tmp_path))
    }
    assert (found["wording"].low, found["wording"].high) == (54 / 60, 59 / 60)
    assert found["wording"].worst == "wording: 1" and found["form"].worst == "form: no last stop"


def test_a_prompt_is_kept_tested_promoted_and_rolled_back_by_commands(task, tmp_path, tiny_folder):
    file, workspace = tmp_path / "p.toml", ("--workspace", tmp_path / "workspace")
    short = PROMPT + "[sampling]\nmax_tokens = 4\n"
    file.write_text(short.replace("{i}", "one"), "utf-8")
    assert "--reason" in refused("prompt", "new", file, *workspace)
    run("prompt", "new", file, "--reason", "the first", *workspace)
    run("prompt", "label", "echo", "production", "--reason", "there is none", *workspace)
    file.write_text(short.replace("{i}", "two"), "utf-8")
    run("prompt", "new", file, "--reason", "shorter", *workspace)
    assert "+two" in run("prompt", "diff", "echo:production", "echo", *workspace)
    assert "lmworks prompt test" in refused("prompt", "label", "echo", "production", "--reason", "good", *workspace)
    tested = ("prompt", "test", tmp_path / "echo.toml", "--data", tmp_path, "--model", f"{tiny_folder}@float32")
    text = run(*tested, "--prompt", "echo:production", "--prompt", "echo", "--limit", 40, *workspace)
    assert "40 cases" in text
    run("prompt", "label", "echo", "production", "--reason", "no worse", "--margin", "exact-match=0.2", *workspace)
    run("prompt", "rollback", "echo", "--reason", "complaints", *workspace)
    listed = run("prompt", "list", "echo", *workspace)
    assert [word in listed for word in ("the first", "shorter", "no worse", "complaints", "rolled back")] == [True] * 5
    assert "[dim]" in run("prompt", "render", "echo", "--slot", "word=[dim]x", *workspace)


def test_people_judge_the_same_cases_of_each_run_and_no_test_is_traffic(task, tmp_path):
    grid = run_grid(
        task,
        read_cases(task, tmp_path),
        [Variant(name, prompt(name)) for name in ("one", "two")],
        {"parrot": parrot()},
        tmp_path / "runs",
    )
    with Log(tmp_path / "log.sqlite") as log:
        assert (review_cases(grid, log, 5), review_cases(grid, log, 5)) == (10, 0)
        asked = [log.reader.get(one.interaction).messages[0].content for one in review.items(log.reader)]
        assert len(set(asked)) == 5 and {asked.count(one) for one in asked} == {2}
        assert log.reader.sample("id", 0.0, 1e12, 100) == []
        item = review.take(log, ReviewConfig(), "ada", 1.0)
        assert item is not None and item.rule == "test:echo"
