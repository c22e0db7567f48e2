"""A suite on a tiny random model: ln p against the model's own logits, rows refused, stops gone on from."""

import json
import math
import shutil

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from command_line import refused, run
from kit.tables import for_each
from lmworks.artefact import StageContext, hash_json, read_manifest
from lmworks.evaluate.choice_metrics import accuracy, accuracy_by_byte, accuracy_by_character, truthful_mass
from lmworks.evaluate.config import SuiteConfig
from lmworks.evaluate.metric import Item, Response
from lmworks.evaluate.model_responses import encoded
from lmworks.evaluate.registry import metric
from lmworks.evaluate.results import read_results
from lmworks.evaluate.suite import evaluate, outside_digest, read, system_responses
from lmworks.evaluate.task import examples, read_tasks
from lmworks.generate.text_embedding import TextEncoder
from lmworks.model.checkpoint import load
from lmworks.records import Scored
from lmworks.workspace import content_hashes, read_current

ROWS = [
    {"id": "a", "q": "one and one", "options": ["two", "three"], "right": 0, "kind": "sum"},
    {"id": "b", "q": "a colour ", "options": ["red", "seven"], "right": 0, "kind": "word"},
    {"id": "c", "q": "two and two", "options": ["five", "four", "six"], "right": 1, "kind": "sum"},
    {"id": "d", "q": "an animal", "options": ["nine", "a dog"], "right": 1, "kind": "word"},
    {"id": "e", "q": "three and one", "options": ["four", "ten"], "right": 0, "kind": "sum"},
    {"id": "f", "q": "a day", "options": ["Monday", "eight"], "right": 0, "kind": "word"},
]
TASK = """
name = "toy"
purpose = "words and sums"
source = "this test"
files = ["rows.jsonl"]
request = "choices"
preamble = "Kind: {kind}\\n"
prompt = "Q: {q}"
choices = "options"
answer = "right"
id = "id"
metrics = ["acc", "acc_norm"]
[shots]
count = 2
same = "kind"
"""


@pytest.fixture
def folder(tmp_path):
    write(tmp_path, ROWS)
    return tmp_path


def write(folder, rows, task=TASK):
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    (folder / "toy.toml").write_text(task, "utf-8")


def toy(folder):
    (task,) = read_tasks(["toy.toml"], folder)
    return task


def config(**settings):
    return SuiteConfig(**{"suite": ("toy.toml",), "data": "", "weights": "float32", **settings})


def context(folder, model, **settings):
    out = folder / "out"
    out.mkdir(exist_ok=True)
    return StageContext({}, out, folder / "work", models={"model": str(model)}, base=folder, **settings)


def test_a_prompt_has_its_shots_and_never_its_own_row(folder):
    made, _ = examples(toy(folder), folder)
    third = next(example for example in made if example.item.id == "c")
    assert third.contexts == ("Kind: sum\nQ: one and one two\n\nQ: three and one four\n\nQ: two and two",) * 3
    assert third.continuations == (" five", " four", " six")
    assert not any(f"{example.item.prompt}\n" in str(example.contexts[0]) for example in made)


def test_shots_that_are_drawn_depend_on_the_seed_alone(folder):
    write(folder, ROWS, TASK.replace('same = "kind"', 'draw = "random"\nheld_out = 4'))
    drawn = [[each.contexts for each in examples(toy(folder), folder, seed=seed)[0]] for seed in (0, 0, 1, 2)]
    assert drawn[0] == drawn[1] and (drawn[0] != drawn[2] or drawn[0] != drawn[3])
    assert len(drawn[0]) == 2


def test_a_limit_takes_rows_in_turns_from_the_files(folder):
    write(folder, ROWS, TASK.replace("rows.jsonl", "*.jsonl"))
    (folder / "others.jsonl").write_text(json.dumps({**ROWS[3], "id": "x"}) + "\n", "utf-8")
    made, _ = examples(toy(folder), folder, limit=3)
    assert [example.item.id for example in made] == ["x", "a", "b"]


def test_ln_p_is_that_of_the_models_logits(folder, tiny_folder):
    """Context and continuation are encoded as one text; spaces at the end of the context begin the continuation."""
    evaluate(config(), context(folder, tiny_folder))
    (task,), checkpoint = read(config(), folder), load(tiny_folder)
    rows, _ = read_results(folder / "out")
    for example, row in zip(task.examples, rows, strict=True):
        for before, after, found in zip(example.contexts, example.continuations, row.response.choices, strict=True):
            begun = len(checkpoint.required_tokenizer.encode(str(before).rstrip()))
            ids = torch.tensor([checkpoint.required_tokenizer.encode(str(before) + after)])
            with torch.inference_mode():
                table = checkpoint.model(ids)[0].double().log_softmax(-1)
            expected = sum(float(table[place - 1, ids[0, place]]) for place in range(begun, ids.shape[1]))
            assert found == pytest.approx(expected, abs=2e-4)
        assert row.response.text == row.item.choices[row.response.choices.index(max(row.response.choices))]


def test_a_text_without_a_prompt_stands_behind_bos_as_in_the_harness(folder, tiny_folder):
    """lm-evaluation-harness's `prefix_token_id`: BOS, here `<|im_start|>`; the oracle is transformers."""
    text = TASK.replace('prompt = "Q: {q}"', 'prompt = ""').replace("Kind: {kind}\\n", "").split("[shots]")[0]
    rolling = text.replace('"choices"', '"rolling"', 1).replace('prompt = ""', 'prompt = "{q}"').replace("toy", "whole")
    rolling = rolling.replace('choices = "options"\nanswer = "right"\n', "").replace(
        '"acc", "acc_norm"', '"perplexity"'
    )
    write(folder, ROWS, text)
    (folder / "whole.toml").write_text(rolling, "utf-8")
    evaluate(config(suite=("toy.toml", "whole.toml")), context(folder, tiny_folder))
    model = AutoModelForCausalLM.from_pretrained(tiny_folder, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(tiny_folder)

    def behind_bos(text):
        ids = torch.tensor([[tokenizer.bos_token_id, *tokenizer.encode(text, add_special_tokens=False)]])
        with torch.inference_mode():
            table = model(ids).logits[0, :-1].double().log_softmax(-1)
        return float(table.gather(1, ids[0, 1:, None]).sum())

    for row in read_results(folder / "out")[0]:
        expected = [behind_bos(f" {choice}") for choice in row.item.choices] or [behind_bos(row.item.prompt)]
        found = row.response.choices or [sum(row.response.log_probabilities)]
        assert found == pytest.approx(expected, abs=2e-4)


def test_each_choice_may_have_its_own_context(folder, tiny_folder):
    text = TASK.replace('prompt = "Q: {q}"', 'prompt = "{choice}"\ncontinuation = "{q}"').replace("count = 2", "")
    write(folder, ROWS, text.replace("Kind: {kind}\\n", ""))
    first = examples(toy(folder), folder)[0][0]
    assert first.contexts == ("two", "three") and first.continuations == (" one and one",) * 2


def test_a_chat_goes_through_the_template(folder, tiny_folder):
    write(folder, ROWS, TASK.replace("[shots]", "chat = true\n[shots]").replace("count = 2", "count = 1"))
    (task,), checkpoint = read(config(), folder), load(tiny_folder)
    before, after = encoded(task.task, task.examples, checkpoint, 256)[0][0]
    assert checkpoint.required_tokenizer.decode(before, skip_special=False) == (
        "<|im_start|>system\nKind: sum<|im_end|>\n<|im_start|>user\nQ: two and two<|im_end|>\n"
        "<|im_start|>assistant\nfour<|im_end|>\n<|im_start|>user\nQ: one and one<|im_end|>\n<|im_start|>assistant\n"
    )
    assert checkpoint.required_tokenizer.decode(after) == "two"


@for_each(
    ("row", "message"),
    [
        ({"q": None}, "row rows:6: the column q holds no text"),
        ({"right": 7}, "row rows:6: the answer 7 is none of the 2 choices"),
        ({"options": ["Monday", " "]}, "row rows:6: 2 choices, or an empty one"),
        ({"id": "a"}, "two rows have the id a"),
        ({"q": "long " * 60}, "row b: .* tokens, and the model takes 64: lower --shots"),
    ],
)
def test_a_row_is_refused_before_an_engine_is_made(folder, tiny_folder, row, message, monkeypatch):
    monkeypatch.setattr("lmworks.generate.engine.Engine", None)
    write(folder, [*ROWS[:-1], {**ROWS[-1], **row}])
    with pytest.raises(ValueError, match=message):
        evaluate(config(context_length=64), context(folder, tiny_folder))


def test_a_column_or_a_file_that_is_not_there_is_named(folder):
    (folder / "none.jsonl").write_text("\n", "utf-8")
    for old, new, error, names in [
        ("{q}", "{question}", ValueError, "toy, row rows:3: .*question.*q"),
        ("rows.jsonl", "nothing.jsonl", FileNotFoundError, "nothing.jsonl.*this test"),
        ("rows.jsonl", "none.jsonl", ValueError, "toy: none"),
    ]:
        write(folder, ROWS, TASK.replace(old, new))
        with pytest.raises(error, match=names):
            read(config(), folder)


def test_a_run_that_was_stopped_goes_on(folder, tiny_folder, monkeypatch):
    monkeypatch.setattr("lmworks.evaluate.suite.KEPT", 2)
    done = evaluate(config(), context(folder, tiny_folder))
    whole, _ = read_results(folder / "out")
    for path in sorted((folder / "work" / "toy").iterdir())[1:]:
        path.unlink()  # as if it had been killed behind the first part
    asked = []
    again = evaluate(config(), context(folder, tiny_folder, progress=lambda *values, **_: asked.append(values)))
    assert [values[0] for values in asked] == [4, 6] and asked[0][3] == 2
    for one, two in zip(whole, read_results(folder / "out")[0], strict=True):
        assert one.item == two.item and one.response.choices == pytest.approx(two.response.choices, abs=1e-5)
    assert again.metrics == done.metrics


def test_metrics_of_choices():
    """By hand: ln p by character of "ab" is -1, by byte of "é" -1.5, by character -3."""
    item = Item("1", choices=("ab", "é", "abc"), answers=(0, 2))
    response = Response(choices=(-2.0, -1.9, -9.0))
    values = [make().measure([item], [response])[0] for make in (accuracy, accuracy_by_character, accuracy_by_byte)]
    assert values == [0.0, 1.0, 0.0]
    small = Response(choices=(-2000.0, -2000.0, -2000.0 - math.log(2)))
    assert truthful_mass().measure([item], [small])[0] == pytest.approx(1.5 / 2.5, rel=1e-12)


def generating(metrics: str, lines: str = "max_tokens = 8\n") -> str:
    """The task with answers that are generated, and no shots."""
    text = TASK.replace('"choices"\n', '"generation"\n', 1).replace('choices = "options"\n', "").split("[shots]")[0]
    return text.replace('["acc", "acc_norm"]', metrics).replace('"right"', '"kind"') + lines


def test_texts_end_where_the_task_says_and_samples_are_drawn_beside_them_and_scored_by_group(folder, tiny_folder):
    write(folder, ROWS, generating('["verbatim"]', 'max_tokens = 8\nsamples = 3\ngroup = "right"\n'))
    table = evaluate(config(), context(folder, tiny_folder)).sections[1].tables[0]
    rows, scores = read_results(folder / "out")
    assert all(0 < len(row.response.log_probabilities) <= 8 for row in rows)
    assert set(scores["toy"]) == {"verbatim"} and rows[0].item.references == ("sum",)
    assert {len(row.response.samples) for row in rows} == {3}
    assert any(len({*row.response.samples, row.response.text}) > 2 for row in rows)
    shutil.rmtree(folder / "work")  # what is there is not asked again
    evaluate(config(slots=1), context(folder, tiny_folder))
    again = read_results(folder / "out")[0]
    assert [row.response.samples for row in again] == [row.response.samples for row in rows]
    assert [(row[0], row[1].n) for row in table.rows] == [("0", 4), ("1", 2)]
    tasks = read(config(), folder)
    answered = system_responses(tasks, lambda question: Response(question.upper()))(tasks[0].task, tasks[0].examples)
    assert [response.text for _, response in answered][:2] == ["Q: ONE AND ONE", "Q: A COLOUR "]


def test_a_task_may_name_the_models_of_its_metrics(folder, tiny_folder, tiny_embedder_folder):
    """Its values are those of the metric with the model as an object; a judge is one that was measured."""
    text = generating('["answer-relevance", "json"]')
    write(folder, ROWS, text + f'encoder = "{tiny_embedder_folder}"\n')
    evaluate(config(), context(folder, tiny_folder))
    encoder = TextEncoder(load(tiny_embedder_folder), weights="float32")
    rows, _ = read_results(folder / "out")
    expected = metric("answer-relevance", encoder=encoder).measure(
        *zip(*((r.item, r.response) for r in rows), strict=True)
    )
    assert [row.values["answer-relevance"] for row in rows] == pytest.approx(expected)
    assert {row.values["json"] for row in rows} == {0.0}
    before = outside_digest(config(), folder)
    assert outside_digest(config(encoder=str(tiny_folder)), folder) != before
    write(folder, ROWS, text.replace("answer-relevance", "g-eval"))
    with pytest.raises(ValueError, match="role judge"):
        read(config(), folder)
    with pytest.raises(ValueError, match="MODEL:RUBRIC:FOLDER"):
        read(config(judge=str(tiny_folder)), folder)


def test_tasks_without_their_files_can_be_skipped_and_stay_in_the_table(folder, tiny_folder):
    (folder / "gone.toml").write_text(TASK.replace("toy", "gone").replace("rows.jsonl", "nothing.jsonl"), "utf-8")
    both = ("--suite", "toy.toml", "--suite", "gone.toml", "--data", ".", "--set", "weights=float32")
    assert "nothing.jsonl" in refused("eval", tiny_folder, *both, cwd=folder)
    shown = run("eval", tiny_folder, *both, "--skip-missing", "--out", "made", cwd=folder)
    assert [line.split()[2].rstrip(":") for line in shown.splitlines() if line.startswith("gone")] == ["unscored"] * 2
    rows, scores = read_results(folder / "made")
    assert {row.task for row in rows} == {"toy"} and isinstance(scores["toy"]["acc"].score, Scored)
    assert "nothing.jsonl" in str(scores["gone"]["acc"].score)
    assert "nothing.jsonl" in (folder / "made" / "report.html").read_text("utf-8")
    with pytest.raises(FileNotFoundError, match=r"nothing.jsonl"):
        read(config(suite=("gone.toml",), skip_missing=True), folder)


def test_the_verb_runs_a_model_and_compares(folder, tiny_folder):
    """What is none of the verbs is a model; the second run is compared with the first, item by item."""
    common = ("--suite", "toy.toml", "--data", ".", "--set", "weights=float32")
    first = run("eval", tiny_folder, *common, cwd=folder)
    assert "acc_norm" in first and (folder / ".lmworks/runs/tiny-toy-1/report.html").is_file()
    second = run("eval", tiny_folder, *common, "--compare", ".lmworks/runs/tiny-toy-1", cwd=folder)
    assert "toy acc: identical, 0.000" in second
    assert second.count("identical") == 2
    runs = [f".lmworks/runs/tiny-toy-{number}" for number in (1, 2)]
    assert run("eval", "compare", *runs, cwd=folder).count("identical") == 2
    assert "unknown task or suite" in refused("eval", tiny_folder, "--suite", "mmlx", "--data", ".", cwd=folder)
    assert "found below" in run("eval", "list", cwd=folder)


def test_a_whole_system_answers_by_itself(folder, built_workspace):
    """Its citations, what it found, and its abstentions are kept; the log keeps nothing of it."""
    write(folder, ROWS[:2], generating('["verbatim"]', "").replace("Q: {q}", "{q}"))
    run("eval", built_workspace, "--suite", "toy.toml", "--data", ".", "--out", "answers", cwd=folder)
    rows, _ = read_results(folder / "answers")
    manifest = read_manifest(folder / "answers")
    assert [row.item.prompt for row in rows] == ["one and one", "a colour "]
    assert all(row.response.retrieved and row.response.confidence is not None for row in rows)
    assert all(row.response.abstained != bool(row.response.citations) for row in rows)
    assert manifest.models["model"] == hash_json(content_hashes(built_workspace, read_current(built_workspace)))
