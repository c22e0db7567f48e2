"""How many tokens a second does a training step learn from, beside transformers, and in how much memory?

    .venv/bin/python benchmarks/training_speed.py [--size 15M] [--family llama] [--rounds 5] [--steps 3]

LLaMA and GPT-2 of about 15 and 50 million parameters, sequences of 512, vocabulary 8,192: forward, loss, backward,
clipping and AdamW, on the same ids, each contender in a process of its own on two cores. They take turns, and the first
steps, in which things are compiled, are told apart. Each figure is printed when it is there, the first after three
steps; all contenders take half an hour, `--only "lmworks bfloat16" "transformers bfloat16"` a few minutes.

    lmworks                bfloat16 weights with float32 masters, a few logits at a time; plain, and its blocks compiled
    transformers           autocast to bfloat16 with PyTorch's attention and with the plain one ("eager"), and compiled
    transformers, pure     everything in bfloat16, the optimizer's state too: faster, and another numerical promise
    float32                of both
    products               the matrix products of a step in bfloat16, forward and backward, and nothing else

Printed are tokens a second, the peak memory of the process, and beside lmworks' best setting the ratio to each other
contender, round by round. The ratio to the products is the share of a step in which the machine multiplies as fast as
it can on the model's own shapes; attention's products are not among them, so the share is counted strictly.
"""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

from contenders.comparison import in_turns

WORKER = Path(__file__).parent / "contenders" / "training_worker.py"
CONTENDERS = {
    "lmworks bfloat16": ("lmworks", "bfloat16", ""),
    "lmworks bfloat16, compiled": ("lmworks", "bfloat16", "compile"),
    "lmworks bfloat16, compiled, selective": ("lmworks", "bfloat16", "compile selective"),
    "lmworks float32": ("lmworks", "float32", ""),
    "lmworks float32, compiled": ("lmworks", "float32", "compile"),
    "transformers bfloat16": ("transformers", "bfloat16", ""),
    "transformers bfloat16, eager": ("transformers", "bfloat16", "eager"),
    "transformers bfloat16, compiled": ("transformers", "bfloat16", "compile"),
    "transformers bfloat16, eager, compiled": ("transformers", "bfloat16", "eager compile"),
    "transformers pure bfloat16": ("transformers", "pure-bfloat16", ""),
    "transformers pure bfloat16, compiled": ("transformers", "pure-bfloat16", "compile"),
    "transformers float32": ("transformers", "float32", ""),
    "transformers float32, compiled": ("transformers", "float32", "compile"),
    "products": ("products", "bfloat16", ""),
}
TOKENS = {"15M": 8 * 512, "50M": 4 * 512}


class Contender:
    """A worker process that takes steps when it is told to."""

    def __init__(self, name: str, family: str, size: str) -> None:
        library, precision, how = CONTENDERS[name]
        command = [sys.executable, str(WORKER), "--library", library, "--family", family, "--size", size]
        command += ["--precision", precision, *(["--compile"] if "compile" in how else [])]
        command += ["--attention", "eager"] if "eager" in how else []
        command += ["--recompute", "selective"] if "selective" in how else []
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.first = self._answer()["first"]
        self.rates: list[float] = []  # tokens a second of each round
        self.peak = 0

    def take(self, steps: int, tokens: int) -> float:
        """Tokens a second of so many steps."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{steps}\n")
        self.process.stdin.flush()
        answer = self._answer()
        self.peak = answer["peak"]
        return steps * tokens / answer["seconds"]

    def _answer(self) -> dict[str, float]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("a contender ended early; what it said stands above")
        return json.loads(line)

    def close(self) -> None:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--size", choices=tuple(TOKENS), default="15M")
    parser.add_argument("--family", choices=("llama", "gpt2"), default="llama")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--only", nargs="*", default=list(CONTENDERS), metavar="NAME", help="Some of the contenders.")
    options = parser.parse_args()
    contenders: dict[str, Contender] = {}
    tokens = TOKENS[options.size]
    for name in options.only:
        contender = contenders[name] = Contender(name, options.family, options.size)
        rate = contender.take(1, tokens)
        print(f"{name}: first two steps in {contender.first:.1f} s, the third {rate:,.0f} tokens/s", flush=True)
    for round_, order in in_turns(list(contenders), options.rounds):
        for name in order:
            contenders[name].rates.append(contenders[name].take(options.steps, tokens))
            print(f"round {round_ + 1}, {name}: {contenders[name].rates[-1]:,.0f} tokens/s", flush=True)
    print(f"\n{options.family} {options.size}, {options.rounds} rounds of {options.steps} steps")
    ours = max((n for n in contenders if n.startswith("lmworks")), key=lambda n: statistics.median(contenders[n].rates))
    for name, contender in contenders.items():
        ratios = [a / b for a, b in zip(contenders[ours].rates, contender.rates, strict=True)]
        memory = contenders[ours].peak / contender.peak
        print(
            f"{name:40}{statistics.median(contender.rates):8,.0f} tokens/s{contender.peak / 2**20:8,.0f} MiB"
            f"   {ours} is ×{statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f}), memory ×{memory:.2f}"
        )
        contender.close()


if __name__ == "__main__":
    main()
