"""The config of a LoRA adapter, free of torch."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

T = TypeVar("T")

ALL_LINEAR = "all-linear"
_FIRST_NUMBER = r".*?\.[^.]*\.(\d+)\."


@dataclass(frozen=True)
class LoraConfig:
    """Low-rank adaptation (Hu et al. 2021, section 4.1): W becomes W + scale · B A. Fields by PEFT's names.

    Which names the patterns speak of is up to who asks: PEFT's folders use those of `transformers`, `initialise_lora`
    ours.

    r                   the rank: rows of A, columns of B.
    lora_alpha          scale = lora_alpha / r; with `use_rslora` lora_alpha / √r (Kalajdzievski 2023, section 3).
    target_modules      the linear layers: how their names end, at a dot; or one regular expression for whole names;
                        or "all-linear", which is every one but the head's.
    exclude_modules     what to leave out of these, in the same two ways.
    rank_pattern        regular expressions for the ends of names, at a dot → another rank; the first that fits counts.
    alpha_pattern       the same for lora_alpha.
    layers_to_transform  numbers of layers; None: all. Not read for a regular expression, nor for a whole name.
    layers_pattern      what the layers' list is called; empty: whatever stands before a name's first number.
    lora_dropout        of a layer's input, in training only.
    """

    r: int = 8
    lora_alpha: float = 8.0
    target_modules: tuple[str, ...] | str = ALL_LINEAR
    exclude_modules: tuple[str, ...] | str = ()
    use_rslora: bool = False
    rank_pattern: Mapping[str, int] = field(default_factory=dict)
    alpha_pattern: Mapping[str, float] = field(default_factory=dict)
    layers_to_transform: tuple[int, ...] | None = None
    layers_pattern: tuple[str, ...] = ()
    lora_dropout: float = 0.0

    def __post_init__(self) -> None:
        for name, rank in {"r": self.r, **self.rank_pattern}.items():
            if rank < 1:
                raise ValueError(f"a rank is 1 or more, got {name} = {rank}")
        for name, alpha in {"lora_alpha": self.lora_alpha, **self.alpha_pattern}.items():
            if not math.isfinite(alpha):
                raise ValueError(f"an alpha is a finite number, got {name} = {alpha}")
        if not 0 <= self.lora_dropout < 1:
            raise ValueError(f"lora_dropout is a probability below 1, got {self.lora_dropout}")
        patterns = [*self.rank_pattern, *self.alpha_pattern, *self.layers_pattern]
        patterns += [names for names in (self.target_modules, self.exclude_modules) if isinstance(names, str)]
        for pattern in patterns:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"{pattern!r} is not a regular expression: {error}") from error

    def targets(self, module: str) -> bool:
        """Whether the linear layer of this name has an adapter."""
        if self.exclude_modules and _is_named(module, self.exclude_modules):
            return False
        if self.target_modules == ALL_LINEAR:
            return not module.startswith("head.")
        if not _is_named(module, self.target_modules):
            return False
        if isinstance(self.target_modules, str) or module in self.target_modules or not self.layers_to_transform:
            return True
        return self._is_in_layers(module)

    def rank(self, module: str) -> int:
        return _first_match(self.rank_pattern, module, self.r)

    def scale(self, module: str) -> float:
        rank = self.rank(module)
        return _first_match(self.alpha_pattern, module, self.lora_alpha) / (rank**0.5 if self.use_rslora else rank)

    def _is_in_layers(self, module: str) -> bool:
        patterns = [rf"(?:.*?\.)?{name}\.(\d+)\." for name in self.layers_pattern] or [_FIRST_NUMBER]
        found = next(filter(None, (re.match(pattern, module) for pattern in patterns)), None)
        return found is not None and int(found[1]) in (self.layers_to_transform or ())


def _is_named(module: str, names: tuple[str, ...] | str) -> bool:
    if isinstance(names, str):
        return re.fullmatch(names, module) is not None
    return any(module == name or module.endswith(f".{name}") for name in names)


def _first_match(patterns: Mapping[str, T], module: str, default: T) -> T:
    found = (value for key, value in patterns.items() if re.match(rf"(.*\.)?({key})$", module))
    return next(found, default)
