"""The stage `train.cross_encoder`: rows of pairs of texts into a reader, a reranker or a verifier."""

import shlex
from dataclasses import replace
from functools import partial

from lmworks.adapt.adapted_checkpoint import load
from lmworks.adapt.task_head import with_head
from lmworks.artefact import StageContext, StageResult, hash_file, write_json
from lmworks.config import described
from lmworks.data.config import GroupLoaderConfig
from lmworks.data.group_loader import GroupLoader
from lmworks.data.token_groups import TokenGroups
from lmworks.data.training_rows import pair_files, split_rows
from lmworks.model.config import ClassificationHead, Head, SpanHead
from lmworks.model.download import MODELS
from lmworks.report import Section, Table
from lmworks.statistics import sign
from lmworks.train.config import FinetuneConfig
from lmworks.train.cross_encoder_config import CrossEncoderConfig
from lmworks.train.derived_settings import at_rate
from lmworks.train.finetune_settings import adapts
from lmworks.train.objectives.cross_encoder_heads import CrossEncoding
from lmworks.train.objectives.cross_encoder_rows import LABELS, group_of, read_rows, row_groups
from lmworks.train.optimizer_config import peak_rate
from lmworks.train.parallel.ranks import device_of_rank
from lmworks.train.run import Run
from lmworks.train.run_report import NOT_HELD_OUT, doubt_of_steps
from lmworks.train.train_stages import find_base, train_and_deliver
from lmworks.train.validation import validate

CARD = "card.json"
HEADS: dict[str, Head] = {
    "reader": SpanHead(),
    "reranker": ClassificationHead(1),
    "verifier": ClassificationHead(len(LABELS)),
}
RATES = {"full": 5e-5, "lora": 5e-4}  # Devlin et al. 2019, appendix A.3; ten times that for LoRA, as in `finetune`
_VALIDATION_ROWS = 1024  # at most
LEAST_HELD_OUT = 8  # texts, where that is no more than a fifth


def cross_encoder(config: CrossEncoderConfig, context: StageContext) -> StageResult:
    """The text encoder of the one input, or `config.base`, learns to read pairs of texts. The errors are those of
    `read_rows`, and ValueError where nothing is left to learn from."""
    files = pair_files(config.rows, context.base)
    kept, held_out = split_rows(read_rows(files, config.task), config.held_out, group_of, LEAST_HELD_OUT)
    if not kept:
        raise ValueError(f"no row is left to learn from, {len(held_out)} are held out: lower held_out, or add rows")
    checkpoint = load(find_base(config.base, context))
    if config.base in MODELS:  # an adapter's folder then names it as it is called on every machine
        checkpoint = replace(checkpoint, source=config.base)
    checkpoint = with_head(checkpoint, HEADS[config.task], config.seed)
    length, batch = min(config.length, checkpoint.config.context_length), min(config.batch, len(kept))
    steps = max(round(config.epochs * len(kept) / batch), 1)
    groups = row_groups(kept, checkpoint.required_tokenizer, length)
    loader = GroupLoader(GroupLoaderConfig(length, batch, steps, config.seed), groups)
    settings = at_rate(config.train, config.rate or RATES[config.method.kind])
    tuned = FinetuneConfig(method=config.method, seed=config.seed)
    run = Run(
        *(checkpoint, CrossEncoding(config.task), loader, settings, context.work / "run"),
        device=device_of_rank(),
        progress=context.progress,
        adapt=adapts(tuned, head=True),
    )
    if held_out:
        groups_held_out = row_groups(held_out[:_VALIDATION_ROWS], checkpoint.required_tokenizer, length)
        run.validate = partial(_validated, run, groups_held_out, loader.config)
    result = train_and_deliver(run, context, tuned)
    metrics = {**result.metrics, "rows": len(kept), "held_out": len(held_out), "cut": groups.cut}
    card = {
        "task": config.task,
        "base": checkpoint.source,
        "method": config.method,
        "rows": {path.name: hash_file(path) for path in files},
        "licence": config.licence,
        "command": _command(config),
        "metrics": metrics,
    }
    write_json(context.output / CARD, card)
    rows = (
        ("rows", len(kept), f"to learn from, with {len(groups.ends):,} pairs; {len(held_out):,} are held out"),
        ("cut", groups.cut, f"pairs of more than {length} tokens, which lost their ends"),
        ("steps", steps, f"{config.epochs:g} times all rows, {batch} in a step"),
        ("rate", f"{peak_rate(settings.optimizer):g}", f"at its highest, of {settings.optimizer.kind}"),
        ("trained", f"{metrics['parameters']:,}", f"parameters of {config.method.kind} and the head"),
    )
    doubts = " ".join(doubt_of_steps(steps, f"{len(kept)} rows", "more rows, more epochs or a smaller batch"))
    alarms = () if held_out else (NOT_HELD_OUT,)
    section = Section("The run", doubts, (Table(("what", "value", "why"), rows),), alarms=alarms)
    digests = {**result.digests, CARD: None}  # it holds times, and scores are added to it
    return replace(result, metrics=metrics, sections=(section, *result.sections), digests=digests)


def _command(config: CrossEncoderConfig) -> str:
    """The command that makes the head again, from the folder to which the names of the rows are relative."""
    default = described(CrossEncoderConfig)
    given = {key: text for key, (text, _) in described(CrossEncoderConfig, config).items()}
    changed = {key: text for key, text in given.items() if key == "task" or text != default.get(key, ("",))[0]}
    settings = [part for key, text in changed.items() for part in ("--set", f"{key}={text}")]
    return shlex.join(["lmworks", "stage", "train.cross_encoder", *settings, "--out", config.task])


def _validated(run: Run, groups: TokenGroups, config: GroupLoaderConfig):
    loader = GroupLoader(replace(config, batch=min(config.batch, len(groups)), steps=None), groups)
    signature = sign({"model": run.checkpoint.config, "data": groups.digest, "precision": run.config.precision})
    batches = [loader.batch(step) for step in range(loader.steps)]
    return validate(run.model, run.objective, batches, device=run.device, signature=signature)
