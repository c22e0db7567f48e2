"""Documents to a vocabulary, to shards: each stage alone, as a user runs it."""

import pytest

from lmworks.build import run_alone
from lmworks.data.token_dataset import TokenDataset
from lmworks.tokenizer.merge_history import read_trace
from lmworks.tokenizer.tokenizer import Tokenizer


@pytest.fixture
def documents(tmp_path):
    texts = tmp_path / "texts"
    texts.mkdir()
    for number in range(3):
        (texts / f"{number}.txt").write_text(f"The hen number {number} laid an egg, the other hens did not.\n" * 20)
    return run_alone("corpus.read", tmp_path / "documents", [], [], [f'sources=["{texts}"]']).folder


def test_documents_to_a_vocabulary_to_shards(documents, tmp_path):
    outcome = run_alone("tokenizer.bpe", tmp_path / "vocabulary", [documents], [], ["vocabulary_size=280"])
    tokenizer = Tokenizer.load(outcome.folder)
    assert outcome.manifest.metrics["vocabulary"] == tokenizer.vocabulary_size == 280
    assert outcome.manifest.metrics["missing"] == 0
    assert len(read_trace(outcome.folder)) == 280 - 257
    shards = run_alone("data.tokenize", tmp_path / "shards", [documents, outcome.folder], [], [])
    dataset = TokenDataset(shards.folder)
    assert dataset.documents == 3 and dataset.index.vocabulary == tokenizer.hash
    more = run_alone("tokenizer.bpe", tmp_path / "more", [documents], [], ["vocabulary_size=30000"])
    assert more.manifest.metrics["missing"] > 29_000
