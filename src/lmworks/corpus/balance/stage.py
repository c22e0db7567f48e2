"""The stage `corpus.balance`: documents of several sources into a corpus in the wanted proportions."""

import json
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from lmworks.artefact import StageContext, StageResult
from lmworks.config import unknown
from lmworks.corpus.attributes import ATTRIBUTES, attribute_paths
from lmworks.corpus.balance.balanced_corpus import COUNTS, LEDGER, describe, not_drawn, rounds, write_ledger, write_part
from lmworks.corpus.balance.config import BalanceConfig
from lmworks.corpus.balance.draw import draw_documents
from lmworks.corpus.balance.survey import read_survey, survey_part
from lmworks.corpus.balance.upsampling import NO_ATTRIBUTES
from lmworks.corpus.documents import DOCUMENTS, REJECTED, corpus_shards, join_shards, rejected_to_json
from lmworks.corpus.taggers.config import AnnotateConfig, ModelPerplexityConfig
from lmworks.corpus.work_parts import Part, carry_out


def balance(config: BalanceConfig, context: StageContext) -> StageResult:
    """The corpus as documents, the ledger of how often each came, and the report, into the output.

    ValueError before anything is written for what cannot be done; the message has the numbers.
    """
    shards = corpus_shards(context.inputs)
    used = {shard.input for shard in shards}
    for name, folder in context.inputs.items():
        if name not in used and not (folder / ATTRIBUTES).is_dir():
            raise ValueError(f"{name} holds neither documents nor their attributes: leave it out")
    if absent := next((name for name in config.evaluation if name not in used), None):
        error = unknown("input", absent, sorted(used))
        raise ValueError(f"evaluation: {error}. An input is a stage that this one reads from, or a folder of --from")
    surveys = [Part(shard, context.work / "survey" / shard.name, shard.bytes) for shard in shards]
    work = partial(survey_part, equal=bool(config.evaluation))
    carry_out(work, surveys, config.execution, context.progress, "bytes surveyed")
    paths = [part.done for part in surveys]
    survey = read_survey(shards, paths)
    if survey.copies:
        raise ValueError("the inputs hold copies that corpus.balance made: balance the documents that it was given")
    for source, inputs in sorted(survey.owners.items()):
        if len(trained_on := [name for name in inputs if name not in config.evaluation]) > 1:
            both = " and ".join(trained_on)
            raise ValueError(f"{both} both have a source called {source}: give one of their folders another name")
    evaluation = np.repeat([shard.input in config.evaluation for shard in shards], survey.counts)
    files = [path for folder in context.inputs.values() for path in attribute_paths(folder)]
    draw = draw_documents(config, survey, evaluation, files)
    parts = []
    for shard, copies in zip(shards, np.split(draw.copies, np.cumsum(survey.counts)[:-1]), strict=True):
        size = round(shard.bytes * copies.sum() / max(len(copies), 1))
        parts.append(Part((shard, copies), context.work / "parts" / shard.name, size))
    work = partial(write_part, augment=dict(config.augment), seed=config.seed)
    carry_out(work, parts, config.execution, context.progress, "bytes written")
    folders = [part.done for part in parts]
    join_shards(rounds(folders, int(draw.copies.max())), context.output)
    write_ledger(context.output / LEDGER, paths, draw)
    lacking = list(not_drawn(survey, draw))
    with (context.output / REJECTED).open("wb") as stream:  # of earlier stages, and then of this one
        for folder in context.inputs.values():
            if (folder / DOCUMENTS).is_dir() and (folder / REJECTED).is_file():
                stream.write((folder / REJECTED).read_bytes())
        stream.writelines(rejected_to_json(item).encode() + b"\n" for item in lacking)
    counts = Counter[str]()
    for folder in folders:
        counts.update(json.loads((folder / COUNTS).read_text("utf-8")))
    copies = draw.copies.astype(np.int64)
    amounts = np.bincount(survey.source, copies * draw.sizes)
    metrics = {
        "documents_before": len(survey),
        "bytes_before": int(survey.sizes.sum()),
        "documents": int(copies.sum()),
        "bytes": int((copies * survey.sizes).sum()) + counts["bytes"],
        "different": int(np.count_nonzero(copies)),
        "repeats": int(np.maximum(copies - 1, 0).sum()),
        "augmented": counts["augmented"],
        "shares": dict(zip(survey.sources, (amounts / amounts.sum()).round(6).tolist(), strict=True)),
        "rejected": sum(item.count for item in lacking),
    }
    return StageResult(metrics=metrics, sections=describe(config, survey, draw))


def check_inputs(config: BalanceConfig, _: Path, inputs: Sequence[object]) -> None:
    """Before any stage runs: ValueError for factors that go by attributes, of which these configs make none."""
    asks = any(factor.limits or factor.labels for factor in config.factors)
    if asks and not any(isinstance(each, (AnnotateConfig, ModelPerplexityConfig)) for each in inputs):
        raise ValueError(NO_ATTRIBUTES)
