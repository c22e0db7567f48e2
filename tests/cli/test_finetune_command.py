"""`lmworks finetune`: rows of examples to a folder that is loaded, served and gone on with after a kill."""

import json
from unittest import mock

import pytest
import torch
from safetensors.torch import load_file

import lmworks
from command_line import lmworks as command
from command_line import refused, run
from lmworks.artefact import read_manifest
from lmworks.commands.finetune import finetune_recipe
from lmworks.generate.protocol import Request, SamplingParameters
from lmworks.records import Message
from lmworks.train import loop
from slow_cases import slow

WORDS = ("dog", "cat", "sun", "red", "leave", "tree", "ship", "moon", "bread", "glass", "paper", "stone")
SETTINGS = ("--set", "epochs=25", "--set", "rate=0.02", "--set", "length=128", "--set", "train.checkpoint.steps=5")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finetune")
    rows = [
        {"messages": [{"role": "user", "content": word}, {"role": "assistant", "content": "aye"}]} for word in WORDS
    ]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def arguments(tiny_folder, *more):
    return ("finetune", tiny_folder, "--data", "rows.jsonl", *SETTINGS, *more)


@pytest.fixture(scope="module")
def printed(folder, tiny_folder):
    return run(*arguments(tiny_folder, "--out", "tuned"), cwd=folder)


def answer(checkpoint, question: str) -> str:
    request = Request(messages=(Message("user", question),), sampling=SamplingParameters(max_tokens=8))
    return lmworks.Engine(checkpoint).generate([request])[0].text


def test_the_folder_is_a_model_that_answers_as_it_was_taught(folder, printed, tiny_folder):
    assert answer(lmworks.load(tiny_folder), "a word that is new") != "aye"
    assert answer(lmworks.load(folder / "tuned"), "a word that is new") == "aye"
    metrics = read_manifest(folder / "tuned").metrics
    assert 2 <= metrics["validation_n"] <= 3 and metrics["loss"] < 1
    page = (folder / "tuned" / "report.html").read_text()
    assert "the model before" in page and "<svg" in page and "Tokens of held-out" in page
    assert "--adapter tuned=tuned" in printed and "activations" in printed
    assert f'lmworks.load("{tiny_folder}").save("base")' in (folder / "tuned" / "README.md").read_text()


def test_peft_loads_it_with_the_same_logits(folder, printed, tiny_folder):
    peft, transformers = pytest.importorskip("peft"), pytest.importorskip("transformers")
    base = transformers.AutoModelForCausalLM.from_pretrained(tiny_folder, dtype=torch.float32)
    theirs = peft.PeftModel.from_pretrained(base, folder / "tuned").eval()
    ids = torch.arange(5, 40)[None]
    with torch.no_grad():
        assert (theirs(ids).logits - lmworks.load(folder / "tuned").model(ids)).abs().max() < 1e-4


def test_the_same_command_again_trains_nothing_and_another_one_is_refused(folder, printed, tiny_folder):
    before = (folder / "tuned" / "adapter_model.safetensors").stat()
    with mock.patch.object(loop, "step", side_effect=AssertionError("trained again")):
        run(*arguments(tiny_folder, "--out", "tuned"), cwd=folder)
    assert (folder / "tuned" / "adapter_model.safetensors").stat() == before
    assert "exists already" in refused(*arguments(tiny_folder, "--out", "tuned", "--method", "full"), cwd=folder)


def test_a_run_that_is_killed_goes_on_to_the_same_adapter(folder, printed, tiny_folder):
    taken, real = [], loop.step

    def killed(run):
        taken.append(run.position.step)
        if len(taken) == 13:
            raise KeyboardInterrupt
        return real(run)

    with mock.patch.object(loop, "step", killed):
        assert command(*arguments(tiny_folder, "--out", "again"), cwd=folder).returncode == 130
        assert not (folder / "again").exists()
        run(*arguments(tiny_folder, "--out", "again"), cwd=folder)
    assert taken[13] == 10  # the last checkpoint
    one, other = (load_file(folder / name / "adapter_model.safetensors") for name in ("tuned", "again"))
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_that_nothing_is_held_out_and_what_rows_were_read_as_is_said(folder, tiny_folder):
    (folder / "one.json").write_text('[{"instruction": "dog", "input": "", "output": "aye"}]')
    said = run("finetune", tiny_folder, "--data", "one.json", *SETTINGS[:6], "--out", "one", cwd=folder)
    assert "nothing is held out" in said and "read as Alpaca: " in " ".join(said.split())


def test_a_setting_is_that_of_one_command_and_its_length_that_of_rows_too(folder, tiny_folder):
    rows, given = [str(folder / "rows.jsonl")], {"method": {"kind": "lora"}}
    settings = (["method.r=3", "length=64"], ["tokens.length=null"], [])
    made = [finetune_recipe(str(tiny_folder), rows, given, list(each)).stages for each in settings]
    assert [stages[-1].config.method.r for stages in made] == [3, None, None]
    assert [stages[0].config.length for stages in made] == [64, None, 2048]


@pytest.mark.parametrize("method", ["qlora", "prefix", *slow("full", "dora", "bottleneck", "ia3")])
def test_every_method_makes_a_folder_that_is_loaded_and_gone_on_from(method, folder, tiny_folder):
    said = run(*arguments(tiny_folder, "--method", method, "--set", "epochs=null", "--out", method), cwd=folder)
    assert ("--model full" if method == "full" else f"--adapter {method}={method}") in said
    assert "measured with some steps of this run" in said
    assert lmworks.load(folder / method).chat_template == lmworks.load(tiny_folder).chat_template
    further = arguments(folder / method, "--set", "steps=1", "--set", "epochs=null", "--out", f"{method}-further")
    if method in ("prefix", "bottleneck"):
        assert "name their base" in refused(*further, cwd=folder)
    else:
        run(*further, cwd=folder)
        assert lmworks.load(folder / f"{method}-further").config == lmworks.load(tiny_folder).config
