"""QLoRA beside LoRA: memory of the weights, speed of a step, and what is learned from equal rows.

    .venv/bin/python benchmarks/qlora.py speed [--rounds 5]      whole steps, each contender in a process of its own
    .venv/bin/python benchmarks/qlora.py learn OUT [--seeds 2]   60 steps on people's instructions

SmolLM2-135M-Instruct in bfloat16, or its linear layers in int4; rank 16 on all of them; rows of 512 tokens. Speed is by
the clock and by the processor's time, which other work on the machine changes less; the peak is above the imports.

To learn on, the base is the same function by weights that int4 rounds (the file's are 4-bit numbers): neurons and
channels are rescaled by random factors, of which the next layer takes the inverse.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from argparse import Namespace
from dataclasses import replace
from pathlib import Path
from statistics import mean

import torch
from contenders.comparison import in_turns, table
from finetune_data import instruction_rows
from finetune_speed import Contender, prepare
from torch import Tensor

from lmworks.adapt.qlora import quantise_base
from lmworks.model.checkpoint import Checkpoint, load
from lmworks.model.quantised_linear import packed_bytes

MODEL, LORA, QLORA = "smollm2-135m-instruct", "lmworks nothing", "lmworks nothing int4"
SETTINGS = "method.r=16 method.lora_alpha=32 rate=5e-4 batch=1 length=128 tokens.length=128 steps=60".split()


def speed(options: Namespace) -> None:
    for dtype in ("float32", "bfloat16"):
        checkpoint = load(MODEL, dtype=getattr(torch, dtype))
        packed = quantise_base(checkpoint, "int4")
        plain = sum(weight.nbytes for weight in checkpoint.model.parameters())
        held = sum(weight.nbytes for weight in packed.parameters()) + packed_bytes(packed)
        print(f"weights, {dtype}: LoRA {plain / 2**20:.1f} MiB, QLoRA {held / 2**20:.1f} MiB, ×{held / plain:.3f}")
    with tempfile.TemporaryDirectory() as folder:
        options.folder = Path(folder)
        prepare(options)
        contenders = {name: Contender(name, options) for name in (LORA, QLORA)}
        for _, order in in_turns(list(contenders), options.rounds):
            for name in order:
                contenders[name].take(options.steps, options.batch * options.length)
        print(table({name: each.values for name, each in contenders.items()}, [(LORA, QLORA)]))
        for each in contenders.values():
            each.process.communicate()


def off_grid(checkpoint: Checkpoint, generator: torch.Generator) -> Checkpoint:
    """The same function by weights that no 4 bits hold."""
    weights: dict[str, Tensor] = {name: weight.clone() for name, weight in checkpoint.weights.items()}

    def rescale(rows: str, *columns: str, repeat: int = 1, width: int = 1) -> None:
        """Outputs of `rows` times factors, inputs of `columns` divided by them; `repeat` heads of `width` share one."""
        factors = torch.exp(0.3 * torch.randn(len(weights[f"{rows}.weight"]), generator=generator))
        weights[f"{rows}.weight"] *= factors.view(-1, *[1] * (weights[f"{rows}.weight"].dim() - 1))
        for name in columns:
            weights[f"{name}.weight"] /= factors.view(-1, width).repeat_interleave(repeat, 0).flatten()

    assert checkpoint.config.decoder is not None
    for number, block in enumerate(checkpoint.config.decoder.blocks):
        at, heads = f"decoder.blocks.{number}", block.attention
        rescale(f"{at}.attention_norm", *(f"{at}.attention.{part}" for part in ("query", "key", "value")))
        rescale(f"{at}.feed_forward_norm", f"{at}.feed_forward.gate", f"{at}.feed_forward.up")
        rescale(f"{at}.feed_forward.up", f"{at}.feed_forward.down")
        shared = {"repeat": heads.heads // heads.kv_heads, "width": heads.head_dim}
        rescale(f"{at}.attention.value", f"{at}.attention.output", **shared)
    return replace(checkpoint, weights=weights)


def learn(options: Namespace) -> None:
    options.out.mkdir(parents=True, exist_ok=True)
    checkpoint = load(MODEL)
    if not (options.out / "base").exists():
        other, ids = off_grid(checkpoint, torch.Generator().manual_seed(0)), torch.arange(99, 199)[None]
        change = (other.model(ids).log_softmax(-1) - checkpoint.model(ids).log_softmax(-1)).abs().max()
        print(f"log-probabilities of the base off the grid differ by {change:.1e} at most")
        other.save(options.out / "base")
    (options.out / "rows.jsonl").write_text("\n".join(map(json.dumps, [*instruction_rows("self-instruct")][::2])))
    command = [sys.executable, "-m", "lmworks", "finetune", "base", "--data", "rows.jsonl", "--set=minutes=null"]
    ends: dict[str, list[float]] = {"float": [], "int4": []}
    for seed in range(options.seeds):
        for form, losses in ends.items():
            out = options.out / f"{form}-{seed}"
            if not out.exists():
                given = [f"--set={setting}" for setting in (*SETTINGS, f"base_format={form}", f"seed={seed}")]
                subprocess.run([*command, f"--out={out.name}", *given], cwd=options.out, check=True)
            log = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
            held = [line["loss"] for line in log if line["kind"] == "validation"]
            losses.append(held[-1])
            print(f"{out.name}: held-out nats a target {held[0]:.3f} → {held[-1]:.3f}")
    print(f"QLoRA ends {mean(ends['int4']) - mean(ends['float']):+.3f} nats from LoRA, mean of {options.seeds} seeds")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(required=True)
    of_speed, of_learning = verbs.add_parser("speed"), verbs.add_parser("learn")
    of_speed.add_argument("--rounds", type=int, default=5)
    fixed = {"model": MODEL, "precision": "bfloat16", "targets": "all-linear", "rank": 16, "length": 512, "threads": 2}
    of_speed.set_defaults(run=speed, micro=None, batch=1, steps=1, peer=sys.executable, **fixed)
    of_learning.add_argument("out", type=lambda text: Path(text).absolute())
    of_learning.add_argument("--seeds", type=int, default=2)
    of_learning.set_defaults(run=learn)
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()
