"""The stage `train.cross_encoder`: rows of pairs of texts into a reader, a reranker or a verifier."""

import shlex
from dataclasses import replace

from lmworks.adapt.task_head import with_head
from lmworks.artefact import StageContext, StageResult, hash_file, write_json
from lmworks.config import described
from lmworks.data.config import GroupLoaderConfig
from lmworks.data.conversations import pair_files
from lmworks.data.group_loader import GroupLoader
from lmworks.data.training_rows import split_rows
from lmworks.model.config import ClassificationHead, Head, SpanHead
from lmworks.train.config import CrossEncoderConfig
from lmworks.train.fit import adapts, fit, new_run
from lmworks.train.held_out import validation_of
from lmworks.train.objectives.cross_encoder_objective import LABELS, CrossEncoding, group_of, read_rows, row_groups
from lmworks.train.optimizer_config import peak_rate
from lmworks.train.run_report import NOT_HELD_OUT, doubt_of_steps, run_section
from lmworks.train.settings import at_rate, batch_and_steps
from lmworks.train.train_stages import load_base

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
    rows, held_out = split_rows(read_rows(files, config.task), config.held_out, group_of, LEAST_HELD_OUT)
    if not rows:
        raise ValueError(f"no row is left to learn from, {len(held_out)} are held out: lower held_out, or add rows")
    checkpoint = with_head(load_base(config.base, context), HEADS[config.task], config.seed)
    length = min(config.length, checkpoint.config.context_length)
    batch, steps = batch_and_steps(len(rows), config.epochs, config.batch)
    groups = row_groups(rows, checkpoint.required_tokenizer, length)
    loader = GroupLoader(GroupLoaderConfig(length, batch, steps, config.seed), groups)
    settings = at_rate(config.train, config.rate or RATES[config.method.kind])
    adapt = adapts(config.method, config.seed, head=True)
    run = new_run(context, checkpoint, CrossEncoding(config.task), loader, settings, adapt)
    if held_out:
        shown = row_groups(held_out[:_VALIDATION_ROWS], checkpoint.required_tokenizer, length)
        batches = list(GroupLoader(replace(loader.config, batch=min(batch, len(shown)), steps=None), shown))
        run.validate = validation_of(run, batches, {"data": shown.digest})
    trained = sum(weight.numel() for weight in run.weights.masters.values())
    reasons = (
        ("rows", len(rows), f"to learn from, with {len(groups.ends):,} pairs; {len(held_out):,} are held out"),
        ("cut", groups.cut, f"pairs of more than {length} tokens, which lost their ends"),
        ("steps", steps, f"{config.epochs:g} times all rows, {batch} in a step"),
        ("rate", f"{peak_rate(settings.optimizer):g}", f"at its highest, of {settings.optimizer.kind}"),
        ("trained", f"{trained:,}", f"parameters of {config.method.kind} and the head"),
    )
    doubts = doubt_of_steps(steps, f"{len(rows)} rows", "more rows, more epochs or a smaller batch")
    section = run_section(reasons, doubts, () if held_out else (NOT_HELD_OUT,))
    numbers = {"rows": len(rows), "held_out": len(held_out), "cut": groups.cut}
    result = fit(run, context, config.method, report=[(section, numbers)])
    card = {
        "task": config.task,
        "base": checkpoint.source,
        "method": config.method,
        "rows": {path.name: hash_file(path) for path in files},
        "licence": config.licence,
        "command": _command(config),
        "metrics": result.metrics,
    }
    write_json(context.output / CARD, card)
    return replace(result, digests={**result.digests, CARD: None})  # it holds times, and scores are added to it


def _command(config: CrossEncoderConfig) -> str:
    """The command that makes the head again, from the folder to which the names of the rows are relative."""
    default = described(CrossEncoderConfig)
    given = {key: text for key, (text, _) in described(CrossEncoderConfig, config).items()}
    changed = {key: text for key, text in given.items() if key == "task" or text != default.get(key, ("",))[0]}
    settings = [word for key, text in changed.items() for word in ("--set", f"{key}={text}")]
    return shlex.join(["lmworks", "stage", "train.cross_encoder", *settings, "--out", config.task])
