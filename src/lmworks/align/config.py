"""The configs of offline alignment, free of torch; `online_config.py` has those of reinforcement learning."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

from lmworks.adapt.config import FullConfig, LoraConfig
from lmworks.config import at_least, below_one, positive, within
from lmworks.evaluate.config import WithSuites
from lmworks.stage import FILE, MODEL, ROWS
from lmworks.train.config import TrainConfig
from lmworks.train.optimizer_config import AdamW, Linear


@dataclass(frozen=True, slots=True)
class DPOConfig:
    """Direct preference optimisation (Rafailov et al. 2023), on preferences.

    beta             How strongly the policy is held to its reference.
    loss             `sigmoid`; `ipo`, `robust`, `cdpo`, `sigmoid_norm`: see `align/dpo.py`.
    label_smoothing  ε, the share of pairs that are the wrong way round; `robust` and `cdpo` read it.
    nll              Weight of the chosen completion's own loss next to it; 0: none.
    """

    OTHER_NAMES: ClassVar[Mapping[str, tuple[str, ...]]] = {"loss_type": ("loss",), "rpo_alpha": ("nll",)}  # TRL's
    beta: float = 0.1
    loss: Literal["sigmoid", "ipo", "robust", "cdpo", "sigmoid_norm"] = "sigmoid"
    label_smoothing: float = 0.0
    nll: float = 0.0
    kind: Literal["dpo"] = "dpo"

    def __post_init__(self) -> None:
        positive(beta=self.beta)
        if not 0 <= self.label_smoothing < 0.5 or self.nll < 0:
            raise ValueError("label_smoothing is a share below 0.5, and nll a weight of at least 0")
        if (self.label_smoothing > 0) != (self.loss in ("robust", "cdpo")):
            raise ValueError("label_smoothing is of the losses robust and cdpo, and they need it: set both")


@dataclass(frozen=True, slots=True)
class SimPOConfig:
    """Simple preference optimisation (Meng et al. 2024, equation 6), on preferences, without a reference.

    beta   Scale of the mean log-probability of a token.
    gamma  The margin that the chosen completion is to have; half of beta is a good begin (section 4).
    """

    beta: float = 2.0
    gamma: float = 1.0
    kind: Literal["simpo"] = "simpo"

    def __post_init__(self) -> None:
        positive(beta=self.beta)


@dataclass(frozen=True, slots=True)
class ORPOConfig:
    """Odds ratio preference optimisation (Hong et al. 2024, equation 6), on preferences, without a reference.

    weight  λ, of the odds ratio next to the chosen completion's own loss.
    """

    weight: float = 0.1
    kind: Literal["orpo"] = "orpo"

    def __post_init__(self) -> None:
        positive(weight=self.weight)


@dataclass(frozen=True, slots=True)
class KTOConfig:
    """Kahneman-Tversky optimisation (Ethayarajh et al. 2024, section 4.1), on completions with a label each.

    beta         How strongly the policy is held to its reference.
    desirable    λ_D, weight of completions that people want; `undesirable` λ_U, of the others. λ_D n_D / (λ_U n_U) is
                 to lie between 1 and 4/3 where n of them are alike in kind; a larger λ_U punishes what is dangerous.
    undesirable  See there.
    """

    beta: float = 0.1
    desirable: float = 1.0
    undesirable: float = 1.0
    kind: Literal["kto"] = "kto"

    def __post_init__(self) -> None:
        positive(beta=self.beta, desirable=self.desirable, undesirable=self.undesirable)


@dataclass(frozen=True, slots=True)
class RewardConfig:
    """A model with a score for each completion. The rows decide: preferences (pairwise), completions with a label or a
    rating (pointwise), solutions with a verdict on each step (process).

    margin   By which the chosen completion's score is to be higher (Touvron et al. 2023, section 3.2.2), next to the
             row's own.
    center_rewards_coefficient  Weight of the squared sum of a pair's scores, which keeps them near 0 (Eisenstein et
              al. 2023); 0: none.
    """

    margin: float = 0.0
    center_rewards_coefficient: float = 0.01
    kind: Literal["reward"] = "reward"

    def __post_init__(self) -> None:
        at_least(0, margin=self.margin, center_rewards_coefficient=self.center_rewards_coefficient)


@dataclass(frozen=True, slots=True)
class RowStoppingConfig:
    """A limit that a policy must not pass for `patience` steps in a row; None: none.

    log_ratio_chosen  Lowest mean of ln π - ln π_ref of chosen or wanted completions, nats a token: the log's.
    action    `stop` saves the run and ends it; `lower` halves the rate, and counts again.
    patience  Of steps.
    """

    log_ratio_chosen: float | None = -0.5
    action: Literal["stop", "lower"] = "stop"
    patience: int = 5

    def __post_init__(self) -> None:
        positive(patience=self.patience)


@dataclass(frozen=True, slots=True)
class AlignConfig(WithSuites):
    """Settings that offline and online alignment share.

    rows         Files with rows (.jsonl, .json, .parquet, .csv, .tsv), or folders or globs of them.
    base         The model, where no input is one: the name of a pulled model, a Hugging Face folder or a .gguf file. It
                 is the reference, too.
    family       The chat template of this family (chatml, llama3, …), for a base without one; "" for the base's own.
    method       What is trained: an adapter (`lora`), or all weights (`full`).
    minutes      How long the run may take on this machine. The evaluations before and after it count only where the
                 policy samples (`align.online`).
    steps        Of the optimizer.
    length       Most tokens of prompt and completion.
    rate         Peak learning rate; left out: of the method.
    seed         Of the order, of what is sampled, and of an adapter's first weights.
    train        The loop.
    """

    OTHER_NAMES: ClassVar[Mapping[str, tuple[str, ...]]] = {  # TRL's, for the error that names ours
        "learning_rate": ("rate",),
        "max_length": ("length",),
        "max_steps": ("steps",),
        "warmup_ratio": ("train.schedule.warmup",),
        "lora_r": ("method.r",),
    }
    rows: tuple[str, ...] = field(default=(), metadata=ROWS)
    base: str = field(default="", metadata=MODEL)
    family: str = ""
    method: LoraConfig | FullConfig = field(default_factory=lambda: LoraConfig(lora_alpha=32))
    minutes: float | None = None
    steps: int | None = None
    length: int = 1024
    rate: float | None = None
    seed: int = 0
    train: TrainConfig = field(
        default_factory=lambda: TrainConfig(AdamW(decay=0.0), Linear(), precision="bfloat16", validate=100)
    )

    def __post_init__(self) -> None:
        positive(minutes=self.minutes, steps=self.steps, rate=self.rate)
        within(2, 2**20, length=self.length)
        if not self.rows:
            raise ValueError('name the files with rows: rows=["rows.jsonl"]')
        if isinstance(self.method, LoraConfig) and self.method.lora_dropout:
            raise ValueError("dropout would make noise of the policy's log-probabilities: set method.lora_dropout=0")
        if self.train.samples:
            raise ValueError("alignment trains without samples of text: leave train.samples out")
        parallel = self.train.parallel
        if parallel.devices != parallel.data or parallel.zero > 1:
            raise ValueError("alignment is divided by data alone, with zero 0 or 1: leave the others of parallel out")
        if parallel.devices > 1 and not isinstance(self.method, FullConfig):
            raise ValueError("an adapter is trained by one process: set method.kind=full, or leave parallel out")
        if self.minutes is not None and self.steps is None and parallel.devices > 1:
            raise ValueError("minutes are measured on one process: with several, set steps instead")


@dataclass(frozen=True, slots=True)
class OfflineConfig(AlignConfig):
    """A model learns from rows that rate, rank or label completions; a longer one than `length` loses its end.

    algorithm  `dpo`, `simpo`, `orpo`, `kto` or `reward`, and its settings.
    held_out   The share of the prompts that is kept from training, to measure on: at least 2 and at most 200 of them.
    epochs     How often each row is seen, instead of steps; left out: once, or so many rows as fit into the minutes.
    batch      Rows in a step; left out: 16, or fewer for the steps, which are to be 50 unless they are set.
    early_stopping  Limits that end or slow a run of DPO or KTO that collapses; other methods have no reference.
    """

    algorithm: DPOConfig | SimPOConfig | ORPOConfig | KTOConfig | RewardConfig = field(default_factory=DPOConfig)
    held_out: float = 0.1
    epochs: float | None = None
    batch: int | None = None
    early_stopping: RowStoppingConfig = RowStoppingConfig()

    def __post_init__(self) -> None:
        AlignConfig.__post_init__(self)
        positive(epochs=self.epochs, batch=self.batch)
        below_one(held_out=self.held_out)
        if self.epochs is not None and self.steps is not None:
            raise ValueError("steps are given instead of epochs: leave one of them out")
        if isinstance(self.algorithm, KTOConfig) and self.batch == 1:
            raise ValueError("KTO takes its baseline from the rows of a step: set batch to 2 or more")
        if self.batch is not None and self.batch < self.train.parallel.data:
            raise ValueError(f"each of {self.train.parallel.data} processes takes a row at least: raise batch")
        if not isinstance(self.algorithm, DPOConfig | KTOConfig) and self.early_stopping != RowStoppingConfig():
            raise ValueError("early_stopping measures from the reference that dpo and kto have: leave them out")
        if isinstance(self.algorithm, RewardConfig) and self.suites:
            raise ValueError("a reward model answers no suite: leave suites out")


@dataclass(frozen=True, slots=True)
class CritiqueConfig:
    """A model answers prompts, criticises its answers by principles, and revises them.

    rows         Files with prompts (.jsonl, .json, .parquet, .csv, .tsv), or folders or globs of them.
    principles   A file with a principle a line; null: the short list that comes with lmworks.
    temperature  Of sampling.
    max_tokens   Of an answer, a critique and a revision each; what is cut off is left out.
    seed         Of the samples, and of which principle a prompt gets.
    """

    rows: tuple[str, ...] = field(default=(), metadata=ROWS)
    principles: Path | None = field(default=None, metadata=FILE)
    temperature: float = 0.7
    max_tokens: int = 256
    seed: int = 0

    def __post_init__(self) -> None:
        positive(max_tokens=self.max_tokens, temperature=self.temperature)
        if not self.rows:
            raise ValueError('name the files with prompts: rows=["prompts.jsonl"]')
