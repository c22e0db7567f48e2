"""A packed batch in a model: each document gets what it gets alone, and its loss is the documents' own."""

import numpy as np
import pytest
import torch

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


def test_without_the_rule_documents_do_see_each_other(folder):
    """So that the tests above cannot pass on a model that hides nothing."""
    with Loader(LoaderConfig({"text": SourceConfig(str(folder))}, LENGTH, 8)) as loader:
        batch = next(loader)
    model = build(rotary=True)
    rule = masks.both(masks.causal, masks.documents(batch.documents))
    apart = model(batch.ids, positions=batch.positions, rule=rule)
    assert (apart - model(batch.ids, positions=batch.positions)).abs().max() > 1e-3
