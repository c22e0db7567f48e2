"""The configs of fine-tuning methods, free of torch; fields by PEFT's names where PEFT has them."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal, TypeVar

from lmworks.config import at_least, below_one, positive
from lmworks.limited_regex import compile_pattern, find_all, finds

T = TypeVar("T")

ALL_LINEAR = "all-linear"
RANK = 8  # where none is given
_FIRST_NUMBER = r".*?\.[^.]*\.(\d+)\."


@dataclass(frozen=True)
class LoraConfig:
    """Low-rank adaptation (Hu et al. 2021, section 4.1): W becomes W + scale · B A.

    In a PEFT folder the patterns are of the names in `transformers`, elsewhere of ours.

    r                   the rank: rows of A, columns of B; left out: 8, or more in `train.finetune` for many tokens.
    lora_alpha          scale = lora_alpha / r; with `use_rslora` lora_alpha / √r (Kalajdzievski 2023, section 3).
    use_rslora          that scale, which is steadier at high ranks.
    target_modules      the linear layers, or the embedding: how their names end, at a dot; or one regular expression
                        for whole names; or "all-linear", which is every linear layer but the head's.
    exclude_modules     what to leave out of these, in the same two ways.
    rank_pattern        regular expressions for the ends of names, at a dot → another rank; the first that fits counts.
    alpha_pattern       the same for lora_alpha.
    layers_to_transform  numbers of layers; None: all. Not read for a regular expression, nor for a whole name.
    layers_pattern      what the layers' list is called; empty: whatever stands before a name's first number.
    lora_dropout        of a layer's input, in training only.
    use_dora            DoRA (Liu et al. 2024): the length of each row of W + scale · B A is learned by itself.
    """

    OTHER_NAMES: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "rank": ("r",),
        "lora_r": ("r",),
        "alpha": ("lora_alpha",),
        "dropout": ("lora_dropout",),
    }
    r: int | None = None
    lora_alpha: float = 8.0
    target_modules: tuple[str, ...] | str = ALL_LINEAR
    exclude_modules: tuple[str, ...] | str = ()
    use_rslora: bool = False
    rank_pattern: Mapping[str, int] = field(default_factory=dict)
    alpha_pattern: Mapping[str, float] = field(default_factory=dict)
    layers_to_transform: tuple[int, ...] | None = None
    layers_pattern: tuple[str, ...] = ()
    lora_dropout: float = 0.0
    use_dora: bool = False
    kind: Literal["lora"] = "lora"

    def __post_init__(self) -> None:
        at_least(1, **{"r": self.r, **self.rank_pattern})
        for name, alpha in {"lora_alpha": self.lora_alpha, **self.alpha_pattern}.items():
            if not math.isfinite(alpha):
                raise ValueError(f"an alpha is a finite number, got {name} = {alpha}")
        below_one(lora_dropout=self.lora_dropout)
        patterns = [*self.rank_pattern, *self.alpha_pattern, *self.layers_pattern]
        patterns += [names for names in (self.target_modules, self.exclude_modules) if isinstance(names, str)]
        _check_patterns(patterns)

    def targets(self, module: str) -> bool:
        """Whether the linear layer of this name has an adapter."""
        if self.exclude_modules and _is_named(module, self.exclude_modules):
            return False
        if self.target_modules == ALL_LINEAR:
            return not module.startswith(("head.", "embedding."))
        if not _is_named(module, self.target_modules):
            return False
        if isinstance(self.target_modules, str) or module in self.target_modules or not self.layers_to_transform:
            return True
        patterns = [rf"(?:.*?\.)?{name}\.(\d+)\." for name in self.layers_pattern] or [_FIRST_NUMBER]
        matches = (match for pattern in patterns for match in find_all(compile_pattern(rf"\A{pattern}"), module))
        first = next(matches, None)
        return first is not None and int(first[1]) in self.layers_to_transform

    def rank(self, module: str) -> int:
        return _first_match(self.rank_pattern, module, self.r or RANK)

    def scale(self, module: str) -> float:
        rank = self.rank(module)
        return _first_match(self.alpha_pattern, module, self.lora_alpha) / (rank**0.5 if self.use_rslora else rank)


@dataclass(frozen=True)
class IA3Config:
    """IA³ (Liu et al. 2022, section 3.3): keys, values and the inner activations of feed-forwards are rescaled.

    target_modules       the layers whose outputs are rescaled, or their inputs where `feedforward_modules` names them:
                         how their names end, at a dot, or one regular expression for whole names. Empty: PEFT's choice
                         for the model's family, mostly `key`, `value` and `down`, of whose inputs.
    feedforward_modules  in the same two ways.
    """

    target_modules: tuple[str, ...] | str = ()
    feedforward_modules: tuple[str, ...] | str = ()
    kind: Literal["ia3"] = "ia3"

    def __post_init__(self) -> None:
        if self.feedforward_modules and not self.target_modules:
            raise ValueError("feedforward_modules are some of target_modules: name these, too")

    def targets(self, module: str) -> bool:
        """Whether the linear layer of this name is rescaled."""
        return _is_named(module, self.target_modules)

    def of_inputs(self, module: str) -> bool:
        """Whether its inputs are, if it is."""
        return _is_named(module, self.feedforward_modules)


@dataclass(frozen=True)
class PrefixConfig:
    """Prefix tuning (Li & Liang 2021): keys and values of virtual tokens before the text, in each layer.

    num_virtual_tokens   length of the prefix.
    prefix_projection    In training the prefix comes from an MLP, which makes it easier to learn; it is delivered as
                         keys and values.
    encoder_hidden_size  hidden units of this MLP; null: the model's width.
    init                 what the prefix begins as: keys and values that the model computes for random `tokens`, from
                         which it is learned with few examples (section 7.4); or numbers of the `normal` distribution,
                         as PEFT begins. An MLP and an encoder's prefix begin as `normal`.
    """

    num_virtual_tokens: int = 20
    prefix_projection: bool = False
    encoder_hidden_size: int | None = None
    init: Literal["tokens", "normal"] = "tokens"
    kind: Literal["prefix"] = "prefix"

    def __post_init__(self) -> None:
        positive(num_virtual_tokens=self.num_virtual_tokens, encoder_hidden_size=self.encoder_hidden_size)


@dataclass(frozen=True)
class BottleneckConfig:
    """Bottleneck adapters (Houlsby et al. 2019, section 2.1): h becomes h + W_up f(W_down h).

    bottleneck_size  hidden units of each adapter.
    placement        `houlsby`: after attention and after the feed-forward; `pfeiffer`: after the feed-forward alone
                     (Pfeiffer et al. 2021).
    activation       f: `relu`, `gelu` or `silu`.
    """

    bottleneck_size: int = 64
    placement: Literal["houlsby", "pfeiffer"] = "houlsby"
    activation: Literal["relu", "gelu", "silu"] = "gelu"
    kind: Literal["bottleneck"] = "bottleneck"

    def __post_init__(self) -> None:
        positive(bottleneck_size=self.bottleneck_size)


@dataclass(frozen=True)
class FullConfig:
    """Full fine-tuning: the model's own weights are trained.

    train   regular expressions over whole names of weights, such as `.*\\.bias`, that are trained.
    freeze  of these the ones that stay as they are all the same, such as `embedding\\..*`.
    """

    train: tuple[str, ...] = (".*",)
    freeze: tuple[str, ...] = ()
    kind: Literal["full"] = "full"

    def __post_init__(self) -> None:
        _check_patterns((*self.train, *self.freeze))


BaseFormat = Literal["float", "int4", "int8", "stored"]  # of an adapter's base, see `adapt.qlora.quantise_base`
Method = FullConfig | LoraConfig | IA3Config | PrefixConfig | BottleneckConfig


def _check_patterns(patterns: Iterable[str]) -> None:
    for pattern in patterns:
        compile_pattern(pattern)


def _is_named(module: str, names: tuple[str, ...] | str) -> bool:
    if isinstance(names, str):
        return finds(rf"\A(?:{names})\Z", module)
    return any(module == name or module.endswith(f".{name}") for name in names)


def _first_match(patterns: Mapping[str, T], module: str, default: T) -> T:
    values = (value for key, value in patterns.items() if finds(rf"\A(.*\.)?({key})$", module))
    return next(values, default)
