"""The stage `train.embedder`: pairs of texts into an embedding model."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

from lmworks.adapt.task_head import with_head
from lmworks.artefact import StageContext, StageResult
from lmworks.data.config import GroupLoaderConfig
from lmworks.data.conversations import pair_files
from lmworks.data.group_loader import GroupLoader
from lmworks.data.training_rows import pair_groups, read_pairs, split_rows
from lmworks.model.checkpoint import Checkpoint, load
from lmworks.model.config import PoolHead
from lmworks.records import RejectedRecord, TextPair
from lmworks.report import Table
from lmworks.train.config import EmbedderConfig, Pooling
from lmworks.train.fit import fit, new_run
from lmworks.train.held_out import validation_of
from lmworks.train.objectives.contrastive import Contrastive
from lmworks.train.optimizer_config import peak_rate
from lmworks.train.run import Run
from lmworks.train.run_report import doubt_of_steps, run_section
from lmworks.train.settings import at_rate, batch_and_steps
from lmworks.train.train_stages import find_base
from lmworks.train.validation import Validation

_VALIDATION_PAIRS = 1024  # at most
_LOSS = "The loss is that of finding each anchor's positive among all texts of its batch, in nats a pair."


def embedder(config: EmbedderConfig, context: StageContext) -> StageResult:
    """The checkpoint of the one input, or `config.base`, learns from pairs.

    ValueError for a line that is no pair, for a base that needs a `pooling` or has another, and where fewer than two
    pairs are left to learn from.
    """
    rejected: list[RejectedRecord] = []
    pairs = list(read_pairs(pair_files(config.pairs, context.base, rejected)))
    pairs, held_out = split_rows(pairs, config.held_out, lambda pair: pair.anchor)
    if len(pairs) < 2:
        raise ValueError(f"{len(pairs)} pairs are left to learn from, {len(held_out)} are held out: it takes two")
    checkpoint = with_pooling(load(find_base(config.base, context)), config.pooling)
    length = min(config.length, checkpoint.max_length)
    batch, steps = batch_and_steps(len(pairs), config.epochs, config.batch)
    groups = pair_groups(pairs, checkpoint.required_tokenizer, length)
    loader = GroupLoader(GroupLoaderConfig(length, batch, steps, config.seed), groups)
    objective = Contrastive(config.temperature, config.symmetric, config.chunk)
    run = new_run(context, checkpoint, objective, loader, at_rate(config.train, config.rate))
    if len(held_out) > 1:
        run.validate = _validation(run, held_out, loader.config)
    optimizer = run.config.optimizer
    rows = (
        ("pairs", len(pairs), f"to learn from, with {len(groups.ends):,} texts; {len(held_out):,} more are held out"),
        ("cut", groups.cut, f"texts of more than {length} tokens, which lost their ends"),
        ("batch", batch, "as set" if batch == config.batch else f"all there are, fewer than the {config.batch} set"),
        ("steps", steps, f"{config.epochs:g} times all pairs"),
        ("rate", f"{peak_rate(optimizer):g}", f"at its highest, of {optimizer.kind}"),
    )
    reasons = Counter(item.reason for item in rejected for _ in range(item.count))
    left_out = Table(("left out because", "files"), tuple(reasons.most_common()), "Nothing is skipped silently")
    text = [_LOSS, *_doubts(config, steps, batch, len(pairs), len(held_out))]
    section = run_section(rows, text, tables=(left_out,) if rejected else ())
    numbers = {"pairs": len(pairs), "held_out": len(held_out), "cut": groups.cut}
    return fit(run, context, report=[(section, numbers)])


def _doubts(config: EmbedderConfig, steps: int, batch: int, pairs: int, held_out: int) -> list[str]:
    """Warnings about a run on few pairs, and what to change."""
    doubts = doubt_of_steps(steps, f"{pairs} pairs", "more pairs, more epochs or a smaller batch")
    if held_out < 2 and config.held_out:
        doubts.append(
            f"WARNING: held_out={config.held_out:g} of {pairs + held_out} pairs are {held_out}, and a validation takes "
            "two: nothing measures the model on pairs that it has not seen. Give more pairs, or raise held_out."
        )
    elif 2 <= held_out < 2 * batch:
        doubts.append(
            f"WARNING: {held_out} held-out pairs fill one batch of validation, whose loss has no interval: raise "
            "held_out, or lower batch."
        )
    return doubts


def with_pooling(checkpoint: Checkpoint, pooling: Pooling) -> Checkpoint:
    """The checkpoint as an embedding model: its own head gives way to one that pools, if it is not one already.

    ValueError for a base that pools in another way, or not at all where `pooling` is left out.
    """
    head = checkpoint.config.head
    if isinstance(head, PoolHead):
        if pooling and pooling != head.pooling:
            raise ValueError(f"{checkpoint.source} pools by {head.pooling}, not by {pooling}: leave pooling out")
        return checkpoint
    if not pooling:
        raise ValueError(
            f"{checkpoint.source} is no embedding model yet: set pooling, to mean for an encoder or last for a decoder"
        )
    return with_head(checkpoint, PoolHead(pooling))


def _validation(run: Run, held_out: Sequence[TextPair], config: GroupLoaderConfig) -> Callable[[], Validation]:
    """A function that validates the run's model on pairs that were held out, in batches as large as those trained on,
    or as there are pairs: with fewer to choose from, the right one is easier to find."""
    settings = replace(config, batch=min(config.batch, len(held_out)), steps=None)
    groups = pair_groups(held_out, run.checkpoint.required_tokenizer, settings.length)
    loader = GroupLoader(settings, groups)
    whole = len(held_out) // settings.batch
    batches = [loader.batch(step) for step in range(min(whole, max(_VALIDATION_PAIRS // settings.batch, 1)))]
    data = {
        "tokenizer": run.checkpoint.required_tokenizer.hash,
        "data": {"pairs": groups.digest, "batch": settings.batch, "seed": settings.seed},
        "pairs": len(batches) * settings.batch,
    }
    return validation_of(run, batches, data)
