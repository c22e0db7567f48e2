"""A training run in its parts, and its way to a checkpoint and back."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from lmworks.model.checkpoint import Checkpoint
from lmworks.model.transformer import Transformer
from lmworks.progress import Report, no_report
from lmworks.train.checkpoints import Checkpoints, RunState
from lmworks.train.config import TrainConfig
from lmworks.train.exponential_moving_average import ExponentialMovingAverage
from lmworks.train.loss_guard import Guard
from lmworks.train.master_weights import Weights
from lmworks.train.mixed_precision import LossScale
from lmworks.train.objectives.balanced_experts import balanced
from lmworks.train.objectives.objective import Objective
from lmworks.train.parallel.context_parallel import shard_sequence
from lmworks.train.parallel.parallelize import check, parallel_losses, parallelize
from lmworks.train.parallel.ranks import ALONE, Ranks
from lmworks.train.run_log import NoLog, RunLog
from lmworks.train.validation import Sums, Validation


@dataclass
class Position:
    """The progress of a run: plain numbers, which a checkpoint holds.

    step      optimizer steps taken
    cursor    batches of the loader consumed: more than `step` where some were left out
    tokens    seen, without padding
    targets   learned from
    """

    step: int = 0
    cursor: int = 0
    tokens: int = 0
    targets: int = 0


# Modules of the model that only training needs, by the beginnings of their weights' names.
CRITIC = "critic."  # a value head
PROJECTIONS = "projections."  # of a student's hidden states to a teacher's width


class Stopping(Protocol):
    """Early stopping: the `factor` that the rate is multiplied with; `events` for the log, which the loop takes out;
    and `stop`, why the run is to end, or ""."""

    factor: float
    events: list[str]
    stop: str

    def watch(self, metrics: Mapping[str, float]) -> None:
        """Look at the numbers of a step that was taken."""
        ...


class Batches(Protocol):
    """The protocol of a loader: `data.loader.Loader`, `data.group_loader.GroupLoader`. A batch says how many
    `tokens` it holds; all else about it is between the loader and the objective."""

    @property
    def config(self) -> Any:
        """With the `length` of a sequence, which utilisation is counted by, and the `batch` over all ranks."""
        ...

    @property
    def steps(self) -> int: ...

    @property
    def stall_share(self) -> float: ...

    @property
    def metrics(self) -> Mapping[str, float]:
        """Numbers of the last batch, for the log."""
        ...

    def __next__(self) -> Any: ...

    def state(self) -> dict[str, Any]: ...

    def restore(self, state: Mapping[str, Any]) -> int: ...


@dataclass
class Run:
    """A training run in its parts, which `train` moves.

    checkpoint  what is trained: its model is changed in place, its tokenizer is saved with every checkpoint
    loader      batches, in an order that depends on their number alone
    folder      of the run: `log.jsonl` and `checkpoints/`
    validate    called every `config.validate` steps
    sample      called then, too: (beginning of a text, how the model continues) for the log
    compares    validates before the first step, too, and samples there and at the end alone
    held_out    the last validation, to be shown
    last_examples  of the last step, in which experts are looked at
    peak_flops  operations a second that the machine can do in this precision: with it, the utilisation (MFU) is logged
    seed        of what the objective draws
    early_stopping  looks at the metrics of each step
    adapt       gives the model to train, which shares the checkpoint's weights: `adapt.add_adapter` with a method.
                Checkpoints of a run that trains an adapter hold the adapter alone
    """

    checkpoint: Checkpoint
    objective: Objective
    loader: Batches
    config: TrainConfig
    folder: Path
    validate: Callable[[], Validation] | None = None
    sample: Callable[[], list[tuple[str, str]]] | None = None
    device: torch.device | str = "cpu"
    peak_flops: float | None = None
    progress: Report = no_report
    seed: int = 0
    ranks: Ranks = ALONE
    position: Position = field(default_factory=Position)
    adapt: Callable[[Transformer], Transformer] | None = None
    compares: bool = False
    early_stopping: Stopping | None = None
    held_out: str = ""
    last_examples: Any = None

    def __post_init__(self) -> None:
        config = self.config
        check(self.ranks, config, self.loader, self.objective)
        if self.ranks.mesh is not None:
            self.device = self.ranks.device
        if not self.ranks.first:
            self.progress = no_report
        model = self.checkpoint.model.to(self.device)
        if self.adapt is not None:
            if config.parallel.devices > 1:
                raise ValueError("an adapter is trained by one process: leave train.parallel out")
            model = self.adapt(model)
        self.objective = balanced(self.objective, model, config)
        self.model = parallelize(model.train(), config, self.ranks)
        self.weights = Weights(self.model, config.optimizer, config.precision, self.ranks)
        self.average = ExponentialMovingAverage(self.weights.masters, config.average)
        self.scale, self.guard = LossScale.of(config.precision), Guard(config.guard)
        saving = config.checkpoint
        folder = self.folder / "checkpoints"
        self.log: RunLog | NoLog = NoLog()  # `loop.train` opens it
        self.checkpoints = Checkpoints(folder, saving.keep, saving.background, self.ranks)

    @property
    def stop(self) -> str:
        """Why early stopping ends the run, or ""."""
        return "" if self.early_stopping is None else self.early_stopping.stop

    @property
    def ended(self) -> bool:
        """Whether no step is left."""
        return self.position.cursor >= self.loader.steps or bool(self.stop)

    def examples(self, batch: Any, seed: int) -> Any:
        """This process's examples of a batch of the loader."""
        made = self.objective.examples(batch, seed=seed)
        return made if self.config.parallel.context == 1 else shard_sequence(made, self.ranks.along("context"))

    def loss_sums(self, examples: Any) -> Sums:
        """The sums of examples that all processes have whole, without gradients: the same on all."""
        return parallel_losses(self.model, self.objective, examples, self.ranks, self.weights.dtype, self.device)

    def save(self) -> None:
        """A checkpoint of this moment, from which another process continues to the same end."""
        numbers = {name: asdict(counter) for name, counter in self._counters().items()}
        state = {"position": asdict(self.position), "loader": self.loader.state(), **self._form(), **numbers}
        weights = self.weights
        average = weights.shard_of(self.average.weights)
        saved = RunState(weights.whole(weights.masters), weights.shard_of_state(), average, state)
        self.checkpoints.save(self.position.step, self.checkpoint, saved)

    def restore(self, step: int) -> None:
        """Back, or on, to a checkpoint. ValueError for one of another model, optimizer or stream of batches."""
        saved = self.checkpoints.read(step)
        for name, now in self._form().items():
            if (was := saved.state.get(name)) != now:
                raise ValueError(f"the checkpoint of step {step} is another run's: its {name} was {was}, is {now}")
        position = {item.name for item in fields(Position)}
        if saved.state["position"].keys() != position or not self._counters().keys() <= saved.state.keys():
            folder = self.checkpoints.path(step).parent
            raise ValueError(f"{folder} is of another version of lmworks: continue there, or delete it to begin again")
        weights = self.weights
        weights.load({name: saved.weights[name] for name in weights.names if name in saved.weights}, saved.optimizers)
        names = weights.masters.keys() & saved.average.keys()
        self.average.load({name: saved.average[name][weights.slices[name].slices] for name in names})
        self.position = Position(**saved.state["position"])
        for name, counter in self._counters().items():
            vars(counter).update({key: saved.state[name][key] for key in saved.state[name].keys() - {"config"}})
        self.loader.restore(saved.state["loader"])

    def _counters(self) -> dict[str, Any]:
        """The parts of a run that change with each step's numbers, by their names in a checkpoint."""
        counters = {"scale": self.scale, "guard": self.guard, "early_stopping": self.early_stopping}
        return {name: counter for name, counter in counters.items() if counter is not None}

    def _form(self) -> dict[str, str]:
        """The settings that decide what a checkpoint's numbers mean."""
        return {"optimizer": self.config.optimizer.kind, "precision": self.config.precision}

    def trained(self) -> dict[str, Tensor]:
        """The trained weights, in float32: the averaged weights where the run averages, else the masters; without those
        that only training needs. All processes call it; on others than the first it is empty."""
        whole = self.weights.whole(self.average.weights or self.weights.masters)
        return {name: weight.float() for name, weight in whole.items() if not name.startswith((CRITIC, PROJECTIONS))}

    def finished(self, trained: Mapping[str, Tensor] | None = None) -> Checkpoint:
        """The checkpoint with its weights as they were `trained`. All processes call it, unless they give these; on
        others than the first it has no weights. ValueError for a run that trained an adapter."""
        trained = self.trained() if trained is None else trained
        base = self.checkpoint.weights if self.ranks.first else {}
        if self.ranks.first and not trained.keys() <= base.keys():
            raise ValueError("the run trained an adapter next to the model: `save_adapter` writes it")
        frozen = {name: base[name].float() for name in base if name not in trained}
        return replace(self.checkpoint, weights={**frozen, **trained})
