"""Every vector store against brute force over the same vectors, by one suite; and when a store is refused."""

import importlib.util
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from hashing_encoder import HashingEncoder
from kit.tables import for_each
from lmworks.records import Document
from lmworks.retrieve.catalogue import UnusableIndexError
from lmworks.retrieve.config import ChunkConfig, IndexConfig
from lmworks.retrieve.dense import dense
from lmworks.retrieve.index import EVERYTHING, Filters, Index
from lmworks.retrieve.pgvector_store import PgvectorStore
from lmworks.retrieve.usearch_store import GRAPH
from lmworks.retrieve.vector_store import (
    EXACT_ROWS,
    STORE,
    check_store,
    measured_recall,
)
from postgres_server import PACKAGES, fresh_database

Make = Callable[..., Document]
needs_usearch = pytest.mark.skipif(not importlib.util.find_spec("usearch"), reason="needs lmworks[usearch]")
COUNT, WIDTH = 2_000, 32


def clustered(count: int = COUNT, seed: int = 0) -> np.ndarray:
    """Vectors of length 1 in clusters, in a random order, as those of chunks are."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((40, WIDTH))
    vectors = centres[rng.integers(40, size=count)] + 0.7 * rng.standard_normal((count, WIDTH))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


class Lookup(HashingEncoder):
    """An encoder whose vector of the text "n" is row n of a matrix."""

    def __init__(self, matrix: np.ndarray) -> None:
        super().__init__()
        self.matrix = matrix

    def encode(self, texts: Sequence[str], role: str) -> np.ndarray:
        return self.matrix[[int(text) for text in texts]]


def uri(number: int) -> str:
    return f"{'ab'[number % 10 == 0]}/{number:05}"


def built(folder: Path, matrix: np.ndarray, document: Make, store: str) -> Index:
    """An index of one chunk a row, whose text is the number of the row, with a store."""
    index = Index.create(folder, Lookup(matrix), ChunkConfig())
    documents = [document(str(number), uri(number)) for number in range(len(matrix))]
    index.sync(documents, Lookup(matrix))
    index.build_store(store)
    return index


def found(index: Index, query: np.ndarray, k: int, filters: Filters = EVERYTHING) -> list[int]:
    return [int(one.text) for one in index.chunks(dense(index, query, k, filters).keys)]


MATRIX, QUERIES = clustered(), clustered(50, seed=1)


@pytest.fixture(scope="module")
def database(postgres_server: str) -> Iterator[str]:
    """The address of an empty database on a server that has pgvector."""
    pytest.importorskip("pgvector")
    import psycopg

    with psycopg.connect(postgres_server) as connection:
        if not connection.execute("SELECT 1 FROM pg_available_extensions WHERE name = 'vector'").fetchone():
            pytest.skip(f"needs pgvector on the server: install {PACKAGES}")
    with fresh_database(postgres_server) as address:
        with psycopg.connect(address, autocommit=True) as connection:  # else so small a table is read whole
            connection.execute(f"ALTER DATABASE {address.rpartition('/')[2]} SET enable_seqscan = off".encode())
        yield address


@pytest.fixture(scope="module", params=["exact", pytest.param("usearch", marks=needs_usearch), "pgvector"])
def store(request: pytest.FixtureRequest) -> str:
    return request.getfixturevalue("database") if request.param == "pgvector" else request.param


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory, document: Make, store: str) -> Iterator[Index]:
    with built(tmp_path_factory.mktemp("index"), MATRIX, document, store) as index:
        yield index


def recall(index: Index, numbers: np.ndarray, filters: Filters = EVERYTHING) -> float:
    """Recall@10 of what is found among the chunks of these numbers, against brute force; all of k are found."""
    right = 0
    for query in QUERIES:
        nearest_ten = numbers[np.argsort(-(MATRIX[numbers] @ query))[:10]]
        hits = dense(index, query, 10, filters)
        names = [int(one.text) for one in index.chunks(hits.keys)]
        assert len(names) == 10
        assert [one["dense"] for one in hits.scores] == pytest.approx((MATRIX[names] @ query).tolist(), abs=1e-6)
        right += len(set(names) & set(nearest_ten.tolist()))
    return right / (10 * len(QUERIES))


def test_it_finds_what_brute_force_finds(index: Index, store: str) -> None:
    assert recall(index, np.arange(COUNT)) >= (1.0 if store == "exact" else 0.97)


@for_each("exact_rows", [0, EXACT_ROWS])
def test_filters_apply_before_the_choice(
    index: Index, store: str, exact_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lmworks.retrieve.vector_store.EXACT_ROWS", exact_rows)
    tenth = np.arange(0, COUNT, 10)
    assert recall(index, tenth, Filters(uri_prefix="b/")) >= (1.0 if store == "exact" or exact_rows else 0.97)
    # Those that a graph meets last: what passes is not among what it proposes.
    farthest = np.argsort(MATRIX @ QUERIES[0])[:60]
    hashes = frozenset(index.document(one.span.document).hash for one in index.chunks(keys_of(index, farthest)))
    assert found(index, QUERIES[0], 100, Filters(include=hashes)) == farthest[::-1].tolist()


def keys_of(index: Index, numbers: np.ndarray) -> list[int]:
    order = sorted(range(COUNT), key=uri)
    keys = index.keys
    return [int(keys[order.index(number)]) for number in numbers.tolist()]


def test_reopened_it_finds_the_same(index: Index, store: str) -> None:
    with Index.open(index.folder, Lookup(MATRIX).fingerprint) as again:
        assert (again.store is None) == (store == "exact")
        for query in QUERIES:
            assert dense(again, query, 10) == dense(index, query, 10)


def test_deleted_chunks_vanish_and_equal_ones_are_in_order(tmp_path: Path, document: Make, store: str) -> None:
    matrix = MATRIX[:600].copy()
    matrix[5:9] = matrix[100]
    with built(tmp_path, matrix, document, store) as index:
        assert found(index, matrix[100], 5) == [5, 6, 7, 8, 100]
        index.sync([document(str(number), uri(number)) for number in range(7, 600)], Lookup(matrix))
        assert index.store is None
        assert found(index, matrix[100], 3) == [7, 8, 100]
        index.build_store(store)
        assert found(index, matrix[100], 3) == [7, 8, 100]
        assert len(found(index, matrix[100], 600)) == 593


def test_recall_is_measured_without_the_vector_itself() -> None:
    """Of a store that knows even positions only, against the share of even ones among the ten nearest."""
    count = 800
    matrix = MATRIX[:count]
    even = np.arange(0, count, 2)

    class Half:
        def search(self, query: np.ndarray, k: int) -> np.ndarray:
            return even[np.argsort(-(matrix[even] @ query))[:k]]

        def close(self) -> None: ...

    cosines = matrix @ matrix.T
    np.fill_diagonal(cosines, -2)
    expected = np.mean(np.argsort(-cosines, axis=1)[:, :10] % 2 == 0)
    measured, sample = measured_recall(matrix, Half(), count)
    assert sample == count
    assert measured == pytest.approx(expected, abs=0.002)  # the least of an odd vector's neighbours is asked for once


@needs_usearch
def test_a_store_that_finds_too_little_is_not_kept(
    tmp_path: Path, document: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lmworks.retrieve.vector_store.LEAST_RECALL", 1.01)
    with pytest.raises(UnusableIndexError, match="set store = 'exact'"):
        built(tmp_path, MATRIX[:300], document, "usearch")
    assert not (tmp_path / STORE).exists()


@needs_usearch
@for_each("damage", ["documents", "recall", "graph", "width"])
def test_a_store_of_something_else_is_refused(tmp_path: Path, document: Make, damage: str) -> None:
    built(tmp_path / "a", MATRIX[:50], document, "usearch").close()
    record = json.loads((tmp_path / "a" / STORE).read_text())
    if damage == "documents":
        built(tmp_path / "b", MATRIX[:51], document, "usearch").close()
        (tmp_path / "b" / STORE).replace(tmp_path / "a" / STORE)
    elif damage == "recall":
        del record["recall"]
        (tmp_path / "a" / STORE).write_text(json.dumps(record))
    elif damage == "graph":
        (tmp_path / "a" / GRAPH).write_bytes(b"none")
    else:
        built(tmp_path / "b", MATRIX[:51], document, "usearch").close()
        (tmp_path / "b" / GRAPH).replace(tmp_path / "a" / GRAPH)
    with pytest.raises(UnusableIndexError, match="rebuild the index"):
        Index.open(tmp_path / "a", Lookup(MATRIX).fingerprint)
    Index.open(tmp_path / "a", Lookup(MATRIX).fingerprint, with_store=False).close()


@for_each("address", ["postgresql://me:secret@host/db", "postgresql://host/db?password=secret", "faiss"])
def test_a_store_that_names_a_password_or_nothing_known_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match="store") as error:
        IndexConfig(store=address)
    assert "secret" not in str(error.value)


def test_pgvector_keeps_a_table_for_each_content(tmp_path: Path, document: Make, database: str) -> None:
    """A system that serves an index goes on while the next is built; the same content is not built again."""
    import psycopg

    with (
        built(tmp_path / "a", MATRIX[:80], document, database) as served,
        built(tmp_path / "b", MATRIX[:90], document, database) as following,
        built(tmp_path / "c", MATRIX[:80], document, database) as same,
    ):
        tables = []
        for index in (served, following, same):
            assert isinstance(index.store, PgvectorStore)
            tables.append(index.store.table)
        assert tables[0] == tables[2] != tables[1]
        assert found(served, MATRIX[85], 80) != found(following, MATRIX[85], 90)
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(f"DROP TABLE {tables[1]}".encode())
    with pytest.raises(UnusableIndexError, match=f"{tables[1]}.*rebuild the index"):
        Index.open(tmp_path / "b", Lookup(MATRIX).fingerprint)


def test_pgvector_goes_on_after_a_lost_connection(tmp_path: Path, document: Make, database: str) -> None:
    import psycopg

    with built(tmp_path, MATRIX[:80], document, database) as index:
        before = found(index, QUERIES[0], 5)
        with psycopg.connect(database, autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        assert found(index, QUERIES[0], 5) == before


@for_each(
    ("problem", "message"),
    [("server", "start the server"), ("extension", "CREATE EXTENSION vector"), ("width", "at most 4000")],
)
def test_what_pgvector_lacks_is_named_before_work(postgres_server: str, problem: str, message: str) -> None:
    pytest.importorskip("pgvector")
    import psycopg

    with fresh_database(postgres_server) as address:
        if problem == "server":
            address = "postgresql://lmworks@127.0.0.1:1/none"
        elif problem == "extension":  # as on a server without it: this user may not make it
            with psycopg.connect(address, autocommit=True) as connection:
                connection.execute("CREATE ROLE reader LOGIN")
            address = address.replace("lmworks@", "reader@")
        try:
            with pytest.raises(UnusableIndexError, match=message):
                check_store(address, 4001 if problem == "width" else WIDTH)
        finally:
            if problem == "extension":
                with psycopg.connect(postgres_server, autocommit=True) as connection:
                    connection.execute("DROP ROLE reader")
