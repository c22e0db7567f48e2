"""`lmworks compress`: documents and methods to a folder that is loaded, served and measured; what is refused."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest

import lmworks
from command_line import refused, run
from gguf_cases import CONFIGS, random_checkpoint
from kit.tables import for_each
from lmworks.adapt.adapter import add_adapter, save_adapter
from lmworks.adapt.config import IA3Config
from lmworks.artefact import StageContext, read_manifest
from lmworks.build import run_alone
from lmworks.compress import compression_report
from lmworks.compress.block_calibration import linears
from lmworks.compress.compression_report import Measurement, pareto
from lmworks.compress.config import CompareConfig
from lmworks.compress.stage import file_bytes
from lmworks.generate.engine import Engine
from lmworks.model.gguf_write import save_gguf
from lmworks.records import Scored

SETTINGS = ("--set", "calibration.length=64", "--set", "calibration.sequences=8", "--set", "compare.window=64")


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tiny_tokenizer):
    folder = tmp_path_factory.mktemp("compress")
    random_checkpoint(CONFIGS["llama, tied, wide heads"], tiny_tokenizer).save(folder / "base")
    rows = [{"text": f"Receipts are handed in within {number} days. " * 8} for number in range(30)]
    (folder / "texts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_several_methods_are_measured_paired_and_the_best_is_kept(folder):
    methods = ("--method", "rtn", "--method", "gptq", "--set", "grid.bits=3", "--set", "gptq.method.damping=0.02")
    methods += ("--set", 'compare.suites=["social-bias"]', "--set", "compare.suite_limit=10")
    said = run("compress", "base", "--data", "texts.jsonl", *methods, *SETTINGS, "--out", "small", cwd=folder)
    metrics = read_manifest(folder / "small").metrics
    models = metrics["models"]
    assert models["rtn"]["bytes"] == models["gptq"]["bytes"] < models["base"]["bytes"] / 3
    assert f"n = {metrics['documents']} documents" in said
    best = min(("rtn", "gptq"), key=lambda name: models[name]["bits_per_byte"][0])
    assert metrics["chosen"] == best and f"{best} is kept" in said.replace("`", "")
    for name in ("rtn", "gptq"):
        value, low, high = models[name]["difference"]
        assert low <= value <= high
        assert value == pytest.approx(models[name]["bits_per_byte"][0] - models["base"]["bits_per_byte"][0])
    low, high = metrics["gptq_social-bias_stereotype"][1:]
    assert low <= metrics["gptq_social-bias_stereotype"][0] <= high and "Paired by item" in said
    page = (folder / "small" / "report.html").read_text()
    assert page.count("<svg") >= 2 and "<script" not in page and "lmworks serve --model small" in said
    (made,) = (folder / ".lmworks/compress/small/stages/gptq").glob("*/manifest.json")
    seen = read_manifest(made.parent).metrics["calibration"]
    assert seen["tokens"] == 8 * 64 and all(len(digest) == 64 for digest in seen["documents"])
    assert Engine(lmworks.load(folder / "small")).capabilities.generate


def test_a_budget_gives_each_matrix_its_bits_and_is_kept(folder, tmp_path):
    whole = sum(path.stat().st_size for path in (folder / "base").glob("*.safetensors"))
    budget = ("--budget", f"{0.55 * whole / 1000:.0f}kB")
    said = run("compress", "base", "--data", "texts.jsonl", *budget, *SETTINGS, "--out", tmp_path / "mixed", cwd=folder)
    made = lmworks.load(tmp_path / "mixed")
    kinds = {(made.weights.blocks(f"{name}.weight") or ["BF16"])[0] for name in linears(made.model)}
    assert (tmp_path / "mixed" / "model.gguf").stat().st_size <= 0.55 * whole and len(kinds) > 1
    (bits,) = re.findall(r"gptq, ([\d and]+) bits", " ".join(said.split()))
    assert set(bits.split(" and ")) == {{"Q4_1": "4", "Q8_0": "8", "BF16": "16"}[kind] for kind in kinds}


def test_a_budget_that_nothing_reaches_is_refused_with_the_smallest_that_can_be_had(folder, tmp_path):
    ask = ("compress", "base", "--data", "texts.jsonl", *SETTINGS)
    said = " ".join(refused(*ask, "--budget", "10kB", "--out", "never", cwd=folder).split())
    assert not (folder / ".lmworks/compress/never").exists()
    found = re.search(r"the smallest, with (\S+), (\S+), has ([\d,]+)", said)
    settings, least = found.groups()[:2], int(found[3].replace(",", ""))
    run(*ask, "--budget", str(least), *(f"--set={one}" for one in settings), "--out", tmp_path / "least", cwd=folder)
    assert file_bytes(tmp_path / "least") == least


def test_what_cannot_be_made_is_refused_before_it_begins(folder):
    def ask(*more):
        return refused("compress", "base", *more, "--out", "never", cwd=folder)

    assert "no calibration text" in ask("--method", "gptq")
    assert "name some" in ask("--method", "qat")
    assert "unknown method" in ask("--method", "gtpq") and "gptq" in ask("--method", "gtpq")
    assert "80MB" in ask("--budget", "small") and "80MB" in ask("--budget", "80")
    assert "grid.symmetric=true" in ask("--set", "format=compressed-tensors")
    assert "bits are 8, 4, 3 or 2" in ask("--set", "grid.bits=5")
    (folder / "pairs.jsonl").write_text('{"prompt": "Who?", "chosen": "He.", "rejected": "She."}\n')
    assert "rows of prompt, chosen, rejected" in ask("--data", "pairs.jsonl")
    data = ("--data", "texts.jsonl")
    assert "2 layers, and cannot lose 9" in ask(*data, "--method", "prune", "--set", "prune.method.layers=9")
    assert "method.neurons" in ask(*data, "--method", "prune", "--budget", "1MB")
    assert "nothing is taken out" in ask(*data, "--method", "prune", "--set", "method.neurons=0")
    assert "distil.calibration" in ask(*data, "--method", "distil", "--set", "calibration.sequences=4")
    assert "1 to 2 of the teacher's layers, not 9" in ask(*data, "--method", "distil", "--set", "layers=9")
    save_gguf(lmworks.load(folder / "base"), folder / "small.gguf", "Q8_0")
    for method in ("prune", "qat", "distil", "gptq"):
        said = refused("compress", "small.gguf", *data, "--method", method, "--out", "never", cwd=folder)
        assert "quantised already" in said and "stage" not in said
    assert not (folder / "never").exists()


def test_rows_that_a_model_was_tuned_on_are_calibrated_on_and_answered_before_and_after(folder, tmp_path):
    rows = [{"prompt": f"When is day {number}?", "completion": "Soon."} for number in range(12)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    ask = ("compress", "base", "--data", tmp_path / "rows.jsonl", *SETTINGS[:4], "--out", tmp_path / "small")
    said = " ".join(run(*ask, "--method", "gptq", "--set", "grid.bits=8", cwd=folder).split())
    metrics = read_manifest(tmp_path / "small").metrics
    assert len(metrics["calibration"]["documents"]) == 12
    assert f"{round(12 * metrics['answered_as_before'])} of 12 rows" in said
    assert "Answers before and after" in (tmp_path / "small" / "report.html").read_text()


def test_an_adapter_is_refused_with_the_command_that_merges_it(folder, tmp_path):
    checkpoint, method = lmworks.load(folder / "base"), IA3Config()
    save_adapter(tmp_path / "tuned", add_adapter(checkpoint.model, method), method, checkpoint)
    said = refused("compress", tmp_path / "tuned", "--method", "rtn", "--out", "never", cwd=folder)
    (command,) = re.findall(r"python -c '(.*)'", said)
    subprocess.run([sys.executable, "-c", command], cwd=tmp_path, check=True)
    assert lmworks.load(tmp_path / "tuned-merged").config == checkpoint.config


def test_a_comparison_that_was_cut_off_measures_no_model_twice(folder, tmp_path, monkeypatch):
    run("compress", "base", "--method", "rtn", "--out", tmp_path / "rtn", cwd=folder)
    run_alone("corpus.read", tmp_path / "texts", [], [], [f'sources=["{folder}/texts.jsonl"]'])
    asked, measure, lines = [], compression_report.measure, []

    def cut_off(model, *rest):
        if len(asked) == 2:
            asked.append(model)
            raise KeyboardInterrupt
        asked.append(model)
        return measure(model, *rest)

    (small,) = (folder / ".lmworks/compress/rtn/stages/rtn").iterdir()
    context = StageContext(
        inputs={"rtn": small, "texts": tmp_path / "texts"},
        output=tmp_path / "out",
        work=tmp_path,
        progress=lambda *line: lines.append(line),
    )
    config = CompareConfig(base=str(folder / "base"), window=64)
    monkeypatch.setattr(compression_report, "measure", cut_off)
    with pytest.raises(KeyboardInterrupt):
        compression_report.compare(config, context)
    made = compression_report.compare(config, context).metrics
    assert asked == [folder / "base", small, small, small] and set(made["models"]) == {"base", "rtn"}
    done, total, _, before, _ = lines[-1]
    assert done == total and before == total * 2 // 3


def test_no_model_off_the_front_is_smaller_and_better_than_none_of_it():
    generator = np.random.default_rng(0)
    points = {str(n): tuple(point) for n, point in enumerate(generator.random((40, 2)))}
    front = pareto(points)
    for name, (cost, loss) in points.items():
        dominated = any(c <= cost and v <= loss and (c, v) != (cost, loss) for c, v in points.values())
        assert (name in front) == (not dominated)


def test_a_difference_is_paired_by_document():
    """Documents differ by far more than the models do on each of them."""
    generator = np.random.default_rng(1)
    sizes = generator.integers(500, 2000, 40).astype(float)
    bits = sizes * generator.uniform(0.5, 2.0, 40)
    more = bits + 0.01 * sizes + generator.normal(0, 0.001, 40) * sizes
    base, worse = (Measurement(50, np.column_stack([each, sizes])) for each in (bits, more))
    difference, own = worse.less(base), worse.bits_per_byte()
    assert isinstance(difference, Scored) and isinstance(own, Scored)
    assert difference.value == pytest.approx(0.01, abs=1e-3) and difference.interval[0] > 0.009
    assert np.ptp(own.interval) > 50 * np.ptp(difference.interval)


@for_each(("method", "layers"), [("prune", 2), ("distil", 1)])
def test_a_smaller_model_is_taught_by_the_whole_one(method, layers, folder, tmp_path):
    settings = ("--set", "prune.calibration.length=64", "--set", "recover.steps=2", "--set", "recover.length=64")
    if method == "distil":
        settings = ("--set", "distil.steps=2", "--set", "distil.length=64")
    compared = ("--set", "compare.window=64", "--out", tmp_path / method)
    said = run("compress", "base", "--data", "texts.jsonl", "--method", method, *settings, *compared, cwd=folder)
    whole, made = (lmworks.load(path).config.decoder.blocks for path in (folder / "base", tmp_path / method))
    assert (len(whole), len(made)) == (2, layers)
    assert (made[0].feed_forward.hidden < whole[0].feed_forward.hidden) == (method == "prune")
    metrics = read_manifest(tmp_path / method).metrics["models"]
    assert metrics[method]["bytes"] < metrics["base"]["bytes"] and "held-out loss" in said
    assert metrics.keys() == {"base", method} | ({"unrecovered"} if method == "prune" else set())
