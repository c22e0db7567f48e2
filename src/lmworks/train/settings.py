"""Numbers that a config leaves out, each with its reason: steps from rows, epochs or minutes, the batch, what fits into
the memory. The first functions are of all stages that train on rows, `derive_finetune` is of fine-tuning."""

import json
import math
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lmworks.adapt.adapter import add_adapter
from lmworks.adapt.config import FullConfig, LoraConfig, Method
from lmworks.artefact import StageContext, write_json
from lmworks.compiled import free_memory
from lmworks.data.loader import Loader
from lmworks.model.checkpoint import Checkpoint
from lmworks.model.quantised_linear import packed_bytes
from lmworks.model.transformer import Transformer
from lmworks.train.config import FinetuneConfig, TrainConfig
from lmworks.train.loop import step
from lmworks.train.optimizer_config import AdamW, peak_rate
from lmworks.train.parallel.ranks import Ranks, device_of_rank
from lmworks.train.planning.layout import NUMBERS, Layout
from lmworks.train.planning.memory import adapter_memory, expected_memory
from lmworks.train.planning.units import readable_bytes, short
from lmworks.train.run import Run

EPOCHS = 3.0  # at most, unless asked: what is seen more often is learned by heart
LENGTH, LONGEST = 512, 2048  # tokens of a sequence: at least, and at most where rows are longer
STEPS = 100  # at least, where there are as many sequences: the batch is divided for them
BATCH = 32  # sequences at most: LoRA learns less from larger ones (Schulman et al. 2025, "LoRA without regret")
TOGETHER = {"cpu": 2048, "cuda": 16384}  # tokens in a forward: more are no faster
WARMUP = 0.05  # of the steps
# Schulman et al. 2025: 5e-5 · (2000 / width)^0.781 for all weights of a Llama, ten times as much for LoRA of alpha 32.
# The others' factors are those of their papers, relative to it.
_FACTORS = {"full": 1.0, "lora": 10.0, "bottleneck": 10.0, "ia3": 50.0, "prefix": 100.0}
_ALPHA = 32.0
HIGHEST_RATE = 5e-4  # of all weights: the rule was fitted to models of a width of 2000 to 8000
_MARGIN = 1.15  # measured peaks on SmolLM2-135M are up to 14 % above the sum
_PROCESS = 140 * 2.0**20  # bytes of Python, PyTorch and what they allocate besides, measured on a CPU
_LOOKS, _POINTS = 5, 50  # validations of a run, and points of its curve, at least
USED = 0.85  # of the minutes: the rest is loading, validation and the machine's own pace
_DERIVED = "derived.json"

Reasons = tuple[tuple[str, str, str], ...]  # (what, value, why)


# ---------------------------------------------------------------------------------------------------------------------
# Of all stages


def kept_settings(context: StageContext, ranks: Ranks, make: Callable[[], Any]) -> Any:
    """Settings that `make` derives, as JSON in the work folder, where every rank and a resumed run read them."""
    path = context.work / _DERIVED
    if ranks.first and not path.exists():
        write_json(path, make())
    ranks.wait()
    return json.loads(path.read_text("utf-8"))


def measured_steps(make: Callable[[Path], Run], steps: int = 3) -> list[tuple[float, int]]:
    """Seconds and tokens of the first steps of a run that `make` gives for a folder; the first is a warm-up, and not
    among them. Neither the run nor the folder is of use afterwards."""
    taken = []
    with tempfile.TemporaryDirectory() as folder:
        run = make(Path(folder))
        try:
            for number in range(steps):
                began = time.perf_counter()
                done = step(run)
                if run.device != torch.device("cpu"):
                    torch.cuda.synchronize()
                taken.append((time.perf_counter() - began, done.tokens if done else 0))
                run.progress(number + 1, steps, "steps to measure this machine")
        finally:
            run.checkpoints.close()
            if isinstance(run.loader, Loader):
                run.loader.close()
    return taken[1:]


def speed_reason(tokens_per_second: float) -> tuple[str, str, str]:
    return "speed", f"{tokens_per_second:,.0f} tokens/s", "measured with some steps of this run"


def within_minutes(
    minutes: float, epochs: float, why: str, seconds: float, used: float = USED, before: float = 0.0
) -> tuple[float, str]:
    """The epochs, of `seconds` each, or fewer that take a share `used` of the minutes, and why. `before` the first step
    each row that is seen takes this share of its time in an epoch."""
    affordable = used * 60 * minutes / seconds
    affordable = max(affordable - before, affordable / (1 + before))
    return (affordable, f"so many fit into {minutes:g} minutes") if affordable < epochs else (epochs, why)


def batch_and_steps(
    rows: int, epochs: float, batch: int | None, steps: int | None = None, goal: int = 1, most: int = 1, least: int = 1
) -> tuple[int, int]:
    """Rows in a step, and steps, where they are not set: a batch of `least` to `most` rows, so few that there are
    `goal` steps where there are the rows for them."""
    batch = min(batch or max(min(int(epochs * rows / goal), most), least), rows)
    return batch, steps or max(round(epochs * rows / batch), 1)


def at_rate(config: TrainConfig, rate: float | None) -> TrainConfig:
    """The config with this peak learning rate, if one is given; Muon's `rest` has it too, unless it has its own."""
    return config if rate is None else replace(config, optimizer=replace(config.optimizer, rate=rate))


def for_steps(config: TrainConfig, steps: int, rate: float, validate: int | None) -> TrainConfig:
    """The config for so many steps: at this rate, with a warm-up unless it has one, enough lines of the log for a
    curve, and a validation after each `validate` steps."""
    warmup = math.ceil(WARMUP * steps) if config.schedule.warmup is None else config.schedule.warmup
    return replace(
        at_rate(config, rate),
        schedule=replace(config.schedule, warmup=warmup),
        log=min(config.log, max(steps // _POINTS, 1)),
        validate=validate,
    )


def rows_together(tokens: NDArray[np.int64]) -> int:
    """Rows in a forward, by the tokens of each: with more it is no faster."""
    return max(int(TOGETHER.get(device_of_rank().type, 2048) // np.quantile(tokens, 0.95)), 1)


# ---------------------------------------------------------------------------------------------------------------------
# Of fine-tuning


def derive_finetune(
    config: FinetuneConfig,
    checkpoint: Checkpoint,
    lengths: NDArray[np.int64],
    learned: int,
    count: Callable[[int], int],
    seconds: Callable[[FinetuneConfig], float],
    longest: int = 0,
) -> tuple[FinetuneConfig, Reasons]:
    """The config with the settings that it leaves out: rank, length, batch, steps, rate, warm-up, how often to look.

    lengths  (rows,): tokens of each row, of which `learned` of all rows are to be learned.
    count    length → sequences that the rows are packed in.
    seconds  config with length and `train.micro_batch` → of a real step, for each sequence; asked where minutes decide.
    longest  Tokens of the longest row of those that may not be cut, as conversations; 0: none.

    ValueError for a run that takes more memory than is free.
    """
    length, why_length = _length(config, checkpoint.config.context_length, lengths, longest, count)
    sequences, device = count(length), device_of_rank()
    method = with_rank(config.method, checkpoint, learned)
    trained = trained_parameters(checkpoint, method)
    # Schulman et al. 2025: a parameter holds two bits (Allen-Zhu & Li 2024), a token says about one.
    enough = "enough" if 2 * trained >= learned else "too few"
    of_what = f"rank {method.r}" if isinstance(method, LoraConfig) else method.kind
    reasons = [
        ("length", f"{length:,}", why_length),
        ("sequences", f"{sequences:,}", f"in which {len(lengths):,} texts are packed"),
        ("to learn", f"{short(learned)} tokens", "of these texts"),
        (
            "trained",
            short(trained),
            f"parameters of {of_what}: room for {short(2 * trained)} bits, {enough} for a bit a token",
        ),
    ]
    micro = config.train.micro_batch or max(TOGETHER.get(device.type, 2048) // length, 1)
    # Not more than there are, or all epochs would be one step.
    fitting = max(min(int((config.epochs or EPOCHS) * sequences / STEPS), BATCH), 1)
    micro = min(micro, config.batch or fitting, sequences)
    config = replace(config, method=method, length=length, train=replace(config.train, micro_batch=micro))
    parts, free = memory_parts(config, checkpoint, trained), free_memory(device)
    if device.type == "cpu":
        free += _held(checkpoint.model)
    memory = sum(parts.values())
    why_memory = ", ".join(f"{name} {readable_bytes(size)}" for name, size in parts.items())
    why_memory += f"; {readable_bytes(free)} are free, with what the model holds already"
    if _MARGIN * memory > free:
        raise ValueError(
            f"the run takes {readable_bytes(memory)} of memory ({why_memory}): set a shorter length than {length}, "
            'train.micro_batch=1, train.recompute="blocks", or a method that trains less'
        )
    epochs, why_epochs = config.epochs or EPOCHS, "as set" if config.epochs else "after more, rows are known by heart"
    if config.minutes is not None and config.epochs is None and config.steps is None:
        seconds_each = seconds(config)
        reasons.append(speed_reason(length / seconds_each))
        epochs, why_epochs = within_minutes(config.minutes, epochs, why_epochs, seconds_each * sequences)
    batch, steps = batch_and_steps(sequences, epochs, config.batch, config.steps, STEPS, BATCH)
    why_batch = f"at most {BATCH}, so that there are {STEPS} steps where there is enough to learn"
    if config.batch:
        why_batch = "as set" if batch == config.batch else f"all there are, fewer than the {config.batch} set"
    if config.steps:
        epochs, why_epochs = steps * batch / sequences, "of these steps"
    rate, why_rate = _rate(config, checkpoint.config.embedding.width)
    often = config.train.validate
    train = for_steps(config.train, steps, rate, often and min(often, max(steps // _LOOKS, 1)))
    warmup = train.schedule.warmup
    why_warmup = f"{WARMUP:.0%} of the steps" if config.train.schedule.warmup is None else "the schedule's, as set"
    reasons += [
        ("epochs", f"{epochs:.3g}", why_epochs),
        ("batch", f"{batch:,}", why_batch),
        ("steps", f"{steps:,}", "as set" if config.steps else f"{epochs:.3g} times all sequences"),
        ("rate", f"{rate:.2g}", why_rate),
        ("warm-up", f"{warmup:,} {'step' if warmup == 1 else 'steps'}", why_warmup),
        ("memory", readable_bytes(memory), why_memory),
    ]
    return replace(config, batch=batch, steps=steps, epochs=None, rate=rate, train=train), tuple(reasons)


def _length(
    config: FinetuneConfig, context: int, lengths: NDArray[np.int64], longest: int, count: Callable[[int], int]
) -> tuple[int, str]:
    """Tokens in a sequence, and why."""
    length, why = config.length, "as set"
    if length is None:
        most = longest or int(np.quantile(lengths, 0.95))
        length, why = LENGTH, "short rows share a sequence"
        least = -(-(longest or int(lengths.max())) // 64) * 64
        if least < LENGTH and (config.epochs or EPOCHS) * count(LENGTH) < STEPS:
            length, why = least, f"holds the longest row; {LENGTH} would give fewer than {STEPS} steps"
        if most > LENGTH and longest:
            length, why = -(-most // 256) * 256, "holds the longest conversation"
        elif most > LENGTH:
            length, why = min(-(-most // 256) * 256, LONGEST), f"holds 95 % of the rows, at most {LONGEST:,}"
    if length > context:
        length, why = context, f"the model's context; {length:,} was {'set' if config.length else 'wanted'}"
    cut = int((lengths > length + 1).sum())
    return length, f"{why}; {cut:,} of {len(lengths):,} texts are longer, and learned in pieces" if cut else why


def _rate(config: FinetuneConfig, width: int) -> tuple[float, str]:
    """The peak learning rate, and why."""
    optimizer, method = config.train.optimizer, config.method
    if config.rate is not None:
        return config.rate, "as set"
    if not isinstance(optimizer, AdamW) or optimizer.rate is not None:
        return peak_rate(optimizer), f"at its highest, of {optimizer.kind}"
    factor = _FACTORS[method.kind]
    source = f"5e-5 · (2000 / {width})^0.781, at most {HIGHEST_RATE:g}, for all weights (Schulman et al. 2025)"
    if isinstance(method, LoraConfig):
        factor *= _ALPHA / method.lora_alpha
        source += f", 10 times that for LoRA of alpha 32; alpha is {method.lora_alpha:g} here"
    elif factor > 1:
        source += f", {factor:g} times that for {method.kind}"
    return factor * min(5e-5 * (2000 / width) ** 0.781, HIGHEST_RATE), source


def with_rank(method: Method, checkpoint: Checkpoint, learned: int) -> Method:
    """The method; LoRA without a rank has the smallest power of two from 8 to 64 that holds the tokens to learn."""
    if not isinstance(method, LoraConfig) or method.r is not None:
        return method
    of_rank_1 = trained_parameters(checkpoint, replace(method, r=1))
    rank = next((rank for rank in (8, 16, 32) if 2 * rank * of_rank_1 >= learned), 64)
    return replace(method, r=rank)


def trained_parameters(checkpoint: Checkpoint, method: Method) -> int:
    """How many weights the method trains."""
    model = checkpoint.model if method == FullConfig() else add_adapter(checkpoint.model, method)
    return sum(weight.numel() for weight in model.parameters() if weight.requires_grad)


def memory_parts(config: FinetuneConfig, checkpoint: Checkpoint, trained: int) -> dict[str, float]:
    """Bytes at the peak of a step by what they are for, of a config with length and `train.micro_batch`."""
    numbers = NUMBERS["float32" if config.train.precision == "float32" else "mixed"]
    length, together = config.length or LENGTH, config.train.micro_batch or 1
    layout = Layout(sequences=together, length=length, recompute=config.train.recompute)
    norms = "composed" if device_of_rank().type == "cpu" else "fused"
    if isinstance(config.method, FullConfig):
        sizes = expected_memory(checkpoint.config, layout, numbers, norms=norms).parts
    else:
        # As they are used; merging needs them in float32 besides.
        weights = _held(checkpoint.model) * (1.5 if config.merge and numbers.master else 1.0)
        sizes = adapter_memory(checkpoint.config, layout, weights, trained, numbers, norms)
    groups: dict[str, float] = {"process": _PROCESS}
    for name, size in sizes.items():
        group = "activations" if name.startswith(("activations", "working")) else name.replace("loss", "logits")
        groups[group] = groups.get(group, 0.0) + size
    return groups


def _held(model: Transformer) -> int:
    """Bytes of its weights."""
    return sum(weight.nbytes for weight in model.parameters()) + packed_bytes(model)
