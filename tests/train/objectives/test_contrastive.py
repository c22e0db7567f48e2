"""Contrastive vectors: the formula, and that no division of the work changes which texts are compared."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from byte_tokenizer import byte_tokenizer
from kit.tables import for_each
from lmworks.data.token_groups import GroupBatch
from lmworks.data.training_rows import pair_groups
from lmworks.model.config import PoolHead
from lmworks.model.presets import bert, llama
from lmworks.records import TextPair
from lmworks.train.gradient_accumulation import compute_gradients
from lmworks.train.master_weights import Weights
from lmworks.train.objectives.contrastive import Contrastive
from lmworks.train.optimizer_config import AdamW
from objective_cases import TOLERANCE, check_parts, means_and_gradients, new_model
from training_cases import new_checkpoint

SPECIAL = {"cls_token": "[CLS]", "sep_token": "[SEP]"}
TOKENIZER = byte_tokenizer(SPECIAL)
MODELS = {
    "bert": bert(258, 32, 2, 2, 64, 64, head=PoolHead("mean")),
    "llama": replace(llama(258, 32, 2, 2, 1, 64, 64), head=PoolHead("last")),
}
PAIRS = [("a query", "its answer"), ("b", "something longer than that"), ("cc cc", "yes"), ("d?", "no"), ("e", "eee")]
FAMILIES = pytest.mark.parametrize("family", MODELS)


def batch_of_pairs(pairs=PAIRS, negatives=()):
    """`negatives` are those of the last pair, which makes them negatives of all."""
    rows = [TextPair(*pair) for pair in pairs]
    rows[-1] = replace(rows[-1], negatives=tuple(negatives))
    return pair_groups(rows, TOKENIZER, 64).batch(range(len(rows)))


def vectors(model, texts):
    """Each text by itself."""
    rows = [model(torch.tensor([TOKENIZER.encode(text, special=True)]))[0] for text in texts]
    return F.normalize(torch.stack(rows), dim=-1)


def same_gradients(first, second):
    for ours, theirs in zip(first, second, strict=True):
        torch.testing.assert_close(ours, theirs, **TOLERANCE)


@FAMILIES
class TestInvariances:
    def test_parts_and_order(self, family):
        check_parts(new_model(MODELS[family], family), Contrastive(symmetric=True), batch_of_pairs())

    def test_padding(self, family):
        model, batch = new_model(MODELS[family], family), batch_of_pairs()
        examples = Contrastive().examples(batch, 0)
        longer = replace(
            examples,
            **{
                name: F.pad(getattr(examples, name), (0, 5))
                for name in ("queries", "query_mask", "documents", "document_mask")
            },
        )
        longer.queries[~longer.query_mask] = 7
        whole, gradients = means_and_gradients(model, Contrastive(), examples)
        padded, others = means_and_gradients(model, Contrastive(), longer)
        assert padded == pytest.approx(whole, rel=1e-5)
        same_gradients(others, gradients)

    @for_each("symmetric", [False, True])
    @for_each("chunk", [1, 2, 3, 100])
    def test_chunks_change_neither_loss_nor_gradients(self, family, symmetric, chunk):
        model, batch = new_model(MODELS[family], family), batch_of_pairs(negatives=["neither", "nor"])
        objective = Contrastive(symmetric=symmetric)
        whole, gradients = means_and_gradients(model, objective, objective.examples(batch, 0))
        chunked = replace(objective, chunk=chunk)
        parts, others = means_and_gradients(model, chunked, chunked.examples(batch, 0))
        assert parts == pytest.approx(whole, rel=1e-5)
        same_gradients(others, gradients)


@for_each("micro_batch", [None, 1, 2])
def test_the_micro_batches_of_a_step_do_not_split_the_negatives(micro_batch):
    """Which they would change: five pairs in parts of two would have two documents to choose from, not five."""
    model, objective = new_model(MODELS["bert"], "bert"), Contrastive()
    weights = Weights(model, AdamW(), "float32")
    whole = objective.examples(batch_of_pairs(), 0)
    got = compute_gradients(model, weights, objective, whole, micro_batch)
    assert got.losses["contrastive"] == pytest.approx(
        float(objective.losses(model, whole)["contrastive"].sum.detach()) / 5
    )
    assert got.targets == 5


def test_no_forward_is_larger_than_a_chunk_and_what_it_keeps_is_computed_again():
    model, seen = new_model(MODELS["bert"], "bert"), []
    model.encoder.register_forward_pre_hook(lambda module, inputs: seen.append(len(inputs[0])))
    kept = []
    objective = Contrastive(chunk=2)
    examples = objective.examples(batch_of_pairs(), 0)
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor.numel()) or tensor, lambda t: t):
        loss = objective.losses(model, examples)["contrastive"]
    lengths = [*seen]
    assert lengths == [2, 2, 1, 2, 2, 1]
    assert max(kept) <= max(examples.queries.numel(), examples.documents.numel(), 5 * 32)  # ids, masks, vectors
    loss.sum.backward()
    assert sorted(seen[6:]) == sorted(lengths)


@FAMILIES
def test_it_is_the_cross_entropy_of_scaled_cosines(family):
    model = new_model(MODELS[family], family)
    queries, documents = (vectors(model, texts) for texts in zip(*PAIRS, strict=True))
    scores = queries @ documents.T * 20
    target = torch.arange(5)
    for symmetric in (False, True):
        objective = Contrastive(symmetric=symmetric)
        loss = objective.losses(model, objective.examples(batch_of_pairs(), 0))["contrastive"]
        expected = F.cross_entropy(scores, target, reduction="sum")
        if symmetric:
            expected = (expected + F.cross_entropy(scores.T, target, reduction="sum")) / 2
        torch.testing.assert_close(loss.sum, expected, rtol=1e-4, atol=1e-4)
        assert loss.count == 5


def test_further_documents_are_negatives_of_all_queries():
    model = new_model(MODELS["bert"], "bert")
    objective = Contrastive(temperature=0.5)
    batch = batch_of_pairs(negatives=["neither", "nor"])
    loss = objective.losses(model, objective.examples(batch, 0))["contrastive"]
    documents = vectors(model, [*(document for _, document in PAIRS), "neither", "nor"])
    scores = vectors(model, [query for query, _ in PAIRS]) @ documents.T / 0.5
    torch.testing.assert_close(
        loss.sum, F.cross_entropy(scores, torch.arange(5), reduction="sum"), rtol=1e-4, atol=1e-4
    )


def test_what_answers_a_query_too_is_no_negative_of_it():
    model, objective = new_model(MODELS["bert"], "bert"), Contrastive(symmetric=True)
    pairs = [("q", "x"), ("r", "x"), ("s", "y"), ("s", "z")]
    examples = objective.examples(batch_of_pairs(pairs, ["z"]), 0)
    expected = torch.zeros(4, 5, dtype=torch.bool)
    for query, document in ((0, 1), (1, 0), (2, 3), (3, 2), (3, 4)):
        expected[query, document] = True
    assert torch.equal(examples.same[0], expected)
    alone = objective.losses(model, objective.examples(batch_of_pairs([("q", "x"), ("q", "x")]), 0))["contrastive"]
    assert float(alone.sum.detach()) == pytest.approx(0, abs=1e-6)  # there is nothing to confuse it with
    alone.sum.backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_it_learns_to_tell_documents_apart():
    """A document is its query's letters in another order: after training, the right one is nearest."""
    generator = np.random.default_rng(0)

    def some_pairs(count):
        found = []
        for _ in range(count):
            letters = generator.choice(list("abcdefghijklmnop"), 6)
            found.append(("".join(letters), "".join(generator.permutation(letters))))
        return found

    model = new_model(bert(258, 32, 1, 2, 64, 64, head=PoolHead("mean")), "transformer").train()
    weights, objective = Weights(model, AdamW(rate=5e-3), "float32"), Contrastive(chunk=8)
    losses = []
    for seed in range(40):
        examples = objective.examples(batch_of_pairs(some_pairs(16)), seed)
        losses.append(compute_gradients(model, weights, objective, examples).losses["contrastive"])
        weights.update(1.0, 1.0)
    assert np.mean(losses[-5:]) < np.mean(losses[:3]) - 0.5
    assert np.mean(losses[-5:]) < np.log(16) / 2


def test_what_cannot_be_is_refused():
    batch = batch_of_pairs()
    with pytest.raises(TypeError, match="PoolHead"):
        Contrastive().losses(new_checkpoint().model, Contrastive().examples(batch, 0))
    with pytest.raises(ValueError, match="above 0"):
        Contrastive(temperature=0)
    with pytest.raises(ValueError, match="1 or more"):
        Contrastive(chunk=0)
    with pytest.raises(ValueError, match="a query has no document"):
        Contrastive().examples(
            GroupBatch(batch.ids[:, :1], batch.attention_mask[:, :1], batch.completion_mask[:, :1]), 0
        )
