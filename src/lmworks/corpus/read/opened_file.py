"""From a name and a stream to the records in it: whatever it is, packed in whatever, as deep as the limits allow."""

import io
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import BinaryIO, cast

from lmworks.corpus.read.archives import read_tar, read_zip
from lmworks.corpus.read.compression import decompressed
from lmworks.corpus.read.container import Member, contained, inside, record_of, too_large
from lmworks.corpus.read.format_detection import COMPRESSIONS, Compression, name_behind_compression, recognise
from lmworks.corpus.read.mailboxes import read_mbox
from lmworks.corpus.read.mediawiki import read_mediawiki
from lmworks.corpus.read.record import Item, Limits, Refused
from lmworks.corpus.read.streams import DamagedError, Meter, buffered, head_of, in_memory, read_at_most
from lmworks.corpus.read.table_rows import Columns
from lmworks.corpus.read.tables import read_csv, read_jsonl, read_parquet, read_tsv
from lmworks.corpus.read.warc import read_warc


def read_stream(
    name: str, stream: BinaryIO, limits: Limits | None = None, columns: Columns | None = None
) -> Iterator[Item]:
    """The records, rows and refusals of a file called `name`; one record called "" where it is no container.

    What it is, is told by the name and by its first bytes. `columns` are those of tables. The stream is read once, by
    one thread, and not closed; a zip or Parquet file needs one that can be sought. Raises nothing for what is in it.
    """
    limits = limits or Limits()
    meter = Meter(limits.ratio)
    opened = _Opened(columns or Columns(), meter)
    return _read(buffered(stream, meter), limits, name, opened)


@contained
def _read(stream: io.BufferedReader, limits: Limits, name: str, opened: "_Opened") -> Iterator[Item]:
    yield from opened.read(Member("", stream), name, limits)


@dataclass(frozen=True, slots=True)
class _Opened:
    """One source: the columns of the tables in it, and how much it has unpacked to."""

    columns: Columns
    meter: Meter

    def inner(self, member: Member, limits: Limits) -> Iterator[Item]:
        """A member of an archive: one level deeper, if it is a container. Raises DamagedError."""
        found = recognise(member.name, head_of(member.stream))
        if found.container is None:
            yield record_of(member, found.media_type, limits)
        elif not limits.nesting:
            yield Refused(member.name, f"a container ({found.container}) deeper than the limit on nesting")
        else:
            deeper = replace(limits, nesting=limits.nesting - 1)
            yield from inside(member.name, self.read(replace(member, name=""), member.name, deeper))

    def read(self, member: Member, name: str, limits: Limits) -> Iterator[Item]:
        """What is called `name`. Raises DamagedError where it is no container."""
        found = recognise(name, head_of(member.stream))
        if found.container is None:
            yield record_of(member, found.media_type, limits)
        elif found.container in COMPRESSIONS:
            try:
                yield from self._decompressed(member, name, cast(Compression, found.container), limits)
            except DamagedError as error:
                yield Refused("", str(error))
        else:
            yield from self._container(member.stream, found.container, limits)

    def _decompressed(self, member: Member, name: str, packing: Compression, limits: Limits) -> Iterator[Item]:
        """A compression belongs to what it compresses, unless that is compressed again. Raises DamagedError."""
        content = Member("", decompressed(member.stream, packing, limits, self.meter), None, member.metadata)
        name = name_behind_compression(name)
        found = recognise(name, head_of(content.stream))
        if found.container is None:
            yield record_of(content, found.media_type, limits)
        elif found.container not in COMPRESSIONS:
            yield from self._container(content.stream, found.container, limits)
        elif not limits.nesting:
            yield Refused("", f"compressed again ({found.container}), deeper than the limit on nesting")
        else:
            yield from self.read(content, name, replace(limits, nesting=limits.nesting - 1))

    def _container(self, stream: io.BufferedReader, kind: str, limits: Limits) -> Iterator[Item]:
        if kind in ("zip", "parquet") and not stream.seekable():
            content = read_at_most(stream, limits.record_bytes)
            if content is None:
                yield Refused("", f"{too_large(limits)}, and a {kind} file inside another one has to fit into memory")
                return
            stream = in_memory(content)
        match kind:
            case "zip":
                yield from read_zip(stream, limits, self.inner, self.meter)
            case "tar":
                yield from read_tar(stream, limits, self.inner, self.meter)
            case "csv":
                yield from read_csv(stream, limits, self.columns)
            case "tsv":
                yield from read_tsv(stream, limits, self.columns)
            case "jsonl":
                yield from read_jsonl(stream, limits, self.columns)
            case "parquet":
                yield from read_parquet(stream, limits, self.columns)
            case "mbox":
                yield from read_mbox(stream, limits)
            case "mediawiki":
                yield from read_mediawiki(stream, limits)
            case "warc":
                yield from read_warc(stream, limits)
            case _:
                raise ValueError(f"there is no reader of {kind}")
