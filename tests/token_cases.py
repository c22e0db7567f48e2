"""Token datasets for tests: documents of given lengths whose tokens say where they are from."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lmworks.data.token_dataset import SHARD_TOKENS, TokenDataset, TokenWriter

VOCABULARY = "ab" * 32


def name_of(document: int) -> str:
    return hashlib.sha256(str(document).encode()).hexdigest()


def hash_of(dataset: TokenDataset, document: int) -> str:
    """SHA-256 of the text that document number `document` was made from."""
    return np.concatenate([shard.hashes for shard in dataset.shards])[document].tobytes().hex()


def write_dataset(
    folder: Path,
    documents: Sequence[NDArray[np.int64]],
    masks: Sequence[NDArray[np.bool_] | None] | None = None,
    shard_tokens: int = SHARD_TOKENS,
    vocabulary_size: int = 2**20,
    vocabulary: str = VOCABULARY,
    first: int = 0,
) -> TokenDataset:
    """`first` is the number of the first document, by which they are named."""
    folder.mkdir(parents=True, exist_ok=True)
    with TokenWriter(folder, vocabulary, vocabulary_size, shard_tokens) as writer:
        for number, ids in enumerate(documents):
            writer.add(ids, name_of(first + number), None if masks is None else masks[number])
    return TokenDataset(folder)


def counted(lengths: Sequence[int], first: int = 0) -> list[NDArray[np.int64]]:
    """Documents of these lengths in which every token is another number, in order from `first`."""
    ends = first + np.cumsum(lengths)
    return [np.arange(end - length, end) for length, end in zip(lengths, ends.tolist(), strict=True)]
