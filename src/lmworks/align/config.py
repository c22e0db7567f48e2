"""The configs of alignment, free of torch."""

from dataclasses import dataclass, field
from typing import Literal

from lmworks.adapt.config import FullConfig, LoraConfig, Method
from lmworks.train.config import TrainConfig
from lmworks.train.config_checks import positive, within
from lmworks.train.optimizer_config import AdamW, Linear


@dataclass(frozen=True, slots=True)
class DPOConfig:
    """Direct preference optimisation (Rafailov et al. 2023), on preferences.

    beta             How strongly the policy is held to its reference.
    loss             `sigmoid`; `ipo`, `robust`, `cdpo`, `sigmoid_norm`, `apo_zero`: see `align/dpo.py`.
    label_smoothing  ε, the share of pairs that are the wrong way round; `robust` and `cdpo` read it.
    nll              Weight of the chosen completion's own loss beside it; 0: none.
    kind             `dpo`; or another method's, with settings of its own.
    """

    beta: float = 0.1
    loss: Literal["sigmoid", "ipo", "robust", "cdpo", "sigmoid_norm", "apo_zero"] = "sigmoid"
    label_smoothing: float = 0.0
    nll: float = 0.0
    kind: Literal["dpo"] = "dpo"

    def __post_init__(self) -> None:
        positive(beta=self.beta)
        if not 0 <= self.label_smoothing < 0.5 or self.nll < 0:
            raise ValueError("label_smoothing is a share below 0.5, and nll a weight of at least 0")
        if (self.label_smoothing > 0) != (self.loss in ("robust", "cdpo")):
            raise ValueError("label_smoothing is of the losses robust and cdpo, and they need it: set both")


Offline = DPOConfig


@dataclass(frozen=True, slots=True)
class OfflineConfig:
    """A model learns from rows that rate, rank or label completions.

    rows       Files with the method's rows (.jsonl, .json, .parquet), or folders or globs of them.
    base       The model, where no input is one: the name of a pulled model, a Hugging Face folder or a .gguf file. It
               is the reference, too.
    algorithm  `dpo`, and its settings.
    method     What is trained: an adapter (`lora`), or all weights (`full`).
    held_out   The share of the rows that is kept from training and validated on, by their prompts.
    epochs     How often each row is seen.
    steps      Of the optimizer, instead of epochs.
    length     Most tokens of prompt and completion; a longer one loses its end, and the report counts those.
    batch      Rows in a step.
    rate       Peak learning rate; left out: of the method.
    seed       Of the order, and of an adapter's first weights.
    train      The loop.
    """

    rows: tuple[str, ...] = ()
    base: str = ""
    algorithm: Offline = field(default_factory=DPOConfig)
    method: Method = field(default_factory=lambda: LoraConfig(lora_alpha=32))
    held_out: float = 0.05
    epochs: float = 1.0
    steps: int | None = None
    length: int = 1024
    batch: int = 16
    rate: float | None = None
    seed: int = 0
    train: TrainConfig = field(default_factory=lambda: TrainConfig(AdamW(decay=0.0), Linear(), validate=100))

    def __post_init__(self) -> None:
        positive(epochs=self.epochs, steps=self.steps, batch=self.batch, rate=self.rate)
        within(2, 2**20, length=self.length)
        if not self.rows:
            raise ValueError('name the files with rows: rows=["rows.jsonl"]')
        if not 0 <= self.held_out < 1:
            raise ValueError(f"held_out is a share between 0 and 1, such as 0.05, got {self.held_out}")
        if not isinstance(self.method, LoraConfig | FullConfig):
            raise ValueError(f"a policy is trained by lora or full, not by {self.method.kind}")
        if self.train.ramp is not None or self.train.samples:
            raise ValueError("alignment trains without a ramp and samples of text")
