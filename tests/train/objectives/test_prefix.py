"""Prefix language modelling: who sees whom, what is asked, and what changes nothing."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given, settings
from hypothesis import strategies as st

from lmworks.data.batches import Batch
from lmworks.data.token_dataset import TokenDataset
from lmworks.model import masks
from lmworks.model.config import MaskedLanguageModelHead, Norm
from lmworks.model.presets import bert
from lmworks.train.objectives.causal import CausalLanguageModel
from lmworks.train.objectives.prefix import PrefixLanguageModel
from objective_cases import (
    batch_of,
    check_packing,
    check_padding,
    check_parts,
    learn,
    new_model,
    some_documents,
    unigram_nats,
)
from training_cases import CONFIGS, new_checkpoint


@pytest.mark.parametrize("family", ["gpt2", "llama"])
class TestInvariances:
    def test_parts_and_order(self, family, tmp_path):
        check_parts(new_checkpoint(family).model, PrefixLanguageModel(), batch_of(tmp_path / "d", some_documents(), 32))

    def test_padding(self, family, tmp_path):
        batch = batch_of(tmp_path / "d", some_documents(), 32)
        check_padding(new_checkpoint(family).model, PrefixLanguageModel(), batch)

    def test_packing(self, family, tmp_path):
        documents = [document for document in some_documents() if len(document) > 1]
        prompts = [np.arange(len(document)) >= len(document) // 2 for document in documents]
        check_packing(
            new_checkpoint(family).model,
            PrefixLanguageModel("prompt"),
            batch_of(tmp_path / "d", documents, 32, prompts),
            lambda: [
                batch_of(tmp_path / str(i), [document], 32, [prompt])
                for i, (document, prompt) in enumerate(zip(documents, prompts, strict=True))
            ],
        )


def test_it_is_the_loss_behind_the_prompt_of_a_model_that_reads_it_both_ways(tmp_path):
    model = new_checkpoint().model
    (document,) = some_documents([20])
    batch = batch_of(tmp_path / "d", [document], 32, [np.arange(20) >= 8])
    (loss,) = PrefixLanguageModel("prompt").losses(model, PrefixLanguageModel("prompt").examples(batch, 0)).values()
    ids = torch.from_numpy(document)[None]
    rule = masks.prefixes(torch.zeros_like(ids), torch.arange(ids.shape[1])[None] < 8)
    logits = model(ids, rule=rule)[0]
    torch.testing.assert_close(loss.sum, F.cross_entropy(logits[7:-1], ids[0, 8:], reduction="sum"))
    assert loss.count == 12
    causal = CausalLanguageModel().losses(model, batch)["next_token"]
    assert causal.count == 12 and abs(float(causal.sum.detach() - loss.sum.detach())) > 1e-3


def one_row(documents):
    length = len(documents)
    numbers = torch.tensor([documents])
    follows = torch.cat([numbers[:, 1:] == numbers[:, :-1], torch.zeros(1, 1, dtype=torch.bool)], dim=1)
    ids = torch.arange(length)[None]
    one = torch.zeros(1, dtype=torch.int64)
    return Batch(ids, ids, numbers, ids + 1, follows & (numbers >= 0), one, one)


@settings(deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.integers(0, 5), st.booleans(), st.integers(0, 2**40))
def test_no_target_is_in_sight_of_where_it_is_predicted(lengths, padding, apart, seed):
    numbers = np.concatenate([np.repeat(np.arange(len(lengths)), lengths), np.full(padding, -1)])
    batch = one_row(numbers.tolist())
    examples = PrefixLanguageModel(apart=apart).examples(batch, seed)
    asked = examples.mask[0].nonzero()[:, 0]
    assert not examples.prefix[0, asked + 1].any()  # the target of a place is the next token
    pieces = examples.documents[0].numpy()
    assert ((pieces < 0) == (numbers < 0)).all()
    for piece in range(pieces.max() + 1):
        seen = examples.prefix[0].numpy()[pieces == piece]
        length = len(seen)
        first = int(seen.sum())
        assert 1 <= first <= max(length - 1, 1)
        assert seen[:first].all()
        possible = batch.mask[0].numpy()[pieces == piece]  # not where another document follows
        assert (examples.mask[0].numpy()[pieces == piece] == possible & (np.arange(length) >= first - 1)).all()


def test_every_length_of_a_prefix_is_as_likely():
    batch = one_row([0] * 5)
    drawn = [int(PrefixLanguageModel().examples(batch, seed).prefix.sum()) for seed in range(2000)]
    counts = np.bincount(drawn, minlength=6)
    assert counts[[0, 5]].sum() == 0
    assert abs(counts[1:5] - 500).max() < 5 * (2000 * 0.25 * 0.75) ** 0.5  # five standard deviations


@pytest.mark.slow
def test_it_learns(text_dataset, tmp_path):
    log = learn(CONFIGS["llama"], "llama", PrefixLanguageModel(), text_dataset, tmp_path / "run", rate=1e-2, steps=60)
    assert log[0]["loss"] > 5.3
    assert np.mean([line["loss"] for line in log[-5:]]) < unigram_nats(TokenDataset(text_dataset)) - 0.5


def test_an_encoder_is_refused(tmp_path):
    config = bert(257, 16, 1, 2, 24, 64, head=MaskedLanguageModelHead("gelu", Norm("layer", 1e-12)))
    objective = PrefixLanguageModel()
    examples = objective.examples(batch_of(tmp_path / "d", some_documents(), 32), 0)
    with pytest.raises(TypeError, match="is a decoder"):
        objective.losses(new_model(config, "bert"), examples)
