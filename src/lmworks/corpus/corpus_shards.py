"""The documents of several artefacts as one corpus: their shards in an order, each document at a place in it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lmworks.corpus.documents import DOCUMENTS, Shard, shard_paths, told_of_none
from lmworks.records import Document


@dataclass(frozen=True, slots=True)
class CorpusShard:
    """A shard of an input, `number` counted over all of them."""

    number: int
    input: str
    path: Path

    def __iter__(self) -> Iterator[Document]:
        return iter(Shard(self.path))

    @property
    def bytes(self) -> int:
        """Of the file, which work on it takes as long as."""
        return self.path.stat().st_size

    @property
    def name(self) -> str:
        """Of what is made of this shard: its number, and the digest in its own name."""
        return f"{self.number:05d}-{self.path.stem.partition('-')[2]}"


def corpus_shards(inputs: dict[str, Path]) -> list[CorpusShard]:
    """The shards of those inputs (name → folder) that hold documents, by their order; ValueError where none does."""
    stores = {name: folder for name, folder in inputs.items() if (folder / DOCUMENTS).is_dir()}
    found = [(name, path) for name, folder in stores.items() for path in shard_paths(folder)]
    if stores and not found:
        raise ValueError("; ".join(map(told_of_none, stores.values())))
    if not found:
        raise ValueError(f"none of the inputs holds a document: {', '.join(inputs) or 'there are no inputs'}")
    return [CorpusShard(number, name, path) for number, (name, path) in enumerate(found)]


def check_sources(shards: Sequence[CorpusShard]) -> None:
    """ValueError where two inputs have a source of one name, which the ledger could not tell apart."""
    owner: dict[str, str] = {}
    for shard in shards:
        for source in set(Shard(shard.path).sources()):
            if owner.setdefault(source, shard.input) != shard.input:
                raise ValueError(
                    f"{shard.input} and {owner[source]} both have a source called {source}: give one of their folders "
                    "another name"
                )
