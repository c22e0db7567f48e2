"""From one target, the number of parameters, to the shape of a model, with a reason for each number. Free of torch.

At equal parameters the loss depends little on the shape: within a few per cent over a wide range of width to layers
(Kaplan et al. 2020, section 3.1). So the rule follows what is trained in practice and what devices like:

- the width is a multiple of 64, of 128 from 1,024 on, of 256 from 2,048 and of 512 from 4,096, so that the heads of
large
  models can be divided among devices;
- heads are 128 wide, or 64 where the width is below 1,024;
- a plain feed-forward is 4 widths, a gated one, which has a third matrix, 8/3 (Shazeer 2020, section 3), rounded up to
  a multiple of 256, or of the power of two below that the width is a multiple of;
- 64 to 128 units of width for each layer, with 64 at 100 million parameters (GPT-2) and 128 from 7 billion on (LLaMA,
  GPT-3) as the preferred ones;
- the head is tied to the embedding where the embedding alone would take more than a fifth of the parameters;
- of all such shapes those count whose parameters are nearest to what was asked for, and of these, within 2 %, the one
  whose width per layer is nearest to the preferred.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from inspect import signature
from typing import Any

from lmworks.config import positive
from lmworks.model import presets
from lmworks.model.config import MaskedLanguageModelHead, ModelConfig, Norm
from lmworks.model.model_costs import count_parameters

UNIT = 64  # of the smallest widths
_UNITS = ((4096, 512), (2048, 256), (1024, 128))  # from this width on: multiples of that
LOWEST_ASPECT, HIGHEST_ASPECT = 64, 128  # width per layer
DEEP_ENOUGH = 4  # layers that any width may have, or there would be nothing between one layer of 64 and one of 128
CLOSE = 0.02  # shapes whose deviation from the budget differs by less are equally near
TIED_FROM = 0.2  # share of the parameters in one table of token vectors
_WIDEST = 32_768


@dataclass(frozen=True)
class Dimensions:
    """The dimensions that a family is built from."""

    vocabulary: int
    width: int
    layers: int
    heads: int
    hidden: int
    context_length: int
    tied: bool


@dataclass(frozen=True)
class Family:
    """A preset that is given those of the dimensions that it takes, with `settings` besides. `gated`: whether its
    feed-forward is; `tied`: whether its head always is."""

    preset: Callable[..., ModelConfig]
    gated: bool
    tied: bool
    settings: dict[str, Any] = field(default_factory=dict)

    def build(self, d: Dimensions) -> ModelConfig:
        known = {**asdict(d), "kv_heads": d.heads, "head_dim": d.width // d.heads, **self.settings}
        taken = signature(self.preset).parameters  # `settings`: those of another preset, which takes them all
        return self.preset(**{name: known[name] for name in known if name in taken or "settings" in taken})

    def smallest(self, vocabulary: int, context_length: int) -> int:
        """Parameters of the smallest shape with this vocabulary."""
        hidden = hidden_width(UNIT, self.gated)
        return count_parameters(self.build(Dimensions(vocabulary, UNIT, 1, 1, hidden, context_length, tied=True)))


_BERT_HEAD = MaskedLanguageModelHead("gelu", Norm("layer", 1e-12))
FAMILIES = {
    "llama": Family(presets.llama, gated=True, tied=False),
    "qwen3": Family(presets.qwen3, gated=True, tied=False),
    "gpt2": Family(presets.gpt2, gated=False, tied=True),
    "gpt_neox": Family(presets.gpt_neox, gated=False, tied=False),
    "mixtral": Family(presets.mixtral, gated=True, tied=False),
    "bert": Family(presets.bert, gated=False, tied=True, settings={"head": _BERT_HEAD}),
    "t5": Family(presets.t5, gated=False, tied=True),
    "bart": Family(presets.bart, gated=False, tied=True),
}


@dataclass(frozen=True)
class Shape:
    """A chosen shape. `reasons` names each number, its value and why it has it."""

    dimensions: Dimensions
    config: ModelConfig
    parameters: int
    reasons: tuple[tuple[str, str, str], ...]


class TooFewParametersError(ValueError):
    """No shape of a family has so few parameters with this vocabulary."""


def choose_shape(
    parameters: float, family: str = "llama", vocabulary: int = 32_000, context_length: int = 2048
) -> ModelConfig:
    """The config of `family` with about so many parameters, embeddings included; `explain_shape` says why it is that.

    LookupError for an unknown family. ValueError where nothing of at least one layer of 64 comes within a third of
    `parameters`: the vocabulary alone takes more.
    """
    return explain_shape(parameters, family, vocabulary, context_length).config


def explain_shape(
    parameters: float, family: str = "llama", vocabulary: int = 32_000, context_length: int = 2048
) -> Shape:
    """`choose_shape` with the numbers and their reasons."""
    if family not in FAMILIES:
        raise LookupError(f"there is no rule for the family {family!r}; choose one of {', '.join(FAMILIES)}")
    positive(parameters=parameters, vocabulary=vocabulary, context_length=context_length)
    rule, preferred = FAMILIES[family], preferred_aspect(parameters)
    candidates = []
    for dimensions, count in _candidates(rule, parameters, vocabulary, context_length):
        aspect = abs(math.log(dimensions.width / dimensions.layers / preferred))
        candidates.append((abs(count - parameters) / parameters, aspect, dimensions, count))
    nearest = min((deviation for deviation, *_ in candidates), default=math.inf)
    if nearest > 1 / 3:
        least = rule.smallest(vocabulary, context_length)
        if parameters > least:
            raise ValueError(f"a {family} of {parameters:.3g} parameters is larger than any shape that is tried")
        raise TooFewParametersError(
            f"no {family} of about {parameters:,.0f} parameters with a vocabulary of {vocabulary:,}: one layer of "
            f"width {UNIT} needs {least:,}; take more parameters or a smaller vocabulary"
        )
    close = [candidate for candidate in candidates if candidate[0] <= nearest + CLOSE]
    _, _, dimensions, count = min(close, key=lambda candidate: (candidate[1], candidate[0]))
    return Shape(dimensions, rule.build(dimensions), count, _reasons(dimensions, count, parameters, rule))


def preferred_aspect(parameters: float) -> float:
    """Width per layer: 64 up to 1e8 parameters, 128 from 7e9 on, between them a power of the parameters."""
    share = (math.log(parameters) - math.log(1e8)) / (math.log(7e9) - math.log(1e8))
    return LOWEST_ASPECT * (HIGHEST_ASPECT / LOWEST_ASPECT) ** min(max(share, 0.0), 1.0)


def _candidates(
    rule: Family, parameters: float, vocabulary: int, context_length: int
) -> Iterator[tuple[Dimensions, int]]:
    """Every width, with the layers that come nearest to the budget from both sides within the limits of the width per
    layer; and the parameters of that."""
    width = 0
    while (width := width + _unit(width)) <= _WIDEST:
        embedding = vocabulary * width
        if embedding > parameters * 4 / 3:
            return
        tied = rule.tied or embedding > TIED_FROM * parameters
        heads, hidden = width // (128 if width >= 1024 else 64), hidden_width(width, rule.gated)
        single = Dimensions(vocabulary, width, 1, heads, hidden, context_length, tied)
        first, second = (count_parameters(rule.build(replace(single, layers=layers))) for layers in (1, 2))
        further = (parameters - first) / (second - first)
        lowest, highest = max(1, math.ceil(width / HIGHEST_ASPECT)), max(DEEP_ENOUGH, width // LOWEST_ASPECT)
        for layers in sorted({min(max(1 + round_(further), lowest), highest) for round_ in (math.floor, math.ceil)}):
            yield replace(single, layers=layers), first + (layers - 1) * (second - first)


def _unit(width: int) -> int:
    return next((unit for start, unit in _UNITS if width >= start), UNIT)


def hidden_width(width: int, gated: bool) -> int:
    """The width of the feed-forward: 4 widths, or 8/3 rounded up to a multiple of the greatest power of two, at
    most 256, in the width."""
    if not gated:
        return 4 * width
    unit = math.gcd(width, 256)
    return math.ceil(8 * width / (3 * unit)) * unit


def _reasons(d: Dimensions, count: int, parameters: float, rule: Family) -> tuple[tuple[str, str, str], ...]:
    per_layer = d.width / d.layers
    if rule.tied:
        tied = "the family shares the token vectors with the head"
    else:
        share = d.vocabulary * d.width / parameters
        tied = f"the token vectors are {share:.0%} of the parameters; tied from {TIED_FROM:.0%} on"
    hidden = "8/3 of the width, as there is a gate (Shazeer 2020), rounded up" if rule.gated else "4 widths"
    aspect = (
        f"a multiple of {_unit(d.width)}; {per_layer:.0f} for each layer, {preferred_aspect(parameters):.0f} preferred"
    )
    return (
        ("parameters", f"{count:,}", f"{count / parameters - 1:+.1%} next to what is wanted: shapes come in steps"),
        ("width", f"{d.width:,}", aspect),
        ("layers", f"{d.layers:,}", "what the parameters allow at this width"),
        ("heads", f"{d.heads:,} of {d.width // d.heads}", "128 wide, or 64 in a width below 1,024"),
        ("hidden", f"{d.hidden:,}", hidden),
        ("head", "tied" if d.tied else "its own", tied),
    )
