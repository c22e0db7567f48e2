"""Steps that are split, that are left out, and that end a run."""

import os
from dataclasses import replace

import pytest
import torch

from kit.tables import for_each
from lmworks.artefact import LockedError, lock
from lmworks.model import masks
from lmworks.train.config import GuardConfig
from lmworks.train.loop import step, train
from lmworks.train.loss_guard import Guard, TrainingStoppedError
from lmworks.train.objectives.causal import CausalLanguageModel
from lmworks.train.run_log import read_log
from lmworks.train.validation import validate
from training_cases import new_checkpoint, run_of, spoil


class Masked(CausalLanguageModel):
    """Batches that hold no target from the given places on, or up to them."""

    def __init__(self, empty):
        super().__init__()
        object.__setattr__(self, "empty", empty)

    def examples(self, batch, seed):
        return replace(batch, mask=torch.zeros_like(batch.mask)) if seed in self.empty else batch


def events(folder):
    return [line["text"] for line in read_log(folder / "log.jsonl") if line["kind"] == "event"]


def test_batches_without_a_target_are_left_out(text_dataset, tmp_path):
    """The guard does not see them: a loss of 0 would be no loss."""
    run = run_of(tmp_path, text_dataset, precision="bfloat16", micro_batch=3)  # the seed of a batch is its place
    run.objective = Masked({0, 7, 19})
    assert train(run).step == 17
    assert run.guard.seen == 17
    assert events(tmp_path) == [f"no target at batch {number}: left out" for number in (0, 7, 19)]
    assert run.checkpoints.steps() == [17]


def test_data_without_anything_to_learn_is_refused(text_dataset, tmp_path):
    run = run_of(tmp_path, text_dataset)
    run.objective = Masked(set(range(20)))
    with pytest.raises(ValueError, match="leaves nothing to learn"):
        train(run)
    assert run.checkpoints.steps() == []


class WithProbability(CausalLanguageModel):
    """The mean probability of the targets as a metric."""

    def losses_of(self, model, hidden, examples):
        (loss,) = super().losses_of(model, hidden, examples).values()
        chances = model.logits(hidden).softmax(-1).gather(-1, examples.targets[..., None])[..., 0]
        return {"next_token": replace(loss, metrics={**loss.metrics, "probability": chances[examples.mask].sum()})}


def test_metrics_of_a_loss_are_logged(text_dataset, tmp_path):
    """As means over all targets of a step, however it is divided, and in a validation with an interval."""
    lines = []
    for name, micro_batch in (("whole", None), ("divided", 3)):
        run = run_of(tmp_path / name, text_dataset, 2, micro_batch=micro_batch, validate=1)
        run.objective = WithProbability()
        run.validate = lambda run=run: validate(run.model, run.objective, [run.loader.batch(0)], 1)
        train(run)
        lines.append(read_log(tmp_path / name / "log.jsonl"))
    for whole, divided in zip(*lines, strict=True):
        assert divided["probability"] == pytest.approx(whole["probability"], rel=1e-3)
    fresh, batch = new_checkpoint().model, run.loader.batch(0)
    rule = masks.documents(batch.documents, causal=True)
    logits = fresh(batch.ids, positions=batch.positions, rule=rule).detach()
    chances = logits.softmax(-1).gather(-1, batch.targets[..., None])[..., 0][batch.mask]
    assert lines[0][0]["probability"] == pytest.approx(float(chances.mean()), rel=1e-4)
    low, high = lines[0][1]["probability_interval"]
    assert lines[0][1]["kind"] == "validation" and low < lines[0][1]["probability"] < high

    class Twice(WithProbability):
        def counts(self, examples):
            return dict.fromkeys(("a", "b"), super().counts(examples)["next_token"])

        def losses_of(self, model, hidden, examples):
            return dict.fromkeys(("a", "b"), super().losses_of(model, hidden, examples)["next_token"])

    run = run_of(tmp_path / "several", text_dataset, 2)
    run.objective = Twice()
    taken = step(run)
    assert taken.metrics["a_probability"] == taken.metrics["b_probability"] == pytest.approx(float(chances.mean()))


def test_a_step_is_what_the_loop_takes(text_dataset, tmp_path):
    """For trainers with a loop of their own."""
    looped, stepped = (run_of(tmp_path / name, text_dataset, 3) for name in ("looped", "stepped"))
    train(looped)
    losses = [step(stepped).loss for _ in range(3)]
    assert losses == [line["loss"] for line in read_log(tmp_path / "looped" / "log.jsonl")]
    assert stepped.position == looped.position
    for name, weight in looped.weights.masters.items():
        assert torch.equal(stepped.weights.masters[name], weight)


def test_a_loss_that_has_moved_for_good_ends_the_run(text_dataset, tmp_path):
    """From batch 11 on the loss is 9 nats higher: nine steps are left out, and the tenth ends the run."""
    guard = GuardConfig(action="skip", deviations=6, memory=5)
    run = spoil(run_of(tmp_path, text_dataset, steps=60, guard=guard), range(11, 60), 9.0)
    with pytest.raises(TrainingStoppedError, match=r"the loss jumped.* 10 steps in a row"):
        train(run)
    assert (run.position.step, run.position.cursor) == (11, 21)


def test_jumps_that_are_no_row_do_not_end_it():
    guard = Guard(GuardConfig(action="skip", deviations=6, memory=5))
    found = [guard.violation(9.0 if number % 7 == 0 else 1.0, 1.0) is not None for number in range(1, 150)]
    assert sum(found) == 21
    assert guard.in_a_row == 0


@for_each(("steps", "cursor", "problem"), [(30, 15, "loss is nan, and 10 steps in a row"), (5, 5, "no step was taken")])
def test_a_loss_that_stays_no_number_ends_the_run(steps, cursor, problem, text_dataset, tmp_path):
    """Weights that were spoilt at batch 5, or before the first: a run that leaves all steps out has not succeeded."""
    first_bad = 5 if steps == 30 else 0
    run = spoil(run_of(tmp_path, text_dataset, steps, guard=GuardConfig(action="skip")), range(first_bad, steps))
    with pytest.raises(TrainingStoppedError, match=problem):
        train(run)
    assert (run.position.step, run.position.cursor) == (first_bad, cursor)


def test_two_runs_of_one_folder_are_refused(text_dataset, tmp_path):
    """The second neither trains nor takes away what the first is writing; after it, what it left is cleared."""
    half_written = tmp_path / "checkpoints" / ".step-00000004.half"
    half_written.mkdir(parents=True)
    with lock(tmp_path / "run.lock"), pytest.raises(LockedError, match=f"in use by process {os.getpid()}; wait for it"):
        train(run_of(tmp_path, text_dataset))
    assert half_written.exists()
    assert not (tmp_path / "log.jsonl").exists()
    train(run_of(tmp_path, text_dataset, steps=2))
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-00000002"]
