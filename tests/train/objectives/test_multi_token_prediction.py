"""Multi-token prediction: token by token, what changes nothing, and what is left when the blocks are taken off."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from byte_tokenizer import byte_tokenizer
from lmworks.adapt.task_head import with_further_tokens, without_further_tokens
from lmworks.data.token_dataset import TokenDataset
from lmworks.model.checkpoint import assemble, load
from lmworks.model.presets import bert
from lmworks.train.gradient_accumulation import compute_gradients
from lmworks.train.master_weights import Weights
from lmworks.train.objectives.causal import CausalLanguageModel
from lmworks.train.objectives.multi_token_prediction import MultiTokenPrediction
from lmworks.train.optimizer_config import AdamW
from lmworks.train.validation import validate
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
from training_cases import CONFIGS, SPECIAL, new_checkpoint

DEPTH = 2
OBJECTIVE = MultiTokenPrediction(DEPTH)
FAMILIES = pytest.mark.parametrize("family", ["gpt2", "llama"])


def a_model(family):
    return new_model(with_further_tokens(CONFIGS[family], DEPTH), family)


@FAMILIES
class TestInvariances:
    def test_parts_and_order(self, family, tmp_path):
        check_parts(a_model(family), OBJECTIVE, batch_of(tmp_path / "d", some_documents(), 32))

    def test_padding(self, family, tmp_path):
        check_padding(a_model(family), OBJECTIVE, batch_of(tmp_path / "d", some_documents(), 32))

    def test_packing(self, family, tmp_path):
        longer = [document for document in some_documents() if len(document) > DEPTH + 1]
        check_packing(
            a_model(family),
            OBJECTIVE,
            batch_of(tmp_path / "d", longer, 32),
            lambda: [batch_of(tmp_path / str(i), [document], 32) for i, document in enumerate(longer)],
        )


@FAMILIES
def test_it_is_the_papers_formula_place_by_place(family, tmp_path):
    """Each vector is computed from the tokens up to its place alone, so that none can have seen what it predicts."""
    model = a_model(family).double()
    (document,) = some_documents([9])
    losses = OBJECTIVE.losses(model, batch_of(tmp_path / "d", [document], 9))
    ids = torch.from_numpy(document)
    sums = {"next_token": 0.0, "token_2": 0.0, "token_3": 0.0}
    for place in range(8):
        sums["next_token"] += F.cross_entropy(model(ids[None, : place + 1])[0, -1], ids[place + 1])
        hidden = model.hidden(ids[None, : place + 1])
        for k, step in enumerate(model.head.steps, start=1):
            if place + k + 1 > 8:
                break
            came = F.embedding(ids[k : place + k + 1], model.tokens)[None]
            joined = step.join(torch.cat((step.hidden_norm(hidden), step.token_norm(came)), dim=-1))
            hidden = step.stack(joined, torch.arange(place + 1)[None])
            sums[f"token_{k + 1}"] += F.cross_entropy(model.logits(hidden)[0, -1], ids[place + k + 1])
    for name, share in (("next_token", 1.0), ("token_2", 0.15), ("token_3", 0.15)):
        # The losses are taken in float32.
        torch.testing.assert_close(losses[name].sum.double(), sums[name] * share, rtol=1e-5, atol=0)
        torch.testing.assert_close(losses[name].metrics["nats"].double(), sums[name], rtol=1e-5, atol=0)
    assert [loss.count for loss in losses.values()] == [8, 7, 6]


def test_what_the_data_leaves_out_is_asked_by_no_block(tmp_path):
    mask = np.zeros(20, bool)
    mask[12:15] = True
    batch = batch_of(tmp_path / "d", some_documents([20]), 32, [mask])
    assert OBJECTIVE.counts(batch) == {"next_token": 3, "token_2": 3, "token_3": 3}
    assert OBJECTIVE._asked(batch, 2)[0].nonzero()[:, 0].tolist() == [9, 10, 11]


def test_a_stream_goes_on_into_the_next_document(tmp_path):
    batch = batch_of(tmp_path / "d", some_documents([6, 6]), 12)
    assert OBJECTIVE.counts(batch) == {"next_token": 10, "token_2": 8, "token_3": 6}
    stream = MultiTokenPrediction(2, apart=False)
    assert stream.counts(batch)["token_3"] == 8  # the data has no target where a document ends


@FAMILIES
def test_taking_the_blocks_off_changes_no_bit(family, tmp_path):
    config = with_further_tokens(CONFIGS[family], DEPTH)
    checkpoint = assemble(config, a_model(family).state_dict(), byte_tokenizer(SPECIAL))
    saved = load(checkpoint.save(tmp_path / "trained"))
    assert saved.config == config
    ids = torch.arange(40, 60)[None]
    assert torch.equal(saved.model(ids), checkpoint.model(ids))
    plain = without_further_tokens(saved)
    assert plain.config == CONFIGS[family]
    assert torch.equal(plain.model(ids), checkpoint.model(ids))
    again = load(plain.save(tmp_path / "plain"))
    assert again.config == CONFIGS[family] and again.published["model_type"] == family
    assert torch.equal(again.model(ids), checkpoint.model(ids))


def test_the_next_token_has_the_loss_that_it_has_without_the_blocks(tmp_path):
    batch = batch_of(tmp_path / "d", some_documents(), 32)
    trained = a_model("llama")
    plain = new_checkpoint("llama").model
    plain.load_state_dict(
        {
            name.replace("head.next.", "head."): weight
            for name, weight in trained.state_dict().items()
            if not name.startswith("head.steps.")
        }
    )
    expected = CausalLanguageModel().losses(plain, batch)["next_token"].sum
    assert torch.equal(OBJECTIVE.losses(trained, batch)["next_token"].sum, expected)


@torch.no_grad()
def test_what_is_told_is_what_is_minimised(tmp_path):
    """By a step and by a validation: the further tokens as they are weighed, beside each loss as it is."""
    batch = batch_of(tmp_path / "d", some_documents(), 32)
    model = a_model("llama")
    losses = OBJECTIVE.losses(model, batch)
    weighed = sum(float(loss.sum) / loss.count for loss in losses.values())
    means = {name: float(loss.metrics["nats"]) / loss.count for name, loss in losses.items()}
    with torch.enable_grad():
        step = compute_gradients(model, Weights(model, AdamW(), "float32"), OBJECTIVE, batch, micro_batch=3)
    found = validate(model, OBJECTIVE, [batch], 1)
    assert (step.loss, found.total.value) == (pytest.approx(weighed, rel=1e-5), pytest.approx(weighed, rel=1e-5))
    assert step.losses == pytest.approx(means, rel=1e-5)
    assert {name: score.value for name, score in found.nats.items()} == pytest.approx(means, rel=1e-5)
    assert found.total.interval[0] < weighed < found.total.interval[1]
    assert weighed < sum(means.values()) - 5  # two further tokens of 5.5 nats, weighed 0.15 each


def test_it_learns_all_tokens(text_dataset, tmp_path):
    config = with_further_tokens(CONFIGS["llama"])
    log = learn(config, "llama", MultiTokenPrediction(), text_dataset, tmp_path / "run", rate=1e-2, steps=60)
    baseline = unigram_nats(TokenDataset(text_dataset))
    assert log[0]["next_token"] > 5.3 and log[0]["token_2"] > 5.3
    assert np.mean([line["next_token"] for line in log[-5:]]) < baseline - 0.5
    assert np.mean([line["token_2"] for line in log[-5:]]) < baseline - 0.5


def test_what_cannot_be_is_refused(tmp_path):
    batch = batch_of(tmp_path / "d", some_documents(), 32)
    with pytest.raises(TypeError, match="MultiTokenHead"):
        OBJECTIVE.losses(new_checkpoint().model, batch)
    with pytest.raises(ValueError, match="2 further tokens, not 3"):
        MultiTokenPrediction(3).losses(a_model("llama"), batch)
    with pytest.raises(ValueError, match="depth must be above 0"):
        MultiTokenPrediction(0)
    with pytest.raises(TypeError, match="by a decoder"):
        with_further_tokens(bert(257, 32, 1, 2, 64))
    with pytest.raises(ValueError, match="a decoder alone"):
        replace(bert(257, 32, 1, 2, 64), head=with_further_tokens(CONFIGS["llama"]).head)
    with pytest.raises(TypeError, match="no further tokens"):
        without_further_tokens(new_checkpoint())
