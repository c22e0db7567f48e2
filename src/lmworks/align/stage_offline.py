"""The stage `align.offline`: a model and rows that rate, rank or label completions into a better policy, or into a
reward model."""

import copy
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lmworks.adapt.config import FullConfig
from lmworks.adapt.task_head import with_head
from lmworks.align.config import AlignConfig, DPOConfig, KTOConfig, OfflineConfig, RewardConfig
from lmworks.align.dpo import REFERENCE, Pairs
from lmworks.align.early_stopping import EarlyStopping
from lmworks.align.kto import KTO, KTOLoader, WithBaseline, with_mismatched
from lmworks.align.log_probabilities import check_start, reference_sums
from lmworks.align.policy_evaluation import suite_section
from lmworks.align.reward_model import KINDS, Reward
from lmworks.align.reward_report import held_out_section, reward_section
from lmworks.artefact import StageContext, StageResult, hash_json, new_file
from lmworks.config import from_mapping, to_mapping
from lmworks.data.config import GroupLoaderConfig
from lmworks.data.conversations import conversation_files
from lmworks.data.group_loader import GroupLoader
from lmworks.data.row_formats import formats_read
from lmworks.data.shuffle import Permutation
from lmworks.data.token_groups import TokenGroups
from lmworks.data.training_rows import (
    KINDS_OF_ROWS,
    PreferenceRow,
    group_completions,
    read_preference_rows,
    split_rows,
)
from lmworks.evaluate.suite_comparison import run_suites
from lmworks.model.checkpoint import Checkpoint
from lmworks.model.config import ScoreHead
from lmworks.progress import no_report
from lmworks.records import LabelledCompletion, Preference, Rated, RejectedRecord, Stepwise, Verifiable
from lmworks.tokenizer.chat_templates import chat_template, check_roles, missing_tokens
from lmworks.train.fit import Report, adapts, fit, new_run
from lmworks.train.held_out import samples_of, validation_of
from lmworks.train.mixed_precision import DTYPES
from lmworks.train.objectives.objective import Objective
from lmworks.train.optimizer_config import AdamW, peak_rate
from lmworks.train.parallel.ranks import Ranks, device_of_rank, join
from lmworks.train.run import Run
from lmworks.train.run_log import LOG
from lmworks.train.run_report import doubt_of_steps, run_section
from lmworks.train.settings import (
    Reasons,
    batch_and_steps,
    for_steps,
    kept_settings,
    measured_steps,
    rows_together,
    speed_reason,
    with_rank,
    within_minutes,
)
from lmworks.train.train_stages import find_base, load_base

SHOWN = 3  # held-out prompts that the policy answers before and after
HELD_OUT = 200  # prompts at most
METHODS: dict[type, str] = {  # that learn from rows of a type
    Preference: "dpo, simpo, orpo or reward",
    LabelledCompletion: "kto or reward",
    Rated: "reward, grpo or ppo",
    Stepwise: "reward",
    Verifiable: "grpo, ppo or online_dpo",
}
_ROWS = {"kto": (LabelledCompletion,), "reward": tuple(KINDS)}  # of the others: preferences

EPOCHS = 1.0  # unless asked for more: rows that are seen again are soon known by heart
BATCH, STEPS = 16, 50  # at most, and steps that there are to be
# Of AdamW at its highest. A policy's are a tenth of what fine-tuning takes, or it leaves its reference within steps; a
# new head has nothing to leave.
RATES = {"lora": 5e-5, "full": 1e-6}
REWARD_RATES = {"lora": 2e-4, "full": 1e-5}
_KTO_BATCH = 8  # rows at least, of which a baseline is the mean
_USED = 0.75  # of the minutes: the rest is loading, validation and the machine's own pace
_FORWARD = 1 / 3  # of the time of a step


def objective_of(config: OfflineConfig, row: type[PreferenceRow]) -> Objective[Any]:
    """The method's objective for rows of this type."""
    match config.algorithm:
        case KTOConfig() as algorithm:
            return KTO(algorithm)
        case RewardConfig() as algorithm:
            return Reward(KINDS[row], algorithm)
        case algorithm:
            return Pairs(algorithm)


def offline(config: OfflineConfig, context: StageContext) -> StageResult:
    """The checkpoint of the one input, or `config.base`, learns from rows. The errors are those of `read_rows` and
    `suite.evaluate`, and ValueError where nothing is left to learn from, or the policy does not begin as its
    reference."""
    formats = Counter[str]()
    rows = read_rows(config, context.base, formats)
    learned_rows, held_out = split_rows(rows, config.held_out, lambda row: row.prompt, 2, HELD_OUT)
    objective, referenced = objective_of(config, type(rows[0])), isinstance(config.algorithm, DPOConfig | KTOConfig)
    checkpoint, left_out = load_aligned(config, context), list[RejectedRecord]()
    length = min(config.length, checkpoint.config.context_length)
    groups = group_rows(objective, learned_rows, checkpoint, length, left_out)
    learned, there = 0 if groups.learned is None else int(groups.learned.sum()), len(groups)
    ranks, config = join(config.train.parallel), replace(config, method=with_rank(config.method, checkpoint, learned))
    if config.suites and ranks.first:
        run_suites(config, context, find_base(config.base, context), "before")

    def run_on(shown: TokenGroups, config: OfflineConfig, base: Checkpoint, folder: Path | None = None) -> Run:
        kind = KTOLoader if isinstance(objective, KTO) else GroupLoader
        numbers = GroupLoaderConfig(length, config.batch or 1, config.steps, config.seed)
        loader = kind(numbers, shown, *ranks.rows)
        adapt = adapts(config.method, config.seed, head=isinstance(objective, Reward))
        run = new_run(context, base, objective, loader, config.train, adapt, ranks, compares=True, folder=folder)
        run.early_stopping = EarlyStopping(config.early_stopping)
        if isinstance(loader, KTOLoader):
            loader.policy, loader.ranks, loader.micro_batch = run.model, ranks, config.train.micro_batch
        return run

    def trial(together: int, folder: Path) -> Run:
        shown = replace(groups, columns={**groups.columns, REFERENCE: np.zeros(len(groups.ends), np.float32)})
        short = replace(config, steps=3, epochs=None, batch=min(max(together, 2), there))
        return run_on(shown, short, load_aligned(config, context), folder)  # on weights of its own, which change

    def seconds(together: int) -> float:
        return min(taken / max(tokens, 1) for taken, tokens in measured_steps(partial(trial, together)))

    def derived() -> Any:
        return to_mapping(derive_offline(config, groups, referenced, seconds))

    more = "more steps" if config.steps else "more rows, more epochs (and minutes)"
    settings, reasons = kept_settings(context, ranks, derived)
    config = from_mapping(OfflineConfig, settings)
    assert config.steps and config.batch
    remedies = more if config.batch == 1 else f"{more} or a smaller batch"
    seen, first = min(config.steps * config.batch, there), None
    apart = 2 if isinstance(objective, KTO) else 1  # it reads the two completions of a row apart
    if referenced:
        order = Permutation(there, f"{config.seed} 0 pairs")(np.arange(seen))  # of `GroupLoader`
        batches, size = np.split(order, range(config.batch, seen, config.batch)), config.train.micro_batch or 1
        shares = range(1, ranks.config.data)  # of a batch, as `GroupLoader` divides it
        shares_of = [p for b in batches for p in np.split(b, [len(b) * n // ranks.config.data for n in shares])]
        pieces = [
            piece for share in shares_of if len(share) for piece in np.split(share, range(size, len(share), size))
        ]
        groups = with_reference(groups, checkpoint, config, context, ranks, pieces, apart)
        first = groups.batch(order[:4])
    run = run_on(groups, config, checkpoint)
    if first is not None and not run.checkpoints.steps():
        check_start(run.model, first, REFERENCE)
    shown = None
    if held_out:
        shown = group_rows(objective, held_out, checkpoint, length, left_out)
        alone = np.split(np.arange(len(shown)), len(shown))  # as they are validated
        shown = with_reference(shown, checkpoint, config, context, ranks, alone, apart) if referenced else shown
        batches = shown.batches(1)
        batches = WithBaseline(run.model, batches) if isinstance(objective, KTO) else batches
        run.validate = validation_of(run, batches, {"data": shown.digest}, objective, 1)
        if not isinstance(objective, Reward) and config.train.parallel.generates:
            asked = shown.batch(range(min(len(shown), 4 * SHOWN)))
            pairs = zip(asked.ids[:, 0].tolist(), asked.completion_mask[:, 0].tolist(), strict=True)
            beginnings = dict.fromkeys(tuple(ids[: learned.index(True)]) for ids, learned in pairs)
            run.sample = samples_of(run, list(beginnings)[:SHOWN])
    prompts, bounds = len({hash_json(row.prompt) for row in held_out}), f"at least 2 and at most {HELD_OUT}"
    reasons = (
        ("rows", f"{there:,}", "; ".join(["to learn from", *formats_read(formats)])),
        ("held out", f"{len(held_out):,}", f"rows of {prompts} prompts, held_out={config.held_out:g}: {bounds}"),
        ("left out", f"{len(left_out)}", "rows of which nothing is left to learn"),
        ("cut", f"{groups.cut}", f"of more than {length:,} tokens, which lost their ends"),
        *map(tuple, reasons),
    )
    doubts, alarms = doubt_of_steps(config.steps, f"{seen} rows", remedies), ()
    if 10 * len(left_out) > len(rows):
        lost = f"{len(left_out):,} of {len(rows):,} rows are left out"
        alarms = (f"{lost}, as a completion begins behind length={length:,} tokens, or is empty: raise length",)

    def report() -> Report:
        counts = {"rows": seen, "held_out": len(held_out), "left_out": len(left_out), "cut": groups.cut}
        yield run_section(reasons, doubts, alarms), counts
        if shown is not None and isinstance(objective, Reward):
            yield reward_section(run.model, objective, groups, shown)
        elif shown is not None:
            yield held_out_section(context.output / LOG, f"{len(shown):,} rows")
        if config.suites:
            yield suite_section(config, context, find_base(config.base, context))

    return fit(run, context, config.method, report=report())


def derive_offline(
    config: OfflineConfig, groups: TokenGroups, referenced: bool, seconds: Callable[[int], float]
) -> tuple[OfflineConfig, Reasons]:
    """The config with the settings that it leaves out: steps, batch, rate, warm-up, how often to look.

    referenced  Whether a reference reads each row that is seen, before the first step.
    seconds     Rows of a forward → of a real step, for each token; asked where minutes decide.
    """
    tokens = np.add.reduceat(groups.lengths, groups.first[:-1])  # (rows,): of all sequences of each
    rows, mean, why = len(groups), float(tokens.mean()), "as set" if config.epochs else "unless set"
    together, epochs = config.train.micro_batch or rows_together(tokens), config.epochs or EPOCHS
    reasons: list[tuple[str, str, str]] = []
    if config.minutes is not None and config.steps is None:
        seconds_each = seconds(together)
        reasons.append(speed_reason(1 / seconds_each))
        epochs, why = within_minutes(
            config.minutes, epochs, why, seconds_each * mean * rows, _USED, referenced * _FORWARD
        )
    least = max(_KTO_BATCH if isinstance(config.algorithm, KTOConfig) else 1, config.train.parallel.data)
    enough = config.steps or STEPS
    batch, steps = batch_and_steps(rows, epochs, config.batch, config.steps, enough, BATCH, least)
    rates = REWARD_RATES if isinstance(config.algorithm, RewardConfig) else RATES
    default_rate = isinstance(config.train.optimizer, AdamW) and config.train.optimizer.rate is None
    rate = config.rate or (rates[config.method.kind] if default_rate else peak_rate(config.train.optimizer))
    often = config.train.validate
    train = for_steps(config.train, steps, rate, often and (steps if config.minutes is not None else min(often, steps)))
    train = replace(train, micro_batch=min(together, batch))
    reasons += [
        ("rows seen", f"{min(steps * batch, rows):,} of {rows:,}", f"of {mean:,.0f} tokens on average"),
        ("epochs", f"{steps * batch / rows:.3g}", "of these steps" if config.steps else why),
        ("batch", f"{batch:,}", "as set" if config.batch == batch else f"at most {BATCH}, to have {enough} steps"),
        ("steps", f"{steps:,}", "as set" if config.steps else "epochs times rows, by the batch"),
        ("rate", f"{rate:g}", f"at its highest, of {config.train.optimizer.kind}"),
    ]
    return replace(config, steps=steps, epochs=None, batch=batch, rate=rate, train=train), tuple(reasons)


def read_rows(config: OfflineConfig, base: Path, formats: Counter[str] | None = None) -> list[Any]:
    """The rows that the algorithm learns from. `formats` and ValueError as `read_preference_rows`, which is raised
    for rows of several types, for none, and for labels or ratings that are all one."""
    files, kind = conversation_files(config.rows, base, rows="rows"), config.algorithm.kind
    rows = read_preference_rows(files, _ROWS.get(kind, (Preference,)), METHODS, formats)
    types = {KINDS_OF_ROWS[type(row)] for row in rows}
    if len(types) != 1:
        mixed = f"both {' and '.join(sorted(types))}" if types else "no row"
        remedy = "name files with rows of one type by `--data`, the setting rows"
        raise ValueError(f"there is {mixed} in {', '.join(config.rows)}: {remedy}")
    column = {LabelledCompletion: "label", Rated: "rating", Stepwise: "labels"}.get(type(rows[0]))  # of a pair none
    if column and len({verdict for row in rows for verdict in np.atleast_1d(getattr(row, column)).tolist()}) == 1:
        what = "one rating" if isinstance(rows[0], Rated) else "one label"
        raise ValueError(f"all {len(rows):,} rows have {what}: {kind} learns from what differs, add rows of the others")
    return rows


def load_policy(config: AlignConfig, context: StageContext) -> Checkpoint:
    """The checkpoint that learns, which is its own reference, with the chat template of `config.family` if one is set.
    ValueError for a base without a chat template."""
    full = isinstance(config.method, FullConfig)
    checkpoint = load_base(config.base, context, torch.float32 if full else DTYPES[config.train.precision])
    if family := config.family:
        check_roles(family, checkpoint.required_tokenizer)
        if missing := missing_tokens(family, checkpoint.required_tokenizer):
            raise ValueError(f"family={family}: the vocabulary has no {', '.join(missing)}: choose another one")
        checkpoint = replace(checkpoint, chat_template=chat_template(family))
    elif checkpoint.chat_template is None:
        raise ValueError(
            f"{checkpoint.source} has no chat template, which says where a completion begins: give a family, such as "
            "--set family=chatml, or fine-tune it on conversations first"
        )
    return checkpoint


def load_aligned(config: OfflineConfig, context: StageContext) -> Checkpoint:
    """The same; of a reward model, with a new head."""
    checkpoint = load_policy(config, context)
    return with_head(checkpoint, ScoreHead(), config.seed) if config.algorithm.kind == "reward" else checkpoint


def group_rows(
    objective: Objective[Any], rows: Sequence[Any], checkpoint: Checkpoint, length: int, left_out: list[RejectedRecord]
) -> TokenGroups:
    """The rows as the objective takes them."""
    groups = group_completions(rows, checkpoint.chat, length, left_out)
    return with_mismatched(groups, length) if isinstance(objective, KTO) else groups


def with_reference(
    groups: TokenGroups,
    checkpoint: Checkpoint,
    config: OfflineConfig,
    context: StageContext,
    ranks: Ranks,
    together: Sequence[NDArray[np.int64]],
    apart: int,
) -> TokenGroups:
    """The groups with the column `reference`, computed before the first step and kept in the work folder: through a new
    adapter, where there is one, which changes nothing. That is the policy's own arithmetic, and ratios begin with 1."""
    path = context.work / f"reference-{groups.digest[:16]}.npy"
    if ranks.any(not path.exists()):
        dtype, device = DTYPES[config.train.precision], device_of_rank()
        model = (adapts(config.method, config.seed) or copy.deepcopy)(checkpoint.model).to(device, dtype)
        progress = context.progress if ranks.first else no_report
        sums = reference_sums(model, groups, device, progress, together, ranks, apart)
        if ranks.first:
            with new_file(path) as private, private.open("wb") as stream:
                np.save(stream, sums)
        ranks.wait()
    return replace(groups, columns={**groups.columns, REFERENCE: np.load(path)})
