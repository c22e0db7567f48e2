"""Vector stores of an index at 10,000 to 1,000,000 chunks: recall against exact, latency, build time and size.

    .venv/bin/python -m pip install 'lmworks[usearch,postgres]'
    .venv/bin/python benchmarks/vector_stores.py [--sizes 10000 100000 1000000] [--postgres ADDRESS]
        [--postgres-limit 100000] [--token-limit 100000] [--distinct 8000] [--vectors FILE] [--data FOLDER]
        [--work FOLDER]
    .venv/bin/python benchmarks/vector_stores.py --filtered 1000000
    .venv/bin/python benchmarks/vector_stores.py --first 100000

The vectors are those of real chunks (classic books and Python's enhancement proposals, all-MiniLM-L6-v2), resampled up
to each size: a copy is a chosen chunk's vector plus Gaussian noise, normalised, and the noise is such that two copies
of one chunk are as near to each other as a real chunk is to its nearest in the median. Noise in all directions makes it
harder for a graph than more real chunks would. Queries on topic are the longest sentences of 200 chunks held out, those
off topic 200 real questions about other things (NQ-open), to which all chunks are about as far.

For each query the stores take turns, and each searches as `dense` does: 50 candidates, cosines from the matrix. Recall
is of the ten nearest. "own" is the recall that the stage `retrieve.index` measures and keeps; "size" is what a store
takes on the disk beside the matrix (for exact, the matrix); the build is from the matrix on the disk. PostgreSQL is a
server with pgvector, whose table is dropped at the end.

Up to `--token-limit` chunks, the late leg is timed as well: 180 token vectors a chunk of 128 int8 numbers in a table of
SQLite, of which a question of 12 tokens reads those of 60 chunks anywhere in it.

With `--filtered SIZE` nothing of that is done. A catalogue of so many short synthetic chunks, ten a document, is made,
and questions are asked without filters and, in turns, with filters that were not used before. With `--first SIZE` one
of vectors and token vectors as wide as those of all-MiniLM-L6-v2 is asked by new processes, in turns when none of its
file is in the memory of the system and when all is: the first question reads all vectors.
"""

import argparse
import gzip
import hashlib
import json
import os
import re
import resource
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from contenders.texts import DATA, books, proposals

import lmworks
from lmworks.generate import TextEncoder
from lmworks.records import Document, Span
from lmworks.retrieve.bm25 import lexical
from lmworks.retrieve.catalogue import CATALOGUE
from lmworks.retrieve.chunk import chunk
from lmworks.retrieve.config import ChunkConfig
from lmworks.retrieve.dense import dense
from lmworks.retrieve.index import EVERYTHING, Filters, Index
from lmworks.retrieve.late_interaction import STORED_WIDTH, from_int8, late_interaction, project
from lmworks.retrieve.named import named
from lmworks.retrieve.pgvector_store import PgvectorStore
from lmworks.retrieve.query_expansion import Query
from lmworks.retrieve.search import ranked
from lmworks.retrieve.usearch_store import GRAPH, UsearchStore
from lmworks.retrieve.vector_store import VectorStore, cosines, measured_recall, nearest

QUERIES, CANDIDATES, BLOCK = 200, 50, 65_536


def real_vectors(data: Path, distinct: int) -> dict[str, np.ndarray]:
    """`chunks` (distinct, width), queries `on_topic` and `off_topic` (200, width): vectors of real texts."""
    encoder = TextEncoder(lmworks.load("all-minilm-l6-v2"))

    def count_tokens(texts: Sequence[str]) -> list[int]:
        return [len(ids) for ids in encoder.tokenizer.encode_batch(texts)]

    documents = [
        Document(text, name, "text/plain", "markdown" if name.endswith(".md") else "plain", "1", "0" * 64)
        for name, text in (books(data) | proposals(data)).items()
    ]
    rng = np.random.default_rng(0)
    texts = [one.embed_text for document in documents for one in chunk(document, ChunkConfig(), count_tokens)]
    drawn = rng.choice(len(texts), min(distinct + QUERIES, len(texts)), replace=False)
    print(f"{len(texts):,} chunks of {len(documents)} documents, {len(drawn):,} of them embedded", flush=True)
    vectors = encoder.encode([texts[number] for number in drawn[QUERIES:]], "passage")
    sentences = [max(re.split(r"(?<=[.?!])\s+", texts[number]), key=len) for number in drawn[:QUERIES]]
    rows = gzip.decompress((data / "nq-open" / "NQ-open.dev.jsonl.gz").read_bytes()).decode().splitlines()
    off_topic = encoder.encode([json.loads(row)["question"] for row in rows[:QUERIES]], "query")
    return {"chunks": vectors, "on_topic": encoder.encode(sentences, "query"), "off_topic": off_topic}


def resampled(chunks: np.ndarray, size: int, file: Path) -> tuple[np.ndarray, float]:
    """`size` vectors in a file, and the cosine of a copy with its chunk."""
    rng = np.random.default_rng(1)
    sample = chunks[:2000]
    near = float(np.median(np.sort(sample @ chunks.T, axis=1)[:, -2]))  # of a real chunk and its nearest
    noise = np.sqrt((1 / near - 1) / chunks.shape[1])
    with file.open("wb") as stream:
        for start in range(0, size, BLOCK):
            chosen = chunks[rng.integers(len(chunks), size=min(BLOCK, size - start))]
            copies = chosen + noise * rng.standard_normal(chosen.shape, dtype=np.float32)
            stream.write((copies / np.linalg.norm(copies, axis=1, keepdims=True)).astype("<f4").tobytes())
    matrix = np.memmap(file, dtype="<f4", mode="r", shape=(size, chunks.shape[1]))
    return matrix, float(near**0.5)


def exact_tens(vectors: np.ndarray, queries: np.ndarray) -> list[set[int]]:
    """The ten nearest to each query, by brute force."""
    best = np.zeros((len(queries), 0), dtype=np.float32)
    places = np.zeros((len(queries), 0), dtype=np.int64)
    for start in range(0, len(vectors), BLOCK):
        block = queries @ vectors[start : start + BLOCK].T
        best = np.concatenate([best, block], axis=1)
        here = np.broadcast_to(np.arange(start, start + block.shape[1]), block.shape)
        places = np.concatenate([places, here], axis=1)
        order = np.argsort(-best, axis=1)[:, :10]
        best, places = np.take_along_axis(best, order, axis=1), np.take_along_axis(places, order, axis=1)
    return [set(row.tolist()) for row in places]


def disk_bytes(store: VectorStore, folder: Path) -> int:
    if isinstance(store, PgvectorStore):
        found = store._connection.execute("SELECT pg_total_relation_size(%s::regclass)", (store.table,)).fetchone()
        return found[0] if found else 0
    return (folder / GRAPH).stat().st_size


def measure(size: int, real: dict[str, np.ndarray], folder: Path, postgres: str | None) -> None:
    vectors, cosine = resampled(real["chunks"], size, folder / "vectors.f32")
    print(f"\n{size:,} vectors, each at cosine {cosine:.2f} of one of {len(real['chunks']):,} real chunks", flush=True)
    stores: dict[str, VectorStore | None] = {"exact": None}
    seconds, own, size_of = {"exact": 0.0}, {"exact": 1.0}, {"exact": vectors.nbytes}
    for name in ("usearch", *(("pgvector",) if postgres else ())):
        started = time.perf_counter()
        if name == "usearch":
            store = UsearchStore.build(folder, vectors)
        else:
            assert postgres
            store = PgvectorStore.build(postgres, f"benchmark{size:015}", vectors)
        seconds[name] = time.perf_counter() - started
        own[name], size_of[name] = measured_recall(vectors, store)[0], disk_bytes(store, folder)
        stores[name] = store
        print(f"  {name} built in {seconds[name]:.0f} s", flush=True)
    queries = np.concatenate([real["on_topic"], real["off_topic"]])
    truth = exact_tens(vectors, queries)
    found = {name: np.zeros(len(queries)) for name in stores}
    took = {name: np.zeros(len(queries)) for name in stores}
    for store in stores.values():  # maps what it reads into memory
        nearest(size, partial(cosines, vectors), queries[0], CANDIDATES, store=store)
    for number, (query, ten) in enumerate(zip(queries, truth, strict=True)):
        for name, store in stores.items():
            started = time.perf_counter()
            near, _ = nearest(size, partial(cosines, vectors), query, CANDIDATES, store=store)
            took[name][number] = 1000 * (time.perf_counter() - started)
            found[name][number] = len(ten & set(near[:10].tolist())) / 10
    print("  store      recall: on topic  off topic    own   median ms   p95 ms   build s       MB")
    for name in stores:
        half = len(real["on_topic"])
        print(
            f"  {name:9}  {found[name][:half].mean():16.3f}  {found[name][half:].mean():9.3f}  {own[name]:5.3f}"
            f"  {np.median(took[name]):10.2f}  {np.quantile(took[name], 0.95):7.2f}  {seconds[name]:8.0f}"
            f"  {size_of[name] / 1e6:7.0f}",
            flush=True,
        )
    for store in stores.values():
        if isinstance(store, PgvectorStore):
            store._connection.execute(f"DROP TABLE {store.table}".encode())
        if store is not None:
            store.close()


def measure_tokens(size: int, file: Path) -> None:
    """Size of the token vectors of `size` chunks, and the time of one question's late interaction with 60 of them."""
    rng = np.random.default_rng(2)
    tokens = rng.integers(-127, 128, (1000, 180, STORED_WIDTH), dtype=np.int8)
    query = project(rng.standard_normal((12, STORED_WIDTH)).astype(np.float32), np.eye(STORED_WIDTH, dtype=np.float32))
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("CREATE TABLE token_vectors (chunk INTEGER PRIMARY KEY, vectors BLOB NOT NULL)")
        blobs = (tokens[number % len(tokens)].tobytes() for number in range(size))
        connection.executemany("INSERT INTO token_vectors VALUES (?, ?)", enumerate(blobs))
        connection.commit()
        took = []
        for _ in range(QUERIES):
            chunks = rng.choice(size, 60, replace=False).tolist()
            started = time.perf_counter()
            read = "SELECT vectors FROM token_vectors WHERE chunk = ?"
            found = [connection.execute(read, (number,)).fetchone()[0] for number in chunks]
            vectors = [from_int8(np.frombuffer(blob, dtype=np.int8).reshape(-1, STORED_WIDTH)) for blob in found]
            late_interaction(query, vectors)
            took.append(1000 * (time.perf_counter() - started))
    print(
        f"  late leg: {file.stat().st_size / 1e6:,.0f} MB of token vectors, median {np.median(took):.1f} ms, "
        f"p95 {np.quantile(took, 0.95):.1f} ms; peak memory of this process "
        f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000:,.0f} MB",
        flush=True,
    )


FILTERED_WIDTH, OF_DOCUMENT, WORDS = 64, 10, 5_000


def catalogued(size: int, folder: Path, width: int = FILTERED_WIDTH, tokens: int = 0) -> Index:
    """An index of random vectors, so many of tokens for each chunk, and of texts of 12 words, which are drawn as often
    as one divided by their rank."""
    rng = np.random.default_rng(3)
    sample = SimpleNamespace(
        fingerprint="synthetic",
        width=width,
        token_sample=lambda: rng.standard_normal((500, width)).astype(np.float32),
    )
    index = Index.create(folder, sample, ChunkConfig())  # type: ignore[arg-type] - all that is asked of it
    ranks = np.arange(1, WORDS + 1)
    words = np.array([f"word{number}" for number in range(WORDS)])
    execute, executemany = index._connection.execute, index._connection.executemany
    execute("BEGIN")
    documents = range(size // OF_DOCUMENT)
    uris = [f"{document % 100:02}/{document:07}" for document in documents]
    hashes = [hashlib.sha256(uri.encode()).hexdigest() for uri in uris]
    executemany(
        "INSERT INTO documents (uri, hash, digest, record) VALUES (?, ?, ?, '{}')",
        zip(uris, hashes, hashes, strict=True),
    )
    for start in range(0, size, BLOCK):
        keys = range(start, min(start + BLOCK, size))
        vectors = rng.standard_normal((len(keys), width), dtype=np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        texts = words[rng.choice(WORDS, (len(keys), 12), p=1 / ranks / (1 / ranks).sum())]
        places = [(key + 1, key // OF_DOCUMENT + 1, str(key), 100 * (key % OF_DOCUMENT)) for key in keys]
        executemany("INSERT INTO chunks VALUES (?1, ?2, ?3, ?4, ?4 + 90, '[]', '', '[]', 12)", places)
        executemany(
            "INSERT INTO words (rowid, title, text) VALUES (?, '', ?)",
            [(key + 1, " ".join(text)) for key, text in zip(keys, texts.tolist(), strict=True)],
        )
        of_tokens = [rng.integers(-127, 128, tokens * STORED_WIDTH, np.int8).tobytes() for _ in range(100)]
        for key, vector in zip(keys, vectors, strict=True):
            execute("INSERT INTO vectors VALUES (?, ?)", (key + 1, vector.tobytes()))
            execute("INSERT INTO token_vectors VALUES (?, ?)", (key + 1, of_tokens[key % len(of_tokens)]))
    execute("COMMIT")
    return index


def measure_filtered(size: int, folder: Path, questions: int = 20) -> None:
    """Median processor time of the legs of a question, without a filter and with one of each kind."""
    started = time.perf_counter()
    rng = np.random.default_rng(4)
    with catalogued(size, folder) as index:
        index.matrix.sum()
        print(f"{size:,} chunks of {size // OF_DOCUMENT:,} documents made in {time.perf_counter() - started:.0f} s")
        hashes = [name for (name,) in index._connection.execute("SELECT hash FROM documents")]

        def drawn(count: int) -> frozenset[str]:
            return frozenset(hashes[number] for number in rng.choice(len(hashes), count, replace=False))

        kinds = {
            "no filter": lambda: EVERYTHING,
            "one document left out": lambda: Filters(exclude=drawn(1)),
            "half of the documents": lambda: Filters(include=drawn(len(hashes) // 2)),
            "100 documents": lambda: Filters(include=drawn(100)),
            "a folder of a hundredth": lambda: Filters(uri_prefix=f"{rng.integers(100):02}/"),
            "all but 5 hidden spans": lambda: Filters(hidden=tuple(Span(name, 50, 150) for name in drawn(5))),
        }
        took: dict[str, list[tuple[float, float]]] = {kind: [] for kind in kinds}
        for _ in range(questions):
            query = rng.standard_normal(FILTERED_WIDTH).astype(np.float32)
            question = " ".join(f"word{number}" for number in rng.integers(5, WORDS, 5))
            for kind, filters in kinds.items():
                given = filters()
                began = time.process_time()
                dense(index, query / np.linalg.norm(query), CANDIDATES, given)
                between = time.process_time()
                lexical(index, question, CANDIDATES, given)
                named(index, question, given)
                took[kind].append((between - began, time.process_time() - between))
        for kind, values in took.items():
            near, by_words = 1000 * np.median(values, axis=0)
            print(f"  {kind:25}  dense {near:8.1f} ms   lexical and named {by_words:8.1f} ms", flush=True)


def measure_first(size: int, folder: Path, rounds: int = 3) -> None:
    """Questions to an index of so many chunks, in new processes."""
    with catalogued(size, folder / "work", 384, tokens=180) as index:
        index.write_copy(folder)
    for name in ("from the disk", "from the cache of the system") * rounds:
        if name == "from the disk":
            file = os.open(folder / CATALOGUE, os.O_RDONLY)
            os.fsync(file)
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(file)
        print(f"{size:,} chunks, {name}: ", end="", flush=True)
        subprocess.run([sys.executable, __file__, "--asked", str(folder)], check=True)


def ask(folder: Path, questions: int = 21) -> None:
    """Time and memory of the first question to an index, and the median time of the others."""
    rng, took, before, after = np.random.default_rng(5), list[float](), memory(), 0.0
    with Index.open(folder, "synthetic") as index:
        for _ in range(questions):
            text = " ".join(f"word{number}" for number in rng.integers(5, WORDS, 5))
            vector = rng.standard_normal(index.width).astype(np.float32)
            tokens = project(rng.standard_normal((12, index.width)).astype(np.float32), index.axes)
            started = time.perf_counter()
            ranked(index, [Query(text, vector / np.linalg.norm(vector), tokens)])
            took.append(time.perf_counter() - started)
            after = memory() if len(took) == 1 else after
    print(f"{took[0]:.2f} s, then {1000 * np.median(took[1:]):.0f} ms; {before:.0f} MB before, {after:.0f} MB after it")


def memory() -> float:
    """Resident MB of this process."""
    return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * resource.getpagesize() / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--postgres", help="address of a database with pgvector, postgresql://user@host:port/database")
    parser.add_argument("--postgres-limit", type=int, default=100_000, help="no larger size is built there")
    parser.add_argument("--token-limit", type=int, default=100_000, help="no more chunks get token vectors")
    parser.add_argument("--distinct", type=int, default=8_000, help="real chunks that are embedded")
    parser.add_argument("--vectors", type=Path, help="file (.npz) that keeps the real vectors for the next run")
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--work", type=Path, help="folder for matrix and graph (3 GB at a million vectors)")
    parser.add_argument("--filtered", type=int, metavar="SIZE", help="time filtered questions of so many chunks")
    parser.add_argument("--first", type=int, metavar="SIZE", help="time the first question to so many chunks")
    parser.add_argument("--asked", type=Path, metavar="FOLDER", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.asked:
        ask(arguments.asked)
        return
    if arguments.first:
        with tempfile.TemporaryDirectory(dir=arguments.work) as folder:
            measure_first(arguments.first, Path(folder))
        return
    if arguments.filtered:
        with tempfile.TemporaryDirectory(dir=arguments.work) as folder:
            measure_filtered(arguments.filtered, Path(folder))
        return
    if arguments.vectors and arguments.vectors.exists():
        real = dict(np.load(arguments.vectors))
    else:
        real = real_vectors(arguments.data, arguments.distinct)
        if arguments.vectors:
            np.savez(arguments.vectors, allow_pickle=False, **real)
    for size in arguments.sizes:
        with tempfile.TemporaryDirectory(dir=arguments.work) as folder:
            measure(size, real, Path(folder), arguments.postgres if size <= arguments.postgres_limit else None)
            if size <= arguments.token_limit:
                measure_tokens(size, Path(folder) / "tokens.sqlite")


if __name__ == "__main__":
    main()
