"""What is read, and what is left out on purpose."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

PYTHON_DOCS = "python-docs"  # the one source that is a name: the documentation that this Python carries


@dataclass(frozen=True, slots=True)
class ReadConfig:
    """Sources of documents.

    A source is a folder, a file, a glob such as `notes/**/*.md`, or the name `python-docs`; a relative path starts at
    the folder of the recipe. `exclude` holds glob patterns: one with a slash is matched against the path inside the
    source, one without against the name of each file and folder. A file of more than `max_bytes` bytes is left out.
    """

    sources: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ("node_modules", "__pycache__", "site-packages")
    max_bytes: int = 20_000_000

    def __post_init__(self) -> None:
        if self.max_bytes < 1:
            raise ValueError(f"max_bytes must be positive, got {self.max_bytes}")


# ---------------------------------------------------------------------------------------------------------------------
# Token shards and the loader

PackingMode = Literal["pack", "concatenate"]


@dataclass(frozen=True, slots=True)
class TokenizeConfig:
    """Documents into token shards.

    begin         What stands before each document: the name of a role (`bos_token`), a token, or `none`.
    end           What ends each document: the name of a role, a token such as `<|endoftext|>`, or `none`. A tokenizer
                  without the role named is refused.
    shard_tokens  Most tokens in a file, unless one document has more.
    """

    begin: str = "none"
    end: str = "eos_token"
    shard_tokens: int = 2**27

    def __post_init__(self) -> None:
        if self.shard_tokens < 1:
            raise ValueError(f"shard_tokens must be positive, got {self.shard_tokens}")


@dataclass(frozen=True, slots=True)
class SourceConfig:
    """A token dataset in a mixture.

    folder      The folder of shards; a relative path starts at the folder of the recipe.
    weight      Its share of the sequences, relative to the other sources' weights; without one, its size decides.
    max_epochs  How often its sequences may be read at most; what it then lacks, the others get.
    """

    folder: str
    weight: float | None = None
    max_epochs: float | None = None

    def __post_init__(self) -> None:
        if self.weight is not None and not 0 < self.weight < math.inf:
            raise ValueError(f"weight must be positive, got {self.weight}; leave a source out that is not wanted")
        if self.max_epochs is not None and not 0 < self.max_epochs < math.inf:
            raise ValueError(f"max_epochs must be positive, got {self.max_epochs}")


@dataclass(frozen=True, slots=True)
class LoaderConfig:
    """Token datasets into batches.

    sources        Name to token dataset. The name is part of the order: under another one the order is another.
    length         Tokens in a sequence.
    batch          Sequences in a step, over all ranks.
    steps          Steps of the run; without it, as many as show each sequence once if all weights are left out.
    mode           `pack` cuts as few documents as it can and pads; `concatenate` cuts a stream and pads nothing.
    document_mask  Whether documents are apart from each other: positions and targets end with each. Without it, which
                   only `concatenate` allows, a sequence is one stretch of the stream.
    temperature    T of p ∝ n^(1/T) for sources without weights: 1 follows the sizes, larger ones level them.
    seed           Of the order, and of what is packed with what.
    workers        Threads that make batches.
    ahead          Batches made before they are asked for.
    """

    sources: Mapping[str, SourceConfig]
    length: int = 2048
    batch: int = 32
    steps: int | None = None
    mode: PackingMode = "pack"
    document_mask: bool = True
    temperature: float = 1.0
    seed: int = 0
    workers: int = 1
    ahead: int = 4

    def __post_init__(self) -> None:
        if not self.sources:
            raise ValueError("no sources: name at least one token dataset")
        for name in ("batch", "steps", "workers", "ahead"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ValueError(f"{name} must be positive, got {value}")
        if self.length < 2:
            raise ValueError(f"length must be at least 2, to predict a token, got {self.length}")
        if not 0 < self.temperature < math.inf:
            raise ValueError(f"temperature must be positive, got {self.temperature}")
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"seed must lie between 0 and 2^63, got {self.seed}")
        if self.mode == "pack" and not self.document_mask:
            raise ValueError("mode pack puts unrelated documents side by side and needs document_mask")
        weights = [name for name, source in self.sources.items() if source.weight is not None]
        if 0 < len(weights) < len(self.sources):
            raise ValueError(f"give all sources a weight or none; only {', '.join(weights)} have one")
        if weights and self.temperature != 1:
            raise ValueError("temperature is for sources without weights: leave out one of the two")
