"""A pre-training by transformers' Trainer in as many seconds as it is given, for `scratch_beside_trainer.py`.

It reads the rows of lmworks' loader, in their order, and begins with the weights of a folder. A few steps are taken to
measure, plain and with torch.compile, and the faster of the two makes the run, whose cosine ends with the seconds. The
last line that it prints is JSON.
"""

import argparse
import json
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import IterableDataset
from transformers import AutoModelForCausalLM, Trainer, TrainerCallback, TrainingArguments
from worker import use_processors

from lmworks.data import Loader, LoaderConfig, SourceConfig

TRIAL_STEPS = 8
SPARE = 0.97  # of the time: a machine is never as even as its measurement


class Rows(IterableDataset):
    """The loader's sequences: what Trainer calls labels are the ids themselves, which its models move by one."""

    def __init__(self, config: LoaderConfig) -> None:
        self.config = config

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        with Loader(self.config) as loader:
            for batch in loader:
                labels = batch.ids.masked_fill(batch.documents < 0, -100)
                for ids, label in zip(batch.ids, labels, strict=True):
                    yield {"input_ids": ids, "labels": label}


class Clock(TrainerCallback):
    """When each step ended."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.ends.append(time.perf_counter())


def train(options: argparse.Namespace, steps: int, compiled: bool, out: Path | None = None) -> dict[str, float]:
    """Seconds of the first step, of each later one, and of all."""
    clock = Clock()
    warmup = min(max(round(options.warmup * steps), 1), steps // 2)
    settings = TrainingArguments(
        output_dir=str(options.out / "trainer"), max_steps=steps, per_device_train_batch_size=options.batch,
        learning_rate=options.rate, lr_scheduler_type="cosine_with_min_lr", lr_scheduler_kwargs={"min_lr_rate": 0.1},
        warmup_steps=warmup, weight_decay=0.1, adam_beta1=0.9, adam_beta2=0.95, max_grad_norm=1.0,
        optim="adamw_torch_fused", bf16=True, use_cpu=True, torch_compile=compiled, report_to=[], save_strategy="no",
        logging_steps=50, disable_tqdm=True, seed=0,
    )  # fmt: skip
    model = AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32)
    rows = Rows(LoaderConfig({"tokens": SourceConfig(options.shards)}, options.length, options.batch, steps))
    trainer = Trainer(model=model, args=settings, train_dataset=rows, callbacks=[clock])
    began = time.perf_counter()
    trainer.train()
    seconds = time.perf_counter() - began
    if out is not None:
        trainer.save_model(str(out))
    each = median(stop - start for start, stop in pairwise(clock.ends[1:]))
    return {"first": clock.ends[0] - began, "each": each, "seconds": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", required=True, help="a folder with the first weights")
    parser.add_argument("--shards", required=True)
    parser.add_argument("--length", type=int, required=True)
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--rate", type=float, required=True)
    parser.add_argument("--warmup", type=float, required=True, help="as a share of the steps")
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--out", type=Path, required=True, help="a new folder: its `model` is what was trained")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    use_processors(options.threads)
    torch.set_num_threads(options.threads)
    train(options, TRIAL_STEPS, True)  # compiles: the code is kept for the runs that are measured
    trials = {compiled: train(options, TRIAL_STEPS, compiled) for compiled in (False, True)}
    compiled = trials[True]["each"] < trials[False]["each"]
    left = SPARE * options.seconds - trials[compiled]["first"]
    steps = max(int(left / trials[compiled]["each"]), 8)
    found = train(options, steps, compiled, options.out / "model")
    told = {"plain": trials[False], "compiled": trials[True], "chosen": "compiled" if compiled else "plain"}
    print(json.dumps({**told, "steps": steps, "seconds": found["seconds"]}), flush=True)


if __name__ == "__main__":
    main()
