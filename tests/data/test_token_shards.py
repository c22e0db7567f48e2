"""Token shards: what was written comes back, whatever else is refused, and a kill leaves nothing half-written."""

import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.tables import for_each
from lmworks.data.token_dataset import TokenDataset, TokenWriter
from lmworks.data.token_shard import TokenShard
from token_cases import VOCABULARY, counted, hash_of, name_of, write_dataset

SHARD = "tokens-00000.safetensors"


@st.composite
def documents_with_masks(draw):
    size = draw(st.sampled_from([1, 300, 2**16, 2**16 + 1, 2**32]))
    lengths = draw(st.lists(st.integers(0, 40), min_size=1, max_size=12))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    documents = [rng.integers(0, size, length) for length in lengths]
    masks = [rng.random(length) < 0.5 if draw(st.booleans()) else None for length in lengths]
    return size, documents, masks


@given(documents_with_masks(), st.integers(1, 60), st.data())
def test_documents_masks_and_hashes_come_back(tmp_path_factory, case, shard_tokens, data):
    size, documents, masks = case
    dataset = write_dataset(tmp_path_factory.mktemp("shards"), documents, masks, shard_tokens, size)
    text = np.concatenate(documents)
    learned = np.concatenate([np.ones(len(d), bool) if m is None else m for d, m in zip(documents, masks, strict=True)])
    assert dataset.lengths.tolist() == [len(document) for document in documents]
    start = data.draw(st.integers(0, len(text)))
    stop = data.draw(st.integers(start, len(text)))
    found = dataset.read(start, stop)
    assert found.dtype == (np.uint16 if size <= 2**16 else np.uint32)
    assert found.tolist() == text[start:stop].tolist()
    assert dataset.mask(start, stop).tolist() == learned[start:stop].tolist()
    assert dataset.learned_tokens == learned.sum()
    out = np.zeros(len(text), np.int64)
    dataset.copy(out, dataset.offsets[:-1], dataset.offsets[:-1], dataset.lengths)
    assert out.tolist() == text.tolist()
    assert [hash_of(dataset, i) for i in range(len(documents))] == [name_of(i) for i in range(len(documents))]
    assert all(len(s.tokens) <= shard_tokens or np.count_nonzero(np.diff(s.offsets)) == 1 for s in dataset.shards)
    dataset.verify()


def test_every_changed_byte_and_any_other_length_is_noticed(tmp_path):
    """The length when a folder is opened, all else by reading all of it at the latest."""
    write_dataset(tmp_path, counted([7, 9]), [None, np.zeros(9, bool)])
    path = tmp_path / SHARD
    whole = path.read_bytes()
    for damaged in (*(whole[:length] for length in range(len(whole))), whole + b"\0"):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=re.escape(str(path))):
            TokenDataset(tmp_path)
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(ValueError, match=re.escape(str(path))):
            TokenDataset(tmp_path).verify()
    path.write_bytes(whole)
    TokenDataset(tmp_path).verify()


def test_a_folder_that_is_not_whole_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError):
        TokenDataset(tmp_path)
    write_dataset(tmp_path, counted([5, 5]), shard_tokens=5)
    second = (tmp_path / "tokens-00001.safetensors").read_bytes()
    (tmp_path / "tokens-00001.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="tokens-00001"):
        TokenDataset(tmp_path)
    (tmp_path / SHARD).write_bytes(second)
    with pytest.raises(ValueError, match="tokens-00000"):
        TokenDataset(tmp_path)


@for_each(("ids", "mask", "name"), [
    ([-1], None, name_of(0)), ([1], [True, False], name_of(0)), ([1], None, "abcd"), ([1.5], None, name_of(0)),
])  # fmt: skip
def test_bad_documents_are_refused_and_leave_nothing(tmp_path, ids, mask, name):
    with pytest.raises(ValueError), TokenWriter(tmp_path, VOCABULARY, 5) as writer:
        writer.add([4], name_of(0))
        writer.add(ids, name, mask)
    assert list(tmp_path.iterdir()) == []


WRITE = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from token_cases import VOCABULARY, counted, name_of
from lmworks.data.token_dataset import TokenWriter
with TokenWriter(Path(sys.argv[1]), VOCABULARY, 2**20, 20) as writer:
    done = len(writer.kept)
    for number, ids in list(enumerate(counted([7] * 20)))[done:]:
        writer.add(ids, name_of(number))
        print(number, flush=True)
        if number == int(sys.argv[2]):
            sys.stdin.read()
"""


def test_a_kill_leaves_whole_shards_and_the_next_writer_goes_on_to_the_same_bytes(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    write_dataset(whole, counted([7] * 20), shard_tokens=20)
    killed.mkdir()
    helpers = str(Path(__file__).parents[1])
    for last in (0, 12, 19):
        command = [sys.executable, "-c", WRITE, str(killed), str(last), helpers]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            while child.stdout.readline().strip() != str(last):
                pass
            child.send_signal(signal.SIGKILL)
        with pytest.raises(FileNotFoundError):
            TokenDataset(killed)
        finished = sorted(killed.glob("tokens-*.safetensors"))
        assert len(finished) == last // 2  # two documents of seven tokens fit into twenty; the open shard is not there
        assert all(TokenShard(path).hashes.shape == (2, 32) for path in finished)
    with TokenWriter(killed, VOCABULARY, 2**20, 20) as writer:
        kept = len(writer.kept)
        assert writer.kept == [name_of(number) for number in range(kept)]
        for number in range(kept, 20):
            writer.add(counted([7] * 20)[number], name_of(number))
    assert {path.name: path.read_bytes() for path in killed.iterdir()} == {
        path.name: path.read_bytes() for path in whole.iterdir()
    }
