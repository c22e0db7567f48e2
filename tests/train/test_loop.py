"""The loop: it learns, and what must not change its numbers does not."""

import json
import signal
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from kit.tables import for_each
from lmworks.data.loader import Loader
from lmworks.model.checkpoint import load
from lmworks.train.activation_checkpointing import blocks, checkpoint_activations
from lmworks.train.config import CheckpointConfig, EmbedderConfig, GuardConfig, TrainConfig
from lmworks.train.loop import train
from lmworks.train.loss_guard import TrainingStoppedError
from lmworks.train.objectives.causal import CausalLanguageModel
from lmworks.train.optimizer_config import AdamW, Linear, Lion, Muon, Sgd
from lmworks.train.parallel.config import ParallelConfig
from lmworks.train.run_log import LOG, read_log
from lmworks.train.sweep.config import SweepConfig
from lmworks.train.validation import validate
from slow_cases import slow
from training_cases import loader_config, new_checkpoint, run_of, spoil


@pytest.fixture(scope="module")
def undisturbed(text_dataset, tmp_path_factory):
    """A run of 20 steps that nobody disturbed."""
    run = run_of(tmp_path_factory.mktemp("undisturbed"), text_dataset)
    train(run)
    return run


def losses(folder):
    return [line["loss"] for line in read_log(folder / "log.jsonl") if line["kind"] == "step"]


def same(first, second):
    assert first.keys() == second.keys()
    return all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(
    ("family", "optimizer"),
    [
        ("gpt2", AdamW(rate=3e-3)),
        ("llama", Lion(rate=1e-3, decay=0.1)),
        ("llama", Muon(rate=3e-3, rest=AdamW(rate=3e-3))),
        ("gpt2", Sgd(rate=0.5)),
        *slow(("llama", AdamW(rate=3e-3)), ("gpt2", Lion(rate=1e-3, decay=0.1))),
        *slow(("gpt2", Muon(rate=3e-3, rest=AdamW(rate=3e-3))), ("llama", Sgd(rate=0.5))),
    ],
    ids=lambda value: getattr(value, "kind", value),
)
def test_every_optimizer_learns(family, optimizer, text_dataset, tmp_path):
    run = run_of(tmp_path, text_dataset, 60, family, optimizer=optimizer)
    train(run)
    seen = losses(tmp_path)
    assert sum(seen[:3]) / 3 - sum(seen[-3:]) / 3 > 0.8  # from log 257 = 5.5 nats


@pytest.mark.parametrize("micro_batch", [1, 3, *slow(8)])
@pytest.mark.parametrize("family", ["llama", *slow("gpt2")])
def test_micro_batches_of_a_step_sum_to_the_whole(micro_batch, family, undisturbed, text_dataset, tmp_path):
    if family != "llama":
        train(undisturbed := run_of(tmp_path / "whole", text_dataset, family=family))
    train(run_of(tmp_path / "divided", text_dataset, family=family, micro_batch=micro_batch))
    torch.testing.assert_close(losses(tmp_path / "divided"), losses(undisturbed.folder), rtol=2e-4, atol=0)


def test_a_run_goes_on_as_if_it_had_not_been_stopped(text_dataset, tmp_path):
    settings = {
        "checkpoint": CheckpointConfig(steps=5),
        "average": 0.9,
        "micro_batch": 3,
    }
    undisturbed = run_of(tmp_path / "one", text_dataset, **settings)
    train(undisturbed)
    stopped = run_of(tmp_path / "two", text_dataset, **settings)
    iterate = stopped.loader.__class__.__next__
    calls = 0

    class Killed(BaseException):
        pass

    class Mortal(Loader):
        def __next__(self):
            nonlocal calls
            calls += 1
            if calls == 13:
                raise Killed
            return iterate(self)

    stopped.loader = Mortal(loader_config(text_dataset))
    with pytest.raises(Killed):
        train(stopped)
    again = run_of(tmp_path / "two", text_dataset, **settings)
    train(again)
    assert again.position == undisturbed.position
    assert same(again.weights.masters, undisturbed.weights.masters)
    assert same(again.weights.state(), undisturbed.weights.state())
    assert same(again.average.weights, undisturbed.average.weights)
    assert losses(tmp_path / "two") == losses(tmp_path / "one")


def test_a_run_that_was_not_saved_says_that_it_begins_anew(text_dataset, tmp_path):
    def stopped_at(progress_of):
        class Killed(BaseException):
            pass

        def die(done, *_):
            if done == progress_of:
                raise Killed

        run = run_of(tmp_path, text_dataset, steps=6)
        run.progress = die
        with pytest.raises(Killed):
            train(run)

    stopped_at(4)
    assert not any(line["kind"] == "event" for line in read_log(tmp_path / LOG))
    told = []
    again = run_of(tmp_path, text_dataset, steps=6)
    again.progress = lambda *report: told.append(report[-1])
    train(again)
    (event,) = (line for line in read_log(tmp_path / LOG) if line["kind"] == "event")
    assert "restarts" in event["text"] and event["step"] == 0 and told[0] == event["text"]
    assert len(losses(tmp_path)) == 6


def test_the_log_has_the_learning_rate(text_dataset, tmp_path):
    train(run_of(tmp_path, text_dataset, schedule=Linear(warmup=4, final=0.0)))
    rates = [line["rate"] for line in read_log(tmp_path / "log.jsonl")]
    assert rates[:5] == pytest.approx([3e-3 / 4, 3e-3 / 2, 3e-3 * 3 / 4, 3e-3, 3e-3])
    assert rates[-1] == pytest.approx(3e-3 / 16)


def test_a_checkpoint_is_a_folder_that_gives_the_same_logits(text_dataset, tmp_path):
    run = run_of(tmp_path, text_dataset, steps=3)
    train(run)
    saved = load(run.checkpoints.path(3))
    ids = torch.arange(40, 60)[None]
    assert torch.equal(saved.model(ids), run.finished().model(ids))


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
@pytest.mark.parametrize("steps", [20, *slow(40)])
def test_low_precision_follows_float32(precision, steps, undisturbed, text_dataset, tmp_path):
    if steps != 20:
        train(undisturbed := run_of(tmp_path / "exact", text_dataset, steps))
    low = run_of(tmp_path / "low", text_dataset, steps, precision=precision)
    train(low)
    assert {p.dtype for p in low.model.parameters()} == {getattr(torch, precision)}
    assert {p.dtype for p in low.weights.masters.values()} == {torch.float32}
    assert losses(tmp_path / "low")[-1] == pytest.approx(losses(undisturbed.folder)[-1], rel=0.02)


@for_each("policy", ["blocks", "selective"])
def test_recomputing_changes_no_bit(policy, undisturbed, text_dataset, tmp_path):
    train(run_of(tmp_path, text_dataset, recompute=policy))
    assert losses(tmp_path) == losses(undisturbed.folder)


def test_a_policy_of_recomputing_takes_the_place_of_the_one_before():
    """The forward of a block runs twice a step where blocks are recomputed, however often that was asked for."""
    model = new_checkpoint().model.train()
    block = blocks(model)[0]
    calls = []
    block.attention.register_forward_pre_hook(lambda *_: calls.append(1))
    for policy, expected in (("blocks", 2), ("blocks", 2), ("selective", 2), ("nothing", 1)):
        checkpoint_activations(model, policy)
        calls.clear()
        model(torch.arange(9)[None]).sum().backward()
        assert len(calls) == expected


class TestGuards:
    def a_run(self, tmp_path, dataset, action):
        saving = CheckpointConfig(steps=5, background=False)
        return spoil(run_of(tmp_path, dataset, guard=GuardConfig(action=action), checkpoint=saving), {11})

    def test_stop(self, text_dataset, tmp_path):
        run = self.a_run(tmp_path, text_dataset, "stop")
        before = {name: weight.clone() for name, weight in run.weights.masters.items()}
        with pytest.raises(TrainingStoppedError, match=r"step 12: the loss is nan.*step-00000010"):
            train(run)
        assert all(weight.isfinite().all() for weight in run.weights.masters.values())
        assert not same(run.weights.masters, before)

    def test_skip(self, text_dataset, tmp_path):
        run = self.a_run(tmp_path, text_dataset, "skip")
        assert train(run).step == 19
        events = [line["text"] for line in read_log(tmp_path / "log.jsonl") if line["kind"] == "event"]
        assert events == ["the loss is nan at batch 11: skip"]


@for_each(
    ("change", "problem"),
    [
        ({"optimizer": Sgd(rate=0.1)}, "its optimizer was adamw, is sgd"),
        ({"precision": "bfloat16"}, "its precision was float32, is bfloat16"),
        ({"family": "gpt2"}, "another model"),
        ({"average": 0.9}, "averaged other weights, or none"),
        ({"seed": 5}, "another stream"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(change, problem, text_dataset, tmp_path):
    train(run_of(tmp_path, text_dataset, steps=1))
    with pytest.raises(ValueError, match=problem):
        train(run_of(tmp_path, text_dataset, steps=1, **change))


def test_optimizer_state_is_named_by_weights(text_dataset, tmp_path):
    run = run_of(tmp_path, text_dataset, steps=1)
    train(run)
    state = load_file(run.checkpoints.path(1) / "train_state" / "optimizers.safetensors")
    assert {"0/exp_avg/embedding.tokens.weight", "0/step/decoder.norm.weight"} <= state.keys()
    told = json.loads((run.checkpoints.path(1) / "train_state" / "state.json").read_text())
    assert told["position"] == {
        "step": 1,
        "cursor": 1,
        "tokens": run.position.tokens,
        "targets": run.position.targets,
    }
    assert 0 < run.position.targets <= run.position.tokens <= 8 * 32


def test_a_run_whose_last_step_is_left_out_is_saved_all_the_same(text_dataset, tmp_path):
    run = spoil(run_of(tmp_path, text_dataset, guard=GuardConfig(action="skip")), {19})
    assert train(run).step == 19
    assert run.checkpoints.steps() == [19]


@for_each(("number", "raised"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)])
def test_a_signal_is_taken_after_the_step_and_loses_nothing(number, raised, undisturbed, text_dataset, tmp_path):
    stopped = run_of(tmp_path, text_dataset)
    stopped.progress = lambda done, *rest, **note: signal.raise_signal(number) if done == 7 else None
    before = signal.getsignal(number)
    with pytest.raises(raised):
        train(stopped)
    assert stopped.checkpoints.steps() == [7]
    assert signal.getsignal(number) is before
    again = run_of(tmp_path, text_dataset)
    train(again)
    assert same(again.weights.masters, undisturbed.weights.masters)


def test_what_is_delivered_was_validated(text_dataset, tmp_path):
    """Also where the last step, after which the run would be validated, is left out."""
    run = run_of(tmp_path, text_dataset, guard=GuardConfig(action="skip"), validate=10**6)
    run.validate = lambda: validate(run.model, run.objective, [run.loader.batch(0)])
    last = run.loader.steps - 1

    class Spoilt(CausalLanguageModel):
        def losses(self, model, examples):
            losses = super().losses(model, examples)
            return {name: replace(loss, sum=loss.sum * torch.nan) for name, loss in losses.items()}

    normal, spoilt = run.objective, Spoilt()
    draw = run.examples

    def examples(batch, seed):
        run.objective = spoilt if seed - run.seed == last else normal
        return draw(batch, seed)

    run.examples = examples
    position = train(run)
    assert position.step == last
    assert [line["step"] for line in read_log(tmp_path / LOG) if line["kind"] == "validation"] == [last]


def test_a_checkpoint_without_its_optimizers_is_not_gone_on_from(text_dataset, tmp_path):
    train(run_of(tmp_path, text_dataset, steps=1))
    run = run_of(tmp_path, text_dataset, steps=1)
    state = run.checkpoints.path(run.checkpoints.steps()[-1]) / "train_state"
    (state / "optimizers.safetensors").unlink()
    with pytest.raises(ValueError, match=r"cannot be resumed from: .* holds no optimizers"):
        train(run)


@for_each(
    "made", [lambda train: EmbedderConfig(("pairs.jsonl",), train=train), lambda train: SweepConfig(1.0, train=train)]
)
def test_stages_of_one_process_refuse_more(made):
    with pytest.raises(ValueError, match=r"leave train\.parallel out"):
        made(TrainConfig(parallel=ParallelConfig(data=2)))
