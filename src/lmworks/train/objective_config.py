"""Objectives of pre-training and fine-tuning as a recipe names them, free of torch. → `objectives/from_config.py`"""

from dataclasses import dataclass
from typing import Literal

from lmworks.config import positive, within


@dataclass(frozen=True, slots=True)
class Causal:
    """The next token."""

    kind: Literal["causal"] = "causal"


@dataclass(frozen=True, slots=True)
class Prefix:
    """The rest of a text whose beginning, of random length, is read both ways."""

    kind: Literal["prefix"] = "prefix"


@dataclass(frozen=True, slots=True)
class MultiToken:
    """The next token, and `depth` tokens after it.

    depth  Further tokens, each with a block of its own.
    """

    depth: int = 1
    kind: Literal["multi-token"] = "multi-token"

    def __post_init__(self) -> None:
        positive(depth=self.depth)


@dataclass(frozen=True, slots=True)
class Corruption:
    """A text of which tokens are hidden, by a share of them.

    rate  Share of the tokens that are hidden.
    """

    rate: float = 0.15

    def __post_init__(self) -> None:
        within(0.001, 0.999, rate=self.rate)


@dataclass(frozen=True, slots=True)
class Masked(Corruption):
    """Hidden tokens, from those on both sides."""

    kind: Literal["masked"] = "masked"


@dataclass(frozen=True, slots=True)
class SpanCorruption(Corruption):
    """The missing spans, each behind a sentinel of the vocabulary: `<extra_id_0>`, `<extra_id_1>`, …"""

    kind: Literal["span-corruption"] = "span-corruption"


@dataclass(frozen=True, slots=True)
class Denoising(Corruption):
    """The whole text, of which spans are hidden and the sentences in another order."""

    rate: float = 0.3
    kind: Literal["denoising"] = "denoising"


ObjectiveConfig = Causal | Prefix | MultiToken | Masked | SpanCorruption | Denoising
STACKS = {"masked": "encoder", "span-corruption": "encoder–decoder", "denoising": "encoder–decoder"}  # else a decoder


def check_stacks(objective: ObjectiveConfig, stacks: str, model: str) -> None:
    """ValueError for an objective of models with other stacks than this one's, which is called `model`."""
    if (expected := STACKS.get(objective.kind, "decoder")) != stacks:
        fitting = {"encoder": "masked", "decoder": "causal"}.get(stacks, "span-corruption")
        raise ValueError(
            f"{model} has the stacks of an {stacks}, and objective.kind={objective.kind} takes those of an {expected}: "
            f"set objective.kind={fitting}, or another model"
        )
