"""The same minutes of pre-training, spent by lmworks and by transformers' Trainer: which model is better afterwards?

    .venv/bin/python benchmarks/scratch_beside_trainer.py [--minutes 10] [--json FILE]

Every second of the classic books and Python's enhancement proposals is made into a vocabulary of 4,096 tokens and token
shards, as the recipe "scratch" does. Then lmworks' stage `train.pretrain` spends the minutes; its target decides on the
model, the batch and the rate. Trainer gets as many seconds as that run took from its first step on, the same shape with
the same first weights, the same rows in the same order, and the same batch, peak rate, warm-up, cosine, AdamW and
clipping. Its best setting is taken of plain and compiled, in autocast to bfloat16, measured before its seconds begin;
as usual with it, documents of one row see each other. lmworks computes as the recipe says, in bfloat16 with float32
masters, and compiles nothing unless `--compile` is given.

Both models are read by lmworks from the folders that were saved and validated by one function: bits per byte of all the
held-out texts, in float32, with intervals over sequences. lmworks delivers its weights rounded to bfloat16, Trainer in
float32. Runs of minutes cannot take turns, so the rate of this machine's matrix products is told before and after each.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from contenders import builds
from contenders.machine_rate import product_rate
from contenders.texts import DATA, write_texts

from lmworks.build import run_alone
from lmworks.config import from_mapping
from lmworks.data import Loader, LoaderConfig, SourceConfig
from lmworks.model.checkpoint import assemble, load
from lmworks.model.initialisation import by_fan_in, initialise
from lmworks.model.transformer import Transformer
from lmworks.records import Scored
from lmworks.tokenizer.tokenizer import Tokenizer
from lmworks.train import CausalLanguageModel, validate
from lmworks.train.derived_settings import Derived
from lmworks.train.held_out import bytes_of_token
from lmworks.train.run_log import LOG, read_log

WORKER = Path(__file__).parent / "contenders" / "trainer_worker.py"
SPECIAL = '["<|endoftext|>", "<|im_start|>", "<|im_end|>"]'


def prepare(folder: Path, options: argparse.Namespace) -> None:
    """`documents`, `vocabulary`, `tokens` and `held_out` in the folder, as the recipe makes them."""
    texts = folder / "texts"
    for number, path in enumerate(write_texts(options.data, texts)):
        if number % options.share:
            path.unlink()
    run_alone("corpus.read", folder / "documents", [], [], [f"sources={json.dumps([str(texts)])}"])
    settings = [f"vocabulary_size={options.vocabulary}", f"special_tokens={SPECIAL}"]
    run_alone("tokenizer.bpe", folder / "vocabulary", [folder / "documents"], [], settings)
    both = [folder / "documents", folder / "vocabulary"]
    share = f"held_out={options.held_out}"
    run_alone("data.tokenize", folder / "tokens", both, [], [share])
    run_alone("data.tokenize", folder / "held_out", both, [], [share, "part=held_out"])


def train_lmworks(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Into `folder`/lmworks; its steps and seconds, and what the target gave in `folder`/derived.json."""
    command = ["stage", "train.pretrain", "--out", str(folder / "lmworks")]
    command += [part for name in ("tokens", "held_out", "vocabulary") for part in ("--from", str(folder / name))]
    settings = [
        f"minutes={options.minutes}",
        f"length={options.length}",
        f"train.compile={json.dumps(options.compile)}",
    ]
    command += [part for setting in settings for part in ("--set", setting)]
    log = folder / "lmworks.log"
    builds.finish(builds.lmworks(command, log), log, folder / ".lmworks.work", folder / builds.DERIVED)
    last = [line for line in read_log(folder / "lmworks" / LOG) if line["kind"] == "step"][-1]
    return {"steps": last["step"], "seconds": last["seconds"], "curve": builds.curve(folder / "lmworks" / LOG)}


def train_trainer(folder: Path, seconds: float, options: argparse.Namespace) -> dict[str, Any]:
    """Into `folder`/transformers/model, from the weights that lmworks began with."""
    derived = from_mapping(Derived, json.loads((folder / builds.DERIVED).read_text()))
    tokenizer = Tokenizer.load(folder / "vocabulary")
    first = initialise(Transformer(derived.model), 0, scheme=by_fan_in)
    assemble(derived.model, first.state_dict(), tokenizer).save(folder / "first")
    given = {
        "model": folder / "first", "shards": folder / "tokens", "length": options.length, "batch": derived.batch,
        "rate": derived.rate, "warmup": derived.warmup / derived.steps, "seconds": seconds,
        "out": folder / "transformers", "threads": options.threads,
    }  # fmt: skip
    command = [
        sys.executable,
        str(WORKER),
        *(part for name, value in given.items() for part in (f"--{name}", str(value))),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    tokenizer.save(folder / "transformers" / "model")
    return json.loads(done.stdout.splitlines()[-1])


def bits_per_byte(model: Path, folder: Path, options: argparse.Namespace) -> tuple[float, float, float, int]:
    """Of all held-out texts: value, interval, sequences."""
    checkpoint = load(model)
    sizes = bytes_of_token(checkpoint.tokenizer, checkpoint.config.embedding.vocabulary)
    with Loader(LoaderConfig({"held_out": SourceConfig(str(folder / "held_out"))}, options.length, 8)) as loader:
        found = validate(checkpoint.model, CausalLanguageModel(), loader, 1, sizes).bits_per_byte
    assert isinstance(found, Scored)
    return found.value, *found.interval, found.n


def run(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    prepare(folder, options)
    found: dict[str, Any] = {}
    for name in ("lmworks", "transformers"):
        before = product_rate() / 1e9
        if name == "lmworks":
            found[name] = train_lmworks(folder, options)
        else:
            found[name] = train_trainer(folder, found["lmworks"]["seconds"], options)
        after = product_rate() / 1e9
        model = folder / "lmworks" if name == "lmworks" else folder / "transformers" / "model"
        value, low, high, n = bits_per_byte(model, folder, options)
        found[name] |= {"bits_per_byte": (value, low, high), "sequences": n, "gigaflops": (before, after)}
        print(
            f"{name:14}{value:.4f} bits per byte ({low:.4f} to {high:.4f}; {n} sequences)  "
            f"{found[name]['steps']:6,} steps in {found[name]['seconds']:5.0f} s  "
            f"matrix products {before:,.0f} GFLOP/s before, {after:,.0f} after",
            flush=True,
        )
    trial = found["transformers"]
    told = "  ".join(f"{how} {1e3 * trial[how]['each']:,.0f} ms" for how in ("plain", "compiled"))
    print(f"a step of transformers: {told}; taken was {trial['chosen']}")
    parameters = sum(weight.numel() for weight in load(folder / "lmworks").model.parameters())
    return {"minutes": options.minutes, "parameters": parameters, **found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help="folder with classic-books and peps")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--share", type=int, default=2, help="take every so-manieth text alone")
    parser.add_argument("--held-out", type=float, default=0.05, help="share of the texts")
    parser.add_argument("--vocabulary", type=int, default=4096)
    parser.add_argument("--length", type=int, default=512, help="tokens in a sequence")
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=False, help="lmworks' blocks, too")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path, help="where to write what was found")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        found = run(Path(folder), options)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
