"""What a teacher is worth to a student, and what pruning costs and gains.

    .venv/bin/python benchmarks/distillation.py student FOLDER [--share 0.33] [--steps 400] [--seeds 3]
    .venv/bin/python benchmarks/distillation.py prune FOLDER [--share 0.25] [--steps 200] [--rounds 5]

FOLDER is a model of our own, the teacher. The texts are classic books and Python's enhancement proposals; a twentieth
of them is held out, and neither trains nor calibrates.

student  new models of a third of the teacher's parameters, by derived settings, trained in equal steps on the same
         batches from the same first weights: on the text alone, and on the text and the teacher's distribution at equal
         weights. Each pair is of one seed; the interval is Student's over the seeds' differences.
prune    heads and neurons, or layers, are taken out by what 64 pieces of 256 tokens show until a quarter of the
         parameters is gone; then the whole model teaches what is left. Tokens a second are of the engine, generating
         without guesses, in turns with the whole model: medians of the rounds' ratios.
"""

import argparse
import json
import tempfile
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from contenders.comparison import in_turns, table
from contenders.texts import DATA, write_texts
from scipy.stats import t

import lmworks
from lmworks.artefact import read_manifest
from lmworks.build import run_alone
from lmworks.compress.config import StructuredPruning
from lmworks.compress.structured_pruning import prune_structure
from lmworks.generate.benchmark import Workload, prompts, run_workload
from lmworks.model.checkpoint import Checkpoint
from lmworks.model.model_costs import count_parameters
from lmworks.train.run_log import LOG, read_log

HELD_OUT, LENGTH, BATCH = 0.05, 256, 16
WORKLOADS = {"prompt of 128": Workload(128, 1, 2), "one text": Workload(32, 1, 96), "eight texts": Workload(32, 8, 96)}


def prepare(options: argparse.Namespace, folder: Path) -> None:
    """Documents, and token shards of the model's vocabulary: trained on, and held out."""
    if options.texts is None:
        write_texts(options.data, folder / "texts")
    texts = str(options.texts or folder / "texts")
    run_alone("corpus.read", folder / "documents", [], [], [f"sources={json.dumps([texts])}"])
    settings = [f"tokenizer={json.dumps(str(options.model))}", f"held_out={HELD_OUT}"]
    for name in ("training", "held_out"):
        run_alone("data.tokenize", folder / name, [folder / "documents"], [], [*settings, f"part={name}"])


def distil(options: argparse.Namespace, folder: Path, name: str, *settings: str, student: str = "") -> Path:
    shared = [f"steps={options.steps}", f"length={LENGTH}", f"batch={BATCH}", "train.precision=float32", *settings]
    inputs = [folder / each for each in ("training", "held_out", student) if each]
    run_alone("compress.distil", folder / name, inputs, [f"teacher={options.model}"], shared)
    return folder / name


def validations(folder: Path) -> list[float]:
    """Bits per byte of the held-out texts in the course of a run, the first before its first step."""
    return [line["bits_per_byte"] for line in read_log(folder / LOG) if line["kind"] == "validation"]


def bits(folder: Path) -> float:
    """Of each byte of the held-out texts."""
    return read_manifest(folder).metrics["bits_per_byte"]


def student(options: argparse.Namespace, folder: Path) -> None:
    whole, differences = count_parameters(lmworks.load(options.model).config), []
    for seed in range(options.seeds):
        shared = (f"parameters={round(options.share * whole)}", f"seed={seed}")
        alone = distil(options, folder, f"alone-{seed}", *shared, "loss.teacher=0", "loss.next_token=1")
        taught = distil(options, folder, f"taught-{seed}", *shared)
        differences.append(bits(taught) - bits(alone))
        size = count_parameters(lmworks.load(taught).config)
        print(
            f"seed {seed}: {size / 1e6:.2f} of {whole / 1e6:.2f} million parameters after {options.steps} steps: bits "
            f"per byte {bits(alone):.4f} alone, {bits(taught):.4f} taught, {differences[-1]:+.4f}",
            flush=True,
        )
    if len(differences) > 1:
        half = float(t.ppf(0.975, len(differences) - 1)) * stdev(differences) / len(differences) ** 0.5
        print(f"difference {fmean(differences):+.4f} ± {half:.4f}")


def prune(options: argparse.Namespace, folder: Path) -> None:
    whole = lmworks.load(options.model)
    assert whole.config.decoder is not None
    counts = range(1, len(whole.config.decoder.blocks))
    itself = distil(options, folder, "itself", f"base={json.dumps(str(options.model))}", "steps=1")
    print(f"the whole model: bits per byte {validations(itself)[0]:.4f}", flush=True)
    ways = {
        "heads and neurons": [{"kv_groups": options.share, "neurons": tenths / 20} for tenths in range(1, 19)],
        "layers": [{"layers": count} for count in counts],
    }
    for name, candidates in ways.items():
        chosen = next(each for each in candidates if size_of(whole, **each) <= 1 - options.share)
        pruned = folder / f"pruned {name}"
        base = [
            f"base={json.dumps(str(options.model))}",
            f"held_out={HELD_OUT}",
            "method.kind=structured",
            f"calibration.length={LENGTH}",
        ]
        settings = [f"method.{key}={value}" for key, value in chosen.items()]
        run_alone("compress.prune", pruned, [folder / "documents"], [], [*base, *settings])
        recovered = distil(options, folder, f"recovered {name}", student=pruned.name)
        curve = validations(recovered)
        print(
            f"{' '.join(settings)}: {size_of(whole, **chosen):.0%} of the parameters; bits per byte {curve[0]:.4f} "
            f"pruned, {curve[-1]:.4f} recovered in {options.steps} steps"
        )
        print(speeds(whole, lmworks.load(recovered), options.rounds), flush=True)


def size_of(whole: Checkpoint, **parts: Any) -> float:
    """Share of the parameters that are there without these parts, whichever they are."""
    smaller = prune_structure(whole, StructuredPruning(**parts, criterion="magnitude", layer_criterion="magnitude"))
    return count_parameters(smaller.config) / count_parameters(whole.config)


def speeds(whole: Checkpoint, smaller: Checkpoint, rounds: int) -> str:
    """Tokens a second of both, and their ratios."""
    engines = {"whole": lmworks.Engine(whole), "pruned": lmworks.Engine(smaller)}
    vocabulary = whole.config.embedding.vocabulary
    values: dict[str, dict[str, list[float]]] = {name: {work: [] for work in WORKLOADS} for name in engines}
    for round_, order in in_turns(list(engines), rounds + 1):
        for name in order:
            for work, workload in WORKLOADS.items():
                found = run_workload(engines[name], prompts(workload, vocabulary, round_), workload.new)
                if round_:  # the first warms up
                    values[name][work].append(found.prefill if work.startswith("prompt") else found.decode)
    return table(values, [("whole", "pruned")])


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=("student", "prune"))
    parser.add_argument("model", type=Path, help="folder of the teacher, or of the model to prune")
    parser.add_argument("--share", type=float, help="default: a student of 0.33 of the parameters, 0.25 of them pruned")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--texts", type=Path, help="a folder of files instead of books and proposals")
    parser.add_argument("--data", type=Path, default=DATA, help="the folder with the books and proposals")
    options = parser.parse_args()
    options.model, options.texts = options.model.resolve(), options.texts and options.texts.resolve()
    options.share = options.share or (0.33 if options.what == "student" else 0.25)
    with tempfile.TemporaryDirectory() as name:
        prepare(options, Path(name))
        (student if options.what == "student" else prune)(options, Path(name))
