"""The stage `data.balance`: documents of several sources into a corpus in the wanted proportions."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lmworks.artefact import StageContext, StageResult
from lmworks.config import unknown
from lmworks.data.annotation_table import ANNOTATIONS, annotation_paths
from lmworks.data.balance.config import BalanceConfig
from lmworks.data.balance.deciding import Decision, decide
from lmworks.data.balance.gone_sources import without_gone
from lmworks.data.balance.survey import Survey, SurveyPart, inputs_of, read_survey, survey_part
from lmworks.data.balance.telling import sections_of
from lmworks.data.balance.writing import (
    LEDGER,
    Varied,
    WritePart,
    left_out,
    rounds,
    varied_of,
    write_ledger,
    write_part,
)
from lmworks.data.corpus import CorpusShard, corpus_shards
from lmworks.data.executing import Part, carry_out
from lmworks.data.store import DOCUMENTS, LEFT_OUT, join_shards, left_out_to_json


def balance(config: BalanceConfig, context: StageContext) -> StageResult:
    """The corpus as documents, the ledger of how often each came, and the report, into the output.

    ValueError before anything is written for what cannot be done; the message has the numbers.
    """
    shards = corpus_shards(dict(context.inputs))
    _check_inputs(config, context, shards)
    surveys = [
        Part(SurveyPart(shard, bool(config.evaluation)), context.work / "survey" / shard.name, shard.bytes)
        for shard in shards
    ]
    carry_out(survey_part, surveys, config.execution, context.progress, "bytes looked at")
    paths = [part.done for part in surveys]
    found = _annotations(context)
    survey = read_survey(shards, paths, extracted=bool(found), equal=bool(config.evaluation))
    _check_survey(config, survey)
    config = without_gone(config, survey.sources, context.inputs)
    decision = decide(config, survey, inputs_of(shards, survey, config.evaluation), found)
    folders = _write(config, context, shards, survey, decision)
    join_shards(rounds(folders, int(decision.copies.max())), context.output)
    write_ledger(context.output / LEDGER, paths, survey, decision)
    lacking = _write_left_out(context, survey, decision)
    varied = varied_of(folders)
    return StageResult(
        metrics=_metrics(survey, decision, varied) | {"left_out": lacking},
        sections=sections_of(config, survey, decision, varied),
    )


def _check_inputs(config: BalanceConfig, context: StageContext, shards: Sequence[CorpusShard]) -> None:
    """ValueError for inputs that give nothing, and for evaluation inputs that there are not."""
    used = {shard.input for shard in shards}
    for name, folder in context.inputs.items():
        if name not in used and not (folder / ANNOTATIONS).is_dir():
            raise ValueError(f"{name} holds neither documents nor their annotations: leave it out")
    for name in config.evaluation:
        if name not in used:
            told = unknown("input", name, sorted(used))
            raise ValueError(f"evaluation: {told}. An input is a stage that this one reads from, or a folder of --from")


def _check_survey(config: BalanceConfig, survey: Survey) -> None:
    if survey.copies:
        raise ValueError("the inputs hold copies that data.balance made: balance the documents that it was given")
    for source, inputs in sorted(survey.owners.items()):
        trained_on = [name for name in inputs if name not in config.evaluation]
        if len(trained_on) > 1:
            raise ValueError(
                f"{' and '.join(trained_on)} both have a source called {source}: give one of their folders another name"
            )


def _annotations(context: StageContext) -> list[Path]:
    return [path for folder in context.inputs.values() for path in annotation_paths(folder)]


def _write(
    config: BalanceConfig, context: StageContext, shards: Sequence[CorpusShard], survey: Survey, decision: Decision
) -> list[Path]:
    """The parts of the corpus, one for each shard."""
    starts = np.cumsum([0, *survey.counts])
    parts = []
    for number, shard in enumerate(shards):
        copies = decision.copies[starts[number] : starts[number + 1]]
        given = WritePart(shard, copies, dict(config.augment), config.seed)
        size = round(shard.bytes * copies.sum() / max(len(copies), 1))
        parts.append(Part(given, context.work / "parts" / shard.name, size))
    carry_out(write_part, parts, config.execution, context.progress, "bytes written")
    return [part.done for part in parts]


def _write_left_out(context: StageContext, survey: Survey, decision: Decision) -> int:
    """What earlier stages left out, and then what this one does; how many documents this one does."""
    lacking = 0
    with (context.output / LEFT_OUT).open("wb") as stream:
        for folder in context.inputs.values():
            if (folder / DOCUMENTS).is_dir() and (folder / LEFT_OUT).is_file():
                stream.write((folder / LEFT_OUT).read_bytes())
        for item in left_out(survey, decision):
            stream.write(left_out_to_json(item).encode() + b"\n")
            lacking += item.count
    return lacking


def _metrics(survey: Survey, decision: Decision, varied: dict[str, Varied]) -> dict[str, int | dict[str, float]]:
    copies = decision.copies.astype(np.int64)
    amount = np.zeros(len(survey.sources), np.int64)
    np.add.at(amount, survey.source, copies * decision.sizes)
    shares = (amount / amount.sum()).round(6).tolist()
    return {
        "documents_before": len(survey),
        "bytes_before": int(survey.sizes.sum()),
        "documents": int(copies.sum()),
        "bytes": int((copies * survey.sizes).sum()) + sum(each.grown for each in varied.values()),
        "different": int(np.count_nonzero(copies)),
        "repeats": int(np.maximum(copies - 1, 0).sum()),
        "augmented": sum(each.written for each in varied.values()),
        "shares": dict(zip(survey.sources, shares, strict=True)),
    }
