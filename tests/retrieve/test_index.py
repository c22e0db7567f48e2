"""The index: what a sync changes, that history leaves no trace in it, and that a kill hurts nothing."""

import random
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from kit.tables import for_each
from lmworks.records import Document
from lmworks.retrieve import index as index_module
from lmworks.retrieve.bm25 import lexical
from lmworks.retrieve.catalogue import CATALOGUE, EncoderMismatchError, UnusableIndexError
from lmworks.retrieve.chunk import chunk
from lmworks.retrieve.config import ChunkConfig
from lmworks.retrieve.dense import dense
from lmworks.retrieve.index import Index, SyncCounts

CHUNK = ChunkConfig(target_tokens=20, max_tokens=30)
Make = Callable[..., Document]


def corpus(document: Make, count: int = 12) -> list[Document]:
    rng = random.Random(0)
    texts = [
        "\n\n".join(" ".join(f"w{rng.randrange(50)}" for _ in range(9)) for _ in range(1 + n % 5)) for n in range(count)
    ]
    return [document(text, f"docs/{number:02}.txt") for number, text in enumerate(texts)]


def create(folder: Path, encoder) -> Index:
    return Index.create(folder, encoder, CHUNK)


def sync(index: Index, documents: Sequence[Document], encoder) -> SyncCounts:
    return index.sync(documents, encoder)


def state(index: Index) -> dict[str, tuple[str, bytes]]:
    """Text and vector of every chunk, by its place."""
    chunks = zip(index.chunks(index.keys), index.matrix, strict=True)
    return {f"{one.uri}:{one.span.start}": (one.text, vector.tobytes()) for one, vector in chunks}


def test_it_holds_the_chunks_and_their_vectors(tmp_path: Path, encoder, document: Make) -> None:
    documents = corpus(document)
    with create(tmp_path, encoder) as index:
        counts = sync(index, documents, encoder)
        expected = {}
        for value in documents:
            for one in chunk(value, CHUNK, encoder.count_tokens):
                vector = encoder.encode([one.embed_text], "query")[0].tobytes()
                expected[f"{value.uri}:{one.span.start}"] = (value.quote(one.span), vector)
        assert state(index) == expected
        assert counts == SyncCounts(added=12, embedded=len(expected))
        assert len(index) == len(expected) > 12
        assert list(index.documents()) == documents
        assert index.document(documents[3].hash) == documents[3]


def test_an_edit_embeds_that_document_only(tmp_path: Path, encoder, document: Make) -> None:
    documents = corpus(document)
    with create(tmp_path, encoder) as index:
        sync(index, documents, encoder)
        encoder.embedded.clear()
        assert sync(index, documents, encoder) == SyncCounts(unchanged=12)
        assert encoder.embedded == []
        changed = document("entirely new words", documents[4].uri)
        new = document("another document", "docs/new.txt")
        counts = sync(index, [*documents[:4], changed, *documents[6:], new], encoder)
        assert counts == SyncCounts(added=1, replaced=1, removed=1, unchanged=10, embedded=2)
        assert encoder.embedded == ["entirely new words", "another document"]


def test_history_leaves_no_trace(tmp_path: Path, encoder, document: Make) -> None:
    documents = corpus(document)
    with create(tmp_path / "straight", encoder) as straight, create(tmp_path / "winding", encoder) as winding:
        sync(straight, documents, encoder)
        rng = random.Random(1)
        for _ in range(6):
            some = [value for value in documents if rng.random() < 0.6]
            other = [document(f"passing {rng.random()}", f"x/{n}") for n in range(rng.randrange(4))]
            sync(winding, rng.sample([*some, *other], len(some) + len(other)), encoder)
        assert winding.digest() != straight.digest()
        sync(winding, list(reversed(documents)), encoder)
        assert state(winding) == state(straight)
        assert winding.digest() == straight.digest()


def test_the_digest_sees_every_part(tmp_path: Path, encoder, document: Make) -> None:
    digests = set()
    variants = [document("a b c", **change) for change in ({}, {"uri": "v"}, {"title": "T"}, {"licence": "MIT"})]
    for number, value in enumerate([*variants, document("a b d")]):
        with create(tmp_path / str(number), encoder) as index:
            sync(index, [value], encoder)
            digests.add(index.digest())
    other = type(encoder)("b" * 64)
    with create(tmp_path / "other", other) as index:
        sync(index, [document("a b c")], other)
        digests.add(index.digest())
    assert len(digests) == 6


def test_deleted_text_is_gone_from_the_files(tmp_path: Path, encoder, document: Make) -> None:
    secret, kept = document("the word xyzzyplugh is secret", "secret"), document("harmless words", "kept")
    with create(tmp_path, encoder) as index:
        sync(index, [secret, kept, *corpus(document)], encoder)
        vector = encoder.encode(["the word xyzzyplugh is secret"], "query")[0]
        assert len(lexical(index, "xyzzyplugh", 5)) == 1
        sync(index, [kept, *corpus(document)], encoder)
        assert len(lexical(index, "xyzzyplugh", 5)) == 0
        assert max(s["dense"] for s in dense(index, vector, 5).scores) < 0.99
        with pytest.raises(KeyError):
            index.document(secret.hash)
    catalogue = (tmp_path / CATALOGUE).read_bytes()
    assert b"xyzzyplugh" not in catalogue and vector.tobytes() not in catalogue


def test_another_encoder_is_refused(tmp_path: Path, encoder) -> None:
    create(tmp_path, encoder).close()
    with pytest.raises(EncoderMismatchError, match=r"aaaaaaaaaaaa….*bbbbbbbbbbbb…"):
        Index.open(tmp_path, "b" * 64)
    with Index.open(tmp_path, encoder.fingerprint) as index:
        assert index.chunk_config == CHUNK
        assert index.width == encoder.width


def test_what_is_no_index_is_refused(tmp_path: Path, encoder, document: Make) -> None:
    with pytest.raises(FileNotFoundError, match=r"retrieve\.index"):
        Index.open(tmp_path, encoder.fingerprint)
    (tmp_path / CATALOGUE).write_bytes(b"no database at all" * 100)
    with pytest.raises(UnusableIndexError, match="rebuild it"):
        Index.open(tmp_path, encoder.fingerprint)
    folder = tmp_path / "old"
    with create(folder, encoder) as index:
        index._connection.execute("UPDATE meta SET value = '{\"size\": 3}' WHERE name = 'chunk'")
    with pytest.raises(UnusableIndexError, match=r"another version.*rebuild it"):
        Index.open(folder, encoder.fingerprint)
    folder = tmp_path / "cut"
    with create(folder, encoder) as index:
        sync(index, [document("a b c")], encoder)
        with pytest.raises(FileExistsError):
            create(folder, encoder)
        with pytest.raises(ValueError, match="uri u"):
            sync(index, [document("a"), document("b")], encoder)


@for_each("fault", ["shape", "length", "nan"])
def test_vectors_that_cannot_be_compared_are_refused(tmp_path: Path, encoder, document: Make, fault: str) -> None:
    original = encoder.encode_both

    def encode_both(texts: Sequence[str], role: str) -> tuple[np.ndarray, list[np.ndarray]]:
        vectors, tokens = original(texts, role)
        return {"shape": vectors[:, 1:], "length": vectors * 2, "nan": vectors * np.nan}[fault], tokens

    encoder.encode_both = encode_both

    with create(tmp_path, encoder) as index:
        with pytest.raises(ValueError, match="docs/00"):
            sync(index, corpus(document), encoder)
        assert len(index) == 0


def test_a_long_document_is_encoded_in_batches(tmp_path: Path, encoder, document: Make, monkeypatch) -> None:
    monkeypatch.setattr("lmworks.retrieve.index.BATCH_CHUNKS", 3)
    sizes: list[int] = []
    original = encoder.encode_both

    def encode_both(texts: Sequence[str], role: str) -> tuple[np.ndarray, list[np.ndarray]]:
        sizes.append(len(texts))
        return original(texts, role)

    encoder.encode_both = encode_both
    with create(tmp_path, encoder) as index:
        sync(index, [document("\n\n".join(f"word{n} " * CHUNK.target_tokens for n in range(8)))], encoder)
        assert sizes == [3, 3, 2]
        for found, vector in zip(index.chunks(index.keys), index.vectors(index.keys), strict=True):
            assert np.allclose(vector, encoder.encode([found.prefix + found.text], "query")[0])


# ---------------------------------------------------------------------------------------------------------------------
# Interruptions


def test_an_error_within_a_commit_is_harmless(
    tmp_path: Path, encoder, document: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_module, "BATCH_CHUNKS", 4)
    documents = corpus(document)
    changed = [document(value.text[::-1], value.uri) for value in documents[1:7]]
    target = [*changed, *documents[8:]]
    with create(tmp_path / "straight", encoder) as straight:
        sync(straight, target, encoder)
        expected = (state(straight), straight.digest())
    original = Index._insert
    for after in (0, 3, 8):
        with create(tmp_path / str(after), encoder) as index:
            sync(index, documents, encoder)
        left = after

        def fail(self, *arguments):
            nonlocal left
            left -= 1
            if left < 0:
                raise KeyboardInterrupt
            return original(self, *arguments)

        monkeypatch.setattr(Index, "_insert", fail)
        index = Index.open(tmp_path / str(after), encoder.fingerprint)
        try:
            sync(index, target, encoder)
        except KeyboardInterrupt:
            for place, (text, vector) in state(index).items():  # every vector still is that of its text
                assert encoder.encode([text], "query")[0].tobytes() == vector, place
        monkeypatch.setattr(Index, "_insert", original)
        index.close()
        with Index.open(tmp_path / str(after), encoder.fingerprint) as index:
            sync(index, target, encoder)
            assert (state(index), index.digest()) == expected


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path[:0] = [sys.argv[1], str(Path(sys.argv[1]).parent)]
from hashing_encoder import HashingEncoder, make_document
from test_index import CHUNK, corpus
from lmworks.retrieve import index as index_module
from lmworks.retrieve.index import Index

index_module.BATCH_CHUNKS = 6
left = int(sys.argv[3])
original = Index._insert

def die(self, *arguments):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return original(self, *arguments)

Index._insert = die
encoder = HashingEncoder()
index = Index.open(Path(sys.argv[2]), encoder.fingerprint)
index.sync(corpus(make_document), encoder)
"""


def test_a_killed_process_loses_little_and_goes_on(tmp_path: Path, encoder, document: Make) -> None:
    documents = corpus(document)
    with create(tmp_path / "straight", encoder) as straight:
        sync(straight, documents, encoder)
        expected = (state(straight), straight.digest())
    create(tmp_path / "killed", encoder).close()
    arguments = [str(Path(__file__).parent), str(tmp_path / "killed"), "5"]
    finished = subprocess.run([sys.executable, "-c", KILLED, *arguments], capture_output=True, text=True, timeout=60)
    assert finished.returncode == -signal.SIGKILL, finished.stderr
    encoder.embedded.clear()
    with Index.open(tmp_path / "killed", encoder.fingerprint) as index:
        counts = sync(index, documents, encoder)
        assert counts.unchanged > 0, "what was committed before the kill is kept"
        assert counts.embedded == len(encoder.embedded) < len(index)
        assert (state(index), index.digest()) == expected
