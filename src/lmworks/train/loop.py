"""The loop. Everything that is trained is trained here, whatever the objective."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from lmworks.data.loader import Loader
from lmworks.model.checkpoint import Checkpoint
from lmworks.model.counting import flops_per_token
from lmworks.progress import Report, no_report
from lmworks.train.averaging import Average
from lmworks.train.checkpoints import Checkpoints, Saved
from lmworks.train.config import TrainConfig
from lmworks.train.guards import Guard, TrainingStoppedError
from lmworks.train.interrupting import interruptions
from lmworks.train.loss_scale import LossScale
from lmworks.train.noise_scale import NoiseScale, multiple_for
from lmworks.train.objectives.objective import Objective
from lmworks.train.recomputing import blocks, recompute
from lmworks.train.run_log import RunLog
from lmworks.train.schedules import multiplier
from lmworks.train.stepping import StepGradients, compute_gradients
from lmworks.train.validating import Validation
from lmworks.train.weights import Weights


@dataclass
class Position:
    """Where a run stands: plain numbers, which a checkpoint holds.

    step      optimizer steps taken
    cursor    batches of the loader consumed: more than `step` where the batch grew or batches were left out
    multiple  batches of the loader in a step
    tokens    seen, without padding
    targets   learned from
    """

    step: int = 0
    cursor: int = 0
    multiple: int = 1
    tokens: int = 0
    targets: int = 0


@dataclass
class Run:
    """A training run in its parts, which `train` moves.

    checkpoint  what is trained: its model is changed in place, its tokenizer is saved with every checkpoint
    loader      batches, in an order that depends on their number alone
    folder      of the run: `log.jsonl` and `checkpoints/`
    validate    called every `config.validate` steps
    peak_flops  operations a second that the machine can do in this precision: with it, the utilisation (MFU) is logged
    """

    checkpoint: Checkpoint
    objective: Objective
    loader: Loader
    config: TrainConfig
    folder: Path
    validate: Callable[[], Validation] | None = None
    device: torch.device | str = "cpu"
    peak_flops: float | None = None
    progress: Report = no_report
    seed: int = 0
    position: Position = field(default_factory=Position)

    def __post_init__(self) -> None:
        config = self.config
        self.model = recompute(self.checkpoint.model.to(self.device).train(), config.recompute)
        self.weights = Weights(self.model, config.optimizer, config.precision)
        self.average = Average(self.weights.masters, config.average)
        self.scale, self.noise, self.guard = LossScale.of(config.precision), NoiseScale(), Guard(config.guard)
        saving = config.checkpoint
        self.checkpoints = Checkpoints(self.folder / "checkpoints", saving.keep, saving.background)
        if config.compile:
            for block in blocks(self.model):
                block.compile()

    def save(self) -> None:
        """A checkpoint of this moment, from which another process goes on to the same end."""
        numbers = {name: getattr(self, name).state() for name in ("scale", "noise", "guard")}
        state = {"position": asdict(self.position), "loader": self.loader.state(), **self._form(), **numbers}
        weights = {**self.weights.frozen, **self.weights.masters}
        saved = Saved(weights, self.weights.state(), self.average.weights, state)
        self.checkpoints.save(self.position.step, self.checkpoint, saved)

    def restore(self, step: int) -> None:
        """Back, or on, to a checkpoint. ValueError for one of another model, optimizer or stream of batches."""
        saved = self.checkpoints.read(step)
        for name, now in self._form().items():
            if (was := saved.state.get(name)) != now:
                raise ValueError(f"the checkpoint of step {step} is another run's: its {name} was {was}, is {now}")
        masters = {name: saved.weights[name] for name in self.weights.masters if name in saved.weights}
        for name, weight in masters.items():
            if weight.shape != self.weights.masters[name].shape:
                raise ValueError(f"the checkpoint of step {step} is another model's: the shape of {name} differs")
        self.weights.load(masters, saved.optimizers)
        self.average.load(saved.average)
        self.position = Position(**saved.state["position"])
        for name in ("scale", "noise", "guard"):
            setattr(self, name, replace(getattr(self, name), **saved.state[name]))
        self.loader.restore(saved.state["loader"])

    def _form(self) -> dict[str, str]:
        """The settings that decide what a checkpoint's numbers mean."""
        return {"optimizer": self.config.optimizer.kind, "precision": self.config.precision}

    def finished(self) -> Checkpoint:
        """What was trained: the averaged weights where the run averages, else the masters."""
        own = self.weights
        trained = {**self.model.state_dict(), **own.frozen, **own.masters, **self.average.weights}
        return replace(self.checkpoint, weights={name: w.detach().float() for name, w in trained.items()})


def train(run: Run) -> Position:
    """Take all steps that are left, from the last checkpoint in the run's folder or from the beginning.

    ValueError for data without anything to learn, TrainingStoppedError when a guard ends it. What is on the disk then
    is the last checkpoint, as after a kill. A first Ctrl-C or SIGTERM is taken after the step that runs: the run is
    saved, and the signal then does what it does.
    """
    if saved := run.checkpoints.steps():
        run.restore(saved[-1])
    log = RunLog(run.folder, run.position.step)
    clock = _Clock(run)
    try:
        with interruptions() as interruption:
            while run.position.cursor < run.loader.steps and interruption.signal is None:
                if (got := _step(run, log)) is None:
                    continue
                here, last = run.position, run.position.cursor == run.loader.steps
                clock.tell(got)
                if here.step % run.config.log == 0 or last:
                    log.write("step", here.step, cursor=here.cursor, **_numbers(run, got), **clock.rates())
                if run.validate is not None and run.config.validate and (here.step % run.config.validate == 0 or last):
                    log.write("validation", here.step, **_told(run.validate()))
                if clock.save_is_due():
                    run.save()
            run.save()  # the end, or what there is when somebody wants it to end
            run.checkpoints.wait()
        interruption.raise_again()
    finally:
        run.checkpoints.close()
        log.close()
    return run.position


def _step(run: Run, log: RunLog) -> StepGradients | None:
    """One step of the optimizers; None where its batches were left out."""
    here = run.position
    batches = [next(run.loader) for _ in range(min(here.multiple, run.loader.steps - here.cursor))]
    examples = [
        run.objective.examples(batch, seed=run.seed + here.cursor + number) for number, batch in enumerate(batches)
    ]
    if not any(count for prepared in examples for count in run.objective.counts(prepared).values()):
        _pass_over(run, len(batches), log)
        return None
    # How much noisier a part of the step is than the whole is what a ramp goes by.
    at_least = 1 if run.config.ramp is None else 2
    got = compute_gradients(
        run.model, run.weights, run.objective, examples, run.config.part, run.scale.value, run.device, at_least
    )
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
    here.tokens += sum(int((batch.documents >= 0).sum()) for batch in batches)
    _grow(run, got, log)
    return replace(got, rate=rate)


def _pass_over(run: Run, batches: int, log: RunLog) -> None:
    """Batches without a target: nothing can be learned from them. ValueError at the end of a run that had no other."""
    here = run.position
    here.cursor += batches
    log.write("event", here.step, text=f"no target at batch {here.cursor - 1}: left out")
    if here.cursor == run.loader.steps and here.step == 0:
        raise ValueError(
            "no step was taken: the mask of the data leaves nothing to learn. In conversations the assistant's turns "
            "are learned, and a sequence that ends before them holds none: look at the data, or raise length"
        )


def _react(run: Run, objection: str, log: RunLog) -> None:
    """To a step that is not to be taken: its batches are left out, and the run stops, goes on, or goes back."""
    here, action = run.position, run.config.guard.action
    told = f"{objection} at batch {here.cursor - 1}: {action}"
    run.checkpoints.wait()  # or it would depend on the disk's speed where a run goes back to
    saved = run.checkpoints.steps()
    if action == "stop" or (action == "rewind" and (not saved or run.guard.rewinds >= run.config.guard.rewinds)):
        log.write("event", here.step, text=told)
        raise TrainingStoppedError(
            f"step {here.step + 1}: {objection}. The weights are those before it; the last checkpoint is "
            f"{run.checkpoints.path(saved[-1]) if saved else 'none'}. Lower the rate, clip, or set guard.action"
        )
    if action == "rewind":
        rewinds = run.guard.rewinds + 1
        run.restore(saved[-1])
        run.guard.rewinds, run.position.cursor = rewinds, here.cursor
        run.loader.seek(here.cursor)
        log.drop_after(run.position.step)
    log.write("event", run.position.step, text=told)


def _grow(run: Run, got: StepGradients, log: RunLog) -> None:
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
    rate = got.rate * run.config.optimizer.rate
    return {"loss": got.loss, **losses, "gradient_norm": got.norm, "targets": got.targets, "rate": rate}


def _told(found: Validation) -> dict[str, Any]:
    bits = {} if found.bits_per_byte is None else {"bits_per_byte": found.bits_per_byte}
    return {**found.nats, **bits, "targets": sum(found.targets.values())}


class _Clock:
    """How fast the run is, and when it is time to save."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.started = self.saved = time.monotonic()
        self.before = run.position.tokens  # seen by other processes
        length = run.loader.config.length
        self.flops_per_token = 3 * flops_per_token(run.checkpoint.config, length)  # the backward is twice the forward

    def tell(self, got: StepGradients) -> None:
        rates = self.rates()
        note = f"loss {got.loss:.3f} · {rates['tokens_per_second']:,.0f} tokens/s"
        note += f" · {rates['utilisation']:.0%} of peak" if "utilisation" in rates else ""
        self.run.progress(self.run.position.cursor, self.run.loader.steps, "batches", note=note)

    def rates(self) -> dict[str, float]:
        seconds = max(time.monotonic() - self.started, 1e-9)
        tokens = self.run.position.tokens - self.before
        rates = {"seconds": seconds, "tokens_per_second": tokens / seconds, "stall": self.run.loader.stall_share}
        if self.run.peak_flops:
            rates["utilisation"] = rates["tokens_per_second"] * self.flops_per_token / self.run.peak_flops
        return rates

    def save_is_due(self) -> bool:
        config, step = self.run.config.checkpoint, self.run.position.step
        minutes = config.minutes is not None and time.monotonic() - self.saved >= 60 * config.minutes
        if minutes or (config.steps is not None and step % config.steps == 0):
            self.saved = time.monotonic()
            return True
        return False
