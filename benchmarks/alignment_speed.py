"""How many tokens a second does a DPO step learn from, and how many completions GRPO, beside TRL with PEFT?

    .venv/bin/python benchmarks/alignment_speed.py ROWS --peer PYTHON [--method dpo grpo] [--rounds 9]

SmolLM2-135M-Instruct with adapters of rank 8 on all linear layers. ROWS is a .jsonl file of preferences, of which the
first that fit into `--length` tokens are taken, in one order. PYTHON is one that has trl and peft. Each contender is a
process of its own, and they take turns in short rounds; the first two steps, with loading and the references'
log-probabilities, which both compute before the run, are kept apart.

    dpo   `--batch` pairs a step; tokens are those of both answers with their prompt
    grpo  `--batch` prompts with 8 completions of `--completion` tokens each, and the share of one letter as reward; TRL
          generates by transformers, lmworks by its engine with the same weights

"trl blocks" has TRL's default, activations computed again in the backward; "trl nothing" keeps them. Printed are speeds
by the clock, and by the processor's time, which other work on the machine changes less, the peak memory above the
imports and of the whole process, and the ratios of the rounds.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import torch
from contenders.comparison import in_turns, table
from finetune_speed import Contender

from lmworks.data.training_rows import group_completions, read_preference_rows, write_preference_rows
from lmworks.model.checkpoint import load
from lmworks.records import Preference

WORKER = Path(__file__).parent / "contenders" / "alignment_worker.py"
CONTENDERS = ["trl blocks", "trl nothing", "lmworks"]
GROUP, ROWS = 8, 32


def prepare(options: argparse.Namespace) -> float:
    """The model as a folder of Hugging Face in the run's precision, and rows; returns tokens of a pair."""
    checkpoint = load(options.model, dtype=getattr(torch, options.precision))
    checkpoint.save(options.folder / "model")
    rows, tokens = [], 0
    for row in read_preference_rows([options.rows], (Preference,)):
        assert isinstance(row, Preference)
        groups = group_completions([row], checkpoint.chat, 2**16, [])
        if groups.lengths.max() <= options.length and len(rows) < ROWS:
            rows.append(row)
            tokens += int(groups.lengths.sum())
    if len(rows) < ROWS:
        raise SystemExit(f"{len(rows)} rows have at most {options.length} tokens, and {ROWS} are needed")
    write_preference_rows(options.folder / "rows.jsonl", rows)
    return tokens / ROWS


def compare(options: argparse.Namespace, method: str, units: float) -> None:
    contenders = {}
    for name in options.only:
        named = argparse.Namespace(**{**vars(options), "method": method})
        contenders[name] = Contender(name, named, WORKER, "tokens" if method == "dpo" else "completions")
        print(f"{name}: {contenders[name].last['clock']:.0f} s, loss {contenders[name].last['loss']:.4f}", flush=True)
    for _, order in in_turns(list(contenders), options.rounds):
        for name in order:
            contenders[name].take(options.steps, options.batch * units)
    print(f"\n{method}, {options.precision}, {options.batch} rows a step")
    pairs = [(peer, "lmworks") for peer in contenders if peer != "lmworks"]
    print(table({name: each.values for name, each in contenders.items()}, pairs), flush=True)
    for each in contenders.values():
        each.process.communicate()
        each.log.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=Path)
    parser.add_argument("--peer", default=sys.executable, help="a Python that has trl and peft")
    parser.add_argument("--method", nargs="*", default=["dpo", "grpo"], choices=["dpo", "grpo"])
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--precision", choices=("bfloat16", "float32"), default="bfloat16")
    parser.add_argument("--length", type=int, default=256, help="most tokens of a prompt with an answer")
    parser.add_argument("--completion", type=int, default=48, help="tokens of a completion")
    parser.add_argument("--batch", type=int, default=4, help="rows in a step")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=1, help="in a round")
    parser.add_argument("--only", nargs="*", default=CONTENDERS, choices=CONTENDERS, metavar="NAME")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        options.folder = Path(folder)
        tokens = prepare(options)
        for method in options.method:
            compare(options, method, tokens if method == "dpo" else GROUP)


if __name__ == "__main__":
    main()
