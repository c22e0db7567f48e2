"""The config of cross-encoder training, free of torch."""

from dataclasses import dataclass, field
from typing import Literal

from lmworks.adapt.config import FullConfig, LoraConfig, Method
from lmworks.config import below_one, positive, within
from lmworks.stage import MODEL, PAIRS
from lmworks.train.config import TrainConfig
from lmworks.train.optimizer_config import AdamW, Linear


@dataclass(frozen=True, slots=True)
class CrossEncoderConfig:
    """A head that reads two texts at once continues from a text encoder, on rows of its task.

    task      `reader` (the answer's span in a passage, or none), `reranker` (whether a passage answers a question),
              `verifier` (whether a claim follows from a passage).
    rows      .jsonl files of the task's rows, or folders or globs of them.
    base      The encoder, where no input is one: the name of a pulled model or a Hugging Face folder.
    held_out  The share of the rows that is kept from training and validated on, of few rows more (a fifth, up to eight
              texts); rows of one text are on one side.
    epochs    How often each row is seen.
    length    Most tokens of a pair; a longer one loses its end, and the report counts those.
    batch     Rows in a step.
    rate      Peak learning rate; left out: 5e-4 of an adapter, 5e-5 of all weights.
    method    What is trained next to the head: an adapter, or all weights (`full`).
    licence   Of the rows, for the card.
    seed      Of the order, and of the first weights.
    train     The loop.
    """

    task: Literal["reader", "reranker", "verifier"] = "reader"
    rows: tuple[str, ...] = field(default=(), metadata=PAIRS)
    base: str = field(default="all-minilm-l6-v2", metadata=MODEL)
    held_out: float = 0.05
    epochs: float = 2.0
    length: int = 384
    batch: int = 32
    rate: float | None = None
    method: Method = field(default_factory=lambda: LoraConfig(r=16, lora_alpha=32))
    licence: str = ""
    seed: int = 0
    train: TrainConfig = field(
        default_factory=lambda: TrainConfig(
            AdamW(beta2=0.999, decay=0.01), Linear(), precision="bfloat16", validate=500
        )
    )

    def __post_init__(self) -> None:
        positive(epochs=self.epochs, batch=self.batch, rate=self.rate)
        below_one(held_out=self.held_out)
        within(16, 2**20, length=self.length)
        if not self.rows:
            raise ValueError('name the files with rows: rows=["rows.jsonl"]')
        if not isinstance(self.method, LoraConfig | FullConfig):
            raise ValueError(f"a cross-encoder is trained by lora or full, not by {self.method.kind}")
        if self.train.parallel.devices > 1 or self.train.samples:
            raise ValueError("cross-encoders train on one process, without samples of text")
