"""A packed batch in a model: each document gets what it gets alone, and its loss is the documents' own."""

import numpy as np
import torch

from kit.tables import for_each
from lmworks.data.config import LoaderConfig, SourceConfig
from lmworks.data.loader import Loader
from lmworks.model import masks
from lmworks.model.initialisation import initialise
from lmworks.model.presets import gpt2, llama
from lmworks.model.transformer import Transformer
from token_cases import write_dataset

LENGTH, VOCABULARY = 24, 50


@for_each(
    ("mode", "config"),
    [
        ("pack", llama(VOCABULARY, 16, layers=2, heads=4, kv_heads=2, hidden=32, context_length=LENGTH)),
        ("concatenate", gpt2(VOCABULARY, 16, layers=2, heads=4, context_length=LENGTH)),
    ],
)
def test_packed_documents_get_the_logits_they_get_alone(tmp_path, mode, config):
    """In float64: a tolerance of 1e-10 tells rounding from a token that saw a stranger."""
    rng = np.random.default_rng(0)
    documents = [rng.integers(0, VOCABULARY, length) for length in (5, 24, 1, 60, 13, 9, 2, 31, 17, 3)]
    write_dataset(tmp_path / mode, documents, vocabulary_size=VOCABULARY)
    model = initialise(Transformer(config), seed=0, std=0.5).double().eval()
    pieces, padded, strangers = 0, 0, 0.0
    with (
        Loader(LoaderConfig({"text": SourceConfig(str(tmp_path / mode))}, LENGTH, 3, mode=mode)) as loader,
        torch.no_grad(),
    ):
        for batch in loader:
            rule = masks.documents(batch.documents, causal=True)
            logits = model(batch.ids, positions=batch.positions, rule=rule)
            assert logits.isfinite().all()  # at padding too
            strangers = max(strangers, float((logits - model(batch.ids, positions=batch.positions)).abs().max()))
            for row in range(len(batch)):
                for document in batch.documents[row].unique().tolist():
                    own = batch.documents[row] == document
                    alone = model(batch.ids[row, own][None])[0]
                    torch.testing.assert_close(logits[row, own], alone, atol=1e-10, rtol=1e-10)
                    pieces, padded = pieces + (document >= 0), padded + (document < 0)
    assert pieces > 10 and padded > 0  # some were split
    assert strangers > 1e-3  # without the rule, documents do see each other
