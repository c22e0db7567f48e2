"""The stage `align.offline`: a model and rows of preferences into a better policy."""

import copy
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lmworks.adapt.adapted_checkpoint import load
from lmworks.adapt.config import FullConfig
from lmworks.align.config import OfflineConfig, OnlineConfig
from lmworks.align.dpo import DPO, REFERENCE
from lmworks.align.log_probabilities import reference_sums
from lmworks.artefact import StageContext, StageResult, hash_file, hash_json
from lmworks.data.completion_groups import group_completions
from lmworks.data.config import GroupLoaderConfig
from lmworks.data.conversations import conversation_files
from lmworks.data.group_loader import GroupLoader
from lmworks.data.preference_rows import PreferenceRow, read_preference_rows
from lmworks.data.token_groups import TokenGroups
from lmworks.model.checkpoint import Checkpoint
from lmworks.model.download import MODELS, digest_of_model, located
from lmworks.records import LeftOut, Preference
from lmworks.report import Section, Table
from lmworks.statistics import sign
from lmworks.train.config import FinetuneConfig
from lmworks.train.dial import at_rate
from lmworks.train.finetune_settings import adapts, with_rank
from lmworks.train.mixed_precision import DTYPES
from lmworks.train.parallel.ranks import device_of_rank, join
from lmworks.train.run import Run
from lmworks.train.run_report import doubt_of_steps
from lmworks.train.train_stages import find_base, train_and_deliver
from lmworks.train.validation import validate

RATES = {"lora": 5e-5, "full": 1e-6}  # of AdamW at its highest: a tenth of what fine-tuning takes, for long runs
_VALIDATION_ROWS = 256  # at most


def offline(config: OfflineConfig, context: StageContext) -> StageResult:
    """The checkpoint of the one input, or `config.base`, learns from rows. The errors are those of
    `read_preference_rows`, and ValueError where nothing is left to learn from."""
    kept, held_out = split_rows(read_rows(config, context.base), config.held_out)
    checkpoint, dtype = load_policy(config, context), DTYPES[config.train.precision]
    left_out: list[LeftOut] = []
    length = min(config.length, checkpoint.config.context_length)
    groups = group_completions(kept, checkpoint.chat, length, left_out)
    method = with_rank(config.method, checkpoint, int(groups.learned.sum()) if groups.learned is not None else 0)
    tuned = FinetuneConfig(method=method, seed=config.seed)
    groups = with_reference(groups, checkpoint, dtype, context)
    batch = min(config.batch, len(groups))
    steps = config.steps or max(round(config.epochs * len(groups) / batch), 1)
    ranks = join(config.train.parallel)
    loader = GroupLoader(GroupLoaderConfig(length, batch, steps, config.seed), groups, *ranks.rows)
    rate = config.rate or RATES[method.kind]
    settings = at_rate(config.train, rate)
    run = Run(
        *(checkpoint, DPO(config.algorithm), loader, settings, context.work / "run"),
        device=device_of_rank(),
        progress=context.progress,
        seed=config.seed,
        ranks=ranks,
        adapt=adapts(tuned),
        compares=True,
    )
    if held_out:
        shown = group_completions(held_out[:_VALIDATION_ROWS], checkpoint.chat, length, left_out)
        run.validate = _validation(run, with_reference(shown, checkpoint, dtype, context))
    result = train_and_deliver(run, context, tuned)
    doubts = " ".join(doubt_of_steps(steps, f"{len(groups)} rows", "more rows, more epochs or a smaller batch"))
    reasons = (
        ("rows", f"{len(groups):,}", f"to learn from; {len(held_out):,} are held out, by their prompts"),
        ("left out", len(left_out), "rows of which nothing is left to learn"),
        ("cut", groups.cut, f"completions of more than {length:,} tokens with their prompts, which lost their ends"),
        ("steps", steps, f"of {batch} rows"),
        ("rate", f"{rate:g}", f"at its highest, of {settings.optimizer.kind}"),
    )
    section = Section("The run", doubts, (Table(("what", "value", "why"), reasons),))
    metrics = {**result.metrics, "rows": len(groups), "held_out": len(held_out), "left_out": len(left_out)}
    return replace(result, metrics=metrics, sections=(section, *result.sections))


def read_rows(config: OfflineConfig, base: Path) -> list[Any]:
    """The rows that the algorithm learns from."""
    return read_preference_rows(conversation_files(config.rows, base, rows="rows"), (Preference,))


def split_rows(rows: Sequence[PreferenceRow], share: float) -> tuple[list[Any], list[Any]]:
    """Rows to learn from and `share` of them held out, by the hashes of their prompts. ValueError without any to learn
    from."""
    held_out = [int(hash_json(row.prompt)[:13], 16) / 16**13 < share for row in rows]
    kept, out = ([row for row, other in zip(rows, held_out, strict=True) if other == side] for side in (False, True))
    if not kept:
        raise ValueError(f"no row is left to learn from, {len(out)} are held out: lower held_out, or add rows")
    return kept, out


def load_policy(config: OfflineConfig | OnlineConfig, context: StageContext) -> Checkpoint:
    """The checkpoint that learns, which is its own reference."""
    full = isinstance(config.method, FullConfig)
    checkpoint = load(find_base(config.base, context), torch.float32 if full else DTYPES[config.train.precision])
    return replace(checkpoint, source=config.base) if config.base in MODELS else checkpoint


def with_reference(
    groups: TokenGroups, checkpoint: Checkpoint, dtype: torch.dtype, context: StageContext
) -> TokenGroups:
    """The groups with the column `reference`, computed in this format before the first step and kept in the work
    folder."""
    kept = context.work / f"reference-{groups.digest[:16]}.npy"
    if not kept.exists():
        device, model = device_of_rank(), checkpoint.model
        if model.tokens.dtype != dtype:  # all weights are trained, and computed with in a lower precision
            model = copy.deepcopy(model).to(dtype)
        _save(kept, reference_sums(model.to(device), groups, device, context.progress))
    return replace(groups, columns={**groups.columns, REFERENCE: np.load(kept)})


def _save(path: Path, values: NDArray[np.float32]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    private = path.with_suffix(".tmp")
    with private.open("wb") as stream:
        np.save(stream, values)
    private.replace(path)


def _validation(run: Run, groups: TokenGroups):
    loader = GroupLoader(GroupLoaderConfig(run.loader.config.length, min(16, len(groups))), groups)
    batches = [loader.batch(step) for step in range(loader.steps)]
    signature = sign({"model": run.checkpoint.config, "data": groups.digest, "precision": run.config.precision})
    return lambda: validate(run.model, run.objective, batches, 1, None, run.device, signature)


def check(config: OfflineConfig, base: Path) -> None:
    """Before any stage runs: the errors of `read_rows`, and those for a base that is not there."""
    read_rows(config, base)
    if config.base:
        located(config.base, base)


def outside_digest(config: OfflineConfig, base: Path) -> str:
    """SHA-256 of the files with rows, and of the base's."""
    files = [hash_file(path) for path in conversation_files(config.rows, base, rows="rows")]
    return hash_json([files, digest_of_model(located(config.base, base)) if config.base else ""])
