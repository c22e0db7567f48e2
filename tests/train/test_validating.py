"""Bits per byte are of the text that was asked for, whatever asks: against logits and bytes computed here."""

from math import log

import numpy as np
import pytest
import torch

from lmworks.model import masks
from lmworks.model.config import MaskedLanguageModelHead, Norm
from lmworks.model.presets import bert
from lmworks.train.objectives.causal import CausalLanguageModel
from lmworks.train.objectives.masked import MaskedLanguageModel
from lmworks.train.objectives.prefix import PrefixLanguageModel, prefixes
from lmworks.train.objectives.vocabulary import Vocabulary
from lmworks.train.validating import validate
from objective_cases import batch_of, new_model, some_documents
from training_cases import new_checkpoint

SIZES = torch.arange(258) % 7  # bytes of each token, no two neighbours alike


def direct(logits, targets, asked, sizes):
    """Bits of the asked targets over their bytes; `logits` (batch, length, vocabulary)."""
    chances = logits.log_softmax(-1).gather(-1, targets[..., None])[..., 0]
    return -float(chances[asked].sum()) / log(2) / int(sizes[targets[asked]].sum())


@torch.no_grad()
@pytest.mark.parametrize("part", [None, 2])
def test_prefix_language_model(part, tmp_path):
    batch = batch_of(tmp_path / "d", some_documents(), 32)
    model, objective = new_checkpoint().model, PrefixLanguageModel()
    examples = objective.examples(batch, 0)
    rule = masks.both(prefixes(examples.prefix), masks.documents(examples.pieces))
    logits = model(examples.ids, positions=examples.positions, rule=rule)
    found = validate(model, objective, [batch], part, SIZES).bits_per_byte
    assert found == pytest.approx(direct(logits, batch.targets, examples.mask, SIZES), rel=1e-5)
    assert examples.mask.sum() < batch.mask.sum()  # what the prefix gives away is not asked


@torch.no_grad()
@pytest.mark.parametrize("part", [None, 2])
def test_masked_language_model(part, tmp_path):
    batch = batch_of(tmp_path / "d", some_documents(), 32)
    head = MaskedLanguageModelHead("gelu", Norm("layer", 1e-12))
    model = new_model(bert(258, 32, 2, 2, 64, context_length=64, head=head), "bert").eval()
    objective = MaskedLanguageModel(Vocabulary(257, np.arange(258) < 256))
    examples = objective.examples(batch, 0)
    logits = model(examples.ids, positions=examples.positions, rule=masks.documents(examples.documents))
    found = validate(model, objective, [batch], part, SIZES).bits_per_byte
    assert found == pytest.approx(direct(logits, batch.ids, examples.mask, SIZES), rel=1e-5)


def test_bytes_that_are_not_known_are_none(tmp_path):
    batch = batch_of(tmp_path / "d", some_documents(), 32)
    model = new_checkpoint().model

    class Counting(CausalLanguageModel):
        """Asks for what is no token of its examples: one more than they mark."""

        def counts(self, examples):
            return {name: count + 1 for name, count in super().counts(examples).items()}

    assert validate(model, CausalLanguageModel(), [batch], bytes_of_token=SIZES).bits_per_byte is not None
    assert validate(model, CausalLanguageModel(), [batch]).bits_per_byte is None
    assert validate(model, Counting(), [batch], bytes_of_token=SIZES).bits_per_byte is None
