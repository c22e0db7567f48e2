"""The configs of pruning, free of torch."""

import re
from dataclasses import dataclass, field
from typing import Literal

from lmworks.compress.config import CalibrationConfig
from lmworks.train.config_checks import below_one, positive


@dataclass(frozen=True, slots=True)
class StructuredPruning:
    """Parts that are taken out whole, so that what stays is a plain smaller model. Each layer loses as many.

    layers           Number of layers.
    heads            Share of the attention heads: of grouped ones, of the queries of each group.
    kv_groups        Share of the groups of a key, a value and their queries; of ungrouped heads the same as `heads`.
    neurons          Share of the feed-forward's; so many stay as make a multiple of 32.
    criterion        Of heads and neurons, those that score least are taken out: `magnitude`, the squares of their
                     weights; `activation`, the squares of what they give (Muralidharan et al. 2024, section 2.2);
                     `taylor`, by how much the loss would change (Michel et al. 2019, equation 2).
    layer_criterion  The same of layers; `block_influence`: by how much a layer turns the hidden states (Men et al.
                     2024, equation 1).
    """

    layers: int = 0
    heads: float = 0.0
    kv_groups: float = 0.0
    neurons: float = 0.0
    criterion: Literal["magnitude", "activation", "taylor"] = "taylor"
    layer_criterion: Literal["magnitude", "block_influence", "taylor"] = "block_influence"
    kind: Literal["structured"] = "structured"

    def __post_init__(self) -> None:
        below_one(heads=self.heads, kv_groups=self.kv_groups, neurons=self.neurons)
        if self.layers < 0:
            raise ValueError(f"layers is how many are taken out, 0 or more, got {self.layers}")
        if not (self.layers or self.heads or self.kv_groups or self.neurons):
            raise ValueError("nothing is taken out: set layers, heads, kv_groups or neurons")

    @property
    def goes_by_weights(self) -> bool:
        """Whether no text has to be read."""
        of_widths = [self.criterion] if self.heads or self.kv_groups or self.neurons else []
        return {*of_widths, *([self.layer_criterion] if self.layers else [])} == {"magnitude"}


@dataclass(frozen=True, slots=True)
class Sparsity:
    """Weights of the blocks' linear layers that are set to 0. Their files and their speed stay as they are.

    kind      `magnitude`, the smallest of each matrix (Han et al. 2015); `wanda`, the smallest of each row times the
              norm of what they read (Sun et al. 2024); `sparsegpt`, which changes the weights that stay so that they
              make up for those that are gone (Frantar & Alistarh 2023).
    sparsity  Share of the weights.
    pattern   `unstructured`, or n of m: so many of each m neighbours in a row are 0, as `2:4`.
    damping   Of sparsegpt: added to the Hessian's diagonal, as a share of its mean.
    """

    sparsity: float = 0.5
    pattern: str = "unstructured"
    damping: float = 0.01
    kind: Literal["magnitude", "wanda", "sparsegpt"] = "wanda"

    def __post_init__(self) -> None:
        below_one(sparsity=self.sparsity)
        positive(sparsity=self.sparsity, damping=self.damping)
        if self.pattern != "unstructured":
            found = re.fullmatch(r"(\d+):(\d+)", self.pattern)
            if found is None or not 0 < int(found[1]) < int(found[2]):
                raise ValueError(f"pattern is unstructured or n:m such as 2:4, got {self.pattern!r}")
            if self.sparsity != int(found[1]) / int(found[2]):
                raise ValueError(f"{self.pattern} is a sparsity of {int(found[1]) / int(found[2]):g}: set it so")

    @property
    def goes_by_weights(self) -> bool:
        """Whether no text has to be read."""
        return self.kind == "magnitude"

    @property
    def of_each(self) -> tuple[int, int] | None:
        """(n, m) of a pattern n:m."""
        return None if self.pattern == "unstructured" else tuple(map(int, self.pattern.split(":")))  # type: ignore[return-value]


@dataclass(frozen=True, slots=True)
class PruneConfig:
    """A smaller, or a sparser, checkpoint.

    base         The model, where no input is one: the name of a pulled model, a Hugging Face folder or a .gguf file.
    method       What is taken out, and by what it is chosen.
    calibration  The texts on which activations and gradients are measured.
    held_out     Share of the documents kept from calibration, chosen by their hashes: to measure on.
    """

    base: str = ""
    method: StructuredPruning | Sparsity = field(default_factory=lambda: StructuredPruning(neurons=0.25))
    calibration: CalibrationConfig = field(default_factory=CalibrationConfig)
    held_out: float = 0.2

    def __post_init__(self) -> None:
        below_one(held_out=self.held_out)
