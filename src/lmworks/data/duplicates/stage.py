"""The stage `data.duplicates`: which documents and places of a corpus repeat others, before anything is decided."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import overload

import numpy as np

from lmworks.artefact import StageContext, StageResult
from lmworks.config import SHAPES_NOTHING
from lmworks.data.annotation_table import ANNOTATIONS, annotation_paths, read_annotations
from lmworks.data.corpus import CorpusShard, corpus_shards
from lmworks.data.duplicates.clusters import Standing
from lmworks.data.duplicates.config import NearDuplicatesConfig
from lmworks.data.duplicates.near import keys_of_texts, near_duplicates
from lmworks.data.duplicates.paragraphs import Paragraphs, joined, paragraphs_of, repeated_paragraphs
from lmworks.data.duplicates.tables import PAIRS, PLACES, Pairs, Places, write_pairs, write_places
from lmworks.data.edits import apply_edits
from lmworks.data.executing import ExecutionConfig, Part, carry_out
from lmworks.data.store import Shard
from lmworks.records import Edit
from lmworks.report import Section, Table


@dataclass(frozen=True, slots=True)
class DuplicatesConfig:
    """What is looked for among documents; what goes of it, the policy of `data.clean` decides.

    near        Documents that are alike.
    paragraphs  Whether paragraphs are looked for that stand in several documents.
    paragraph   Fewest characters of such a paragraph.
    execution   Who does the work.
    """

    near: NearDuplicatesConfig = field(default_factory=NearDuplicatesConfig)
    paragraphs: bool = True
    paragraph: int = 80
    execution: ExecutionConfig = field(default_factory=ExecutionConfig, metadata=SHAPES_NOTHING)

    def __post_init__(self) -> None:
        if self.paragraph < 1:
            raise ValueError(f"paragraph must be positive, got {self.paragraph}")


def duplicates(config: DuplicatesConfig, context: StageContext) -> StageResult:
    """Pairs of alike documents, and places of repeated paragraphs, over all documents of the inputs."""
    shards = corpus_shards(dict(context.inputs))
    annotations = annotation_paths(context.input(ANNOTATIONS))
    texts = CorpusTexts(shards, annotations)
    sizes = [len(Shard(shard.path)) for shard in shards]
    starts = np.cumsum([0, *sizes])
    parts = [
        Part(SignPart(shard, path, config, int(start)), context.work / f"{shard.name}.npz", size)
        for shard, path, start, size in zip(shards, annotations, starts, sizes, strict=False)
    ]
    carry_out(sign_part, parts, config.execution, context.progress, "documents")
    found = [np.load(part.done) for part in parts]
    standings = [Standing(id=f"{place:012d}") for place in range(int(starts[-1]))]
    near = near_duplicates(texts, standings, config.near, np.concatenate([each["keys"] for each in found])).pairs
    pairs = Pairs(near.pairs[:, 0], near.pairs[:, 1], near.similarity)
    write_pairs(context.output / PAIRS, {"near": pairs})
    places = _places(found) if config.paragraphs else None
    write_places(context.output / PLACES, {} if places is None else {"paragraphs": places})
    return _result(pairs, places, int(starts[-1]))


@dataclass(frozen=True, slots=True)
class SignPart:
    shard: CorpusShard
    annotations: Path
    config: DuplicatesConfig
    first: int  # the number of the first document


def sign_part(part: SignPart, path: Path) -> None:
    """The keys of one shard's documents, and its paragraphs, to a new file."""
    texts = list(repaired_texts(part.shard, part.annotations))
    found = paragraphs_of(texts, least=part.config.paragraph, first_document=part.first)
    arrays = {name: getattr(found, name) for name in ("hashes", "documents", "starts", "ends")}
    with path.open("wb") as stream:
        np.savez(stream, keys=keys_of_texts(texts, part.config.near), **arrays)


def repaired_texts(shard: CorpusShard, annotations: Path) -> Sequence[str]:
    """The texts of a shard after the repairs that its annotations list."""
    edits = read_annotations(annotations).edits
    return [apply_edits(document.text, each).text for document, each in zip(shard, edits, strict=True)]


class CorpusTexts(Sequence[str]):
    """The repaired texts of a corpus by their numbers, each read when it is asked for; edits stay in memory."""

    def __init__(self, shards: Sequence[CorpusShard], annotations: Sequence[Path]) -> None:
        self._shards = [Shard(shard.path) for shard in shards]
        self._starts = np.cumsum([0, *map(len, self._shards)])
        self._edits: list[tuple[Edit, ...]] = [each for path in annotations for each in read_annotations(path).edits]

    def __len__(self) -> int:
        return int(self._starts[-1])

    @overload
    def __getitem__(self, number: int) -> str: ...
    @overload
    def __getitem__(self, number: slice) -> Sequence[str]: ...
    def __getitem__(self, number: int | slice) -> str | Sequence[str]:
        if isinstance(number, slice):
            return [self[each] for each in range(*number.indices(len(self)))]
        if not 0 <= number < len(self):
            raise IndexError(number)
        shard = int(np.searchsorted(self._starts, number, side="right")) - 1
        document = self._shards[shard].read(number - int(self._starts[shard]))
        return apply_edits(document.text, self._edits[number]).text


def _places(found: Sequence[dict[str, np.ndarray]]) -> Places:
    names = ("hashes", "documents", "starts", "ends")
    repeated = repeated_paragraphs(joined([Paragraphs(*(each[name] for name in names)) for each in found]))
    return Places(repeated.groups, repeated.documents, repeated.starts, repeated.ends)


def _result(pairs: Pairs, places: Places | None, documents: int) -> StageResult:
    alike = len(np.unique(np.concatenate([pairs.first, pairs.second])))
    groups = 0 if places is None else len(np.unique(places.group))
    counts = {"documents": documents, "pairs": len(pairs.first), "alike": alike, "repeated_paragraphs": groups}
    bins = np.histogram(pairs.similarity, bins=np.linspace(0.5, 1, 11))[0]
    rows = tuple((f"{0.5 + 0.05 * number:.2f} to {0.55 + 0.05 * number:.2f}", int(n)) for number, n in enumerate(bins))
    text = (
        f"{alike:,} of {documents:,} documents have one that is alike; {groups:,} paragraphs stand in several documents. "
        "Each pair was compared, shingle by shingle."
    )
    return StageResult(counts, (Section("Duplicates", text, (Table(("similarity", "pairs"), rows),)),))
