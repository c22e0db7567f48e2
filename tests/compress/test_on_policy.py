"""Batches that a student writes: what is asked, what is learned, and that a run that goes on draws the same."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from lmworks.compress.distillation import Distillation
from lmworks.compress.distillation_config import DistillationLoss, OnPolicyConfig
from lmworks.compress.on_policy import OnPolicyLoader, beginnings, writer_of
from lmworks.train.config import TrainConfig
from lmworks.train.loop import step, train
from lmworks.train.run import Run
from lmworks.train.run_log import read_log
from objective_cases import batch_of, new_model, some_documents
from training_cases import CONFIGS, loader_config, new_checkpoint, write_text_dataset

CONFIG = OnPolicyConfig(share=0.5, prompt=6, completion=10)


def a_run(folder, steps=8, share=0.5):
    loader = OnPolicyLoader(loader_config(folder.parent / "text", steps=steps, batch=4), replace(CONFIG, share=share))
    teacher = new_model(CONFIGS["llama"], "llama", seed=1).requires_grad_(False)
    objective = Distillation(DistillationLoss(0.5, next_token=0.0), teacher)
    settings = TrainConfig(validate=None, log=1)
    run = Run(new_checkpoint(), objective, loader, settings, folder)
    loader.write = writer_of(run, CONFIG)
    return run


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("on-policy")
    write_text_dataset(path / "text")
    return path


def test_what_is_learned_are_the_students_own_tokens_behind_the_beginnings(folder):
    run = a_run(folder / "whole", share=1.0)
    start = run.loader.state()
    given = super(OnPolicyLoader, run.loader).__next__()
    run.loader.restore(start)
    batch = next(run.loader)
    prompts = beginnings(given, 6)
    for row, prompt in enumerate(prompts):
        assert batch.ids[row, : len(prompt)].tolist() == prompt == given.ids[row, : len(prompt)].tolist()
        learned = batch.mask[row].nonzero()[:, 0].tolist()
        end = (batch.documents[row] == row).sum()
        assert learned == list(range(len(prompt) - 1, end - 1)) and 1 <= len(learned) <= 10
        torch.testing.assert_close(batch.targets[row, learned], batch.ids[row, [place + 1 for place in learned]])
        # What was sampled has the probability that the model in training gives it.
        again = run.loader.write([prompt], f"0 0 0 other {row}")[0]
        own = run.model(torch.tensor([again.ids]))[0].log_softmax(-1).detach()
        at = range(len(prompt), len(again.ids))
        expected = [float(own[place - 1, again.ids[place]]) for place in at]
        np.testing.assert_allclose(again.log_probabilities[len(prompt) :], expected, atol=2e-3)


def test_a_conversation_is_asked_up_to_its_first_answer(tmp_path):
    (document,) = some_documents([20])
    mask = np.arange(20) >= 8
    assert beginnings(batch_of(tmp_path / "d", [document], 24, [mask]), 3) == [document[:8].tolist()]


def test_a_run_that_goes_on_has_the_weights_of_one_that_was_never_interrupted(folder):
    whole, halted, resumed = a_run(folder / "one"), a_run(folder / "two"), a_run(folder / "two")
    train(whole)
    for _ in range(4):
        step(halted)
    halted.save()
    halted.checkpoints.close()
    train(resumed)
    for one, other in zip(whole.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(one, other)
    written = [line["written"] for line in read_log(folder / "one" / "log.jsonl") if line["kind"] == "step"]
    assert 0 < sum(value > 0 for value in written) < len(written)
