"""Documents on disk: a folder of shards, `documents/00000-HASH.jsonl`, and `rejected.jsonl`, in UTF-8.

A shard's name says its place and the beginning of the SHA-256 of its bytes, so that equal shards have equal names and
another order or content shows. A line is a document as a JSON object that begins with the document's hash, so that a
reader finds a document without parsing the others.
"""

import dataclasses
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from json.encoder import encode_basestring
from operator import attrgetter
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal, get_args

from lmworks.artefact import CURRENT, REPORT, STAGE_FOLDERS, read_json
from lmworks.config import from_mapping
from lmworks.records import Document, RejectedRecord

if TYPE_CHECKING:  # many processes read and write documents, and few look for one
    import numpy as np
    from numpy.typing import NDArray

Kind = Literal["web", "manual", "book", "code", "mail", "chat", "text"]
DOCUMENTS = "documents"
REJECTED = "rejected.jsonl"
SHARD_BYTES = 1 << 24  # of a shard, unless one document has more: what one process works on, and a kill loses
_LEAST_SHARD_BYTES, _SHARDS = 1 << 20, 64  # of a corpus that is smaller than `_SHARDS` of full size

_BEGIN = re.compile(rb'\{"hash": "([0-9a-f]{64})"')
_HASH = re.compile("[0-9a-f]{64}")
_SHARD_NAME = re.compile(r"[0-9]{5,}-[0-9a-f]{16}\.jsonl")


def kind_of(document: Document) -> Kind:
    """The sort of source that a document is from; "text" where nobody said."""
    return document.kind if document.kind in get_args(Kind) else "text"  # type: ignore[return-value]


class UnusableError(ValueError):
    """A source from which no document can be made; the message is the reason that `RejectedRecord` shows."""


@dataclass(frozen=True, slots=True)
class Extracted:
    """The text of one source. `extractor` and its version say how it was made, so that a parser can be chosen by it."""

    text: str
    extractor: str
    extractor_version: str
    title: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)


Extractor = Callable[[bytes], Extracted]  # raises UnusableError


def document_of(extracted: Extracted, raw: bytes, **others: Any) -> Document:
    """The document of what was extracted from some bytes; `others` are its further fields."""
    fields = {"title": extracted.title, "metadata": extracted.metadata, **others}
    source_hash, version = hashlib.sha256(raw).hexdigest(), extracted.extractor_version
    return Document(
        extracted.text, extractor=extracted.extractor, extractor_version=version, source_hash=source_hash, **fields
    )


# ---------------------------------------------------------------------------------------------------------------------
# Writing


def write_documents(folder: Path, items: Iterable[Document | RejectedRecord], shard_bytes: int = SHARD_BYTES) -> None:
    """Write documents and rejected records, in the order given, into an existing folder without documents."""
    writer = ShardWriter(folder / DOCUMENTS, shard_bytes)
    with (folder / REJECTED).open("wb") as rejected:
        for item in items:
            if isinstance(item, Document):
                writer.add(item)
            else:
                rejected.write(rejected_to_json(item).encode() + b"\n")
    writer.close()


class ShardWriter:
    """Documents, in order, into the shards of a new folder. What is open has a name that no reader looks at."""

    def __init__(self, folder: Path, shard_bytes: int = SHARD_BYTES) -> None:
        self.folder = folder
        self.shards: list[str] = []  # the names of the finished ones
        self._limit = shard_bytes
        self._stream: IO[bytes] | None = None
        self._size, self._digest = 0, hashlib.sha256()
        folder.mkdir(parents=True)

    def add(self, document: Document) -> None:
        """Write a document behind the others."""
        self.add_line(document_to_json(document).encode() + b"\n")

    def add_line(self, line: bytes) -> None:
        """A document as it is written, with its newline."""
        if self._size and self._size + len(line) > self._limit:
            self.close()
        if self._stream is None:
            self._stream = (self.folder / ".open").open("wb")
        self._stream.write(line)
        self._digest.update(line)
        self._size += len(line)

    def close(self) -> None:
        """Finish the shard that is open."""
        if self._stream is None:
            return
        self._stream.close()
        self.shards.append(shard_name(len(self.shards), self._digest.hexdigest()))
        (self.folder / ".open").rename(self.folder / self.shards[-1])
        self._stream, self._size, self._digest = None, 0, hashlib.sha256()


def join_shards(parts: Sequence[Path], folder: Path) -> None:
    """Lines that other processes wrote, part by part, as the shards of an existing folder. Those of a small corpus are
    smaller than `SHARD_BYTES`, so that there is a shard for each of many processes."""
    total = sum(part.stat().st_size for part in parts)
    writer = ShardWriter(folder / DOCUMENTS, min(SHARD_BYTES, max(_LEAST_SHARD_BYTES, total // _SHARDS)))
    for part in parts:
        with part.open("rb") as stream:
            for line in stream:
                writer.add_line(line)
    writer.close()


def shard_name(place: int, digest: str) -> str:
    """The name of a shard at this place whose bytes have this SHA-256."""
    return f"{place:05d}-{digest[:16]}.jsonl"


_KEYS = ("hash", *(field.name for field in dataclasses.fields(Document) if field.name != "hash"))
_SET_OF_KEYS, _OPTIONAL = frozenset(_KEYS), ("licence", "date", "language")
_WORDS = tuple(_SET_OF_KEYS - {"metadata", *_OPTIONAL})
_VALUES = attrgetter(*_KEYS[:-1])  # the last is the metadata
_LINE = "{{" + ", ".join(f'"{key}": {{}}' for key in _KEYS[:-1]) + ', "metadata": {{{}}}}}'


def document_to_json(document: Document) -> str:
    """One line of JSON, the hash first: that of `json.dumps`, in half of the time."""
    metadata = ", ".join(
        [f"{encode_basestring(key)}: {encode_basestring(document.metadata[key])}" for key in document.metadata]
    )
    return _LINE.format(
        *["null" if value is None else encode_basestring(value) for value in _VALUES(document)], metadata
    )


def rejected_to_json(item: RejectedRecord) -> str:
    """One line of JSON."""
    return json.dumps(dataclasses.asdict(item), ensure_ascii=False)


def document_from_json(line: str | bytes, where: str) -> Document:
    """The strict inverse; ValueError for an unknown or missing key, a wrong type, a text that does not fit its hash."""
    try:
        row = json.loads(line)
        return Document(**row) if _is_as_written(row) else from_mapping(Document, row)
    except ValueError as error:  # ConfigError and JSONDecodeError are both one
        raise ValueError(f"{where}: {error}") from error


def _is_as_written(row: Any) -> bool:
    """Whether keys and types are those of `document_to_json`, which takes a twentieth of the time of `from_mapping`:
    documents are loaded by the million, at each stage."""
    return (
        isinstance(row, dict)
        and row.keys() == _SET_OF_KEYS
        and isinstance(row["metadata"], dict)
        and {str}.issuperset(map(type, (*row["metadata"].values(), *map(row.__getitem__, _WORDS))))
        and {str, type(None)}.issuperset(map(type, map(row.__getitem__, _OPTIONAL)))
    )


# ---------------------------------------------------------------------------------------------------------------------
# Reading


@dataclass(frozen=True)
class Shard:
    """One file of documents; of a corpus of several inputs, its `number` over all of them, and its input."""

    path: Path
    number: int = 0
    input: str = ""

    def __len__(self) -> int:
        return len(self.index[1])

    def __iter__(self) -> Iterator[Document]:
        with self.path.open("rb") as stream:
            for number, line in enumerate(stream, start=1):
                yield document_from_json(line, f"{self.path}, line {number}")

    @property
    def bytes(self) -> int:
        """The size of the file, which work on it takes as long as."""
        return self.path.stat().st_size

    @property
    def name(self) -> str:
        """The name of files made from this shard: its number, and the digest in its own name."""
        return f"{self.number:05d}-{self.path.stem.partition('-')[2]}"

    @cached_property
    def index(self) -> "tuple[NDArray[np.uint8], NDArray[np.int64]]":
        """The SHA-256 of every document, (n, 32), and where its line begins, (n,). ValueError for a line that does not
        begin with one."""
        import numpy as np

        hashes, offsets = bytearray(), [0]
        with self.path.open("rb") as stream:
            for number, line in enumerate(stream, start=1):
                found = _BEGIN.match(line)
                if found is None or not line.endswith(b"\n"):
                    raise ValueError(f"{self.path}, line {number}: not a document that begins with its hash")
                hashes += bytes.fromhex(found[1].decode())
                offsets.append(offsets[-1] + len(line))
        return np.frombuffer(bytes(hashes), np.uint8).reshape(-1, 32), np.array(offsets[:-1], np.int64)

    def read(self, place: int) -> Document:
        """The document at this place of the shard, counted from 0."""
        with self.path.open("rb") as stream:
            stream.seek(int(self.index[1][place]))
            return document_from_json(stream.readline(), f"{self.path}, line {place + 1}")


class DocumentStore:
    """Random access to a folder written by `write_documents`; in memory it holds 48 bytes a document.

    Documents with the same text share a hash: `get` returns the first of them, iteration gives all.
    """

    def __init__(self, folder: Path) -> None:
        import numpy as np

        self.folder = folder
        if not (folder / DOCUMENTS).is_dir():
            raise FileNotFoundError(
                f"{folder} holds no {DOCUMENTS}; it is not the folder of a stage such as corpus.read"
            )
        self.shards = [Shard(path) for path in shard_paths(folder)]
        self._starts = np.cumsum([0, *map(len, self.shards)])
        keys = [shard.index[0][:, :8].copy().view(">u8")[:, 0] for shard in self.shards]  # how each hash begins
        self._keys = np.concatenate([np.empty(0, ">u8"), *keys]).astype(np.uint64)
        self._order = np.argsort(self._keys, kind="stable")  # so that of equal ones the first is found

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __contains__(self, document_hash: object) -> bool:
        return isinstance(document_hash, str) and self._find(document_hash) is not None

    def __iter__(self) -> Iterator[Document]:
        for shard in self.shards:
            yield from shard

    def hashes(self) -> Iterator[str]:
        """The hash of every document, in order, repeated where texts are equal."""
        return (row.tobytes().hex() for shard in self.shards for row in shard.index[0])

    def get(self, document_hash: str) -> Document:
        """The document with this document_hash; KeyError when there is none."""
        found = self._find(document_hash)
        if found is None:
            raise KeyError(f"no document {document_hash[:12]}… in {self.folder}")
        shard, place = found
        return shard.read(place)

    def _find(self, document_hash: str) -> tuple[Shard, int] | None:
        """The first document of this hash: its shard, and its place there."""
        import numpy as np

        if not _HASH.fullmatch(document_hash):
            return None
        wanted = bytes.fromhex(document_hash)
        key = np.uint64(int.from_bytes(wanted[:8]))
        for number in self._order[np.searchsorted(self._keys, key, sorter=self._order) :]:
            if self._keys[number] != key:
                break
            shard = int(np.searchsorted(self._starts, number, side="right")) - 1
            place = int(number - self._starts[shard])
            if self.shards[shard].index[0][place].tobytes() == wanted:
                return self.shards[shard], place
        return None


def open_documents(folder: Path) -> DocumentStore:
    """The documents that a stage reads from; ValueError where there are none, as a policy may drop all of them."""
    store = DocumentStore(folder)
    if not len(store):
        raise ValueError(no_documents_message(folder))
    return store


def no_documents_message(folder: Path) -> str:
    """The message for the artefact of a stage without documents: corpus.filter makes one where no document is left."""
    return (
        f"{folder} holds no documents. Where a policy dropped them all, {folder / REPORT} lists the steps, and "
        f"`lmworks data why DOCUMENT --workspace {folder}` what became of one"
    )


# ---------------------------------------------------------------------------------------------------------------------
# Folders


def shard_paths(folder: Path) -> list[Path]:
    """The shards of an artefact's folder, in their order."""
    return in_order((folder / DOCUMENTS).glob("[0-9]*.jsonl"))


def in_order(paths: Iterable[Path]) -> list[Path]:
    """Files whose names begin with their places: five digits, or as many as it takes."""
    return sorted(paths, key=lambda path: (int(path.name.partition("-")[0]), path.name))


def made_folder(path: Path) -> Path | None:
    """The folder of the artefact whose documents are meant by a path: its own, that of the last stage with documents of
    what was built in a workspace, or that of the stage called so in one (`WORKSPACE/stages/NAME`). None for any other
    path."""
    if _is_store(path):
        return path
    if path.name == DOCUMENTS and _is_store(path.parent):
        return path.parent
    stages = [path / folder for folder in reversed(_current_stages(path).values())]
    return next(filter(_is_store, [stage_folder(path), *stages]), None)


def stage_folder(path: Path) -> Path:
    """The artefact for which `WORKSPACE/stages/NAME` stands, as it was built last; another path for itself."""
    named = _current_stages(path.parent.parent).get(path.name) if path.parent.name == STAGE_FOLDERS else None
    return path.parent.parent / named if named else path


def _current_stages(workspace: Path) -> dict[str, str]:
    """Stage → its folder in the workspace, as it was built last; nothing for another folder."""
    try:
        stages = read_json(workspace / CURRENT)["stages"]
        return {str(name): str(folder) for name, folder in stages.items()}
    except (OSError, ValueError, LookupError, AttributeError, TypeError):  # there is no such file, or another one
        return {}


def _is_store(folder: Path) -> bool:
    """Whether a stage wrote documents there, perhaps none: names of shards are like no others."""
    documents = folder / DOCUMENTS
    if not documents.is_dir():
        return False
    names = [path.name for path in documents.iterdir()]
    return all(map(_SHARD_NAME.fullmatch, names)) and (bool(names) or (folder / REJECTED).is_file())


# ---------------------------------------------------------------------------------------------------------------------
# The documents of several artefacts as one corpus: their shards in an order, each document at a place in it


def corpus_shards(inputs: Mapping[str, Path]) -> list[Shard]:
    """The shards of those inputs (name → folder) that hold documents, by their order; ValueError where none does."""
    stores = {name: folder for name, folder in inputs.items() if (folder / DOCUMENTS).is_dir()}
    found = [(name, path) for name, folder in stores.items() for path in shard_paths(folder)]
    if stores and not found:
        raise ValueError("; ".join(map(no_documents_message, stores.values())))
    if not found:
        raise ValueError(f"none of the inputs holds a document: {', '.join(inputs) or 'there are no inputs'}")
    return [Shard(path, number, name) for number, (name, path) in enumerate(found)]


def check_sources(shards: Sequence[Shard]) -> None:
    """ValueError where two inputs have a source of one name, which the ledger could not distinguish."""
    owner: dict[str, str] = {}
    for shard in shards if len({shard.input for shard in shards}) > 1 else ():
        with shard.path.open("rb") as stream:
            sources = {json.loads(line)["source"] for line in stream}
        for source in sources:
            if owner.setdefault(source, shard.input) != shard.input:
                raise ValueError(
                    f"{shard.input} and {owner[source]} both have a source called {source}: give one of their folders "
                    "another name"
                )
