"""All that is measured of one document, in an order: repair, the language, and then what may depend on it."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from lmworks.config import from_mapping, to_mapping
from lmworks.corpus.attributes import Attributes, DocumentAttributes, TaggedSpan, kind_of
from lmworks.corpus.dedup.decontamination import RULE as CONTAMINATION
from lmworks.corpus.dedup.decontamination import (
    ContaminationIndex,
    EvaluationItem,
    Overlap,
    find_overlaps,
    index_items,
    read_items,
)
from lmworks.corpus.dedup.hashes import text_digest
from lmworks.corpus.edits import apply_edits
from lmworks.corpus.languages import DECLARED, MEASURED, base_language, language_of
from lmworks.corpus.modifiers.book_words import OthersWords
from lmworks.corpus.named_files import named_file
from lmworks.corpus.taggers.classifier import Classified, load_classifier
from lmworks.corpus.taggers.code import inspect_code
from lmworks.corpus.taggers.config import AnnotateConfig
from lmworks.corpus.taggers.front_matter import front_matter
from lmworks.corpus.taggers.heuristics import c4, fineweb, gopher, spam
from lmworks.corpus.taggers.language import language
from lmworks.corpus.taggers.licence import join_licences, licence
from lmworks.corpus.taggers.model_perplexity import Perplexity
from lmworks.corpus.taggers.ngram_model import load_ngram_model
from lmworks.corpus.taggers.ocr_quality import ocr_quality
from lmworks.corpus.taggers.pii.scan import personal_data
from lmworks.corpus.taggers.repaired import repairs_for
from lmworks.corpus.taggers.repetition import repetition
from lmworks.corpus.taggers.tagger import Annotator, Text
from lmworks.corpus.taggers.word_list import read_word_list
from lmworks.records import Document

EQUAL = "exact"  # the label that documents with equal texts share


def annotate_document(document: Document, config: AnnotateConfig, base: Path) -> DocumentAttributes:
    """What is known of a document; nothing depends on other documents."""
    return annotate_with_items(document, config, base)[0]


def annotate_with_items(
    document: Document, config: AnnotateConfig, base: Path, others: OthersWords | None = None
) -> tuple[DocumentAttributes, tuple[str, ...]]:
    """What is known of a document, and the ids of all evaluation items that it holds anything of. `others`: the words
    of the other books of the corpus, for the repair of a book."""
    tools = tools_of(config, base)
    kind = kind_of(document)
    edits = repairs_for(document, others) if config.repair else []
    text = Text(apply_edits(document.text, edits).text, kind, "", document.uri)
    found = tools.language(text) if tools.language else Attributes()
    declared = base_language(document.language)
    text = replace(text, language=language_of(found.labels.get(MEASURED), declared) or "")
    parts = [found, *(annotator(text) for annotator in tools.annotators)]
    if declared:
        parts.append(Attributes(labels={DECLARED: declared}))
    overlaps = tuple(find_overlaps(tools.evaluation, [text.text])) if tools.evaluation is not None else ()
    if tools.evaluation is not None:
        parts.append(contamination(overlaps))
    key = text_digest(text.text).hex()[:32]
    annotations = join_licences(joined([*parts, Attributes(labels={EQUAL: key})]), document.licence)
    size = len(text.text.encode("utf-8", "surrogatepass"))
    of_text = (len(text.text), size, annotations, tuple(edits))
    known = DocumentAttributes(document.uri, document.hash, kind, *of_text, document.source)
    return known, tuple(overlap.item for overlap in overlaps)


@dataclass(frozen=True)
class Tools:
    """What a process needs for a config, made once."""

    language: Annotator | None
    annotators: tuple[Annotator, ...]
    evaluation: ContaminationIndex | None


def tools_of(config: AnnotateConfig, base: Path) -> Tools:
    """ConfigError for a file of the config that is not there, ValueError for one that is not what it should be."""
    return _tools(json.dumps(to_mapping(config), sort_keys=True), base)


@cache
def _tools(written: str, base: Path) -> Tools:
    """Of a config as JSON, since one that holds a mapping has no hash."""
    config = from_mapping(AnnotateConfig, json.loads(written))
    files = _files(config, base)
    annotators: list[Annotator] = [front_matter, ocr_quality, inspect_code] if config.repair else []
    annotators += [gopher, repetition, c4, fineweb] if config.heuristics else []
    annotators += [personal_data] if config.personal else []
    annotators += [licence] if config.licences else []
    annotators += [spam] if config.spam else []
    annotators += [read_word_list(path.stem, path) for path in files["word_lists"].values()]
    annotators += [Perplexity(load_ngram_model(path).score) for path in files["perplexity"].values()]
    _check_names(config, annotators)
    annotators += [Classified(name, load_classifier(path)) for name, path in files["classifiers"].items()]
    items = [item for path in files["evaluation"].values() for item in _items_of(path)]
    return Tools(language if config.language else None, tuple(annotators), index_items(items) if items else None)


def files_of(config: AnnotateConfig, base: Path) -> list[Path]:
    """The files that the config names; ConfigError at the setting for one that is not there."""
    return [path for named in _files(config, base).values() for path in named.values()]


def _files(config: AnnotateConfig, base: Path) -> dict[str, dict[str, Path]]:
    """By the setting that names them, and their names there."""
    perplexity = [config.perplexity] if config.perplexity else []
    settings = {"word_lists": config.word_lists, "evaluation": config.evaluation, "perplexity": perplexity}
    found = {key: {name: named_file(name, base, key) for name in names} for key, names in settings.items()}
    classifiers = sorted(config.classifiers.items())
    return found | {"classifiers": {name: named_file(file, base, "classifiers", name) for name, file in classifiers}}


def _items_of(path: Path) -> list[EvaluationItem]:
    """ValueError for a file without items, of which nothing could be found."""
    items = read_items(path)
    if not items:
        raise ValueError(f"{path} holds no evaluation item: write one a line into it, or leave it out of `evaluation`")
    return items


_PROBE = "# A title\n\nSome words in a row, and a few more of them. They say next to nothing."


def _check_names(config: AnnotateConfig, annotators: Iterable[Annotator]) -> None:
    """ValueError for a classifier that is called like a measure that there is anyway: found out now rather than at the
    first document."""
    taken = {CONTAMINATION}.union(*(annotator(Text(_PROBE, language="en")).scores for annotator in annotators))
    if both := sorted(taken & config.classifiers.keys()):
        raise ValueError(f"there is another measure called {both[0]}: give that classifier another name")


def contamination(overlaps: Sequence[Overlap]) -> Attributes:
    """Marks `contamination` where evaluation items stand, and the measure of the same name: the highest share of an
    item that the text holds; 0 where it holds none. The label names the item."""
    if not overlaps:
        return Attributes({CONTAMINATION: 0.0})
    worst = max(overlaps, key=lambda overlap: overlap.share)
    marks = tuple(mark for overlap in overlaps for mark in overlap.marks)
    return Attributes({CONTAMINATION: worst.share}, marks, {"evaluation_item": worst.item})


def joined(parts: Iterable[Attributes]) -> Attributes:
    """As one; ValueError where two of them give one measure or label, of which one would be lost."""
    measures: dict[str, float] = {}
    labels: dict[str, str] = {}
    marks: list[TaggedSpan] = []
    for part in parts:
        if twice := (measures.keys() & part.scores.keys()) | (labels.keys() & part.labels.keys()):
            raise ValueError(f"two annotators measure {', '.join(sorted(twice))}")
        measures |= part.scores
        labels |= part.labels
        marks += part.spans
    return Attributes(measures, tuple(sorted(marks)), labels)
