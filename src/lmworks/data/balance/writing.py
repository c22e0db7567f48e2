"""The second pass: the documents that were chosen, and their copies, round by round.

Round 1 has each chosen document once, as it came, byte for byte. Round 2 has the second copies, and so on, each through
the whole corpus in its order, so that copies of a text stand far apart.
"""

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lmworks.data.annotation import Text
from lmworks.data.balance.augmentation import RULES, choose_rule, numbers_of
from lmworks.data.balance.copies import make_copy
from lmworks.data.balance.deciding import REASONS, Decision
from lmworks.data.balance.survey import Survey
from lmworks.data.corpus import CorpusShard
from lmworks.data.documents_of import kind_of
from lmworks.data.languages import base_language
from lmworks.data.store import document_from_json, document_to_json
from lmworks.records import Document, LeftOut

COUNTS = "counts.json"
LEDGER = "balance.parquet"


@dataclass(frozen=True, slots=True)
class WritePart:
    """A shard, and how often each of its documents comes (n,)."""

    shard: CorpusShard
    copies: NDArray[np.int32]
    augment: Mapping[str, float]
    seed: int


@dataclass(slots=True)
class Varied:
    """Of one rule: repeats that it was to write, those that it wrote otherwise, and by how many bytes they grew."""

    chosen: int = 0
    written: int = 0
    grown: int = 0


def write_part(part: WritePart, folder: Path) -> None:
    """A file for each round that has a document of the shard, and the counts, into a new folder."""
    folder.mkdir()
    varied = {name: Varied() for name in part.augment}
    for number in range(1, int(part.copies.max(initial=0)) + 1):
        with round_path(folder, number).open("wb") as target, part.shard.path.open("rb") as source:
            for place, line in enumerate(source):
                if part.copies[place] < number:
                    continue
                if number > 1:
                    document = document_from_json(line, f"{part.shard.path}, line {place + 1}")
                    line = document_to_json(_copy(document, number, part, varied)).encode() + b"\n"
                target.write(line)
    (folder / COUNTS).write_text(json.dumps({name: dataclasses.asdict(each) for name, each in varied.items()}))


def round_path(folder: Path, number: int) -> Path:
    return folder / f"round-{number:05d}.jsonl"


def _copy(document: Document, number: int, part: WritePart, varied: Mapping[str, Varied]) -> Document:
    kind = kind_of(document)
    numbers = numbers_of(document.hash, number, part.seed)
    rule = choose_rule(part.augment, kind, numbers)
    if not rule:
        return make_copy(document, number, document.text)
    text = RULES[rule].rewrite(Text(document.text, kind, base_language(document.language) or "", document.uri), numbers)
    changed = text != document.text
    varied[rule].chosen += 1
    varied[rule].written += changed
    varied[rule].grown += _size(text) - _size(document.text)
    return make_copy(document, number, text, rule if changed else "")


def _size(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))


def rounds(folders: Sequence[Path], most: int) -> list[Path]:
    """The files of all parts in the order of the corpus: by rounds, and in these by parts."""
    paths = [round_path(folder, number) for number in range(1, most + 1) for folder in folders]
    return [path for path in paths if path.exists()]


def varied_of(folders: Sequence[Path]) -> dict[str, Varied]:
    """What the rules did, over all parts."""
    found: dict[str, Varied] = {}
    for folder in folders:
        for name, row in json.loads((folder / COUNTS).read_text("utf-8")).items():
            each = found.setdefault(name, Varied())
            for key, count in row.items():
                setattr(each, key, getattr(each, key) + count)
    return found


# ---------------------------------------------------------------------------------------------------------------------
# What became of each document


def left_out(survey: Survey, decision: Decision) -> Iterator[LeftOut]:
    """How many documents of each source are not in the corpus, and why; `balance.parquet` has each of them."""
    for source, name in enumerate(survey.sources):
        counts = np.bincount(decision.reasons[survey.source == source], minlength=len(REASONS))
        for reason, count in zip(REASONS[1:], counts.tolist()[1:], strict=True):
            if count:
                yield LeftOut(name, reason, count)


def write_ledger(path: Path, surveys: Sequence[Path], survey: Survey, decision: Decision) -> None:
    """A row for each document that came: its uri, hash, source, language and bytes; how often it counts, how often it
    comes, and why it does not."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    times = np.array([float(time) for time in decision.counted.times])
    words = np.array(REASONS, object)
    start = 0
    writer: pq.ParquetWriter | None = None
    try:
        for part, count in zip(surveys, survey.counts, strict=True):
            here = slice(start, start + count)
            start += count
            table = pq.read_table(part, columns=["uri", "hash", "source", "language", "bytes"])
            table = table.append_column("times", pa.array(times[decision.counted.place[here]], pa.float64()))
            table = table.append_column("copies", pa.array(decision.copies[here], pa.int32()))
            table = table.append_column("left_out", pa.array(words[decision.reasons[here]], pa.string()))
            writer = writer or pq.ParquetWriter(path, table.schema, compression="zstd")
            writer.write_table(table)
    finally:
        if writer is not None:
            writer.close()
