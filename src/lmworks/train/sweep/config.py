"""The config of a sweep, free of torch."""

from dataclasses import dataclass, field, replace
from typing import Literal

from lmworks.config import positive, within
from lmworks.stage import TOKENIZER
from lmworks.train.config import PretrainConfig, TrainConfig

LEAST_RUNS = 7  # five numbers are fitted to six runs at least, and one more is predicted from them


@dataclass(frozen=True, slots=True)
class SweepConfig:
    """Models of several sizes, each trained on several numbers of tokens. One target is enough, `minutes` or `flops`:
    what is left out follows from it, and the plan of the sweep says why.

    minutes    How long all runs together may take on this machine, as measured.
    flops      How many operations they may take, 6 for each parameter and token.
    sizes      How many sizes of models, each the same factor larger than the one before.
    lengths    How many numbers of tokens each size is trained on, the same factor apart: runs of one size more and one
               length less take the same operations.
    smallest   Parameters of the smallest model, embeddings included.
    largest    Of the largest. Left out, both follow from the target: a published law puts the middle of the sweep where
               parameters and tokens are in balance.
    factor     Between two sizes, where they follow from the target.
    epochs     How often the longest runs may see the data: a law of data that are new says nothing of repeated ones.
    tokenizer  The vocabulary of the shards, where no input has it: a pulled model, a folder or a file, as for
               data.tokenize.
    family     Of the architecture: `llama`, `gpt2`, `qwen3`, `gpt_neox`, `mixtral`.
    length     Tokens in a sequence.
    mode       How documents become sequences; see the loader's `mode`.
    seed       Of the first weights and of the order, in all runs.
    train      The loop. Rate, warm-up, batch and steps of each run are those that `train.pretrain` derives for it.
    """

    minutes: float | None = None
    flops: float | None = None
    sizes: int = 4
    lengths: int = 3
    smallest: int | None = None
    largest: int | None = None
    factor: float = 2.0
    epochs: float = 1.0
    tokenizer: str = field(default="", metadata=TOKENIZER)
    family: Literal["llama", "gpt2", "qwen3", "gpt_neox", "mixtral"] = "llama"
    length: int = 512
    mode: Literal["pack", "concatenate"] = "pack"
    seed: int = 0
    train: TrainConfig = field(default_factory=lambda: TrainConfig(precision="bfloat16"))

    def __post_init__(self) -> None:
        positive(minutes=self.minutes, flops=self.flops, epochs=self.epochs)
        positive(smallest=self.smallest, largest=self.largest)
        within(1.2, 10, factor=self.factor)
        if (self.minutes is None) == (self.flops is None):
            raise ValueError("set one budget: minutes (of all runs, on this machine) or flops (of all runs)")
        if min(self.sizes, self.lengths) < 2 or self.sizes * self.lengths < LEAST_RUNS:
            raise ValueError(
                f"a law takes {LEAST_RUNS} runs at least, of two sizes and two lengths: {self.sizes} sizes on "
                f"{self.lengths} lengths are too few"
            )
        if (self.smallest is None) != (self.largest is None):
            raise ValueError("set both smallest and largest, or neither: both are derived then")
        if self.smallest is not None and self.largest is not None and self.largest < 1.2 * self.smallest:
            raise ValueError(f"largest must be well above smallest, got {self.largest:,} and {self.smallest:,}")
        if self.train.parallel.devices > 1:
            raise ValueError("a sweep trains one small model after the other, on one process: leave train.parallel out")
        self.run(self.smallest or 1, 1)  # checks what a run has in common with any other

    def run(self, parameters: int, tokens: int) -> PretrainConfig:
        """One of the runs, as it would be trained alone. It is validated once, at its end."""
        return PretrainConfig(
            parameters=parameters,
            tokens=tokens,
            tokenizer=self.tokenizer,
            family=self.family,
            length=self.length,
            mode=self.mode,
            seed=self.seed,
            train=replace(self.train, validate=2**62),
        )
