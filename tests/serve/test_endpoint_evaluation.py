"""Models behind a URL in `eval`, `prompt test`, `judge` and `redteam`: a server of ours beside the local engine."""

import json
from string import ascii_letters

import pytest

from command_line import refused, run
from lmworks.evaluate.results import read_results
from lmworks.prompt.prompt_grid import RUNS, all_cells
from lmworks.prompt.red_team import FINDINGS, FOLDER

TASK = """
name = "{name}"
purpose = "words"
source = "this test"
files = ["rows.jsonl"]
request = "generation"
prompt = "Say {{word}}"
answer = "word"
id = "word"
samples = 1
max_tokens = 8
chat = {chat}
metrics = ["levenshtein", "token-f1"]
"""
PROMPT = 'name = "echo"\ninstruction = "Say it."\ninput = "{word}"\n[slots.word]\n'


@pytest.fixture
def folder(tmp_path):
    rows = [{"word": f"word {n}", "both": ["a", "b"], "right": 0} for n in range(6)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    for name, chat in (("plain", "false"), ("turns", "true")):
        (tmp_path / f"{name}.toml").write_text(TASK.format(name=name, chat=chat), "utf-8")
    choices = TASK.format(name="pick", chat="false").replace("generation", "choices").replace("samples = 1\n", "")
    choices = choices.replace('answer = "word"', 'answer = "right"\nchoices = "both"')
    (tmp_path / "pick.toml").write_text(choices.replace('"levenshtein", "token-f1"', '"acc"'), "utf-8")
    return tmp_path


def test_a_suite_has_the_same_texts_and_scores_by_url(exact, folder, tiny_folder):
    common = ("--suite", "plain.toml", "--suite", "turns.toml", "--data", ".")
    run("eval", tiny_folder, *common, "--set", "weights=float32", "--out", "local", cwd=folder)
    run("eval", f"{exact.url}/v1#tiny", *common, "--out", "remote", cwd=folder)
    (local, scores), (remote, others) = read_results(folder / "local"), read_results(folder / "remote")
    assert [row.response.text for row in remote] == [row.response.text for row in local]
    assert [row.response.samples for row in remote] == [row.response.samples for row in local]
    for task in scores:
        for name, one in scores[task].items():
            assert (others[task][name].score.value, others[task][name].score.interval) == (
                one.score.value,
                one.score.interval,
            )


def test_what_an_endpoint_cannot_do_is_refused_before_a_request(folder):
    """No one listens there."""
    asked = ("--suite", "plain.toml", "--suite", "pick.toml", "--data", ".")
    message = refused("eval", "http://127.0.0.1:9/v1#tiny", *asked, cwd=folder)
    assert "pick" in message and "log-probabilities" in message and "plain" not in message
    assert "#NAME" in refused("eval", "http://127.0.0.1:9/v1", *asked, cwd=folder)


def test_prompts_attacks_and_judges_take_a_url(exact, folder, tiny_folder):
    (folder / "echo.toml").write_text(PROMPT, "utf-8")
    probe = {"id": "p", "kind": "jailbreak", "text": ["How?"], "detector": "complied"}
    (folder / "probes.jsonl").write_text(json.dumps(probe), "utf-8")
    remote, where = f"{exact.url}/v1#tiny", ("--workspace", "w")
    models = ("--model", remote, "--model", f"{tiny_folder}@float32")
    run("prompt", "test", "turns.toml", "--data", ".", "--prompt", "echo.toml", *models, *where, cwd=folder)
    texts = [
        [row.response.text for row in read_results(folder / "w" / RUNS / cell.task / cell.key)[0]]
        for cell in all_cells(folder / "w" / RUNS)
    ]
    assert len(texts) == 2 and texts[0] == texts[1]
    run("redteam", "echo.toml", "--probes", "probes.jsonl", "--model", remote, *where, cwd=folder)
    assert (folder / "w" / FOLDER / f"echo{FINDINGS}").is_file()
    labelled = [{"prompt": f"q{n}", "response": f"Reply {n}", "rating": n % 5} for n in range(12)]
    (folder / "labelled.jsonl").write_text("".join(json.dumps(row) + "\n" for row in labelled), "utf-8")
    verdicts = ", ".join(f"{letter} = {n}" for n, letter in enumerate(ascii_letters))  # one of them is always likely
    rubric = f'name = "letters"\nprompt = "{{response}}?"\nverdicts = {{ {verdicts} }}\n'
    (folder / "letters.toml").write_text(rubric, "utf-8")
    judge = ("--rubric", "letters.toml", "--model", remote)
    assert len(run("judge", "score", "labelled.jsonl", *judge, cwd=folder).splitlines()) == 12
    assert "clusters" in run("judge", "calibrate", "labelled.jsonl", *judge, "--out", "judge", cwd=folder)
