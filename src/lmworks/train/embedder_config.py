"""The config of embedder training, free of torch."""

from dataclasses import dataclass, field
from typing import Literal

from lmworks.config import below_one, positive, within
from lmworks.stage import MODEL, PAIRS
from lmworks.train.config import TrainConfig
from lmworks.train.optimizer_config import AdamW, Linear

Pooling = Literal["", "mean", "cls", "last"]


@dataclass(frozen=True, slots=True)
class EmbedderConfig:
    """An embedding model continues from a checkpoint, on pairs of texts that belong together: each anchor is to prefer
    its positive to all other texts of the batch (InfoNCE).

    pairs        .jsonl files with a pair a line (`anchor`, `positive` and perhaps a list of `negatives`), or folders
                 or globs of them.
    base         The checkpoint, where no input is one: the name of a pulled model, a Hugging Face folder, or a .gguf
                 file. A relative path starts at the folder of the recipe, or, for a command, at the current one.
    pooling      How the tokens of a text become one vector: `mean`, `cls` (the first), `last`. A base that is an
                 embedding model has its own, and needs none.
    held_out     The share of the pairs that is kept from training and validated on, chosen by the hashes of their
                 anchors.
    epochs       How often each pair is seen.
    length       Most tokens of a text; a longer one loses its end, and the report counts those. At most what the model
                 was made for.
    batch        Pairs in a step, each with the others as its negatives; at most all there are.
    rate         Peak learning rate; it replaces the optimizer's.
    temperature  τ, which the cosines are divided by.
    symmetric    Whether each positive is to find its anchor, too.
    chunk        Texts in a forward, which bounds the memory and changes no number; null: all of the batch at once.
    seed         Of the order.
    train        The loop.
    """

    pairs: tuple[str, ...] = field(default=(), metadata=PAIRS)
    base: str = field(default="", metadata=MODEL)
    pooling: Pooling = ""
    held_out: float = 0.05
    epochs: float = 1.0
    length: int = 256
    batch: int = 64
    rate: float | None = None
    temperature: float = 0.05
    symmetric: bool = False
    chunk: int | None = None
    seed: int = 0
    train: TrainConfig = field(
        default_factory=lambda: TrainConfig(AdamW(rate=5e-5, beta2=0.999, decay=0.01), Linear(), validate=100)
    )

    def __post_init__(self) -> None:
        positive(epochs=self.epochs, rate=self.rate, temperature=self.temperature, chunk=self.chunk)
        below_one(held_out=self.held_out)
        within(2, 2**20, length=self.length)
        if not self.pairs:
            raise ValueError('name the files with pairs: pairs=["pairs.jsonl"]')
        if self.batch < 2:
            raise ValueError("a batch holds two pairs at least: one alone has nothing to be compared with")
        if self.train.parallel.devices > 1:
            raise ValueError("embedding models train on one process: leave train.parallel out")
        if self.train.samples:
            raise ValueError("an embedding model writes no text: leave train.samples out")
