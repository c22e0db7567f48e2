"""Settings of tokenisation and of the loader."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from lmworks.config import below_one, positive, within
from lmworks.stage import ROWS, TOKENIZER

PackingMode = Literal["pack", "concatenate"]
Learn = Literal["all", "last"]
LARGEST = 2**31 - 1  # sequences in a run, so that products of two counts stay below 2^63


@dataclass(frozen=True, slots=True)
class TokenizeConfig:
    """Documents, or conversations, into token shards.

    tokenizer      The vocabulary, where no input has one: the name of a pulled model, a Hugging Face folder, or a file
                   (`tokenizer.json`, .gguf, .model, .tiktoken). A relative path starts at the folder of the recipe, or,
                   for a command, at the current one.
    begin          What stands before each document: the name of a role (`bos_token`), a token, or `none`.
    end            What ends each document: the name of a role, a token such as `<|endoftext|>`, or `none`. A tokenizer
                   without the role named is refused.
    conversations  Instead of documents, besides those of an input such as ground.refusals: files of rows (.jsonl,
                   .json, .parquet), or folders or globs of them. A row has `messages`, or `prompt` and `completion`
                   (texts, or lists of messages), and perhaps `tools`. They are written by the chat template, with a
                   mask of what the assistant says, or of the completion; `begin` and `end` are the template's.
    family         The chat template of this family (chatml, llama3, …) for the conversations; "" for the model's own.
    learn          Which turns of the assistant are learned: `all`, or the `last` of each conversation.
    length         Most tokens of a conversation: a longer one is cut behind an earlier answer, and left out where not
                   even its first exchange fits; null: any. Set it to the `length` of train.finetune.
    quotas         Most rows of a file, or of all files together that a glob matches: {"t0/*.jsonl" = 2000}. Hashes
                   choose them, so that order and other rows change nothing.
    held_out       The share of the texts that is kept from training, chosen by their hashes: equal texts are on one
                   side, as are conversations that begin with one question, and a text stays on its side when others
                   are added. A copy that corpus.balance made goes by the text that it was made from, and is trained on
                   or left out: what is held out has each text once.
    part           Which side these shards hold: `training`, or what is `held_out` from it.
    shard_tokens   Most tokens in a file, unless one document has more.
    """

    tokenizer: str = field(default="", metadata=TOKENIZER)
    begin: str = "none"
    end: str = "eos_token"
    conversations: tuple[str, ...] = field(default=(), metadata=ROWS)
    family: str = ""
    learn: Learn = "all"
    length: int | None = None
    quotas: Mapping[str, int] = field(default_factory=dict)
    held_out: float = 0.0
    part: Literal["training", "held_out"] = "training"
    shard_tokens: int = 2**27

    def __post_init__(self) -> None:
        below_one(held_out=self.held_out)
        if self.part == "held_out" and not self.held_out:
            raise ValueError("nothing is held out: set held_out to a share such as 0.05, as in the training part")
        within(1, LARGEST, shard_tokens=self.shard_tokens)
        within(2, LARGEST, length=self.length)
        for pattern, most in self.quotas.items():
            within(1, LARGEST, **{f"quotas of {pattern}": most})


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
        positive(weight=self.weight, max_epochs=self.max_epochs)


@dataclass(frozen=True, slots=True)
class LoaderConfig:
    """Token datasets into batches.

    sources        Name to token dataset. The name is part of the order: under another one the order is another.
    length         Tokens in a sequence.
    batch          Sequences in a step, over all ranks.
    steps          Steps of the run; without it, as many as show each sequence once if all weights are left out. A run
                   that continues from a saved position may ask for more or fewer than before.
    mode           `pack` cuts as few documents as it can and pads; `concatenate` cuts a stream and pads nothing.
    document_mask  Whether documents are apart from each other: positions and targets end with each. Without it, which
                   only `concatenate` allows, a sequence is one stretch of the stream.
    temperature    T of p ∝ n^(1/T) for sources without weights, from 0.01 to 1e9: 1 follows the sizes, larger ones
                   level them.
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
            raise ValueError("no sources: name at least one token dataset, name → SourceConfig")
        within(2, LARGEST, length=self.length)  # of one token, nothing is predicted
        within(1, LARGEST, batch=self.batch, steps=self.steps)
        within(0, 2**63 - 1, seed=self.seed)
        within(1, 1024, workers=self.workers, ahead=self.ahead)
        within(0.01, 1e9, temperature=self.temperature)
        if self.mode == "pack" and not self.document_mask:
            raise ValueError("mode pack puts unrelated documents side by side and needs document_mask")
        weights = [name for name, source in self.sources.items() if source.weight is not None]
        if 0 < len(weights) < len(self.sources):
            raise ValueError(f"give all sources a weight or none; only {', '.join(weights)} have one")
        if weights and self.temperature != 1:
            raise ValueError("temperature is for sources without weights: leave out one of the two")


@dataclass(frozen=True, slots=True)
class GroupLoaderConfig:
    """Groups of sequences, such as pairs of texts or the completions of a prompt, into batches.

    length  Most tokens of a sequence.
    batch   Groups in a step, over all ranks.
    steps   Steps of the run; without it, as many as show each group once.
    seed    Of the order.
    """

    length: int = 256
    batch: int = 64
    steps: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        within(1, LARGEST, length=self.length, batch=self.batch, steps=self.steps)
        within(0, 2**63 - 1, seed=self.seed)
