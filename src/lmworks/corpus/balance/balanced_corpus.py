"""The balanced corpus on disk: the documents that were drawn and their copies, round by round, and what became of each.

Round 1 has each drawn document once, as it came, byte for byte. Round 2 has the second copies, and so on, each through
the whole corpus in its order, so that copies of a text stand far apart.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lmworks.corpus.balance.augmentation import AUGMENTATIONS, choose_augmentation, numbers_of
from lmworks.corpus.balance.config import BalanceConfig
from lmworks.corpus.balance.draw import REASONS, Draw
from lmworks.corpus.balance.survey import AUGMENTED, COPY, ORIGIN, Survey
from lmworks.corpus.documents import Shard, document_from_json, document_to_json, kind_of
from lmworks.corpus.languages import base_language
from lmworks.corpus.taggers.tagger import Text
from lmworks.records import Document, RejectedRecord
from lmworks.report import Section, Table

COUNTS = "counts.json"
LEDGER = "balance.parquet"
_SHOWN = 100  # rows of a table


def write_part(part: tuple[Shard, NDArray[np.int32]], folder: Path, augment: Mapping[str, float], seed: int) -> None:
    """A file for each round that has a document of the shard, of which each comes so often (n,), and the counts, into a
    new folder: the repeats that an augmentation rewrote, and the bytes by which they grew."""
    shard, copies = part
    folder.mkdir()
    counts = Counter[str]()
    for number in range(1, int(copies.max(initial=0)) + 1):
        with (folder / _round(number)).open("wb") as target, shard.path.open("rb") as source:
            for place, line in enumerate(source):
                if copies[place] >= number > 1:
                    document = document_from_json(line, f"{shard.path}, line {place + 1}")
                    kind, text = kind_of(document), document.text
                    numbers = numbers_of(document.hash, number, seed)
                    if chosen := choose_augmentation(augment, kind, numbers):
                        seen = Text(text, kind, base_language(document.language) or "", document.uri)
                        text = AUGMENTATIONS[chosen](seen, numbers)
                    copy = make_copy(document, number, text, chosen if text != document.text else "")
                    counts["augmented"] += AUGMENTED in copy.metadata
                    counts["bytes"] += _bytes(copy) - _bytes(document)
                    line = document_to_json(copy).encode() + b"\n"
                if copies[place] >= number:
                    target.write(line)
    (folder / COUNTS).write_text(json.dumps(counts))


def _round(number: int) -> str:
    return f"round-{number:05d}.jsonl"


def _bytes(document: Document) -> int:
    return len(document.text.encode("utf-8", "surrogatepass"))


def make_copy(document: Document, number: int, text: str, augmentation: str = "") -> Document:
    """The copy of this number, from 2 on, with a text that an augmentation made of the document's, or the same."""
    copied = {ORIGIN: document.hash, COPY: str(number)} | ({AUGMENTED: augmentation} if augmentation else {})
    return replace(
        document, text=text, hash="", uri=f"{document.uri}#copy-{number}", metadata={**document.metadata, **copied}
    )


def rounds(folders: Sequence[Path], most: int) -> list[Path]:
    """The files of all parts in the order of the corpus: by rounds, and in these by parts."""
    paths = [folder / _round(number) for number in range(1, most + 1) for folder in folders]
    return [path for path in paths if path.exists()]


def not_drawn(survey: Survey, draw: Draw) -> Iterator[RejectedRecord]:
    """How many documents of each source are not in the corpus, and why; `balance.parquet` has each of them."""
    for source, name in enumerate(survey.sources):
        counts = np.bincount(draw.reasons[survey.source == source], minlength=len(REASONS)).tolist()
        pairs = zip(REASONS[1:], counts[1:], strict=True)
        yield from (RejectedRecord(name, reason, count) for reason, count in pairs if count)


def write_ledger(path: Path, surveys: Sequence[Path], draw: Draw) -> None:
    """A row for each document that came: its uri, hash, source, language and bytes; how often it counts, how often it
    comes, and why it does not."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    times = np.array([float(time) for time in draw.counted.times])[draw.counted.place]
    reasons = np.array(REASONS, object)[draw.reasons]
    names = ["uri", "hash", "source", "language", "sizes"]
    types = {"bytes": pa.int64(), "times": pa.float64(), "copies": pa.int32()}
    columns = [*names[:4], "bytes", "times", "copies", "rejected"]
    schema = pa.schema([(name, types.get(name, pa.string())) for name in columns])
    start = 0
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for part in surveys:
            table = pq.read_table(part, columns=names)
            own = [column[start : start + len(table)] for column in (times, draw.copies, reasons)]
            writer.write_table(pa.table([*table.columns, *map(pa.array, own)], schema=schema))
            start += len(table)


def describe(config: BalanceConfig, survey: Survey, draw: Draw) -> tuple[Section, ...]:
    """Sections of the report: what was wanted of each source and language next to what goes."""
    targets, unit = draw.targets, config.unit
    goes = draw.copies * draw.sizes
    text = f"{draw.copies.sum():,} documents of {np.count_nonzero(draw.copies):,} that differ: {goes.sum():,} "
    text += f"{unit} of {targets.total:,} that were wanted."
    alarms = ()
    if targets.scarcest is not None:
        text += f" {targets.scarcest} sets the size: it gives all that its max_epochs let it give."
        if goes.sum() < 0.5 * (came := draw.sizes.sum()):
            part = f"{goes.sum():,} of {came:,} {unit} go into the corpus, as {targets.scarcest} gives no more"
            alarms = (f"{part}: lower its weight, raise its max_epochs, or set total.",)
    lacking = np.bincount(draw.reasons, minlength=len(REASONS)).tolist()
    rows = tuple((reason, count) for reason, count in zip(REASONS[1:], lacking[1:], strict=True) if count)
    table = Table(("not in the corpus because", "documents"), rows)
    sections = [Section("What goes into the corpus", text, (table,), alarms=alarms)]
    wanted = dict.fromkeys(survey.sources, 0.0)
    for stratum, share in targets.shares.items():
        wanted[stratum.source] += float(share)
    of_source = {name: f"{share:.2%}" for name, share in wanted.items()}
    bounds = {name: f"{share.at_least:.4g} to {share.at_most:.4g}" for name, share in config.languages.items()}
    for what, names, place, target in (
        ("source", survey.sources, survey.source, of_source),
        ("language", survey.languages, survey.language, bounds),
    ):
        came = np.bincount(place, draw.sizes, len(names))
        went = np.bincount(place, goes, len(names))
        rows = tuple(
            (
                *(names[at], int(came[at]), f"{came[at] / came.sum():.2%}", target.get(names[at], "")),
                *(f"{went[at] / went.sum():.2%}", int(went[at]), float(went[at] / max(came[at], 1))),
            )
            for at in np.argsort(-came, kind="stable")[:_SHOWN].tolist()
        )
        header = (what, f"{unit} came", "share", "wanted", "goes", f"{unit} go", "epochs")
        sections.append(Section(f"By {what}", "Wanted is the share if nothing were scarce.", (Table(header, rows),)))
    return tuple(sections)
