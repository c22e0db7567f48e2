"""Next-sentence prediction: where both texts are from, and BERT's own loss."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import BertForPreTraining

from byte_tokenizer import byte_tokenizer
from lmworks.data.batches import make_batch
from lmworks.data.best_fit_packing import plan_sequences
from lmworks.model.checkpoint import assemble, load
from lmworks.model.config import MaskedLanguageModelHead, NextSentenceHead, Norm
from lmworks.model.presets import bert
from lmworks.train.objectives.corruption_vocabulary import Vocabulary
from lmworks.train.objectives.masked import MaskedLanguageModel
from lmworks.train.objectives.next_sentence import FOLLOWS, OTHER, NextSentence
from objective_cases import check_nothing, check_padding, check_parts, learn, new_model, some_documents, unigram_nats
from token_cases import write_dataset

END, MASK, CLS, SEP = 256, 257, 258, 259
TEXT = np.arange(260) < 256
MASKED = MaskedLanguageModel(Vocabulary(MASK, TEXT))
HEAD = NextSentenceHead(MaskedLanguageModelHead("gelu", Norm("layer", 1e-12)))
CONFIG = bert(260, 32, 2, 2, 64, context_length=64, head=HEAD)


def case(folder, documents, length=32):
    """The objective and all documents as one batch."""
    dataset = write_dataset(folder, documents, vocabulary_size=257)
    plan = plan_sequences(dataset.lengths, length, "pack")
    rows = np.arange(plan.sequences)
    return NextSentence(MASKED, [dataset], CLS, SEP), make_batch([dataset], [plan], np.zeros_like(rows), rows)


@pytest.fixture
def objective_and_batch(tmp_path):
    return case(tmp_path / "d", some_documents((7, 20, 3, 12, 9, 15, 1, 18), END))


class TestInvariances:
    def test_parts_and_order(self, objective_and_batch):
        check_parts(new_model(CONFIG, "bert"), *objective_and_batch)

    def test_padding(self, objective_and_batch):
        check_padding(new_model(CONFIG, "bert"), *objective_and_batch)

    def test_documents_without_text_ask_nothing(self, tmp_path):
        check_nothing(new_model(CONFIG, "bert"), *case(tmp_path / "empty", [np.array([END])] * 2))


def test_pairs_are_a_document_or_two(tmp_path):
    """Every document counts upwards from a number of its own: what is from where can be read off the tokens."""
    documents = [np.append(np.arange(first, first + 15), END) for first in range(0, 256, 16)]
    objective, batch = case(tmp_path / "d", documents)
    seen = {FOLLOWS: 0, OTHER: 0}
    others = set()
    for seed in range(40):
        examples = objective.examples(batch, seed)
        restored = torch.where(examples.mask, examples.targets, examples.ids)
        assert torch.equal(restored, examples.targets)
        for row, relation in enumerate(examples.relation.tolist()):
            ids = examples.targets[row][examples.documents[row] >= 0].tolist()
            types = examples.token_types[row][: len(ids)].tolist()
            first_end = ids.index(SEP)
            assert ids[0] == CLS and ids[-1] == SEP and ids.count(SEP) == 2
            assert types == [0] * (first_end + 1) + [1] * (len(ids) - first_end - 1)
            first, second = np.array(ids[1:first_end]), np.array(ids[first_end + 1 : -1])
            assert len(first) and len(second) and (np.diff(first) == 1).all() and (np.diff(second) == 1).all()
            seen[relation] += 1
            if relation == FOLLOWS:
                assert len(first) + len(second) == 15 and second[0] == first[-1] + 1
            else:
                assert first[0] // 16 != second[0] // 16
                assert len(first) + len(second) == 15  # documents are equally long here
                others.add((first[0] // 16, second[0] // 16))
    n = 40 * 16
    assert abs(seen[OTHER] - n / 2) < 5 * (n / 4) ** 0.5  # five standard deviations
    assert len(others) > 150  # of 240 pairs of documents, of which about 177 come up in 320 draws


def test_only_text_is_hidden(objective_and_batch):
    objective, batch = objective_and_batch
    examples = objective.examples(batch, 0)
    assert TEXT[examples.targets[examples.mask]].all()
    real = (examples.documents >= 0).sum(1) - 3
    assert torch.equal(examples.mask.sum(1), (real * 0.15).round().long().clamp(min=1))
    assert len(examples.ids) == 7  # of one token, no pair can be made


def test_fixed_masks_fix_the_pairs(objective_and_batch):
    objective, batch = objective_and_batch

    def ways(masked):
        found = [replace(objective, masked=masked).examples(batch, seed) for seed in range(30)]
        return {(e.ids[0].numpy().tobytes(), int(e.relation[0])) for e in found}

    assert len(ways(replace(MASKED, duplicates=3))) == 3
    assert len(ways(MASKED)) > 20


def test_a_document_without_text_is_not_taken_for_another(tmp_path):
    objective, batch = case(tmp_path / "d", [np.arange(10), np.array([END]), np.arange(100, 110)])
    only = replace(objective, other=1.0)
    for seed in range(10):
        examples = only.examples(batch, seed)
        assert examples.relation.tolist() == [OTHER, OTHER]
        assert not (examples.targets == END).any()
    objective, batch = case(tmp_path / "e", [np.arange(10), np.array([END])])
    with pytest.raises(ValueError, match="no other document"):
        replace(objective, other=1.0).examples(batch, 0)


def test_the_loss_is_that_of_transformers_in_both_directions(objective_and_batch, tmp_path):
    objective, batch = objective_and_batch
    special = {"eos_token": "<|end|>", "mask_token": "[MASK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    tokenizer = byte_tokenizer(special)
    assert tokenizer.special_ids["[CLS]"] == CLS
    model = new_model(CONFIG, "bert")
    folder = assemble(CONFIG, model.state_dict(), tokenizer).save(tmp_path / "model")
    theirs, report = BertForPreTraining.from_pretrained(folder, output_loading_info=True)
    assert not any(report.values()), report
    examples = objective.examples(batch, 0)
    losses = objective.losses(model, examples)
    output = theirs.eval()(
        examples.ids,
        attention_mask=(examples.documents >= 0).long(),
        token_type_ids=examples.token_types,
        labels=examples.targets.masked_fill(~examples.mask, -100),
        next_sentence_label=examples.relation,
    )
    torch.testing.assert_close(sum(loss.sum / loss.count for loss in losses.values()), output.loss)
    theirs.save_pretrained(tmp_path / "theirs")
    tokenizer.save(tmp_path / "theirs")
    again = load(tmp_path / "theirs")
    assert again.config == CONFIG
    ours = model.state_dict()
    assert all(torch.equal(ours[name], weight) for name, weight in again.model.state_dict().items())


@pytest.mark.slow
def test_it_learns(tmp_path):
    """Documents go from small tokens to large ones: what follows on A ends where documents end."""
    generator = np.random.default_rng(0)
    documents = [np.arange(14) * 4 + generator.integers(0, 4, 14) for _ in range(200)]
    dataset = write_dataset(tmp_path / "d", documents, vocabulary_size=257)
    objective = NextSentence(MASKED, [dataset], CLS, SEP)
    config = bert(260, 32, 1, 4, 64, context_length=64, head=HEAD)
    log = learn(config, "transformer", objective, dataset.folder, tmp_path / "run", rate=1e-2, length=14, batch=32)
    assert np.mean([line["relation"] for line in log[-10:]]) < np.log(2) - 0.1
    assert np.mean([line["masked"] for line in log[-10:]]) < unigram_nats(dataset) - 0.5


def test_what_cannot_be_is_refused(objective_and_batch, tmp_path):
    objective, batch = objective_and_batch
    examples = objective.examples(batch, 0)
    with pytest.raises(TypeError, match="NextSentenceHead"):
        objective.losses(new_model(replace(CONFIG, head=HEAD.masked), "bert"), examples)
    with pytest.raises(ValueError, match="token types"):
        objective.losses(new_model(bert(260, 32, 1, 2, 64, 64, token_types=0, head=HEAD), "bert"), examples)
    with pytest.raises(ValueError, match="smaller length"):
        objective.losses(new_model(bert(260, 32, 1, 2, 64, 16, head=HEAD), "bert"), examples)
    with pytest.raises(ValueError, match="one document"):
        case(tmp_path / "one", some_documents((9,)))
    with pytest.raises(ValueError, match="other must lie between 0 and 1"):
        replace(objective, other=2.0)
    with pytest.raises(ValueError, match="special tokens"):
        replace(objective, cls=5)
