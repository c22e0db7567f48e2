"""Whatever the bytes, a reader gives records and an extractor a text, or a reason."""

import bz2
import gzip
import lzma
import random
from dataclasses import replace
from pathlib import Path

import pytest
import reader_samples as samples
from fuzz_targets import TARGETS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kit.containers import items_of, kept, zipped
from kit.tables import for_each
from lmworks.corpus.read.config import ReadConfig
from lmworks.corpus.read.document_reader import read_documents
from lmworks.records import Document

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
    "a.zip": zipped(samples.FILES),
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
    assert items_of("a.zip", zipped({name: raw})) == inside
    for tar in (samples.tarred({name: raw}), gzip.compress(samples.tarred({name: raw}))):
        assert items_of("a.tar", tar)[: len(inside)] == inside


@for_each("name", TARGETS)
def test_samples_and_a_few_mutations_of_them_are_read_or_refused(name: str) -> None:
    target = TARGETS[name]
    for seed in target.seeds:
        target.run(seed)
    for number in range(6):
        choose = random.Random(number)
        target.run(target.mutate(choose.choice(target.seeds), choose))


@pytest.mark.slow
@for_each("name", TARGETS)
@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.binary(max_size=2000), st.integers(0, 2**32 - 1))
def test_arbitrary_bytes_and_mutated_files_are_read_or_refused(name: str, raw: bytes, seed: int) -> None:
    target, choose = TARGETS[name], random.Random(seed)
    target.run(raw)
    target.run(target.mutate(choose.choice(target.seeds), choose))
