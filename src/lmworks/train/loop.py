"""The loop. Everything that is trained is trained here, whatever the objective."""

import time
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

from lmworks.artefact import lock
from lmworks.model.model_costs import flops_per_token
from lmworks.progress import readable_duration
from lmworks.records import Scored
from lmworks.train.gradient_accumulation import StepGradients, compute_gradients
from lmworks.train.interruption import Interruption, interruptions
from lmworks.train.loss_guard import TrainingStoppedError, remedy
from lmworks.train.noise_scale import multiple_for
from lmworks.train.optimizer_config import peak_rate
from lmworks.train.run import Position, Run
from lmworks.train.run_log import LOG, NoLog, RunLog
from lmworks.train.schedules import multiplier
from lmworks.train.validation import Validation

LOCK = "run.lock"


def train(run: Run) -> Position:
    """Take all steps that are left, from the last checkpoint in the run's folder or from the beginning.

    ValueError for data without anything to learn, TrainingStoppedError when a guard ends it. What is on the disk then
    is the last checkpoint, as after a kill. A first Ctrl-C or SIGTERM is taken after the step that runs: the run is
    saved, and the signal then does what it does. LockedError where another run of this folder is alive.
    """
    with lock(run.folder / LOCK) if run.ranks.first else nullcontext():
        return _train(run)


def _train(run: Run) -> Position:
    run.checkpoints.clear()
    if saved := run.checkpoints.steps():
        run.restore(saved[-1])
    lost = not saved and (run.folder / LOG).exists()
    log = RunLog(run.folder, run.position.step) if run.ranks.first else NoLog()
    if saved:
        _tell_going_on(run, log)
    elif lost:
        told = "begins anew: what ran here before ended before it was saved (train.checkpoint says how often that is)"
        log.write("event", 0, text=told)
        run.progress(0, run.loader.steps, "batches", 0, told)
    clock = _Clock(run)
    try:
        with interruptions() as interruption:
            while run.position.cursor < run.loader.steps and not _interrupted(run, interruption):
                if (got := _step(run, log)) is None:
                    continue
                here, last = run.position, run.position.cursor == run.loader.steps
                clock.tell(got)
                if here.step % run.config.log == 0 or last:
                    log.write("step", here.step, cursor=here.cursor, **_numbers(run, got), **clock.rates())
                if run.config.validate and (here.step % run.config.validate == 0 or last):
                    _look(run, log)
                if run.ranks.any(clock.save_is_due()):
                    run.save()
                    clock.saved = time.monotonic()
            finished = run.position.cursor == run.loader.steps
            # Its last step may have been left out, and what is delivered was not looked at then.
            validates = run.validate is not None and run.config.validate
            if validates and finished and run.ranks.any(not log.tells("validation", run.position.step)):
                _look(run, log)
            run.save()  # the end, or what there is when somebody wants it to end
            run.checkpoints.wait()
        if _interrupted(run, interruption):
            told = f"after {_where(run)}, which is saved"
            log.write("event", run.position.step, text=f"stopped {told}")
            interruption.raise_again(told)
    finally:
        run.checkpoints.close()
        log.close()
    return run.position


def _interrupted(run: Run, interruption: Interruption) -> bool:
    """Whether one of the processes was: then all are, after the same step."""
    interruption.signal = int(run.ranks.most([interruption.signal or 0])[0]) or None
    return interruption.signal is not None


def _where(run: Run) -> str:
    here = run.position
    return f"step {here.step:,}, batch {here.cursor:,} of {run.loader.steps:,}"


def _tell_going_on(run: Run, log: RunLog | NoLog) -> None:
    age = max(time.time() - run.checkpoints.path(run.position.step).stat().st_mtime, 0)
    told = f"goes on from {_where(run)}, saved {readable_duration(age)} ago"
    log.write("event", run.position.step, text=told)
    done = run.position.cursor
    run.progress(done, run.loader.steps, "batches", done, told)


def _look(run: Run, log: RunLog | NoLog) -> None:
    """At what the model has learnt: the validation, and samples, both with the averaged weights where there are any,
    as these are what is delivered."""
    step, average = run.position.step, run.average.weights
    if run.validate is not None:
        log.write("validation", step, **_told(run.validate()))
    with run.weights.showing(average) if average else nullcontext():
        if average and run.validate is not None:
            log.write("average_validation", step, **_told(run.validate()))
        for beginning, said in run.sample() if run.sample is not None else ():
            log.write("sample", step, beginning=beginning, text=said)


def _step(run: Run, log: RunLog | NoLog) -> StepGradients | None:
    """One step of the optimizers; None where its batches were left out."""
    here = run.position
    batches = [next(run.loader) for _ in range(min(here.multiple, run.loader.steps - here.cursor))]
    examples = [run.examples(batch, run.seed + here.cursor + number) for number, batch in enumerate(batches)]
    # How much noisier a part of the step is than the whole is what a ramp goes by.
    at_least = 1 if run.config.ramp is None else 2
    got = compute_gradients(
        run.model, run.weights, run.objective, examples, run.config.micro_batch, run.scale.value, run.device, at_least
    )
    if not got.targets:
        _pass_over(run, len(batches), log)
        return None
    rate = multiplier(run.config.schedule, here.cursor, run.loader.steps)
    here.cursor += len(batches)
    if run.scale.overflowed(got.norm):
        log.write("event", here.step, text=f"float16 overflowed; the loss scale is now {run.scale.value:g}")
        return None
    if (objection := run.guard.objection(got.loss, got.norm)) is not None:
        _react(run, objection, log)
        return None
    longest = run.config.clip
    factor = 1.0 if longest is None or got.norm <= longest else longest / got.norm
    run.weights.update(rate, factor / got.scale)
    run.average.update(here.step)
    here.step += 1
    here.targets += got.targets
    tokens = int(run.ranks.total([sum(batch.tokens for batch in batches)])[0]) // run.config.parallel.context
    here.tokens += tokens
    _grow(run, got, log)
    return replace(got, rate=rate, tokens=tokens)


def _pass_over(run: Run, batches: int, log: RunLog | NoLog) -> None:
    """Batches without a target: nothing can be learned from them. ValueError at the end of a run that had no other."""
    here = run.position
    here.cursor += batches
    log.write("event", here.step, text=f"no target at batch {here.cursor - 1}: left out")
    if here.cursor == run.loader.steps and here.step == 0:
        raise ValueError(
            "no step was taken: the mask of the data leaves nothing to learn. In conversations the assistant's turns "
            "are learned, and a sequence that ends before them holds none: look at the data, or raise length"
        )


def _react(run: Run, objection: str, log: RunLog | NoLog) -> None:
    """To a step that is not to be taken: its batches are left out, and the run stops, goes on, or goes back."""
    here, action = run.position, run.config.guard.action
    told = f"{objection} at batch {here.cursor - 1}: {action}"
    run.checkpoints.wait()  # or it would depend on the disk's speed where a run goes back to
    back = run.checkpoints.goes_back_to() if action == "rewind" else None
    if action == "stop" or (action == "rewind" and (back is None or run.guard.rewinds >= run.config.guard.rewinds)):
        log.write("event", here.step, text=told)
        saved = run.checkpoints.steps()
        raise TrainingStoppedError(
            f"step {here.step + 1}: {objection}. The weights are those before it; the last checkpoint is "
            f"{run.checkpoints.path(saved[-1]) if saved else 'none'}. "
            f"{remedy(run.config.guard, run.config.checkpoint, back is not None)}"
        )
    if back is not None:
        rewinds, in_a_row = run.guard.rewinds + 1, run.guard.in_a_row
        run.restore(back)
        run.guard.rewinds, run.guard.in_a_row, run.position.cursor = rewinds, in_a_row, here.cursor
        run.loader.seek(here.cursor)
        run.checkpoints.drop_after(run.position.step)
        log.drop_after(run.position.step)
    log.write("event", run.position.step, text=told)
    if run.position.step == 0 and run.position.cursor == run.loader.steps:
        raise TrainingStoppedError(f"no step was taken: each was left out, the last because {objection}")


def _grow(run: Run, got: StepGradients, log: RunLog | NoLog) -> None:
    """Measure the noise scale, and let the batch grow with it."""
    here, ramp = run.position, run.config.ramp
    if got.first is not None:
        run.noise.add(got.first, (got.targets, got.norm**2))
    if ramp is None or here.step % ramp.every:
        return
    wanted = multiple_for(run.noise.value, got.targets / here.multiple, ramp.share, here.multiple, ramp.most)
    if wanted != here.multiple:
        log.write(
            "event", here.step, text=f"a step now takes {wanted} batches: the noise scale is {run.noise.value:.0f}"
        )
        here.multiple = wanted


def _numbers(run: Run, got: StepGradients) -> dict[str, Any]:
    losses = got.losses if len(got.losses) > 1 else {}
    rate = got.rate * peak_rate(run.config.optimizer)
    return {"loss": got.loss, **losses, "gradient_norm": got.norm, "targets": got.targets, "rate": rate}


def _told(found: Validation) -> dict[str, Any]:
    scores = {"loss": found.total, **(found.nats if len(found.nats) > 1 else {}), "bits_per_byte": found.bits_per_byte}
    told: dict[str, Any] = {"targets": sum(found.targets.values())}
    for name, score in scores.items():
        if isinstance(score, Scored):
            told |= {name: score.value, f"{name}_interval": score.interval}
    if isinstance(found.total, Scored):
        return {**told, "n": found.total.n, "signature": found.total.signature}
    return {**told, "unscored": found.total.reason}


class _Clock:
    """How fast the run is, and when it is time to save."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.started = self.saved = time.monotonic()
        self.tokens, self.kept = 0, run.position.cursor  # of this process, and of those before it
        length = run.loader.config.length
        self.flops_per_token = 3 * flops_per_token(run.checkpoint.config, length)  # the backward is twice the forward

    def tell(self, got: StepGradients) -> None:
        self.tokens += got.tokens  # those of the position go back with it
        rates = self.rates()
        note = f"loss {got.loss:.3f} · {rates['tokens_per_second']:,.0f} tokens/s"
        note += f" · {rates['utilisation']:.0%} of peak" if "utilisation" in rates else ""
        self.run.progress(self.run.position.cursor, self.run.loader.steps, "batches", self.kept, note)

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
