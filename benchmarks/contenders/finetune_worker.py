"""Steps of LoRA fine-tuning, of lmworks or of TRL's SFTTrainer with PEFT, as a contender of `finetune_speed.py`.

Its settings come as JSON in the first argument. A line with a number of steps comes in, a line of JSON with their
seconds of the clock and of the processor, the peak of memory above the imports, and the last loss goes out.
"""

import json
import os
import sys
import time
from argparse import Namespace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from worker import resident_bytes, use_processors

RATE = 2e-4


class Exchange:
    """`begin` after the imports; `taken` after each step waits for the next line when the steps are done."""

    def __init__(self) -> None:
        self.answers = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)  # what a library prints is no answer
        self.left = 2

    def begin(self) -> None:
        self.imported = resident_bytes()
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts here
        self.began = time.perf_counter(), time.process_time()

    def taken(self, loss: float) -> bool:
        """Whether there is another step to take."""
        self.left -= 1
        if self.left:
            return True
        clock, processor = time.perf_counter() - self.began[0], time.process_time() - self.began[1]
        measured = {
            "clock": clock,
            "processor": processor,
            "peak": resident_bytes("VmHWM") - self.imported,
            "process": resident_bytes("VmHWM"),
            "loss": loss,
        }
        print(json.dumps(measured), file=self.answers, flush=True)
        self.left = int(sys.stdin.readline() or 0)
        self.began = time.perf_counter(), time.process_time()
        return bool(self.left)


def lmworks(options: Namespace, rows: list[list[int]], how: list[str], exchange: Exchange) -> None:
    from lmworks.adapt import LoraConfig, add_adapter, quantise_base
    from lmworks.data.batches import Batch
    from lmworks.model.checkpoint import load
    from lmworks.train import CausalLanguageModel, Run, TrainConfig
    from lmworks.train.loop import step
    from lmworks.train.optimizer_config import AdamW, Linear

    class Rows:
        """The protocol `train.run.Batches`."""

        config = Namespace(length=options.length, batch=options.batch)
        steps, start = 10**6, 0

        def __next__(self) -> Batch:
            numbers = torch.arange(self.start, self.start + options.batch) % len(rows)
            self.start += options.batch
            ids = torch.tensor(rows)[numbers]
            places = torch.arange(options.length).expand_as(ids)
            documents, mask = numbers[:, None].expand_as(ids), places < options.length - 1
            return Batch(ids, places, documents, ids.roll(-1, 1), mask, torch.zeros_like(numbers), numbers)

    exchange.begin()
    checkpoint = load(f"{options.folder}/model", dtype=getattr(torch, options.precision))
    for form in {"int4", "int8"} & set(how):
        checkpoint = checkpoint.with_model(quantise_base(checkpoint, form))
    targets = ("query", "value") if options.targets == "query-value" else options.targets
    method = LoraConfig(r=options.rank, lora_alpha=2.0 * options.rank, target_modules=targets)
    settings = TrainConfig(
        AdamW(rate=RATE, decay=0.0), Linear(), options.micro, precision=options.precision, recompute=how[0],
        compile="compile" in how,
    )  # fmt: skip
    parts: Any = checkpoint, CausalLanguageModel(), Rows(), settings, Path(options.folder, "run")
    run = Run(*parts, adapt=partial(add_adapter, method=method))
    while (found := step(run)) is not None and exchange.taken(found.loss):
        pass


def trl(options: Namespace, rows: list[list[int]], how: list[str], exchange: Exchange) -> None:
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoTokenizer, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    exchange.begin()
    settings = SFTConfig(
        output_dir=f"{options.folder}/trl", max_steps=10**6, max_length=options.length, learning_rate=RATE,
        per_device_train_batch_size=options.micro, gradient_accumulation_steps=options.batch // options.micro,
        gradient_checkpointing=how[0] == "blocks", torch_compile="compile" in how, use_cpu=True,
        bf16=options.precision == "bfloat16", model_init_kwargs={"dtype": options.precision}, report_to=[],
        train_sampling_strategy="sequential", save_strategy="no", logging_steps=1, disable_tqdm=True,
    )  # fmt: skip
    targets = ["q_proj", "v_proj"] if options.targets == "query-value" else options.targets
    trainer = SFTTrainer(
        f"{options.folder}/model",
        settings,
        train_dataset=Dataset.from_dict({"input_ids": rows}),
        processing_class=AutoTokenizer.from_pretrained(f"{options.folder}/model"),
        peft_config=LoraConfig(r=options.rank, lora_alpha=2 * options.rank, target_modules=targets),
    )

    class Turns(TrainerCallback):
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            control.should_training_stop = "loss" in logs and not exchange.taken(float(logs["loss"]))

    trainer.add_callback(Turns())
    trainer.train()


if __name__ == "__main__":
    settings = Namespace(**json.loads(sys.argv[1]))
    use_processors(settings.threads)
    torch.set_num_threads(settings.threads)
    library, *how = settings.contender.split()
    rows = json.loads(Path(settings.folder, "rows.json").read_text())
    {"lmworks": lmworks, "trl": trl}[library](settings, rows, how, Exchange())
