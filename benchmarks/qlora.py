"""QLoRA beside LoRA: memory of the weights, speed of a step, and what is learned from equal rows.

    .venv/bin/python benchmarks/qlora.py speed [--rounds 5]      whole steps, each contender in a process of its own
    .venv/bin/python benchmarks/qlora.py learn OUT [--seeds 2]   60 steps on people's instructions

Speed: SmolLM2-135M-Instruct, adapters of rank 16 on all linear layers, rows of 512 tokens, the base in bfloat16 or its
linear layers in int4. Ratios are of rounds in which the contenders take turns, by the clock and by the processor's
time, which other work on the machine changes less; the peak is above the imports.

Learning: the file's weights are 4-bit numbers already, which int4 keeps to the bit, so that both would be one. The base
is therefore the same function by other weights: neurons, heads and channels are rescaled by random factors, of which
the next layer takes the inverse, and no matrix is on a 4-bit grid. int4 then rounds it as it would any model.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from argparse import Namespace
from dataclasses import replace
from pathlib import Path
from statistics import mean, median

import torch
from contenders.comparison import in_turns, ratios
from finetune_data import instruction_rows
from finetune_speed import Contender, prepare
from torch import Tensor

from lmworks.adapt.qlora import quantise_base
from lmworks.model.checkpoint import Checkpoint, load
from lmworks.model.quantised_linear import packed_bytes

MODEL = "smollm2-135m-instruct"
LORA, QLORA = "lmworks nothing", "lmworks nothing int4"
SETTINGS = ["method.kind=lora", "method.r=16", "method.lora_alpha=32", "rate=5e-4", "batch=2", "length=256"]
STEPS, ROWS = 60, 300


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
        for name, each in contenders.items():
            rates = "".join(f"{median(rates):8,.0f}" for rates in each.rates.values())
            print(f"{name:22}{rates} tokens/s (clock, processor), peak {each.last['peak'] / 2**20:,.0f} MiB")
            each.process.communicate()
        for kind in ("clock", "processor"):
            found = ratios(contenders[LORA].rates[kind], contenders[QLORA].rates[kind])
            print(f"{kind}: ×{found.median:.2f} ({found.least:.2f} to {found.most:.2f}) the speed of LoRA")


def off_grid(checkpoint: Checkpoint, generator: torch.Generator) -> Checkpoint:
    """The same function by weights that no 4 bits hold."""
    weights: dict[str, Tensor] = {name: weight.clone() for name, weight in checkpoint.weights.items()}
    assert checkpoint.config.decoder is not None

    def rescale(rows: list[str], columns: list[str], repeat: int = 1, width: int = 1) -> None:
        """Outputs of `rows` times factors, inputs of `columns` divided by them: heads may share one, `repeat` times."""
        factors = torch.exp(0.3 * torch.randn(len(weights[rows[0]]), generator=generator))
        for name in rows:
            weights[name] *= factors.view(-1, *[1] * (weights[name].dim() - 1))
        factors = factors.view(-1, width).repeat_interleave(repeat, 0).flatten()
        for name in columns:
            weights[name] /= factors

    for number, block in enumerate(checkpoint.config.decoder.blocks):
        at, heads = f"decoder.blocks.{number}", block.attention
        inputs = [f"{at}.attention.{part}.weight" for part in ("query", "key", "value")]
        rescale([f"{at}.attention_norm.weight"], inputs)
        inputs = [f"{at}.feed_forward.{part}.weight" for part in ("gate", "up")]
        rescale([f"{at}.feed_forward_norm.weight"], inputs)
        rescale([f"{at}.feed_forward.up.weight"], [f"{at}.feed_forward.down.weight"])
        shared = heads.heads // heads.kv_heads
        rescale([f"{at}.attention.value.weight"], [f"{at}.attention.output.weight"], shared, heads.head_dim)
    return replace(checkpoint, weights=weights)


def learn(options: Namespace) -> None:
    options.out.mkdir(parents=True, exist_ok=True)
    checkpoint = load(MODEL)
    if not (options.out / "base").exists():
        other = off_grid(checkpoint, torch.Generator().manual_seed(0))
        ids = torch.tensor([checkpoint.required_tokenizer.encode(__doc__ or "")])
        with torch.inference_mode():
            found, expected = (each.model(ids).log_softmax(-1) for each in (other, checkpoint))
        print(f"the base off the grid: log-probabilities differ by {(found - expected).abs().max():.1e} at most")
        other.save(options.out / "base")
    rows = [json.dumps(row) for name in ("self-instruct", "oasst") for row in instruction_rows(name)][::3][:ROWS]
    (options.out / "rows.jsonl").write_text("\n".join(rows))
    command = [sys.executable, "-m", "lmworks", "finetune", "base", "--data", "rows.jsonl", "--minutes", "60"]
    ends: dict[str, list[float]] = {"float": [], "int4": []}
    for seed in range(options.seeds):
        for form, losses in ends.items():
            out = options.out / f"{form}-{seed}"
            given = [*SETTINGS, f"steps={STEPS}", f"base_format={form}", f"seed={seed}"]
            if not out.exists():
                overrides = [part for setting in given for part in ("--set", setting)]
                subprocess.run([*command, "--out", out.name, *overrides], cwd=options.out, check=True)
            log = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
            held = [line["loss"] for line in log if line["kind"] == "validation"]
            last = mean([line["loss"] for line in log if line["kind"] == "step"][-20:])
            losses.append(held[-1])
            told = ", ".join(f"{loss:.3f}" for loss in held)
            print(
                f"{out.name}: held-out nats a target {told}; mean of the last 20 training losses {last:.3f}", flush=True
            )
    gaps = [packed - plain for plain, packed in zip(ends["float"], ends["int4"], strict=True)]
    print(f"QLoRA ends {mean(gaps):+.3f} nats from LoRA ({min(gaps):+.3f} to {max(gaps):+.3f}, {len(gaps)} seeds)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(required=True)
    of_speed, of_learning = verbs.add_parser("speed"), verbs.add_parser("learn")
    of_speed.add_argument("--rounds", type=int, default=5)
    of_speed.add_argument("--steps", type=int, default=2, help="in a round")
    of_speed.add_argument("--batch", type=int, default=2, help="rows of 512 tokens in a step")
    fixed = {"model": MODEL, "precision": "bfloat16", "targets": "all-linear", "rank": 16, "length": 512, "threads": 2}
    of_speed.set_defaults(run=speed, micro=None, peer=sys.executable, **fixed)
    of_learning.add_argument("out", type=lambda text: Path(text).absolute())
    of_learning.add_argument("--seeds", type=int, default=2)
    of_learning.set_defaults(run=learn)
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()
