"""Steps of DPO or GRPO, of lmworks or of TRL with PEFT, as a contender of `alignment_speed.py`; lines go in and out as
in `finetune_worker.py`."""

import json
import sys
from argparse import Namespace
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from finetune_worker import RATE, Exchange
from worker import use_processors

GROUP, RANK = 8, 8


def letters(text: str) -> float:
    """The share of one letter, of which no two completions have the same."""
    return text.count("e") / max(len(text), 1)


def lmworks(options: Namespace, exchange: Exchange) -> None:
    from lmworks.adapt import LoraConfig
    from lmworks.align import completions, log_probabilities, stage_online
    from lmworks.align.dpo import REFERENCE, Pairs
    from lmworks.align.grpo import PolicyOptimization
    from lmworks.align.online_config import GRPOConfig, OnlineConfig
    from lmworks.align.policy import policy_of
    from lmworks.align.rollout_loader import RolloutLoader
    from lmworks.data.token_groups import GroupBatch
    from lmworks.data.training_rows import group_completions, read_preference_rows
    from lmworks.model.checkpoint import load
    from lmworks.records import Preference, Verifiable
    from lmworks.train import Run, TrainConfig
    from lmworks.train.fit import adapts
    from lmworks.train.loop import step
    from lmworks.train.optimizer_config import AdamW, Linear

    exchange.begin()
    checkpoint = load(f"{options.folder}/model", dtype=getattr(torch, options.precision))
    rows = read_preference_rows([Path(options.folder, "rows.jsonl")], (Preference,))
    method = LoraConfig(r=RANK, lora_alpha=2.0 * RANK)
    settings = TrainConfig(AdamW(rate=RATE, decay=0.0), Linear(), precision=options.precision)
    adapt: Any = adapts(method, 0)
    if options.method == "dpo":
        groups = group_completions(rows, checkpoint.chat, options.length, [])
        references = log_probabilities.reference_sums(adapt(checkpoint.model), groups)
        groups = replace(groups, columns={REFERENCE: references})

        class Rows:
            """The protocol `train.run.Batches`, in the rows' order."""

            config = Namespace(length=options.length, batch=options.batch)
            steps, start = 10**6, 0

            def __next__(self) -> GroupBatch:
                self.start += options.batch
                return groups.batch([n % len(groups) for n in range(self.start - options.batch, self.start)])

        objective, loader = Pairs(), Rows()
    else:
        fixed = partial(completions.SamplingParameters, ignore_eos=True)
        vars(completions)["SamplingParameters"] = fixed
        config = OnlineConfig(
            ("rows",), algorithm=GRPOConfig(group_size=GROUP), method=method, steps=10**6, prompts=options.batch,
            length=options.length + options.completion, max_completion_length=options.completion,
            slots=GROUP * options.batch, train=settings,
        )  # fmt: skip
        prompts = stage_online.prompts_of([Verifiable(row.prompt, "", "") for row in rows], checkpoint, options.length)
        reward = lambda _, responses: [letters(each.text) for each in responses]  # noqa: E731
        loader = RolloutLoader(config, completions.SampledCompletions(config, prompts, reward))
        objective = PolicyOptimization(config.algorithm, config.max_completion_length)
    parts: Any = checkpoint, objective, loader, settings, Path(options.folder, "run")
    run = Run(*parts, adapt=adapt)
    if isinstance(loader, RolloutLoader):
        loader.policy = policy_of(run, loader.config, method)
    while (found := step(run)) is not None and exchange.taken(found.loss):
        pass


def trl(options: Namespace, exchange: Exchange) -> None:
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoTokenizer, TrainerCallback
    from trl import DPOConfig, DPOTrainer, GRPOConfig, GRPOTrainer

    exchange.begin()
    rows = [json.loads(line) for line in Path(options.folder, "rows.jsonl").read_text().splitlines()]
    common: dict[str, Any] = {
        "output_dir": f"{options.folder}/trl", "max_steps": 10**6, "learning_rate": RATE, "use_cpu": True,
        "gradient_checkpointing": options.contender == "trl blocks", "bf16": options.precision == "bfloat16",
        "model_init_kwargs": {"dtype": options.precision}, "report_to": [], "save_strategy": "no", "logging_steps": 1,
        "disable_tqdm": True,
    }  # fmt: skip
    trainer: Any
    tokenizer = AutoTokenizer.from_pretrained(f"{options.folder}/model")
    given: dict[str, Any] = {
        "processing_class": tokenizer,
        "peft_config": LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules="all-linear"),
    }
    if options.method == "dpo":
        messages = [{name: as_messages(row[name], name) for name in ("prompt", "chosen", "rejected")} for row in rows]
        settings = DPOConfig(
            **common, per_device_train_batch_size=options.batch, max_length=options.length,
            precompute_ref_log_probs=True, train_sampling_strategy="sequential",
        )  # fmt: skip
        trainer = DPOTrainer(
            f"{options.folder}/model", args=settings, train_dataset=Dataset.from_list(messages), **given
        )
    else:
        settings = GRPOConfig(
            **common, per_device_train_batch_size=options.batch * GROUP, num_generations=GROUP, beta=0.0,
            max_completion_length=options.completion, loss_type="grpo", shuffle_dataset=False,
            generation_kwargs={"min_new_tokens": options.completion},
        )  # fmt: skip
        prompts = Dataset.from_list([{"prompt": as_messages(row["prompt"], "prompt")} for row in rows])

        def reward(completions: list[list[dict[str, str]]], **_: Any) -> list[float]:
            return [letters(completion[0]["content"]) for completion in completions]

        trainer = GRPOTrainer(f"{options.folder}/model", reward, args=settings, train_dataset=prompts, **given)

    class Turns(TrainerCallback):
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            control.should_training_stop = "loss" in logs and not exchange.taken(float(logs["loss"]))

    trainer.add_callback(Turns())
    trainer.train()


def as_messages(text: Any, name: str) -> list[dict[str, str]]:
    if not isinstance(text, str):
        return text
    return [{"role": "user" if name == "prompt" else "assistant", "content": text}]


if __name__ == "__main__":
    settings = Namespace(**json.loads(sys.argv[1]))
    use_processors(2)
    torch.set_num_threads(settings.threads)
    (trl if settings.contender.startswith("trl") else lmworks)(settings, Exchange())
