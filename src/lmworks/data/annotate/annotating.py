"""All that is measured of one document, in an order: repair, the language, and then what may depend on it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from lmworks.data.annotate.c4 import C4
from lmworks.data.annotate.classifier import load_classifier
from lmworks.data.annotate.config import AnnotateConfig
from lmworks.data.annotate.fineweb import fineweb
from lmworks.data.annotate.gopher import gopher
from lmworks.data.annotate.language import UNDETERMINED, Language
from lmworks.data.annotate.licence import licence
from lmworks.data.annotate.pii.scan import PersonalData
from lmworks.data.annotate.quality import quality
from lmworks.data.annotate.repetition import repetition
from lmworks.data.annotate.spam import Spam
from lmworks.data.annotate.word_list import read_word_list
from lmworks.data.annotation import Annotations, Annotator, Kind, Mark, Text
from lmworks.data.annotation_table import AnnotatedDocument
from lmworks.data.documents_of import kind_of
from lmworks.data.duplicates.contamination import RULE as CONTAMINATION
from lmworks.data.duplicates.contamination import ContaminationIndex, find_overlaps, index_items
from lmworks.data.duplicates.evaluation_items import read_items
from lmworks.data.duplicates.exact import digests
from lmworks.data.edits import apply_edits
from lmworks.data.repair.repairing import annotate_repairs, apply_repairs, repairs_of
from lmworks.records import Document

EQUAL = "exact"  # the label that documents with equal texts share


def annotate_document(document: Document, config: AnnotateConfig, base: Path) -> AnnotatedDocument:
    """What is known of a document; nothing depends on other documents."""
    tools = tools_of(config, base)
    kind = kind_of(document)
    edits = apply_repairs(document.text, tools.repairs[kind]) if config.repair else []
    text = Text(apply_edits(document.text, edits).text, kind, document.language or "", document.uri)
    found = tools.language(text) if tools.language else Annotations()
    told = found.labels.get("language", "")
    if not text.language and told != UNDETERMINED:
        text = replace(text, language=told)
    parts = [found, *(annotator(text) for annotator in tools.annotators)]
    if tools.evaluation is not None:
        parts.append(contamination(text, tools.evaluation))
    key = digests([text.text])[0].tobytes().hex()[:32]
    annotations = joined([*parts, Annotations(labels={EQUAL: key})])
    size = len(text.text.encode("utf-8", "surrogatepass"))
    return AnnotatedDocument(document.uri, document.hash, kind, len(text.text), size, annotations, tuple(edits))


@dataclass(frozen=True)
class Tools:
    """What a process needs for a config, made once."""

    repairs: Mapping[Kind, Sequence[Callable]]
    language: Annotator | None
    annotators: tuple[Annotator, ...]
    evaluation: ContaminationIndex | None


@cache
def tools_of(config: AnnotateConfig, base: Path) -> Tools:
    """Raises OSError or ValueError for a file of the config that is not there, or not what it should be."""
    annotators: list[Annotator] = [annotate_repairs] if config.repair else []
    if config.heuristics:
        annotators += [gopher, repetition, C4(), fineweb]
    if config.personal:
        annotators.append(PersonalData())
    if config.licences:
        annotators.append(licence)
    if config.spam:
        annotators.append(Spam())
    if config.quality:
        annotators.append(quality(load_classifier(base / config.quality)))
    annotators += [read_word_list(Path(name).stem, base / name) for name in config.word_lists]
    items = [item for name in config.evaluation for item in read_items(base / name)]
    kinds: tuple[Kind, ...] = ("web", "book", "code", "mail", "chat", "text")
    return Tools(
        repairs={kind: repairs_of(kind) for kind in kinds},
        language=Language() if config.language else None,
        annotators=tuple(annotators),
        evaluation=index_items(items) if items else None,
    )


def contamination(text: Text, index: ContaminationIndex) -> Annotations:
    """Marks `contamination` where evaluation items stand, and the measure of the same name: the highest share of an
    item that the text holds; 0 where it holds none. The label names the item."""
    overlaps = list(find_overlaps(index, [text.text]))
    if not overlaps:
        return Annotations({CONTAMINATION: 0.0})
    worst = max(overlaps, key=lambda overlap: overlap.share)
    marks = tuple(mark for overlap in overlaps for mark in overlap.marks)
    return Annotations({CONTAMINATION: worst.share}, marks, {"evaluation_item": worst.item})


def joined(parts: Iterable[Annotations]) -> Annotations:
    """As one; ValueError where two of them give one measure or label, of which one would be lost."""
    measures: dict[str, float] = {}
    labels: dict[str, str] = {}
    marks: list[Mark] = []
    for part in parts:
        if twice := (measures.keys() & part.measures.keys()) | (labels.keys() & part.labels.keys()):
            raise ValueError(f"two annotators measure {', '.join(sorted(twice))}")
        measures |= part.measures
        labels |= part.labels
        marks += part.marks
    return Annotations(measures, tuple(sorted(marks)), labels)
