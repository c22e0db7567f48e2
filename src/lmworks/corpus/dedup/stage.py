"""The stage `corpus.dedup`: which documents and places of a corpus repeat others, before anything is decided."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TypeVar

import numpy as np

from lmworks.artefact import StageContext, StageResult, read_rows, write_json
from lmworks.config import SHAPES_NOTHING, positive
from lmworks.corpus.attributes import AttributeTable, CorpusTexts, open_corpus, read_attributes
from lmworks.corpus.dedup.kept_duplicates import RANKED_BY, rank_corpus
from lmworks.corpus.dedup.match_tables import CORPUS, Method, Places, write_matches, write_repositories
from lmworks.corpus.dedup.near_duplicates import Compared, Keys, NearDuplicatesConfig, compare, keys_of_texts
from lmworks.corpus.dedup.repeated_substrings import (
    MOST_BYTES,
    Fingerprints,
    Paragraphs,
    fingerprints,
    paragraphs_of,
    repeated_paragraphs,
    repeated_passages,
)
from lmworks.corpus.dedup.repositories import PARTS, git_roots, repository_of
from lmworks.corpus.documents import REJECTED, Shard
from lmworks.corpus.edits import apply_edits
from lmworks.corpus.work_parts import ExecutionConfig, Part, carry_out
from lmworks.records import RejectedRecord
from lmworks.report import Fold, Section, Table

T = TypeVar("T", Keys, Paragraphs, Fingerprints)


@dataclass(frozen=True, slots=True)
class DuplicatesConfig:
    """Duplicates that are looked for; which of them go, the policy of `corpus.filter` decides.

    near           Documents that are alike.
    paragraphs     Whether paragraphs are looked for that stand in several documents.
    paragraph      Fewest characters of such a paragraph.
    passages       Fewest characters of a passage that stands in several places word for word, counted as bytes of UTF-8
                   (three for a Chinese one), such as 200; 0: none are looked for. It takes about a byte of memory for
                   each byte of text, and 70 for each byte of stretches that may stand elsewhere.
    passage_bytes  Most bytes of such stretches; a corpus that has more is refused, with what it would take.
    repository     Parts of a path, source and folders, that name the repository of a file of code for which neither its
                   metadata, a `.git` nor an archive tells it.
    execution      Who does the work.
    """

    near: NearDuplicatesConfig = field(default_factory=NearDuplicatesConfig)
    paragraphs: bool = True
    paragraph: int = 80
    passages: int = 0
    passage_bytes: int = field(default=MOST_BYTES, metadata=SHAPES_NOTHING)
    repository: int = PARTS
    execution: ExecutionConfig = field(default_factory=ExecutionConfig, metadata=SHAPES_NOTHING)

    def __post_init__(self) -> None:
        positive(paragraph=self.paragraph, passage_bytes=self.passage_bytes, repository=self.repository)
        if self.passages and not 20 <= self.passages <= 100_000:
            raise ValueError(
                f"passages must lie between 20 and 100,000 characters, or be 0 for none, got {self.passages}: shorter "
                "ones are phrases that people share"
            )


def duplicates(config: DuplicatesConfig, context: StageContext) -> StageResult:
    """Pairs of alike documents, places of repeated paragraphs and passages, and repositories, over all documents of the
    inputs. ValueError where inputs do not belong together, or passages would take more memory than is allowed."""
    shards, attributes = open_corpus(context.inputs)
    documents = rank_corpus(attributes.only(*RANKED_BY))
    identity = {"shards": corpus_rows(shards, attributes.only()), "threshold": config.near.threshold}
    write_json(context.output / CORPUS, identity)
    texts = CorpusTexts(shards, attributes)
    rejected = [folder / REJECTED for folder in context.inputs.values() if (folder / REJECTED).is_file()]
    roots = git_roots(row for path in rejected for row in read_rows(RejectedRecord, path))
    parts = [
        Part(SignPart(shard, paths[0], config, start, roots), context.work / f"{shard.name}.npz", shard.bytes)
        for shard, paths, start in zip(shards, attributes.files, documents.starts.tolist(), strict=False)
    ]
    carry_out(sign_part, parts, config.execution, context.progress, "bytes")
    found = [part.done for part in parts]
    compared = compare(texts, documents.order, joined(Keys, found), config.near)
    places: dict[Method, Places] = {}
    if config.paragraphs:
        places["paragraphs"] = repeated_paragraphs(joined(Paragraphs, found))
    if config.passages:
        windows = joined(Fingerprints, found)
        places["passages"] = repeated_passages(texts, config.passages, config.passage_bytes, windows)
    names = [str(name) or None for path in found for name in _column(path, "repositories")]
    write_matches(context.output, "near", compared.pairs)
    for method, each in places.items():
        write_matches(context.output, method, each)
    write_repositories(context.output, names)
    return _result(compared, places, names)


def corpus_rows(shards: Sequence[Shard], tables: Iterable[AttributeTable]) -> list[list[str | int]]:
    """The identity of a corpus whose documents are meant by their places: of each shard its name, which has a digest of
    its content and its place among the others, how many documents it has, and their characters after repair."""
    pairs = zip(shards, tables, strict=True)
    return [[shard.name, len(table), int(table.characters.sum())] for shard, table in pairs]


# ---------------------------------------------------------------------------------------------------------------------
# What is found in each shard by itself


@dataclass(frozen=True, slots=True)
class SignPart:
    shard: Shard
    attributes: Path
    config: DuplicatesConfig
    first: int  # the number of the first document
    roots: frozenset[str]  # folders that held the data of Git


def sign_part(part: SignPart, path: Path) -> None:
    """Write the keys, paragraphs, windows and repositories of one shard's documents to a new file."""
    table = read_attributes(part.attributes, ["edits"])
    documents = list(part.shard)
    texts = [apply_edits(each.text, edits).text for each, edits in zip(documents, table.edits, strict=True)]
    config = part.config
    paragraphs = paragraphs_of(texts if config.paragraphs else [], config.paragraph, part.first)
    windows = fingerprints(texts if config.passages else [], config.passages or 2, part.first)
    found = (keys_of_texts(texts, config.near), paragraphs, windows)
    names = [
        repository_of(each.uri, each.metadata, part.roots, config.repository) if kind == "code" else ""
        for each, kind in zip(documents, table.kinds, strict=True)
    ]
    arrays = {_name(type(each), field.name): getattr(each, field.name) for each in found for field in fields(each)}
    with path.open("wb") as stream:
        np.savez(stream, repositories=np.array(names, str), **arrays)


def _name(kind: type, column: str) -> str:
    return f"{kind.__name__}.{column}"


def joined(kind: type[T], parts: Sequence[Path]) -> T:
    """Keys, paragraphs or windows of all parts as one."""
    names = [_name(kind, field.name) for field in fields(kind)]
    return kind(*(np.concatenate([_column(path, name) for path in parts]) for name in names))


def _column(path: Path, name: str) -> np.ndarray:
    with np.load(path) as part:  # a corpus may have more parts than a process may have open files
        return part[name]


def _result(compared: Compared, places: Mapping[Method, Places], repositories: Sequence[str | None]) -> StageResult:
    pairs = compared.pairs
    alike = len(np.unique(np.concatenate([pairs.first, pairs.second])))
    groups = {method: len(np.unique(each.group)) for method, each in places.items()}
    counts = {
        "documents": len(repositories),
        "pairs": len(pairs.first),
        "candidates": compared.candidates,
        "alike": alike,
        "uncompared": compared.uncompared,
        **{f"repeated_{method}": number for method, number in groups.items()},
        "repositories": len({name for name in repositories if name}),
    }
    bins = np.histogram(pairs.similarity, bins=np.linspace(0.5, 1, 11))[0]
    rows = tuple((f"{0.5 + 0.05 * number:.2f} to {0.55 + 0.05 * number:.2f}", int(n)) for number, n in enumerate(bins))
    said = "".join(f"; {number:,} {method} stand in several places" for method, number in groups.items())
    text = (
        f"{alike:,} of {len(repositories):,} documents have one that is alike{said}. Each pair was compared, shingle "
        "by shingle; of documents with the same words one stands for all."
    )
    alarm = f"{compared.uncompared:,} documents share buckets with very many others that are not alike, and were not "
    alarm += "compared with all of these: raise near.words to find fewer candidates."
    alarms = (alarm,) if compared.uncompared else ()
    folds = (Fold("Pairs by similarity", tables=(Table(("similarity", "pairs"), rows),)),)
    return StageResult(counts, (Section("Duplicates", text, folds=folds, alarms=alarms),))
