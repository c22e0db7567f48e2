"""Cross-encoders against `transformers` and `peft`: heads, adapters with a head, pairs of texts, losses."""

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, BertForQuestionAnswering, BertForSequenceClassification

from byte_tokenizer import byte_tokenizer
from kit.tables import for_each
from lmworks.adapt.adapter import add_adapter, load, save_adapter
from lmworks.adapt.adapter_merge import merge_adapter
from lmworks.adapt.config import LoraConfig
from lmworks.adapt.task_head import with_head
from lmworks.generate.cross_encoder import CrossEncoder
from lmworks.generate.protocol import UnsupportedError
from lmworks.model.checkpoint import assemble
from lmworks.model.config import ClassificationHead, SpanHead
from lmworks.model.initialisation import initialise
from lmworks.model.presets import bert
from lmworks.model.transformer import Transformer
from lmworks.tokenizer.text_pair import join_pairs
from lmworks.train.objectives.cross_encoder_objective import CrossEncoding, Entailment, Ranking, Reading, row_groups

TOKENIZER = byte_tokenizer({"cls_token": "[CLS]", "sep_token": "[SEP]"})
HEADS = {
    "reader": (SpanHead(), BertForQuestionAnswering, {}),
    "reranker": (ClassificationHead(1), BertForSequenceClassification, {"num_labels": 1}),
    "verifier": (ClassificationHead(3), BertForSequenceClassification, {"num_labels": 3}),
}
ROWS = {
    "reader": [Reading("where?", "in the north", ((7, 12),)), Reading("who?", "nobody says so", ())],
    "reranker": [Ranking("a?", "a is", ("b is not", "c")), Ranking("d?", "d", (), positives=("d", "dd"))],
    "verifier": [Entailment("it rains", "it is wet", "entailment"), Entailment("x", "y", "contradiction")],
}


def new_encoder(head=None):
    config = bert(258, 32, 2, 2, 64, 96)
    made = assemble(config, initialise(Transformer(config), 0, std=0.2).state_dict(), TOKENIZER)
    return made if head is None else with_head(made, head, 1)


def their_logits(model, ids: torch.Tensor) -> torch.Tensor:
    found = model(input_ids=ids)
    return found.logits if "logits" in found else torch.stack([found.start_logits, found.end_logits], -1)


@torch.no_grad()
@for_each("task", HEADS)
def test_transformers_gives_the_same_logits(task, tmp_path):
    head, kind, labels = HEADS[task]
    checkpoint, ids = new_encoder(head), torch.randint(256, (3, 20), generator=torch.Generator().manual_seed(0))
    theirs, report = kind.from_pretrained(checkpoint.save(tmp_path / "model"), output_loading_info=True, **labels)
    assert not any(report.values()), report
    expected = their_logits(theirs.eval(), ids)
    torch.testing.assert_close(checkpoint.model(ids), expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(load(tmp_path / "model").model(ids), expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
@for_each("task", HEADS)
def test_peft_loads_adapter_and_head_and_what_it_saves_is_read(task, tmp_path):
    peft = pytest.importorskip("peft")
    head, kind, labels = HEADS[task]
    base = tmp_path / "base"
    new_encoder().save(base)
    checkpoint, ids = with_head(load(base), head, 1), torch.randint(256, (2, 12))
    method = LoraConfig(r=4, lora_alpha=8)
    adapted = add_adapter(checkpoint.model, method, 0)
    assert adapted.head is not None
    adapted.head.requires_grad_(True)
    for weight in (parameter for parameter in adapted.parameters() if parameter.requires_grad):
        weight += 0.1  # LoRA's B begins at 0
    save_adapter(tmp_path / "ours", adapted, method, checkpoint)
    expected = merge_adapter(adapted).eval()(ids)
    model = peft.PeftModel.from_pretrained(kind.from_pretrained(base, **labels), tmp_path / "ours").eval()
    torch.testing.assert_close(their_logits(model, ids), expected, atol=1e-5, rtol=1e-5)
    model.save_pretrained(tmp_path / "theirs")
    torch.testing.assert_close(load(tmp_path / "theirs").model(ids), expected, atol=1e-5, rtol=1e-5)


def test_pairs_are_joined_as_transformers_joins_them(minilm):
    theirs = AutoTokenizer.from_pretrained(minilm)
    pairs = [("Who wrote it?", "Ada wrote it, in 1843."), ("Größe?", " two\n lines "), ("long? " * 9, "x " * 90)]
    for (first, second), ours in zip(pairs, join_pairs(load(minilm).required_tokenizer, pairs, 64), strict=True):
        expected = theirs(first, second, truncation="only_second", max_length=64, return_offsets_mapping=True)
        assert ours.ids == expected["input_ids"]
        places = [place for place, side in enumerate(expected.sequence_ids()) if side == 1]
        assert [expected["offset_mapping"][place] for place in places] == ours.offsets and places[0] == ours.start


@torch.no_grad()
def test_log_odds_are_those_of_the_logits_whatever_shares_the_batch():
    checkpoint = new_encoder(SpanHead())
    reader, passages = CrossEncoder(checkpoint, weights="float32"), ["a b c", "much longer than the others are", "d"]
    together, alone = reader.read("q?", passages), [reader.read("q?", [passage])[0] for passage in passages]
    for passage, one, other in zip(passages, together, alone, strict=True):
        np.testing.assert_allclose(one.starts, other.starts, atol=1e-5)
        (pair,) = join_pairs(TOKENIZER, [("q?", passage)], 96)
        ln = torch.log_softmax(checkpoint.model(torch.tensor([pair.ids]))[0], 0)
        spans = {
            (a, b): float(ln[a, 0] + ln[b, 1] - ln[0].sum())
            for a in range(pair.start, len(pair.ids) - 1)
            for b in range(a, min(a + 40, len(pair.ids) - 1))
        }
        (start, end), best = max(spans.items(), key=lambda item: item[1])
        assert one.log_odds == pytest.approx(best, abs=1e-4)
        assert (one.start, one.end) == (pair.offsets[start - pair.start][0], pair.offsets[end - pair.start][1])
        inside = one.within(0, 1)
        assert (inside.start, inside.end) == (0, 1) and inside.log_odds <= one.log_odds + 1e-6
    with pytest.raises(UnsupportedError, match="name a reranker"):
        reader.relevance("q?", passages)


@torch.no_grad()
@for_each("task", HEADS)
def test_losses_are_their_formulas_over_pairs_of_any_padding(task):
    checkpoint = new_encoder(HEADS[task][0])
    batch = row_groups(ROWS[task], TOKENIZER, 64).batch([0, 1])
    found = CrossEncoding(task).losses(checkpoint.model, CrossEncoding(task).examples(batch, 0))[task]
    expected = []
    for row, mask, columns in zip(batch.ids, batch.attention_mask, range(2), strict=True):
        for place in range(int(mask.any(-1).sum())):
            output = checkpoint.model(row[place][mask[place]][None])[0]
            of = {name: int(values[columns, place]) for name, values in batch.columns.items()}
            if task == "reader":
                expected.append(-sum(output[:, n].log_softmax(0)[of[side]] for n, side in enumerate(("start", "end"))))
            elif task == "reranker":
                expected.append(-torch.nn.functional.logsigmoid(output[0] if of["label"] else -output[0]))
            else:
                expected.append(-output.log_softmax(0)[of["label"]])
    assert found.count == len(expected)
    torch.testing.assert_close(found.sum, torch.stack(expected).sum(), atol=1e-4, rtol=1e-5)
    if task == "reader":
        starts = batch.columns["start"][:, 0].tolist()
        assert starts == [len("[CLS]where?[SEP]in the ") - 8, 0]  # the two special tokens are one place each
