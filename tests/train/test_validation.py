"""Bits per byte are of the text that was asked for, whatever asks: against logits and bytes computed here."""

import json
from math import log

import numpy as np
import pytest
import torch

from kit.tables import for_each
from lmworks.model import masks
from lmworks.model.config import MaskedLanguageModelHead, Norm
from lmworks.model.presets import bert
from lmworks.records import Scored, Unscored
from lmworks.statistics import ratio_score
from lmworks.train.loop import _validation_numbers
from lmworks.train.objectives.causal import CausalLanguageModel
from lmworks.train.objectives.corruption_vocabulary import Vocabulary
from lmworks.train.objectives.masked import MaskedLanguageModel
from lmworks.train.objectives.prefix import PrefixLanguageModel
from lmworks.train.run_report import curve_section
from lmworks.train.validation import validate
from objective_cases import batch_of, new_model, some_documents
from training_cases import new_checkpoint

SIZES = torch.arange(258) % 7  # bytes of each token, no two neighbours alike


def direct(logits, targets, asked, sizes):
    """Bits of the asked targets over their bytes; `logits` (batch, length, vocabulary)."""
    chances = logits.log_softmax(-1).gather(-1, targets[..., None])[..., 0]
    return -float(chances[asked].sum()) / log(2) / int(sizes[targets[asked]].sum())


@torch.no_grad()
@for_each("micro_batch", [None, 2])
def test_prefix_language_model(micro_batch, tmp_path):
    batch = batch_of(tmp_path / "d", some_documents(), 32)
    model, objective = new_checkpoint().model, PrefixLanguageModel()
    examples = objective.examples(batch, 0)
    rule = masks.prefixes(examples.documents, examples.prefix)
    logits = model(examples.ids, positions=examples.positions, rule=rule)
    found = validate(model, objective, [batch, batch], micro_batch, SIZES).bits_per_byte.value
    assert found == pytest.approx(direct(logits, batch.targets, examples.mask, SIZES), rel=1e-5)
    assert examples.mask.sum() < batch.mask.sum()  # what the prefix gives away is not asked


@torch.no_grad()
@for_each("micro_batch", [None, 2])
def test_masked_language_model(micro_batch, tmp_path):
    batch = batch_of(tmp_path / "d", some_documents(), 32)
    head = MaskedLanguageModelHead("gelu", Norm("layer", 1e-12))
    model = new_model(bert(258, 32, 2, 2, 64, context_length=64, head=head), "bert").eval()
    objective = MaskedLanguageModel(Vocabulary(257, np.arange(258) < 256))
    examples = objective.examples(batch, 0)
    logits = model(examples.ids, positions=examples.positions, rule=masks.documents(examples.documents, causal=False))
    found = validate(model, objective, [batch, batch], micro_batch, SIZES).bits_per_byte.value
    assert found == pytest.approx(direct(logits, batch.ids, examples.mask, SIZES), rel=1e-5)


def test_bytes_that_are_not_known_are_not_scored(tmp_path):
    batch = batch_of(tmp_path / "d", some_documents(), 32)
    model = new_checkpoint().model

    class Counting(CausalLanguageModel):
        """Asks for what is no token of its examples: one more than they mark."""

        def counts(self, examples):
            return {name: count + 1 for name, count in super().counts(examples).items()}

    def bits(objective, sizes):
        return validate(model, objective, [batch, batch], bytes_of_token=sizes).bits_per_byte

    assert isinstance(bits(CausalLanguageModel(), SIZES), Scored)
    assert isinstance(bits(CausalLanguageModel(), None), Unscored)
    assert isinstance(bits(Counting(), SIZES), Unscored)


@torch.no_grad()
def test_intervals_are_over_sequences(tmp_path):
    """Those of resampled sequences, whose sums are taken here from logits; wider than those of targets would be."""
    batch = batch_of(tmp_path / "d", some_documents(), 32)
    model = new_checkpoint().model
    found = validate(model, CausalLanguageModel(), [batch], 1, SIZES, signature="data")
    rule = masks.documents(batch.documents, causal=True)
    chances = model(batch.ids, positions=batch.positions, rule=rule).log_softmax(-1)
    nats = -chances.gather(-1, batch.targets[..., None])[..., 0] * batch.mask  # (batch, length)
    sizes = (SIZES[batch.targets] * batch.mask).sum(1)
    expected = ratio_score(nats.sum(1).tolist(), batch.mask.sum(1).tolist(), "")
    assert found.total.value == pytest.approx(expected.value, rel=1e-5)
    assert found.total.interval == pytest.approx(expected.interval, rel=1e-5)
    assert (found.total.n, found.targets["next_token"]) == (len(batch), int(batch.mask.sum()))
    bits = ratio_score((nats.sum(1) / log(2)).tolist(), sizes.tolist(), "")
    assert found.bits_per_byte.interval == pytest.approx(bits.interval, rel=1e-5)
    other = validate(model, CausalLanguageModel(), [batch], 1, SIZES, signature="other data")
    assert other.total.signature != found.total.signature != found.bits_per_byte.signature


def test_the_total_of_several_losses_is_of_the_same_sequences(tmp_path):
    """Two losses that are the same have twice the value and twice the interval: they vary together."""
    batch = batch_of(tmp_path / "d", some_documents(), 32)
    model = new_checkpoint().model

    class Twice(CausalLanguageModel):
        def counts(self, examples):
            (count,) = super().counts(examples).values()
            return {"first": count, "second": count}

        def losses(self, model, examples):
            (loss,) = super().losses(model, examples).values()
            return {"first": loss, "second": loss}

    once, twice = (validate(model, objective, [batch], 1) for objective in (CausalLanguageModel(), Twice()))
    assert twice.total.value == pytest.approx(2 * once.total.value)
    assert twice.total.interval == pytest.approx([2 * end for end in once.total.interval])
    assert isinstance(twice.bits_per_byte, Unscored)


def test_one_part_alone_is_told_without_an_interval(tmp_path):
    """Of one loss and of several: a log and a report say so, and hold no number that is none."""
    batch = batch_of(tmp_path / "d", some_documents(), 32)
    model = new_checkpoint().model

    class Twice(CausalLanguageModel):
        def losses(self, model, examples):
            (loss,) = super().losses(model, examples).values()
            return {"first": loss, "second": loss}

    values = []
    for objective in (CausalLanguageModel(), Twice()):
        found = validate(model, objective, [batch], len(batch), SIZES)
        assert isinstance(found.total, Unscored) and isinstance(found.bits_per_byte, Unscored)
        assert "of one item alone" in found.total.reason
        values.append(float(found.total.reason.split()[0]))
        told = _validation_numbers(found)
        assert told == {"targets": sum(found.targets.values()), "unscored": found.total.reason}
        lines = [
            {"kind": "step", "step": 1, "loss": 2.0, "tokens_per_second": 5.0, "seconds": 1.0},
            {"kind": "validation", "step": 1},
        ]
        lines[1] |= told
        (tmp_path / "log.jsonl").write_text("\n".join(map(json.dumps, lines)))
        section, metrics = curve_section(tmp_path / "log.jsonl")
        assert metrics["validation_unscored"] == found.total.reason and "validation_loss" not in metrics
        assert any(found.total.reason in str(row) for row in section.tables[0].rows)
    assert values[1] == pytest.approx(2 * values[0], abs=2e-3)
