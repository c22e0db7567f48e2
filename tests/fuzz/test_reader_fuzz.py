"""Whatever the bytes, a reader gives records and an extractor a text, or a reason."""

import bz2
import gzip
import lzma
import random
from dataclasses import replace
from pathlib import Path

import reader_samples as samples
from fuzz_targets import TARGETS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from container_cases import items_of, kept
from kit.tables import for_each
from lmworks.corpus.read.config import ReadConfig
from lmworks.corpus.read.document_reader import read_documents
from lmworks.records import Document

QUICK = settings(suppress_health_check=[HealthCheck.too_slow])

FILES = {
    "a.html": samples.html(),
    "a.pdf": samples.pdf(),
    "a.docx": samples.docx(),
    "a.epub": samples.epub(),
    "a.md": samples.markdown(),
    "a.rst": samples.rest(),
    "a.txt": samples.plain(),
    "a.py": samples.python(),
    "a.eml": samples.mail(),
    "b.eml": samples.flowed_mail(),
    "a.jsonl": samples.jsonl(),
    "a.csv": samples.separated(),
    "a.tsv": samples.separated("excel-tab"),
    "a.parquet": samples.parquet(),
    "a.mbox": samples.mbox(),
    "a.xml": samples.mediawiki(),
    "a.warc": samples.warc(),
    "a.warc.gz": samples.warc(packed=True),
    "a.zip": samples.zipped(samples.FILES),
    "a.tar": samples.tarred(),
    **{f"b.jsonl.{suffix}": samples.COMPRESS[packing](samples.jsonl()) for packing, suffix in
       (("gzip", "gz"), ("bzip2", "bz2"), ("xz", "xz"), ("zstd", "zst"))},
}  # fmt: skip


@for_each("name", FILES)
def test_each_sample_is_a_file_of_its_format(tmp_path: Path, name: str) -> None:
    """Else mutations of it would reach no further than its first bytes."""
    (tmp_path / name).write_bytes(FILES[name])
    documents = [item for item in read_documents(ReadConfig((name,)), base=tmp_path) if isinstance(item, Document)]
    assert documents and all(document.text.strip() for document in documents)


CONTAINERS = [
    name
    for name in FILES
    if name.partition(".")[2] in ("jsonl", "csv", "parquet", "mbox", "xml", "warc", "warc.gz", "zip", "tar")
]


@for_each("name", CONTAINERS)
def test_a_container_inside_of_another_is_read_as_by_itself(name: str) -> None:
    raw = FILES[name]
    alone = items_of(name, raw)
    assert kept(alone)
    for packed, pack in (("xz", lzma.compress), ("bz2", bz2.compress)):
        assert name.endswith(".gz") or items_of(f"{name}.{packed}", pack(raw)) == alone
    inside = [replace(item, uri=f"{name}/{item.uri}" if item.uri else name) for item in alone]
    assert items_of("a.zip", samples.zipped({name: raw})) == inside
    for tar in (samples.tarred({name: raw}), gzip.compress(samples.tarred({name: raw}))):
        assert items_of("a.tar", tar)[: len(inside)] == inside


@for_each("name", TARGETS)
def test_samples_hold_what_has_to_hold(name: str) -> None:
    for seed in TARGETS[name].seeds:
        TARGETS[name].run(seed)


@for_each("name", TARGETS)
@QUICK
@given(st.binary(max_size=2000))
def test_arbitrary_bytes_are_read_or_refused(name: str, raw: bytes) -> None:
    TARGETS[name].run(raw)


@for_each("name", TARGETS)
@QUICK
@given(st.integers(0, 2**32 - 1))
def test_mutated_files_are_read_or_refused(name: str, seed: int) -> None:
    target, choose = TARGETS[name], random.Random(seed)
    target.run(target.mutate(choose.choice(target.seeds), choose))


@for_each("name", TARGETS)
@QUICK
@given(st.data())
def test_files_that_are_cut_off_are_read_or_refused(name: str, data: st.DataObject) -> None:
    seed = data.draw(st.sampled_from(TARGETS[name].seeds))
    TARGETS[name].run(seed[: data.draw(st.integers(0, len(seed)))])
