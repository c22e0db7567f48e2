"""The objective of distillation: token by token, what changes nothing, and a teacher that learns from itself."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from byte_tokenizer import byte_tokenizer
from kit.tables import for_each
from lmworks.compress.distillation import Distillation, matched_layers, prepare_student
from lmworks.compress.distillation_config import DistillationLoss, TeacherConfig
from lmworks.compress.stage_distil import evenly_spaced, new_student
from lmworks.compress.structured_pruning import keep_layers
from lmworks.compress.teacher_columns import open_columns, write_columns
from lmworks.data.loader import Loader
from lmworks.data.token_dataset import TokenDataset
from lmworks.model.checkpoint import assemble
from lmworks.model.positions import rotate
from lmworks.model.presets import llama
from lmworks.train.config import TrainConfig
from lmworks.train.loop import train
from lmworks.train.run import Run
from objective_cases import (
    batch_of,
    check_nothing,
    check_packing,
    check_padding,
    check_parts,
    new_model,
    some_documents,
)
from slow_cases import slow
from training_cases import CONFIGS, SPECIAL, loader_config, write_text_dataset

DEEP = llama(vocabulary=257, width=48, layers=4, heads=3, kv_heads=3, hidden=64, context_length=64)
ALL = DistillationLoss(0.3, 2.0, hidden_states=0.7, attention_maps=0.4)


def a_teacher(config=DEEP):
    return new_model(config, "llama", seed=1).requires_grad_(False)


def a_student(loss=ALL, teacher=None):
    return prepare_student(new_model(CONFIGS["llama"], "llama"), teacher or a_teacher(), loss, seed=0)


class TestInvariances:
    OBJECTIVE = Distillation(ALL, a_teacher())

    def test_parts_and_order(self, tmp_path):
        check_parts(a_student(), self.OBJECTIVE, batch_of(tmp_path / "d", some_documents(), 32))

    def test_padding(self, tmp_path):
        check_padding(a_student(), self.OBJECTIVE, batch_of(tmp_path / "d", some_documents(), 32))

    def test_packing(self, tmp_path):
        longer = [document for document in some_documents() if len(document) > 1]
        check_packing(
            a_student(),
            self.OBJECTIVE,
            batch_of(tmp_path / "d", longer, 32),
            lambda: [batch_of(tmp_path / str(i), [document], 32) for i, document in enumerate(longer)],
        )

    def test_nothing_to_learn(self, tmp_path):
        documents = some_documents([9, 12])
        masks = [np.zeros(len(document), bool) for document in documents]
        check_nothing(a_student(), self.OBJECTIVE, batch_of(tmp_path / "d", documents, 32, masks))


@for_each("beta", [0.0, 0.5, 1.0])
def test_a_teacher_has_nothing_to_learn_from_itself(beta, tmp_path):
    loss = DistillationLoss(beta, 1.5, next_token=0.0, hidden_states=1.0, attention_maps=1.0)
    student = new_model(DEEP, "llama", seed=1)
    losses = Distillation(loss, copy.deepcopy(student).requires_grad_(False)).losses(
        student, batch_of(tmp_path / "d", some_documents(), 32)
    )
    assert set(losses) == {"distillation", "hidden_states", "attention_maps"}
    total = sum(each.sum for each in losses.values())
    total.backward()
    assert abs(float(total.detach())) < 1e-4  # the rounding of float32 logits of kernels with and without gradients
    assert max(float(p.grad.abs().max()) for p in student.parameters()) < 1e-4


def test_each_loss_is_its_formula_place_by_place(tmp_path):
    """One document, read by modules alone: hidden states layer by layer, maps as softmax of masked scores."""
    teacher, student = a_teacher().double(), a_student().double()
    (document,) = some_documents([9])
    ids = torch.from_numpy(document)[None]
    losses = Distillation(ALL, teacher).losses(student, batch_of(tmp_path / "d", [document], 9))
    expected = {"distillation": 0.0, "hidden_states": 0.0, "attention_maps": 0.0}
    p, q = ((model(ids)[0, :8] / 2.0).log_softmax(-1) for model in (teacher, student))
    mixture = (0.3 * p.exp() + 0.7 * q.exp()).log()
    jsd = 0.3 * F.kl_div(mixture, p, log_target=True, reduction="sum")
    jsd += 0.7 * F.kl_div(mixture, q, log_target=True, reduction="sum")
    expected["distillation"] = 0.5 * 4 * jsd + 0.5 * F.cross_entropy(student(ids)[0, :8], ids[0, 1:], reduction="sum")
    seen = [_layers(model, ids) for model in (student, teacher)]
    for layer, number in ((0, 1), (1, 3)):
        states, maps = (
            [model[at][part][0] for model, at in zip(seen, (layer, number), strict=True)] for part in (0, 1)
        )
        distance = (student.projections[layer](states[0]) - states[1])[:8].square().sum(-1)
        expected["hidden_states"] += 0.7 / 2 * (distance / states[1][:8].square().sum(-1)).sum()
        own, theirs = (each.mean(0) if len(maps[0]) != len(maps[1]) else each for each in maps)
        for query in range(8):
            p, q = theirs[query, : query + 1], own[query, : query + 1]
            expected["attention_maps"] += 0.4 / 2 * (p * (p / q).log()).sum()
    for name, value in expected.items():
        torch.testing.assert_close(losses[name].sum.double(), value, rtol=1e-5, atol=0)  # sums are float32


def _layers(model, ids):
    """(hidden states behind it, attention maps) of each layer, by a plain run of the blocks."""
    positions = torch.arange(ids.shape[1])[None]
    hidden, found = model.embedding(ids, positions), []
    for block, context in zip(model.decoder.blocks, model.decoder.layer_contexts(hidden, positions), strict=True):
        attention, read = block.attention, block.attention_norm(hidden)
        query, key = (
            rotate(linear(read).unflatten(-1, (-1, attention.config.head_dim)).transpose(1, 2), context.rotation)
            for linear in (attention.query, attention.key)
        )
        key = key.repeat_interleave(query.shape[1] // key.shape[1], 1)
        scores = query @ key.mT / attention.config.head_dim**0.5
        maps = scores.masked_fill(torch.ones_like(scores[0, 0]).triu(1).bool(), -torch.inf).softmax(-1)
        hidden = block(hidden, context)
        found.append((hidden, maps))
    return found


@pytest.mark.parametrize("temperature", [2.0, *slow(1.0)])
def test_columns_of_the_whole_vocabulary_are_the_live_teacher(temperature, tmp_path):
    dataset = TokenDataset(write_text_dataset(tmp_path / "text"))
    loss, teacher = DistillationLoss(0.3, temperature), a_teacher()
    with Loader(loader_config(tmp_path / "text", seed=5)) as loader:
        batch = loader.batch(3)
    sums = {}
    for k in (16, 256, 257):
        (tmp_path / str(k)).mkdir()
        config = TeacherConfig(k, temperature, length=32, seed=5)
        write_columns(tmp_path / str(k), teacher, {"text": dataset}, config)
        objective = Distillation(loss, open_columns(tmp_path / str(k), [dataset], 32, 5, temperature))
        sums[k] = objective.losses(new_model(CONFIGS["llama"], "llama"), batch)["distillation"].metrics["divergence"]
    live = Distillation(loss, teacher).losses(new_model(CONFIGS["llama"], "llama"), batch)["distillation"].metrics
    torch.testing.assert_close(sums[257], live["divergence"], rtol=1e-5, atol=0)
    torch.testing.assert_close(sums[256], live["divergence"], rtol=1e-4, atol=0)
    assert sums[16] < live["divergence"]
    with pytest.raises(ValueError, match="length=32, the run has 64"):
        open_columns(tmp_path / "16", [dataset], 64, 5, temperature)


def test_rows_that_pad_the_vocabulary_of_one_of_them_change_nothing(tmp_path):
    batch, teacher = batch_of(tmp_path / "d", some_documents(), 32), a_teacher()
    wide = replace(DEEP, embedding=replace(DEEP.embedding, vocabulary=320))
    padded = new_model(wide, "llama", seed=2)
    for name, weight in teacher.state_dict().items():
        padded.state_dict()[name][: len(weight)] = weight
    student, loss = new_model(CONFIGS["llama"], "llama"), DistillationLoss(0.3, 2.0)
    found = [
        Distillation(loss, each.requires_grad_(False)).losses(student, batch)["distillation"].sum.detach()
        for each in (teacher, padded)
    ]
    torch.testing.assert_close(*found)


def test_a_student_learns_what_its_teacher_says_and_is_delivered_without_projections(tmp_path):
    write_text_dataset(tmp_path / "text")
    loss = DistillationLoss(next_token=0.0, hidden_states=0.1)
    checkpoint = assemble(CONFIGS["llama"], new_model(CONFIGS["llama"], "llama").state_dict(), byte_tokenizer(SPECIAL))
    teacher = a_teacher()
    with Loader(loader_config(tmp_path / "text", steps=60)) as loader:
        prepare_student(checkpoint.model, teacher, loss, 0)
        run = Run(checkpoint, Distillation(loss, teacher), loader, TrainConfig(validate=None, log=1), tmp_path / "run")
        batch = loader.batch(0)
        before = float(run.objective.losses(run.model, batch)["distillation"].sum.detach())
        train(run)
    assert float(run.objective.losses(run.model, batch)["distillation"].sum.detach()) < before / 2
    run.finished().save(tmp_path / "student")


def test_students_of_layers_and_of_the_dial():
    assert evenly_spaced(3, 6) == [0, 2, 4] and matched_layers(3, 6) == [1, 3, 5]
    teacher = assemble(DEEP, a_teacher().state_dict(), byte_tokenizer(SPECIAL))
    student, ids = keep_layers(teacher, [0, 2]), torch.arange(20)[None]
    skipping = copy.deepcopy(teacher.model)
    for number in (1, 3):
        skipping.decoder.blocks[number].forward = lambda hidden, *_: hidden
    torch.testing.assert_close(student.model(ids), skipping(ids))
    with pytest.raises(ValueError, match="1 to 4 of the teacher's layers"):
        evenly_spaced(5, 4)
    new = new_student(teacher, 60_000, seed=0)
    count = sum(weight.numel() for weight in new.model.parameters())
    assert count == pytest.approx(60_000, rel=0.34) and new.config.embedding.vocabulary == 257
