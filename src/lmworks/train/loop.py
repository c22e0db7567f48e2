"""The training loop: everything that is trained is trained here, whatever the objective."""

import time
from contextlib import nullcontext
from dataclasses import asdict, replace
from typing import Any

from lmworks.artefact import lock
from lmworks.model.mixture_of_experts import MixtureOfExperts
from lmworks.model.model_costs import flops_per_token
from lmworks.progress import readable_duration
from lmworks.records import Scored
from lmworks.train.gradient_accumulation import StepGradients, compute_gradients
from lmworks.train.interruption import Interruption, interruptions
from lmworks.train.loss_guard import TrainingStoppedError
from lmworks.train.objectives.balanced_experts import expert_load
from lmworks.train.optimizer_config import peak_rate
from lmworks.train.run import Position, Run
from lmworks.train.run_log import LOG, NoLog, RunLog
from lmworks.train.schedules import multiplier
from lmworks.train.validation import Validation

LOCK = "run.lock"


def train(run: Run) -> Position:
    """Take all steps that are left, from the last checkpoint in the run's folder or from the beginning.

    ValueError for data without anything to learn, TrainingStoppedError when a guard ends it. What is on the disk then
    is the last checkpoint, as after a kill. Early stopping ends it as its last step would, and `run.stop` says why. A
    first Ctrl-C or SIGTERM is taken after the step that runs: the run is saved, and the signal then does what it does.
    LockedError where another run of this folder is alive.
    """
    with lock(run.folder / LOCK) if run.ranks.first else nullcontext():
        return _train(run)


def _train(run: Run) -> Position:
    run.checkpoints.clear()
    if saved := run.checkpoints.steps():
        run.restore(saved[-1])
    lost = not saved and (run.folder / LOG).exists()
    run.log = RunLog(run.folder, run.position.step) if run.ranks.first else NoLog()
    if saved or lost:
        text = "restarts: what ran here before ended before it was saved (train.checkpoint says how often that is)"
        if saved:
            age = max(time.time() - run.checkpoints.path(run.position.step).stat().st_mtime, 0)
            text = f"continues from {_place(run)}, saved {readable_duration(age)} ago"
        run.log.write("event", run.position.step, text=text)
        run.progress(run.position.cursor, run.loader.steps, "batches", run.position.cursor, text)
    try:
        if run.compares and run.config.validate and not run.position.cursor:
            _validate_and_sample(run)
        clock = _Clock(run)
        mixture = any(isinstance(module, MixtureOfExperts) for module in run.model.modules())
        mixture &= run.config.parallel.pipeline == 1
        with interruptions() as interruption:
            while not run.ended and not _interrupted(run, interruption):
                taken = step(run)
                _check_early_stopping(run, taken)
                if taken is None:
                    continue
                number, last = run.position.step, run.ended
                clock.add(taken)
                if number % run.config.log == 0 or last:
                    numbers = _step_numbers(run, taken)
                    run.log.write("step", number, cursor=run.position.cursor, **numbers, **clock.rates())
                looks = bool(run.config.validate) and number % run.config.validate == 0
                if mixture and (last or looks):  # in this process's examples
                    load = expert_load(run.model, run.objective, run.last_examples, run.device)
                    for layer, use in load.items():
                        run.log.write("experts", number, layer=layer, **asdict(use))
                if looks or (last and run.config.validate):
                    _validate_and_sample(run)
                if run.ranks.any(clock.save_is_due()):
                    run.save()
                    clock.saved = time.monotonic()
            # Its last step may have been left out, and then the weights that are delivered were not validated.
            validates = run.validate is not None and run.config.validate
            if validates and run.ended and run.ranks.any(not run.log.has("validation", run.position.step)):
                _validate_and_sample(run)
            run.save()  # at the end, or at an interruption
            run.checkpoints.wait()
        if _interrupted(run, interruption):
            text = f"after {_place(run)}, which is saved"
            run.log.write("event", run.position.step, text=f"stopped {text}")
            interruption.raise_again(text)
    finally:
        run.checkpoints.close()
        run.log.close()
    return run.position


def step(run: Run) -> StepGradients | None:
    """Take the next batch and one step of the optimizers; None where the batch was left out.

    For trainers with a loop of their own, such as those that roll out between two steps: `train` validates, saves and
    logs around it. The errors are those of `train`.
    """
    position = run.position
    batch, config = next(run.loader), run.config
    run.last_examples = run.examples(batch, run.seed + position.cursor)
    gradients = compute_gradients(
        run.model, run.weights, run.objective, run.last_examples, config.micro_batch, run.scale.value, run.device
    )
    if not gradients.targets:
        _skip_batch(run)
        return None
    rate = multiplier(run.config.schedule, position.cursor, run.loader.steps)
    rate *= 1.0 if run.early_stopping is None else run.early_stopping.factor
    position.cursor += 1
    if run.scale.overflowed(gradients.norm):
        run.log.write("event", position.step, text=f"float16 overflowed; the loss scale is now {run.scale.value:g}")
        return None
    if (violation := run.guard.violation(gradients.loss, gradients.norm)) is not None:
        _handle_guard_violation(run, violation)
        return None
    longest = run.config.clip
    factor = 1.0 if longest is None or gradients.norm <= longest else longest / gradients.norm
    run.weights.update(rate, factor / gradients.scale)
    run.average.update(position.step)
    position.step += 1
    position.targets += gradients.targets
    tokens = int(run.ranks.total([batch.tokens])[0]) // run.config.parallel.context
    position.tokens += tokens
    return replace(gradients, rate=rate, tokens=tokens)


def _check_early_stopping(run: Run, taken: StepGradients | None) -> None:
    """Show early stopping the step, and log what it did."""
    if run.early_stopping is None:
        return
    if taken is not None:
        run.early_stopping.watch(taken.metrics)
    for text in run.early_stopping.events:
        run.log.write("event", run.position.step, text=text)
    run.early_stopping.events.clear()
    if run.stop:
        run.log.write("event", run.position.step, text=f"stopped: {run.stop}")


def _interrupted(run: Run, interruption: Interruption) -> bool:
    """Whether one of the processes was: then all are, after the same step."""
    interruption.signal = int(run.ranks.most([interruption.signal or 0])[0]) or None
    return interruption.signal is not None


def _place(run: Run) -> str:
    return f"step {run.position.step:,}, batch {run.position.cursor:,} of {run.loader.steps:,}"


def _validate_and_sample(run: Run) -> None:
    """Log the validation, and continuations of texts; with the averaged weights where there are any, as these are what
    is delivered."""
    number, average = run.position.step, run.average.weights
    if run.validate is not None:
        validation = run.validate()
        run.log.write("validation", number, **_validation_numbers(validation))
        if isinstance(validation.total, Scored):
            run.held_out = f"held out {validation.total.value:.3f} after step {number:,}"
    with run.weights.replaced_by(average) if average else nullcontext():
        if average and run.validate is not None:
            run.log.write("average_validation", number, **_validation_numbers(run.validate()))
        ends = not number or run.ended
        for beginning, continuation in run.sample() if run.sample and (ends or not run.compares) else ():
            run.log.write("sample", number, beginning=beginning, text=continuation)


def _skip_batch(run: Run) -> None:
    """Leave out a batch without a target. ValueError at the end of a run that had no other."""
    position = run.position
    position.cursor += 1
    run.log.write("event", position.step, text=f"no target at batch {position.cursor - 1}: left out")
    if position.cursor == run.loader.steps and position.step == 0:
        raise ValueError(
            "no step was taken: the mask of the data leaves nothing to learn. In conversations the assistant's turns "
            "are learned, and a sequence that ends before them holds none: look at the data, or raise length"
        )


def _handle_guard_violation(run: Run, violation: str) -> None:
    """Leave out the batch of a step that is not to be taken, and stop or go on."""
    position, action = run.position, run.config.guard.action
    run.log.write("event", position.step, text=f"{violation} at batch {position.cursor - 1}: {action}")
    if action == "stop":
        run.checkpoints.wait()
        saved = run.checkpoints.steps()
        raise TrainingStoppedError(
            f"step {position.step + 1}: {violation}. The weights are those before it; the last checkpoint is "
            f"{run.checkpoints.path(saved[-1]) if saved else 'none'}. Lower the rate, clip, or set guard.action"
        )
    if position.step == 0 and position.cursor == run.loader.steps:
        raise TrainingStoppedError(f"no step was taken: each was left out, the last because {violation}")


def _step_numbers(run: Run, taken: StepGradients) -> dict[str, Any]:
    losses = taken.losses if len(taken.losses) > 1 else {}
    rate = taken.rate * peak_rate(run.config.optimizer)
    numbers = {"gradient_norm": taken.norm, "targets": taken.targets, "rate": rate}
    return {"loss": taken.loss, **losses, **run.loader.metrics, **taken.metrics, **numbers}


def _validation_numbers(validation: Validation) -> dict[str, Any]:
    nats = validation.nats if len(validation.nats) > 1 else {}
    scores = {"loss": validation.total, **nats, **validation.metrics, "bits_per_byte": validation.bits_per_byte}
    numbers: dict[str, Any] = {"targets": sum(validation.targets.values())}
    for name, score in scores.items():
        if isinstance(score, Scored):
            numbers |= {name: score.value, f"{name}_interval": score.interval}
    if isinstance(validation.total, Scored):
        return {**numbers, "n": validation.total.n, "signature": validation.total.signature}
    return {**numbers, "unscored": validation.total.reason}


class _Clock:
    """The speed of a run, and the time to save."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.started = self.saved = time.monotonic()
        self.tokens = 0
        self.resumed_at = run.position.cursor
        length = run.loader.config.length
        self.flops_per_token = 3 * flops_per_token(run.checkpoint.config, length)  # the backward is twice the forward

    def add(self, taken: StepGradients) -> None:
        """Count a step, and show the progress."""
        self.tokens += taken.tokens
        rates = self.rates()
        note = f"loss {taken.loss:.3f} · {rates['tokens_per_second']:,.0f} tokens/s"
        note += f" · {rates['utilisation']:.0%} of peak" if "utilisation" in rates else ""
        note += f" · reward {self.run.loader.metrics['reward']:.3f}" if "reward" in self.run.loader.metrics else ""
        note += f" · {self.run.held_out}" if self.run.held_out else ""
        self.run.progress(self.run.position.cursor, self.run.loader.steps, "batches", self.resumed_at, note)

    def rates(self) -> dict[str, float]:
        seconds = max(time.monotonic() - self.started, 1e-9)
        rates = {"seconds": seconds, "tokens_per_second": self.tokens / seconds, "stall": self.run.loader.stall_share}
        if self.run.peak_flops:
            rates["utilisation"] = (
                rates["tokens_per_second"] * self.flops_per_token / (self.run.peak_flops * self.run.ranks.peaks)
            )
        return rates

    def save_is_due(self) -> bool:
        config, step = self.run.config.checkpoint, self.run.position.step
        minutes = config.minutes is not None and time.monotonic() - self.saved >= 60 * config.minutes
        return minutes or (config.steps is not None and step % config.steps == 0)
