"""The pages of prompts, their tests and attacks on them: diffs, moves with reasons, and hostile text."""

import json

import pytest
from small_system import HOSTILE, inert

from lmworks.artefact import hash_json, write_json, write_rows
from lmworks.evaluate.task import read_tasks
from lmworks.prompt.prompt_file import parse_prompt
from lmworks.prompt.prompt_grid import RUNS, Variant, read_cases, run_grid
from lmworks.prompt.prompt_store import PROMPTS, PromptStore
from lmworks.prompt.red_team import FINDINGS, FOLDER, Probe, Target, kept_cases, red_team, safety_section
from prompt_cases import Answering

TASK = """
name = "words"
purpose = "say the word"
source = "this test"
files = ["rows.jsonl"]
request = "generation"
prompt = "{word}"
answer = "word"
metrics = ["exact-match"]
"""


def prompt(instruction):
    text = (
        f'name = "p"\ninstruction = {json.dumps(instruction, ensure_ascii=False)}\ninput = "{{word}}"\n[slots.word]\n'
    )
    return parse_prompt(text, "p")


@pytest.fixture
def running(start):
    with start() as one:
        yield one


def test_a_version_is_compared_promoted_after_its_test_and_rolled_back(running, tmp_path):
    workspace = running.service.workspace
    store, one, two = PromptStore(workspace / PROMPTS), prompt("Say it."), prompt("Say <b>it</b> again.")
    first, second = store.add(one, "the first").hash, store.add(two, "<i>twice</i>").hash
    with running.http(follow_redirects=True) as http:
        assert "twice" in http.get("/prompts").text
        move = {"action": "move", "label": "production", "version": first, "reason": "there is none"}
        assert http.post("/prompts/p", data={**move, "reason": " "}).status_code == 400
        assert "there is none" in http.post("/prompts/p", data=move).text
        page = http.get("/prompts/p").text
        assert "<ins>+Say &lt;b&gt;it&lt;/b&gt; again.</ins>" in page and "<del>-Say it.</del>" in page
        better = {**move, "version": second, "reason": "better"}
        refused = http.post("/prompts/p", data=better)
        assert refused.status_code == 400 and "lmworks prompt test" in refused.text
        (tmp_path / "rows.jsonl").write_text("".join(json.dumps({"word": f"w{n}"}) + "\n" for n in range(80)), "utf-8")
        (tmp_path / "words.toml").write_text(TASK, "utf-8")
        (task,) = read_tasks(["words.toml"], tmp_path)
        variants = [Variant("one", one), Variant("two", two)]
        engine = Answering(lambda messages: messages[-1].content)
        run_grid(task, read_cases(task, tmp_path), variants, {"echo": engine}, workspace / RUNS)
        assert "words exact-match: identical" in http.get("/prompts/p").text
        assert "better" in http.post("/prompts/p", data=better).text and store.labels("p")["production"] == second
        back = {"action": "rollback", "label": "production", "reason": "worse after all"}
        assert "rolled back" in http.post("/prompts/p", data=back).text and store.labels("p")["production"] == first
        assert f"p:{first[:6]}" in http.get("/tests/words").text and "words" in http.get("/tests").text
        for path in ("/prompts/none", "/tests/none", "/tests/*"):
            assert http.get(path).status_code == 404


def test_hostile_prompts_cases_and_answers_are_text(running, tmp_path):
    workspace = running.service.workspace
    hostile = HOSTILE.replace("\x00", "").replace("{", "(")
    store, one = PromptStore(workspace / PROMPTS), prompt(hostile)
    store.add(one, HOSTILE, who=HOSTILE)
    (tmp_path / "rows.jsonl").write_text(
        json.dumps({"word": HOSTILE}) + "\n" + json.dumps({"word": "b"}) + "\n", "utf-8"
    )
    (tmp_path / "words.toml").write_text(TASK, "utf-8")
    (task,) = read_tasks(["words.toml"], tmp_path)
    engine = Answering(lambda _: HOSTILE)
    run_grid(task, read_cases(task, tmp_path), [Variant(HOSTILE, one)], {HOSTILE: engine}, workspace / RUNS)
    probe = Probe(HOSTILE, HOSTILE, (HOSTILE,), "complied")
    found = red_team(Target(one, engine), [probe])
    write_json(workspace / FOLDER / "p.json", [safety_section({HOSTILE: found})])
    write_rows(workspace / FOLDER / f"p{FINDINGS}", found)
    with running.http() as http:
        for path in ("/prompts", "/prompts/p", "/tests/words", "/safety", "/safety/findings"):
            page = http.get(path)
            assert page.status_code == 200, path
            inert(page.text)
        kept = {"finding": hash_json(found[0].probe), "at": "0"}
        assert http.post("/safety/findings", data={**kept, "finding": "another"}).status_code == 303
        assert kept_cases(workspace) == []
        assert http.post("/safety/findings", data=kept).status_code == 303
        assert kept_cases(workspace) == [found[0].probe] and HOSTILE not in http.get("/safety/findings").text


def test_pages_without_anything_say_what_to_run(running):
    with running.http() as http:
        for path, verb in (("/prompts", "prompt new"), ("/tests", "prompt test"), ("/safety", "redteam")):
            assert f"lmworks {verb}" in http.get(path).text
