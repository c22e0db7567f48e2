"""NEFTune: noise of the published size, which belongs to a document and is in training alone."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from test_causal import batch_of

from lmworks.data.batches import PADDING
from lmworks.train.loop import step
from lmworks.train.objectives.causal import CausalLanguageModel, embedding_noise
from lmworks.train.validation import validate
from objective_cases import check_padding, check_parts
from training_cases import new_checkpoint, run_of, write_text_dataset

WIDTH, ALPHA = 32, 5.0
CLEAN, NOISY = CausalLanguageModel(), CausalLanguageModel(neftune=ALPHA)
DOCUMENTS = [np.random.default_rng(n).integers(0, 257, n) for n in (7, 20, 3, 12, 9, 15, 1, 18)]


def noise_by_document(batch, seed=3):
    noise = embedding_noise(NOISY.examples(batch, seed), WIDTH, ALPHA)
    assert not noise[batch.documents == PADDING].any()
    return [noise[batch.documents == number] for number in range(len(DOCUMENTS))]


def test_it_is_uniform_and_belongs_to_the_document_and_the_visit(tmp_path):
    """A uniform variable within ±c has the variance c² / 3; the mean of n squares deviates by c² √(4 / 45 n)."""
    batches = [batch_of(tmp_path / str(length), DOCUMENTS, length) for length in (32, 64)]
    found, elsewhere, later = (noise_by_document(batches[i], seed) for i, seed in ((0, 3), (1, 3), (0, 4)))
    for document, noise, same, other in zip(DOCUMENTS, found, elsewhere, later, strict=True):
        bound, squares = ALPHA / (len(document) * WIDTH) ** 0.5, noise.double().square()
        assert len(noise) == len(document) and float(noise.abs().max()) <= bound
        assert float(squares.mean()) == pytest.approx(bound**2 / 3, abs=5 * bound**2 * (4 / 45 / noise.numel()) ** 0.5)
        assert torch.equal(noise, same) and not torch.equal(noise, other)


def test_parts_and_padding_change_nothing_and_validation_has_none(tmp_path):
    model, batch = new_checkpoint().model, batch_of(tmp_path / "d", DOCUMENTS, 32)
    check_parts(model, NOISY, batch)
    check_padding(model, NOISY, batch)
    assert validate(model, NOISY, [batch]).total == validate(model, CLEAN, [batch]).total


def test_it_is_added_to_the_embeddings(tmp_path):
    model, batch = new_checkpoint().model, batch_of(tmp_path / "d", DOCUMENTS, 32)[:1]
    examples = NOISY.examples(batch, 3)
    found = NOISY.losses(model, examples)["next_token"].sum
    noisy = model.tokens[batch.ids[0]] + embedding_noise(examples, WIDTH, ALPHA)[0]
    model.embedding.tokens.weight.data = torch.cat((model.tokens, noisy)).detach()
    hidden = CLEAN.hidden(model, replace(batch, ids=torch.arange(32)[None] + 257))
    logits = hidden[batch.mask] @ model.head.projection.weight.T
    torch.testing.assert_close(found, F.cross_entropy(logits, batch.targets[batch.mask], reduction="sum"))


def test_a_run_that_is_stopped_goes_on_with_the_same_noise(tmp_path):
    dataset = write_text_dataset(tmp_path / "tokens")
    runs = [run_of(tmp_path / folder, dataset, micro_batch=3) for folder in ("whole", "stopped", "stopped", "clean")]
    for run in runs[:3]:
        run.objective = NOISY
    losses = [step(runs[0]).loss for _ in range(4)]
    assert [step(runs[1]).loss for _ in range(2)] == losses[:2] and step(runs[3]).loss != losses[0]
    runs[1].save()
    runs[1].checkpoints.close()
    runs[2].restore(2)
    assert [step(runs[2]).loss for _ in range(2)] == losses[2:]
