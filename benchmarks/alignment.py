"""Alignment on tasks that a program checks: does a method beat rejection sampling, at equal samples?

    .venv/bin/python benchmarks/alignment.py OUT [--seeds 3] [--workers 2] [--only walks/grpo addition]

A model of 0.4M parameters, whose tokens are characters, is fine-tuned on demonstrations until it solves a fifth to
three fifths of a task (`alignment_tasks.py`), and then learns from 16,384 completions and their rewards: `best-of-n`
(fine-tuning on the best of each 8), DPO (on the best and the worst of each 8) and KTO (better than the mean of its 8,
or not) on completions of the first model, PPO and GRPO on their own. OUT keeps a file for each cell, which is not run
again, and their lines in cells.jsonl: pass@1 and pass@8 of 16 completions of held-out prompts at temperature 1, the
mean reward, nats of KL(policy || first model) a completion and of entropy a token, samples, seconds. The task `format`
is one seed of SmolLM2-135M, whose adapters learn from 1,024 completions, by DPO and GRPO where no method is named.
"""

import argparse
import copy
import json
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # before torch: there is a process for each core

import numpy as np
import tokenizers
from alignment_tasks import TASKS, Task, make_task
from tokenizers import decoders, models, pre_tokenizers

import lmworks
from lmworks.align.log_probabilities import completion_log_probabilities, reference_sums, sequences_of
from lmworks.align.rewards import items_of, verifier
from lmworks.build import run_alone
from lmworks.data.config import GroupLoaderConfig
from lmworks.data.conversations import as_messages
from lmworks.data.group_loader import GroupLoader
from lmworks.data.token_groups import GroupBatch, TokenGroup, join_groups
from lmworks.evaluate.metric import Response, item_value
from lmworks.evaluate.verifier_metrics import unbiased_pass_at_k
from lmworks.generate import Engine, SamplingParameters
from lmworks.generate.rollouts import Rollout, roll_out
from lmworks.kernels import library
from lmworks.model.checkpoint import Checkpoint, assemble
from lmworks.model.initialisation import initialise
from lmworks.model.presets import llama
from lmworks.model.transformer import Transformer
from lmworks.records import TextOrMessages, Verifiable
from lmworks.tokenizer.tokenizer import Tokenizer
from lmworks.train import AdamW, CheckpointConfig, Linear, Loss, Run, TrainConfig, train
from lmworks.train.objectives import Objective

METHODS = ("sft", "best-of-n", "dpo", "kto", "ppo", "grpo")
GROUP = 8  # completions of a prompt
TEST, DRAWS, ROWS = 200, 16, 64
TEMPLATE = "{% for m in messages %}{{ m.content }}{% if m.role == 'user' %}={% else %}<end>{% endif %}{% endfor %}"


@dataclass(frozen=True, slots=True)
class Imitation(Objective[GroupBatch]):
    """Cross-entropy of completions, a token."""

    def counts(self, examples: GroupBatch) -> Mapping[str, int]:
        return {"imitation": int(examples.completion_mask[:, :, 1:].sum())}

    def losses(self, model: Transformer, examples: GroupBatch) -> Mapping[str, Loss]:
        nats = -completion_log_probabilities(model, sequences_of(examples)).sum()
        return {"imitation": Loss(nats, self.counts(examples)["imitation"])}


def settings_of(method: str, task: Task) -> list[str]:
    """Settings of a stage."""
    large = bool(task.model)
    prompts = 8 if large else 16  # of a step
    batches = task.samples // GROUP // prompts
    given = {
        # Without nll the chosen become less likely, too.
        "dpo": ["algorithm.kind=dpo", "algorithm.nll=1", f"batch={16 if large else 32}", "rate=1e-4"],
        "kto": ["algorithm.kind=kto", "batch=64", "rate=3e-5"],
        "ppo": ["algorithm.kind=ppo", "algorithm.num_iterations=4", f"steps={4 * batches}", "rate=3e-4"],
        "grpo": ["algorithm.kind=grpo", f"steps={batches}", "rate=3e-4"],
    }[method]
    given += ["held_out=0"]  # the task has a split of its own
    if method in ("dpo", "kto"):
        given += ["epochs=1"]
    if method in ("ppo", "grpo"):
        given += [f"prompts={prompts}", f"algorithm.group_size={GROUP}", f"max_completion_length={task.completion}"]
        given += [f"slots={ROWS}", "rewards.verifier=1"]
    kind = "lora" if large else "full"
    return [*given, f"length={task.length}", f"method.kind={kind}", "train.precision=float32"]


def first_model(task: Task, seed: int) -> Checkpoint:
    """The task's, or a token for each byte, and one for the end; random weights."""
    if task.model:
        return lmworks.load(task.model)
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = tokenizers.Tokenizer(models.BPE({letter: index for index, letter in enumerate(letters)}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([tokenizers.AddedToken("<end>", special=True)])
    config = llama(257, width=96, layers=3, heads=4, kv_heads=4, hidden=256, context_length=task.length, tied=True)
    weights = initialise(Transformer(config), seed=seed).state_dict()
    return assemble(config, weights, Tokenizer(backend, {"eos_token": "<end>"}), TEMPLATE)


def prompt_ids(checkpoint: Checkpoint, prompt: TextOrMessages) -> list[int]:
    return list(checkpoint.chat.render(as_messages(prompt, "user"), add_generation_prompt=True).ids)


def fine_tune(
    checkpoint: Checkpoint,
    pairs: Sequence[tuple[str, str]],
    steps: int,
    rate: float,
    seed: int,
    work: Path,
    task: Task,
) -> Checkpoint:
    """The checkpoint, whose model has learned completions of prompts."""
    encode, end = checkpoint.required_tokenizer.encode, checkpoint.chat.stop_ids[0]
    rows = [(prompt_ids(checkpoint, prompt), [*encode(said), end]) for prompt, said in pairs]
    groups = [TokenGroup([[*a, *b]], [[False] * len(a) + [True] * len(b)]) for a, b in rows]
    loader = GroupLoader(GroupLoaderConfig(task.length, min(task.rows, len(rows)), steps, seed), join_groups(groups))
    saving = CheckpointConfig(minutes=None)
    settings = TrainConfig(
        AdamW(rate=rate, decay=0.0),
        Linear(warmup=min(10, steps // 4)),
        precision="float32",
        validate=None,
        checkpoint=saving,
    )
    train(Run(checkpoint, Imitation(), loader, settings, work, seed=seed))
    return checkpoint.with_model(checkpoint.model)  # whose engine takes these weights, not those of a GGUF file


def sample(
    checkpoint: Checkpoint, task: Task, rows: Sequence[Verifiable], draws: int, key: str
) -> tuple[list[list[Rollout]], np.ndarray]:
    """Completions of each row and their rewards, (rows, draws)."""
    engine = Engine(checkpoint, slots=ROWS, context_length=task.length, weights="float32", speculation=None)
    prompts = [prompt_ids(checkpoint, row.prompt) for row in rows]
    groups = roll_out(engine, prompts, draws, SamplingParameters(task.completion, temperature=1.0), key)
    items, rule = [item for item in items_of(rows) for _ in range(draws)], verifier(rows[0].verifier)
    values = rule.measure(items, [Response(rollout.text) for group in groups for rollout in group])
    return groups, np.array([item_value(rule, value) for value in values], float).reshape(len(rows), draws)


def measure(policy: Checkpoint, first: Checkpoint, task: Task) -> dict[str, float]:
    groups, rewards = sample(policy, task, task.test, DRAWS, "test")
    said = join_groups([TokenGroup([one.ids for one in group], [one.sampled for one in group]) for group in groups])
    own, reference = (reference_sums(one.model, said) for one in (policy, first))  # (completions,): sums of ln p
    passed = (rewards > 1 - 1e-9).sum(1).tolist()
    assert said.learned is not None
    return {
        **{f"pass@{k}": float(np.mean([unbiased_pass_at_k(DRAWS, one, k) for one in passed])) for k in (1, 8)},
        "reward": float(rewards.mean()),
        "kl": float((own - reference).mean()),
        "entropy": -float(own.sum() / said.learned.sum()),
    }


# ---------------------------------------------------------------------------------------------------------------------
# Methods


def learn(method: str, folder: Path, task: Task, seed: int) -> Checkpoint:
    """The policy that a method makes of the first model, which "sft" makes."""
    match method:
        case "sft":
            return learn_first(folder, task, seed)
        case "ppo" | "grpo":
            rows = [{"prompt": row.prompt, "answer": row.answer, "verifier": row.verifier} for row in task.train]
            return staged("align.online", method, folder, rows, seed, task)
    groups = [(prompt, texts, np.array(rewards)) for prompt, texts, rewards in samples_of(folder, task)]
    groups = [group for group in groups if group[2].max() > group[2].min()]
    best = [(prompt, texts[int(rewards.argmax())]) for prompt, texts, rewards in groups]
    worst = [texts[int(rewards.argmin())] for _, texts, rewards in groups]
    match method:
        case "best-of-n":
            first = lmworks.load(folder / "sft")
            rate = 3e-5 if task.model else 3e-4
            return fine_tune(first, best, max(3 * len(best) // task.rows, 1), rate, seed, folder / ".best-of-n", task)
        case "dpo":
            pairs = zip(best, worst, strict=True)
            rows = [{"prompt": one[0], "chosen": one[1], "rejected": bad} for one, bad in pairs if one[1] and bad]
            return staged("align.offline", method, folder, rows, seed, task)
        case _:
            rows = [
                {"prompt": prompt, "completion": text, "label": bool(reward > rewards.mean())}
                for prompt, texts, rewards in groups
                for text, reward in zip(texts, rewards, strict=True)
                if text
            ]
            good = sum(row["label"] for row in rows)
            weight = f"algorithm.desirable={4 * (len(rows) - good) / good:.4f}"  # the good weigh four times the others
            return staged("align.offline", method, folder, rows, seed, task, weight)


def learn_first(folder: Path, task: Task, seed: int) -> Checkpoint:
    """Fine-tuned a part at a time; one that learned too much is taken back, and half as long a one follows."""
    checkpoint, solved, part = first_model(task, seed), 0.0, 0
    steps, rate = (16, 5e-5) if task.model else (100, 2e-3)
    while not 0.2 <= solved <= 0.6:
        before, part = copy.deepcopy(checkpoint.model.state_dict()), part + 1
        work = folder / f".sft-{part}"
        checkpoint = fine_tune(checkpoint, task.demonstrations, steps, rate, 1000 * seed + part, work, task)
        shutil.rmtree(work)
        solved = float((sample(checkpoint, task, task.test[:100], 4, "sft")[1] > 1 - 1e-9).mean())
        print(f"{folder.name}: pass@1 {solved:.3f} after part {part}, {steps} steps", flush=True)
        if solved > 0.6:
            checkpoint.model.load_state_dict(before)
            steps //= 2
        assert part < 100 and steps, f"fine-tuning did not come to pass@1 0.2 to 0.6: {solved}"
    checkpoint.save(folder / "sft")
    return checkpoint


def samples_of(folder: Path, task: Task) -> list[tuple[str, list[str], list[float]]]:
    """(prompt, completions, rewards) of the first model, kept for the methods that learn from them."""
    if not (kept := folder / "samples.json").exists():
        rows = [task.train[number % len(task.train)] for number in range(task.samples // GROUP)]
        groups, rewards = sample(lmworks.load(folder / "sft"), task, rows, GROUP, "train")
        texts = [[rollout.text for rollout in group] for group in groups]
        kept.write_text(json.dumps([*zip([str(row.prompt) for row in rows], texts, rewards.tolist(), strict=True)]))
    return json.loads(kept.read_text())


def staged(
    stage: str, method: str, folder: Path, rows: Sequence[Mapping[str, Any]], seed: int, task: Task, *more: str
) -> Checkpoint:
    """The checkpoint that a stage makes."""
    path = folder / f"{method}.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    common = [f"base={folder / 'sft'}", f"rows={json.dumps([str(path)])}", f"seed={seed}", "train.validate=null"]
    if not (made := folder / f"made-{method}").exists():
        run_alone(stage, made, [], [], [*common, *settings_of(method, task), *more])
    return lmworks.load(made)


# ---------------------------------------------------------------------------------------------------------------------


def run_cells(out: Path, name: str, seed: int, methods: Sequence[str]) -> None:
    """The cells of a task and a seed that are missing."""
    if library.load() is not None:
        library.set_threads(1)
    folder, task = out / f"{name}-{seed}", make_task(name, seed, TEST)
    folder.mkdir(parents=True, exist_ok=True)
    for method in methods:
        if (cell := folder / f"{method}.json").exists():
            continue
        began = time.perf_counter()
        policy = learn(method, folder, task, seed)
        row = {"task": name, "seed": seed, "method": method, "samples": 0 if method == "sft" else task.samples}
        row |= {"seconds": time.perf_counter() - began, **measure(policy, lmworks.load(folder / "sft"), task)}
        cell.write_text(json.dumps(row))
        print(json.dumps(row), flush=True)


def print_table(out: Path) -> None:
    """Means of the seeds, with the lowest and the highest."""
    rows = [json.loads(path.read_text()) for path in sorted(out.glob("*-*/*.json")) if path.stem in METHODS]
    (out / "cells.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    columns = ("pass@1", "pass@8", "reward", "kl", "entropy", "samples", "seconds")
    print(f"| task | method | seeds | {' | '.join(columns)} |\n|{'---|' * (len(columns) + 3)}")
    for task, method in dict.fromkeys((task, method) for task in TASKS for method in METHODS):
        if found := [row for row in rows if (row["task"], row["method"]) == (task, method)]:
            values = [[row[column] for row in found] for column in columns]
            shown = [f"{np.mean(each):.3f} [{min(each):.3f}, {max(each):.3f}]" for each in values[:5]]
            shown += [f"{np.mean(each):.0f}" for each in values[5:]]
            print(f"| {task} | {method} | {len(found)} | {' | '.join(shown)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=lambda text: Path(text).absolute())
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2, help="processes of one thread")
    parser.add_argument("--only", nargs="+", default=list(TASKS), metavar="TASK[/METHOD]")
    options = parser.parse_args()
    wanted: dict[str, set[str]] = {}
    for task, _, method in (each.partition("/") for each in options.only):
        unnamed = ("dpo", "grpo") if task == "format" else METHODS
        wanted.setdefault(task, {"sft"}).update([method] if method else unnamed)
        make_task(task, options.first_seed, TEST)  # what it needs is missing now, or not at all
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    cells = [
        (task, seed, [one for one in METHODS if one in wanted[task]])
        for seed in seeds
        for task in wanted
        if task != "format" or seed == options.first_seed
    ]
    with ProcessPoolExecutor(options.workers, get_context("spawn")) as pool:
        for cell in [pool.submit(run_cells, options.out, *each) for each in cells]:
            cell.result()
    print_table(options.out)


if __name__ == "__main__":
    main()
