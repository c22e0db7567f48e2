"""A packed batch in a model: each document gets what it gets alone, and its loss is the documents' own."""

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from lmworks.data.config import LoaderConfig, SourceConfig
from lmworks.data.loader import Loader
from lmworks.model import masks
from lmworks.model.config import (
    Attention,
    Block,
    Embedding,
    FeedForward,
    LanguageModelHead,
    Learned,
    ModelConfig,
    Norm,
    Rope,
    Stack,
)
from lmworks.model.initialisation import initialise
from lmworks.model.transformer import Transformer
from token_cases import write_dataset

LENGTH, VOCABULARY = 24, 50


def build(rotary: bool) -> Transformer:
    """Two blocks in float64: a tolerance of 1e-10 tells rounding from a token that saw a stranger."""
    position, learned = (Rope(10_000.0), None) if rotary else (None, Learned(LENGTH))
    block = Block(Attention(4, 2, 8, position=position), FeedForward(32, "gelu"), Norm("layer", 1e-5), "pre")
    config = ModelConfig(
        Embedding(VOCABULARY, 16, learned), None, Stack((block, block), True), LanguageModelHead(False), LENGTH
    )
    return initialise(Transformer(config), seed=0, std=0.5).double().eval()


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    documents = [rng.integers(0, VOCABULARY, length) for length in (5, 24, 1, 60, 13, 9, 2, 31, 17, 3)]
    write_dataset(tmp_path, documents, vocabulary_size=VOCABULARY)
    return tmp_path


@pytest.mark.parametrize("rotary", [True, False])
@pytest.mark.parametrize("mode", ["pack", "concatenate"])
def test_packed_documents_get_the_logits_they_get_alone(folder, mode, rotary):
    model = build(rotary)
    pieces, padded = 0, 0
    with Loader(LoaderConfig({"text": SourceConfig(str(folder))}, LENGTH, 3, mode=mode)) as loader:
        for batch in loader:
            rule = masks.both(masks.causal, masks.documents(batch.documents))
            logits = model(batch.ids, positions=batch.positions, rule=rule)
            assert logits.isfinite().all()  # at padding too
            for row in range(len(batch)):
                for document in batch.documents[row].unique().tolist():
                    own = batch.documents[row] == document
                    alone = model(batch.ids[row, own][None])[0]
                    torch.testing.assert_close(logits[row, own], alone, atol=1e-10, rtol=1e-10)
                    pieces, padded = pieces + (document >= 0), padded + (document < 0)
    assert pieces > 10  # some were split
    assert padded > 0


def test_the_loss_of_packed_whole_documents_is_that_of_the_documents(tmp_path):
    """Where nothing has to be split, packing changes no loss: the sum over all targets is that of each alone."""
    rng = np.random.default_rng(1)
    documents = [rng.integers(0, VOCABULARY, length) for length in (5, 20, 2, 11, 9, 7, 24)]
    write_dataset(tmp_path, documents, vocabulary_size=VOCABULARY)
    model = build(rotary=True)
    packed, count = torch.tensor(0.0, dtype=torch.float64), 0
    with Loader(LoaderConfig({"text": SourceConfig(str(tmp_path))}, LENGTH, 2)) as loader:
        for batch in loader:
            rule = masks.both(masks.causal, masks.documents(batch.documents))
            logits = model(batch.ids, positions=batch.positions, rule=rule)
            packed += cross_entropy(logits[batch.mask], batch.targets[batch.mask], reduction="sum")
            count += int(batch.mask.sum())
    alone = torch.tensor(0.0, dtype=torch.float64)
    for document in documents:
        ids = torch.from_numpy(document)
        alone += cross_entropy(model(ids[None])[0, :-1], ids[1:], reduction="sum")
    assert count == sum(len(document) - 1 for document in documents)
    torch.testing.assert_close(packed, alone, atol=1e-9, rtol=1e-10)


def test_without_the_rule_documents_do_see_each_other(folder):
    """So that the tests above cannot pass on a model that hides nothing."""
    with Loader(LoaderConfig({"text": SourceConfig(str(folder))}, LENGTH, 8)) as loader:
        batch = next(loader)
    model = build(rotary=True)
    rule = masks.both(masks.causal, masks.documents(batch.documents))
    apart = model(batch.ids, positions=batch.positions, rule=rule)
    assert (apart - model(batch.ids, positions=batch.positions)).abs().max() > 1e-3
