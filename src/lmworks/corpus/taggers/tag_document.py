"""All taggers on one document, in an order: repair, the language, and then what may depend on it."""

import json
from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

from lmworks.config import from_mapping, named_file, to_mapping
from lmworks.corpus.attributes import Attributes, DocumentAttributes
from lmworks.corpus.dedup.decontamination import RULE as CONTAMINATION
from lmworks.corpus.dedup.decontamination import ContaminationIndex, find_overlaps, index_items, read_items
from lmworks.corpus.dedup.hashes import text_digest
from lmworks.corpus.documents import kind_of
from lmworks.corpus.edits import CleanText, apply_edits
from lmworks.corpus.languages import DECLARED, MEASURED, base_language, language_of
from lmworks.corpus.modifiers.book_words import OthersWords
from lmworks.corpus.modifiers.page_breaks import find_pages
from lmworks.corpus.modifiers.repair import repair
from lmworks.corpus.taggers.classifier import classifier_tagger, load_classifier
from lmworks.corpus.taggers.code import CODE
from lmworks.corpus.taggers.config import AnnotateConfig
from lmworks.corpus.taggers.front_matter import FRONT_MATTER, repair_matter
from lmworks.corpus.taggers.heuristics import C4, FINEWEB, GOPHER, SPAM
from lmworks.corpus.taggers.language import LANGUAGE
from lmworks.corpus.taggers.licence import LICENCES, with_source
from lmworks.corpus.taggers.ocr_quality import OCR_QUALITY
from lmworks.corpus.taggers.pii import metadata
from lmworks.corpus.taggers.pii.scan import PERSONAL_DATA
from lmworks.corpus.taggers.repetition import REPETITION
from lmworks.corpus.taggers.tagger import Tagger, Text, read_taggers
from lmworks.corpus.taggers.word_list import read_word_list
from lmworks.records import Document, Edit

EQUAL = "exact"  # the label that documents with equal texts share

# Of which `tools_of` takes those that a config asks for; language is told before all others.
OF_KINDS = (FRONT_MATTER, OCR_QUALITY, CODE)
HEURISTICS = (GOPHER, REPETITION, C4, FINEWEB)


def tag_document(
    document: Document,
    config: AnnotateConfig,
    base: Path,
    others: OthersWords | None = None,
    items: set[str] | None = None,
) -> DocumentAttributes:
    """Repair and tag a document, but for what other documents tell.

    others  The words of the other books of the corpus, for the repair of a book.
    items   Gets the ids of all evaluation items that the document holds anything of.
    """
    tools = tools_of(config, base)
    kind = kind_of(document)
    edits = repairs_for(document, others) if config.repair else []
    repaired = apply_edits(document.text, edits)
    pages = _pages(document.text, repaired) if config.repair and kind == "book" else ()
    text = Text(repaired.text, kind, "", document.uri, pages)
    declared = base_language(document.language)
    found = LANGUAGE.tag(text) if config.language else Attributes()
    text = replace(text, language=language_of(found.labels.get(MEASURED), declared) or "")
    parts = [found, *(tagger.tag(text) for tagger in tools.taggers)]
    if tools.evaluation is not None:
        overlaps = tuple(find_overlaps(tools.evaluation, [text.text]))
        worst = max(overlaps, key=lambda overlap: overlap.share, default=None)
        found_spans = tuple(span for overlap in overlaps for span in overlap.spans)
        parts.append(
            Attributes({CONTAMINATION: worst.share}, found_spans, {"evaluation_item": worst.item})
            if worst
            else Attributes({CONTAMINATION: 0.0})
        )
        (set() if items is None else items).update(overlap.item for overlap in overlaps)
    if config.personal:
        parts.append(Attributes(spans=tuple(metadata.metadata_spans(document))))
    own = {EQUAL: text_digest(text.text).hex()[:32]} | ({DECLARED: declared} if declared else {})
    scores: dict[str, float] = {}
    labels: dict[str, str] = {}
    for part in (*parts, Attributes(labels=own)):
        if twice := (scores.keys() & part.scores.keys()) | (labels.keys() & part.labels.keys()):
            raise ValueError(f"two taggers give {', '.join(sorted(twice))}")
        scores |= part.scores
        labels |= part.labels
    spans = tuple(sorted(span for part in parts for span in part.spans))
    attributes = with_source(Attributes(scores, spans, labels), document.licence)
    sizes = len(text.text), len(text.text.encode("utf-8", "surrogatepass"))
    return DocumentAttributes(document.uri, document.hash, kind, *sizes, attributes, tuple(edits), document.source)


def _pages(text: str, repaired: CleanText) -> tuple[tuple[int, int], ...]:
    """Where the pages of a text stand once it is repaired, without what shows them."""

    def place(offset: int) -> int:
        at = bisect_right(repaired.pieces, offset, key=lambda piece: piece.source_end)
        if at == len(repaired.pieces):
            return len(repaired.text)
        piece = repaired.pieces[at]
        return piece.start + (max(0, offset - piece.source_start) if piece.copied else 0)

    bounds = [0, *(place(end) for _, end in find_pages(text))]
    return tuple(page for page in pairwise(bounds) if page[0] < page[1])


def repairs_for(document: Document, others: OthersWords | None = None) -> list[Edit]:
    """The edits that mend a document, by the kind of its source; a book's without its front and back matter, and with
    the words of the other books as well, where they are given."""
    if (kind := kind_of(document)) != "book":
        return repair(document.text, kind)
    return repair(document.text, kind, others(document.text) if others else None, repair_matter(document.text))


def repaired_text(document: Document) -> str:
    """The text that `corpus.tag` tags, which models for it have to learn from; but for what other books tell."""
    return apply_edits(document.text, repairs_for(document)).text


@dataclass(frozen=True)
class Tools:
    """The taggers of a config, which know the language, and the evaluation items; made once in a process."""

    taggers: tuple[Tagger, ...]
    evaluation: ContaminationIndex | None


def tools_of(config: AnnotateConfig, base: Path) -> Tools:
    """ConfigError for a file of the config that is not there, ValueError for one that is not what it should be."""
    paths = [path for named in _files(config, base).values() for path in named.values()]
    files = tuple((path, path.stat().st_mtime_ns, path.stat().st_size) for path in paths)
    return _tools(json.dumps(to_mapping(config), sort_keys=True), base, files)


@lru_cache(maxsize=1)
def _tools(written: str, base: Path, _: tuple[tuple[Path, int, int], ...]) -> Tools:
    """Make the tools of a config as JSON, since one that holds a mapping has no hash; again where a file is another."""
    config = from_mapping(AnnotateConfig, json.loads(written))
    files = _files(config, base)
    taggers = list(OF_KINDS) if config.repair else []
    taggers += HEURISTICS if config.heuristics else []
    taggers += [PERSONAL_DATA] if config.personal else []
    taggers += [LICENCES] if config.licences else []
    taggers += [SPAM] if config.spam else []
    taggers += [read_word_list(path) for path in files["word_lists"].values()]
    taggers += [classifier_tagger(name, load_classifier(path)) for name, path in files["classifiers"].items()]
    taggers += [tagger for path in files["taggers"].values() for tagger in read_taggers(path)]
    emits = [name for tagger in (LANGUAGE, *taggers) for name in tagger.emits] + [f"score.{CONTAMINATION}"]
    if both := [name for name, count in Counter(emits).items() if count > 1 and name.startswith("score.")]:
        raise ValueError(f"there is another score called {both[0].removeprefix('score.')}: give yours another name")
    items = [item for path in files["evaluation"].values() for item in read_items(path)]
    return Tools(tuple(taggers), index_items(items) if items else None)


def _files(config: AnnotateConfig, base: Path) -> dict[str, dict[str, Path]]:
    """The files by the setting that names them, and their names there."""
    settings = {name: getattr(config, name) for name in ("word_lists", "taggers", "evaluation")}
    found = {key: {name: named_file(name, base, key) for name in names} for key, names in settings.items()}
    named = {name: named_file(file, base, "classifiers", name) for name, file in sorted(config.classifiers.items())}
    return found | {"classifiers": named}
