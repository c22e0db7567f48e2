"""How many tokens a second does a LoRA step learn from, beside TRL's SFTTrainer with PEFT, and in how much memory?

    .venv/bin/python benchmarks/finetune_speed.py --peer PYTHON [--precision bfloat16] [--rounds 5] [--batch 4]

SmolLM2-135M-Instruct with adapters on all linear layers (or on queries and values alone), full rows of 512 tokens, no
packing, the same rows in one order and the same base weights: both libraries take whole steps of their own loop, each
contender in a process of its own on two cores. PYTHON is one that has trl and peft. They take turns; the first two
steps, with loading, are kept apart.

    trl blocks      SFTTrainer with its defaults: activations are computed again in the backward
    trl nothing     the same without gradient checkpointing
    lmworks POLICY  `recompute` nothing, selective or blocks; "compile" with torch.compile

Printed are tokens a second of the clock, and of the processor's time, which other work on the machine changes less; the
peak memory above the libraries' imports, and of the whole process; and for each pair the ratios of the rounds. A
setting of TRL is beaten where one and the same setting of lmworks is better in speed and in memory.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from contenders.comparison import in_turns, table
from contenders.trainers import files

from lmworks.model.checkpoint import load

POLICIES = ["trl blocks", "trl nothing", *(f"lmworks {policy}" for policy in ("nothing", "selective", "blocks"))]
COMPILED = ["trl nothing compile", "lmworks nothing compile", "lmworks blocks compile"]
WORKER = Path(__file__).parent / "contenders" / "finetune_worker.py"
ROWS = 128


class Contender:
    """A process that takes steps when it is asked to."""

    def __init__(self, name: str, options: argparse.Namespace, worker: Path = WORKER, unit: str = "tokens") -> None:
        self.log = (options.folder / f"{name}.log").open("w+")
        settings = json.dumps({**vars(options), "contender": name}, default=str)
        command = [options.peer if name.startswith("trl") else sys.executable, worker, settings]
        environment = {"OMP_WAIT_POLICY": "passive", **os.environ, "HF_HUB_OFFLINE": "1"}  # spinning would be counted
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": self.log}
        self.process = subprocess.Popen(command, text=True, env=environment, **pipes)
        self.values: dict[str, list[float]] = {
            f"{unit}/s": [],
            f"{unit}/s of processor": [],
            "MiB": [],
            "MiB of the process": [],
        }
        self.last = self.answer()

    def answer(self) -> dict[str, float]:
        assert self.process.stdout is not None
        if line := self.process.stdout.readline():
            return json.loads(line)
        raise SystemExit(f"a contender ended early\n{Path(self.log.name).read_text()[-3000:]}")

    def take(self, steps: int, tokens: float) -> None:
        print(steps, file=self.process.stdin, flush=True)
        self.last = self.answer()
        speeds = (steps * tokens / self.last[kind] for kind in ("clock", "processor"))
        memory = (self.last[kind] / 2**20 for kind in ("peak", "process"))
        for values, value in zip(self.values.values(), (*speeds, *memory), strict=True):
            values.append(value)


def prepare(options: argparse.Namespace) -> None:
    """The model as a folder of Hugging Face in the run's precision, and full rows of Python's standard library."""
    checkpoint = load(options.model, dtype=getattr(torch, options.precision))
    checkpoint.save(options.folder / "model")
    ids: list[int] = []
    for text in files([str(Path(os.__file__).parent)]):
        ids += checkpoint.required_tokenizer.encode(text)
        if len(ids) >= ROWS * options.length:
            break
    rows = [ids[number * options.length :][: options.length] for number in range(ROWS)]
    (options.folder / "rows.json").write_text(json.dumps(rows))


def compare(options: argparse.Namespace) -> None:
    prepare(options)
    contenders = {}
    for name in options.only:
        contenders[name] = Contender(name, options)
        print(f"{name}: {contenders[name].last['clock']:.0f} s, loss {contenders[name].last['loss']:.4f}", flush=True)
    for _, order in in_turns(list(contenders), options.rounds):
        for name in order:
            contenders[name].take(options.steps, options.batch * options.length)
    print(f"\n{options.precision}, {options.targets}, rank {options.rank}, {options.batch} rows of {options.length}")
    pairs = [(peer, ours) for peer in contenders for ours in contenders if peer[:3] == "trl" != ours[:3]]
    print(table({name: each.values for name, each in contenders.items()}, pairs))
    for each in contenders.values():
        each.process.communicate()
        each.log.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", default=sys.executable, help="a Python that has trl and peft")
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--precision", choices=("bfloat16", "float32"), default="bfloat16")
    parser.add_argument("--targets", choices=("all-linear", "query-value"), default="all-linear")
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--length", type=int, default=512, help="tokens in a row")
    parser.add_argument("--batch", type=int, default=4, help="rows in a step")
    parser.add_argument("--micro", type=int, default=4, help="rows in a forward")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=2, help="in a round")
    parser.add_argument("--only", nargs="*", default=POLICIES, choices=[*POLICIES, *COMPILED], metavar="NAME")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        options.folder = Path(folder)
        compare(options)


if __name__ == "__main__":
    main()
