"""The stage `corpus.tag`: what is known of each document, next to the documents."""

import json
import secrets
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lmworks.artefact import StageContext, StageResult
from lmworks.corpus.attributes import (
    ATTRIBUTES,
    EMITS,
    EVALUATION_ITEMS,
    AttributeTable,
    CorpusAttributes,
    DocumentAttributes,
    read_attributes,
    write_attributes,
)
from lmworks.corpus.dedup.decontamination import count_statuses
from lmworks.corpus.documents import Shard, check_sources, corpus_shards
from lmworks.corpus.modifiers.book_words import count_books, join_counts, words_of_others
from lmworks.corpus.taggers.config import AnnotateConfig
from lmworks.corpus.taggers.pii.metadata import field_of
from lmworks.corpus.taggers.tag_document import tag_document, tools_of
from lmworks.corpus.taggers.tagger import emitted
from lmworks.corpus.work_parts import ExecutionConfig, Part, carry_out
from lmworks.report import Section, Table

ITEMS = "items"  # in the folder of the work: of each shard the evaluation items that were found
WORDS = "words"  # there: how often each word stands in the books of each shard, and of all


def annotate(config: AnnotateConfig, context: StageContext) -> StageResult:
    """Tag every document of the inputs: a file of attributes for each shard, in the order of the documents.

    ValueError where no input holds documents, or two of them have a source of one name.
    """
    shards = corpus_shards(dict(context.inputs))
    check_sources(shards)
    (context.work / ITEMS).mkdir(exist_ok=True)
    words = None  # how often each stands in the books of the corpus, before the first of them is repaired
    if config.repair:
        counted = [Part(shard, context.work / WORDS / f"{shard.name}.json", shard.bytes) for shard in shards]
        carry_out(count_books, counted, config.execution, context.progress, "bytes searched for words of books")
        joined = Part(tuple(part.done for part in counted), context.work / WORDS / "all.json")
        carry_out(join_counts, [joined], ExecutionConfig(workers=1))
        words = joined.done
    parts = [
        Part(
            AnnotatePart(shard, config, context.base, context.work / ITEMS / f"{shard.name}.json", words),
            context.work / f"{shard.name}.parquet",
            shard.bytes,
        )
        for shard in shards
    ]
    carry_out(annotate_part, parts, config.execution, context.progress, "bytes")
    folder = context.output / ATTRIBUTES
    folder.mkdir()
    for part in parts:
        shutil.copyfile(part.done, folder / part.done.name)
    tables = CorpusAttributes([(part.done,) for part in parts])
    tools = tools_of(config, context.base)
    own = {name for tagger in tools.taggers for name in tagger.emits}
    items = {}  # how many evaluation items have each status
    if tools.evaluation is not None:
        files = [part.given.items.read_text("utf-8") for part in parts]
        items = count_statuses(tools.evaluation, {item for file in files for item in json.loads(file)})
    metrics = {
        "documents": sum(map(len, tables.only())),
        "repaired": sum(table.edits.filled() for table in tables.only("edits")),
        "marks": sum(_spans(table).total() for table in tables.only("spans")),
        "languages": dict(_languages(tables).most_common()),
        EVALUATION_ITEMS: items,
        EMITS: sorted(own.difference(*emitted().values())),
    }
    sections = [_section(tables)]
    if items:
        undecided = sum(count for status, count in items.items() if status.endswith("to decide"))
        text = (
            "Contaminated is an item of which any document holds a run of words: a policy says which share is too much."
        )
        alarm = f"{undecided:,} of {sum(items.values()):,} evaluation items cannot be decided."
        table = Table(("status", "items"), tuple(items.items()))
        sections.append(Section("Evaluation items", text, (table,), alarms=(alarm,) if undecided else ()))
    return StageResult(metrics=metrics, sections=tuple(sections))


@dataclass(frozen=True, slots=True)
class AnnotatePart:
    """A shard, where the ids of the evaluation items go that its documents hold, and how often words stand in books."""

    shard: Shard
    config: AnnotateConfig
    base: Path
    items: Path
    words: Path | None = None


def annotate_part(part: AnnotatePart, path: Path) -> None:
    """Write the attributes of one shard to a new file; before that is whole, the items are there."""
    found: set[str] = set()
    others = words_of_others(part.words) if part.words else None

    def tagged() -> Iterator[DocumentAttributes]:
        for document in part.shard:
            yield tag_document(document, part.config, part.base, others, found)

    write_attributes(path, tagged())
    if part.config.evaluation:
        written = part.items.with_name(f".{part.items.name}.{secrets.token_hex(8)}")
        written.write_text(json.dumps(sorted(found)), "utf-8")
        written.replace(part.items)


def _section(tables: CorpusAttributes) -> Section:
    """The report: documents of each kind and language, and places of each span and edit."""
    counted = (
        (("kind", "documents"), Counter(kind for table in tables.only() for kind in table.kinds)),
        (("language", "documents"), _languages(tables)),
        (("span", "places"), sum(map(_spans, tables.only("spans")), Counter[str]())),
        (("repair", "places"), sum((table.edits.rules() for table in tables.only("edits")), Counter[str]())),
    )
    shown = tuple(Table(columns, tuple(counts.most_common())) for columns, counts in counted if counts)
    text = f"{sum(map(len, tables.only())):,} documents were tagged; nothing is decided yet."
    return Section("Attributes", text, shown)


def _spans(table: AttributeTable) -> Counter[str]:
    """Places of each rule in texts; those next to them by their field alone, since keys of metadata are many."""
    counts: Counter[str] = Counter()
    for rule, count in table.spans.rules().items():
        field = field_of(rule)
        counts[f"{field[0].partition('.')[0]}:{field[1]}" if field else rule] += count
    return counts


def _languages(tables: CorpusAttributes) -> Counter[str]:
    """Documents of each language, as it was tagged, whatever they declare."""
    read = (read_attributes(path, ["label.language"]) for paths in tables.files for path in paths)
    return Counter(str(language) for table in read for language in table.labels.get("language", ()))
