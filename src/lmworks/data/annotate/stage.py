"""The stage `data.annotate`: what is known of each document, beside the documents."""

import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lmworks.artefact import StageContext, StageResult, hash_file, hash_json
from lmworks.data.annotate.annotating import annotate_document, file_of, tools_of
from lmworks.data.annotate.config import AnnotateConfig
from lmworks.data.annotation_columns import filled, rules_of
from lmworks.data.annotation_table import ANNOTATIONS, AnnotationTable, read_annotations, write_annotations
from lmworks.data.corpus import CorpusShard, check_sources, corpus_shards
from lmworks.data.executing import Part, carry_out
from lmworks.data.store import Shard
from lmworks.report import Section, Table


def annotate(config: AnnotateConfig, context: StageContext) -> StageResult:
    """Of every shard of the inputs' documents a file of annotations, in their order.

    ValueError where no input holds documents, or two of them have a source of one name.
    """
    shards = corpus_shards(dict(context.inputs))
    check_sources(shards)
    parts = [
        Part(AnnotatePart(shard, config, context.base), context.work / f"{shard.name}.parquet", len(Shard(shard.path)))
        for shard in shards
    ]
    carry_out(annotate_part, parts, config.execution, context.progress, "documents")
    folder = context.output / ANNOTATIONS
    folder.mkdir()
    for part in parts:
        shutil.copyfile(part.done, folder / part.done.name)
    tables = [read_annotations(part.done) for part in parts]
    return StageResult(metrics=_metrics(tables), sections=(_section(tables),))


@dataclass(frozen=True, slots=True)
class AnnotatePart:
    shard: CorpusShard
    config: AnnotateConfig
    base: Path


def annotate_part(part: AnnotatePart, path: Path) -> None:
    """The annotations of one shard to a new file."""
    write_annotations(path, (annotate_document(document, part.config, part.base) for document in part.shard))


def check(config: AnnotateConfig, base: Path) -> None:
    """Before any stage runs: OSError or ValueError for files of the config that are not there or not what they should
    be."""
    tools_of(config, base)


def outside_digest(config: AnnotateConfig, base: Path) -> str:
    """SHA-256 of the files that the config names."""
    named = [*config.word_lists, *config.evaluation, *filter(None, [config.perplexity])]
    named += [file for _, file in sorted(config.classifiers.items())]
    return hash_json([hash_file(file_of(name, base)) for name in named])


def _metrics(tables: list[AnnotationTable]) -> dict[str, int | dict[str, int]]:
    languages = Counter(language for table in tables for language in table.labels.get("language", ()))
    return {
        "documents": sum(map(len, tables)),
        "repaired": sum(filled(table.edits) for table in tables),
        "marks": sum(rules_of(table.marks).total() for table in tables),
        "languages": {str(language): count for language, count in languages.most_common()},
    }


def _section(tables: list[AnnotationTable]) -> Section:
    """Of each measure how many documents have it, and its quartiles; of each mark and edit how many there are."""
    rows = []
    for name in sorted({name for table in tables for name in table.measures}):
        values = np.concatenate([table.measures[name] for table in tables if name in table.measures])
        values = values[np.isfinite(values)]
        if len(values):
            rows.append((name, len(values), *(f"{each:.4g}" for each in np.quantile(values, [0, 0.25, 0.5, 0.75, 1]))))
    marks = sum((rules_of(table.marks) for table in tables), Counter[str]())
    edits = sum((rules_of(table.edits) for table in tables), Counter[str]())
    documents = sum(map(len, tables))
    header = ("measure", "documents", "lowest", "a quarter", "median", "three quarters", "highest")
    found = [Table(header, tuple(rows))]
    if marks:
        found.append(Table(("mark", "places"), tuple(marks.most_common())))
    if edits:
        found.append(Table(("repair", "places"), tuple(edits.most_common())))
    return Section("Annotations", f"{documents:,} documents were measured; nothing is decided yet.", tuple(found))
