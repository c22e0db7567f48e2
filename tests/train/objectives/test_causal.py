"""Causal language modelling: against torch, and what changes nothing."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from lmworks.data.batches import make_batch
from lmworks.data.best_fit_packing import plan_sequences
from lmworks.train.objectives.causal import CausalLanguageModel
from objective_cases import check_packing, check_padding, check_parts
from token_cases import write_dataset
from training_cases import new_checkpoint

LENGTHS = [7, 20, 3, 12, 9, 15, 1, 18]


def batch_of(folder, documents, length, masks=None):
    dataset = write_dataset(folder, documents, masks, vocabulary_size=257)
    plan = plan_sequences(dataset.lengths, length, "pack")
    rows = np.arange(plan.sequences)
    return make_batch([dataset], [plan], np.zeros_like(rows), rows)


@pytest.fixture
def documents():
    generator = np.random.default_rng(0)
    return [generator.integers(0, 257, length) for length in LENGTHS]


@pytest.mark.parametrize("family", ["gpt2", "llama"])
class TestInvariances:
    def test_parts_and_order(self, family, documents, tmp_path):
        check_parts(new_checkpoint(family).model, CausalLanguageModel(), batch_of(tmp_path / "d", documents, 32))

    def test_padding(self, family, documents, tmp_path):
        check_padding(new_checkpoint(family).model, CausalLanguageModel(), batch_of(tmp_path / "d", documents, 32))

    def test_packing(self, family, documents, tmp_path):
        packed = batch_of(tmp_path / "d", documents, 32)
        assert len(packed) == 3
        longer = [document for document in documents if len(document) > 1]  # one token predicts nothing
        check_packing(
            new_checkpoint(family).model,
            CausalLanguageModel(z_loss=1e-3, label_smoothing=0.1),
            packed,
            lambda: [batch_of(tmp_path / str(i), [document], 32) for i, document in enumerate(longer)],
        )


def test_it_is_the_mean_of_the_next_tokens(documents, tmp_path):
    model = new_checkpoint().model
    batch = batch_of(tmp_path / "d", documents[1:2], 32)
    (loss,) = CausalLanguageModel().losses(model, batch).values()
    ids = torch.from_numpy(documents[1])[None]
    expected = F.cross_entropy(model(ids)[0, :-1], ids[0, 1:], reduction="sum")
    torch.testing.assert_close(loss.sum, expected)
    assert loss.count == len(documents[1]) - 1


def test_only_what_the_data_marks_is_learnt(documents, tmp_path):
    """Supervised fine-tuning: the mask of a document says which of its tokens are the assistant's."""
    model = new_checkpoint().model
    mask = np.zeros(20, bool)
    mask[12:] = True
    batch = batch_of(tmp_path / "d", documents[1:2], 32, [mask])
    (loss,) = CausalLanguageModel().losses(model, batch).values()
    ids = torch.from_numpy(documents[1])[None]
    expected = F.cross_entropy(model(ids)[0, 11:-1], ids[0, 12:], reduction="sum")
    torch.testing.assert_close(loss.sum, expected)
    assert loss.count == 8


def test_a_model_without_a_head_is_refused(documents, tmp_path):
    from lmworks.model.presets import bert
    from lmworks.model.transformer import Transformer

    model = Transformer(bert(257, 32, 1, 2, 64))
    model.head = None
    with pytest.raises(TypeError, match="predicts tokens"):
        CausalLanguageModel().losses(model, batch_of(tmp_path / "d", documents, 32))
