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
from dataclasses import asdict, dataclass, replace
from inspect import signature
from typing import Any

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


Build = Callable[[Dimensions], ModelConfig]


def _build(preset: Callable[..., ModelConfig], **more: Any) -> Build:
    """A family's preset as a function of the dimensions, of which it is given those that it takes."""
    names = signature(preset).parameters

    def build(d: Dimensions) -> ModelConfig:
        known = {**asdict(d), "kv_heads": d.heads, "head_dim": d.width // d.heads, **more}
        return preset(**{name: value for name, value in known.items() if name in names})

    return build


# The build, whether the feed-forward is gated, and whether the head is always tied.
FAMILIES: dict[str, tuple[Build, bool, bool]] = {
    "llama": (_build(presets.llama), True, False),
    "qwen3": (_build(presets.qwen3), True, False),
    "gpt2": (_build(presets.gpt2), False, True),
    "gpt_neox": (_build(presets.gpt_neox), False, False),
    "mixtral": (_build(presets.mixtral), True, False),
    "bert": (_build(presets.bert, head=MaskedLanguageModelHead("gelu", Norm("layer", 1e-12))), False, True),
    "t5": (_build(presets.t5), False, True),
    "bart": (_build(presets.bart), False, True),
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
    if not 0 < parameters < math.inf or min(vocabulary, context_length) < 1:
        raise ValueError(f"parameters, vocabulary and context length are above 0, got {parameters}, {vocabulary}")
    build, gated, always_tied = FAMILIES[family]
    preferred = preferred_aspect(parameters)
    found = []
    for dimensions in _candidates(build, parameters, vocabulary, context_length, gated, always_tied):
        count = _count(build, dimensions)
        deviation = abs(count - parameters) / parameters
        aspect = abs(math.log(dimensions.width / dimensions.layers / preferred))
        found.append((deviation, aspect, dimensions, count))
    nearest = min((deviation for deviation, *_ in found), default=math.inf)
    close = [row for row in found if row[0] <= nearest + CLOSE]
    best = min(close, key=lambda row: (row[1], row[0]), default=None)
    if best is None or best[0] > 1 / 3:
        least = _smallest(build, vocabulary, context_length, gated)
        if parameters > least:
            raise ValueError(f"a {family} of {parameters:.3g} parameters is larger than any shape that is tried")
        raise TooFewParametersError(
            f"no {family} of about {parameters:,.0f} parameters with a vocabulary of {vocabulary:,}: one layer of "
            f"width {UNIT} needs {least:,}; take more parameters or a smaller vocabulary"
        )
    _, _, dimensions, count = best
    return Shape(dimensions, build(dimensions), count, _reasons(dimensions, count, parameters, gated, always_tied))


def preferred_aspect(parameters: float) -> float:
    """Width per layer: 64 up to 1e8 parameters, 128 from 7e9 on, between them a power of the parameters."""
    share = (math.log(parameters) - math.log(1e8)) / (math.log(7e9) - math.log(1e8))
    return LOWEST_ASPECT * (HIGHEST_ASPECT / LOWEST_ASPECT) ** min(max(share, 0.0), 1.0)


def _candidates(
    build: Build,
    parameters: float,
    vocabulary: int,
    context_length: int,
    gated: bool,
    always_tied: bool,
) -> Iterator[Dimensions]:
    """Every width, with the layers that come nearest to the budget from both sides within the limits of the width per
    layer."""
    for width in _widths():
        embedding = vocabulary * width
        if embedding > parameters * 4 / 3:
            return
        tied = always_tied or embedding > TIED_FROM * parameters
        heads, hidden = width // (128 if width >= 1024 else 64), hidden_width(width, gated)
        one = Dimensions(vocabulary, width, 1, heads, hidden, context_length, tied)
        first, second = (_count(build, replace(one, layers=layers)) for layers in (1, 2))
        wanted = 1 + (parameters - first) / (second - first)
        lowest, highest = max(1, math.ceil(width / HIGHEST_ASPECT)), max(DEEP_ENOUGH, width // LOWEST_ASPECT)
        for layers in sorted({min(max(round_(wanted), lowest), highest) for round_ in (math.floor, math.ceil)}):
            yield replace(one, layers=layers)


def _widths() -> Iterator[int]:
    width = UNIT
    while width <= _WIDEST:
        yield width
        width += _unit(width)


def _unit(width: int) -> int:
    return next((unit for start, unit in _UNITS if width >= start), UNIT)


def _count(build: Build, dimensions: Dimensions) -> int:
    """Parameters of the model: each of its layers has as many as the second."""
    one, two = (count_parameters(build(replace(dimensions, layers=layers))) for layers in (1, 2))
    return one + (dimensions.layers - 1) * (two - one)


def smallest_parameters(family: str, vocabulary: int, context_length: int = 2048) -> int:
    """Parameters of the smallest shape of a family with this vocabulary."""
    build, gated, _ = FAMILIES[family]
    return _smallest(build, vocabulary, context_length, gated)


def _smallest(build: Build, vocabulary: int, context_length: int, gated: bool) -> int:
    least = Dimensions(vocabulary, UNIT, 1, 1, hidden_width(UNIT, gated), context_length, tied=True)
    return _count(build, least)


def hidden_width(width: int, gated: bool) -> int:
    """The width of the feed-forward: 4 widths, or 8/3 rounded up to a multiple of the greatest power of two, at
    most 256, in the width."""
    if not gated:
        return 4 * width
    unit = math.gcd(width, 256)
    return math.ceil(8 * width / (3 * unit)) * unit


def _reasons(
    d: Dimensions, count: int, parameters: float, gated: bool, always_tied: bool
) -> tuple[tuple[str, str, str], ...]:
    per_layer = d.width / d.layers
    if always_tied:
        tied = "the family shares the token vectors with the head"
    else:
        share = d.vocabulary * d.width / parameters
        tied = f"the token vectors are {share:.0%} of the parameters; tied from {TIED_FROM:.0%} on"
    hidden = "8/3 of the width, as there is a gate (Shazeer 2020), rounded up" if gated else "4 widths"
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
