"""A plan of a training run, from whatever was given of it: the numbers of every part, and why. Free of torch."""

from collections.abc import Sequence
from dataclasses import dataclass

from lmworks.model.config import ModelConfig
from lmworks.model.counting import count_parameters, sizes_of_parts
from lmworks.train.planning.batch_size import critical_batch_tokens
from lmworks.train.planning.communication import communication_bytes
from lmworks.train.planning.compute import (
    Device,
    bubble_share,
    repeated_share,
    train_flops_per_token,
)
from lmworks.train.planning.hyperparameters import RULES
from lmworks.train.planning.layout import NUMBERS, Layout
from lmworks.train.planning.memory import Memory, expected_memory
from lmworks.train.planning.published import DEFAULT_LAW, LAWS, find_law
from lmworks.train.planning.scaling_laws import (
    FLOPS_PER_PARAMETER_AND_TOKEN,
    Allocation,
    Law,
    ParametricLaw,
    training_flops,
)

_SUFFIXES = {"k": 1e3, "m": 1e6, "b": 1e9, "g": 1e9, "t": 1e12}


@dataclass(frozen=True)
class Line:
    """A number of the plan, in words, with its reason."""

    name: str
    value: str
    why: str


@dataclass(frozen=True)
class Speed:
    """Model operations per second of one device, and where that is from."""

    rate: float
    source: str


@dataclass(frozen=True)
class Duration:
    """`hours` on the wall, on all devices together `device_hours`; `cost` in the unit of the price, if there was one."""

    hours: float
    device_hours: float
    cost: float | None


def parse_quantity(text: str) -> float:
    """ "7e9", "7B", "1.5T", "300M" or "20_000" as a number; ValueError for anything else and for what is not above 0."""
    plain = text.strip().replace("_", "").replace(",", "").lower()
    factor = _SUFFIXES.get(plain[-1:], 1.0)
    try:
        value = float(plain[:-1] if factor != 1.0 else plain) * factor
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise ValueError(f"{text!r} is no number above 0; write it like 7e9, 7B, 300M or 1.5T")
    return value


def allocate(
    law: Law, *, flops: float | None = None, parameters: float | None = None, tokens: float | None = None
) -> Allocation:
    """One given: the law says the other two. Two given: C = 6 N D says the third, and a parametric law the loss.
    ValueError for none or all three."""
    given = {"flops": flops, "parameters": parameters, "tokens": tokens}
    known = {name: value for name, value in given.items() if value is not None}
    if len(known) not in (1, 2):
        raise ValueError(
            "give one or two of operations, parameters and tokens (the third follows from C = 6 N D), "
            f"got {', '.join(known) or 'none'}"
        )
    if flops is not None and parameters is None and tokens is None:
        return law.allocate(flops)
    if parameters is not None and flops is None and tokens is None:
        return law.for_parameters(parameters)
    if tokens is not None and flops is None and parameters is None:
        return law.for_tokens(tokens)
    if parameters is None:
        assert flops is not None and tokens is not None
        parameters = flops / (FLOPS_PER_PARAMETER_AND_TOKEN * tokens)
    elif tokens is None:
        assert flops is not None
        tokens = flops / (FLOPS_PER_PARAMETER_AND_TOKEN * parameters)
    assert tokens is not None
    loss = law.loss(parameters, tokens) if isinstance(law, ParametricLaw) else None
    return Allocation(parameters, tokens, training_flops(parameters, tokens), loss)


def allocation_lines(allocation: Allocation, name: str, given: Sequence[str]) -> list[Line]:
    """What is trained on how much, and why so."""
    law = find_law(name)
    best = law.law.allocate(allocation.flops)
    ratio, best_ratio = allocation.tokens / allocation.parameters, best.tokens / best.parameters
    reasons = {
        key: "given" if key in given else f"follows from the law {name}" if len(given) == 1 else "C = 6 N D"
        for key in ("flops", "parameters", "tokens")
    }
    counted = "" if law.law.counts == "all" else "; this law counts no embeddings"
    lines = [
        Line("operations", f"{allocation.flops:.3g} FLOPs", reasons["flops"]),
        Line("parameters", short(allocation.parameters), reasons["parameters"] + counted),
        Line("tokens", short(allocation.tokens), reasons["tokens"]),
        Line("tokens per parameter", f"{ratio:.3g}", f"{best_ratio:.3g} would be best for these operations by {name}"),
    ]
    if allocation.loss is not None:
        why = f"in nats per token, of the text that {name} was fitted on: with yours, a comparison only"
        lines.append(Line("loss", f"{allocation.loss:.3f}", why))
        if best.loss is not None and allocation.loss > best.loss + 5e-4:
            lines.append(
                Line("loss at the best ratio", f"{best.loss:.3f}", f"{short(best.parameters)} on {short(best.tokens)}")
            )
    return lines


def compare_laws(allocation: Allocation) -> list[tuple[str, Allocation, str]]:
    """What each published law advises for the same operations: its name, its advice, its note."""
    return [(name, law.law.allocate(allocation.flops), law.note) for name, law in LAWS.items()]


def plan_memory(config: ModelConfig, layout: Layout, numbers: str, optimizer: str) -> Memory:
    """`expected_memory` with the numbers by name; LookupError for an unknown name."""
    if numbers not in NUMBERS:
        raise LookupError(f"there are no numbers {numbers!r}; choose one of {', '.join(NUMBERS)}")
    return expected_memory(config, layout, NUMBERS[numbers], optimizer)


def plan_communication(config: ModelConfig, layout: Layout, numbers: str, memory: Memory) -> dict[str, float]:
    """Bytes that the device whose memory was planned sends in a step, by part."""
    return communication_bytes(config, layout, NUMBERS[numbers], memory.rank)


def run_duration(
    config: ModelConfig, layout: Layout, tokens: float, speed: Speed, devices: int, price: float | None = None
) -> Duration:
    """At `speed` model operations a second on each of `devices`; the bubble of a pipeline and what is computed again
    come on top. `price` is that of one device for an hour."""
    flops = tokens * train_flops_per_token(config, layout.length)
    seconds = flops / (devices * speed.rate) * (1 + repeated_share(layout.recompute)) * (1 + bubble_share(layout))
    hours = seconds / 3600
    return Duration(hours, hours * devices, None if price is None else hours * devices * price)


def known_speed(device: Device, utilisation: float) -> Speed:
    """A share of what the maker says. ValueError for a share that is not above 0 and at most 1."""
    if not 0 < utilisation <= 1:
        raise ValueError(f"a utilisation is a share above 0 and at most 1, got {utilisation}")
    return Speed(
        device.peak * utilisation, f"{utilisation:.0%} of the {device.peak / 1e12:,.0f} TFLOP/s of one {device.name}"
    )


def hyperparameter_lines(config: ModelConfig, tokens: float, loss: float | None) -> list[Line]:
    """Where to begin a search, by each rule."""
    table = sizes_of_parts(config)["embedding"].total
    head = sizes_of_parts(config).get("head")
    total = count_parameters(config)
    inner = total - table - (head.total if head is not None else 0)
    lines = []
    for name, rule in RULES.items():
        counted = inner + table if rule.counts == "parameters without the input embedding" else inner
        advice = rule.suggest(counted, tokens)
        batch = "" if advice.batch_tokens is None else f", batch {short(advice.batch_tokens)} tokens"
        lines.append(Line(name, f"peak rate {advice.learning_rate:.2g}{batch}", f"{rule.source}; {rule.counts}"))
    if loss is not None:
        lines.append(
            Line(
                "critical batch",
                f"{short(critical_batch_tokens(loss))} tokens",
                "at the loss above; larger batches save few steps (Kaplan et al. 2020, equation 1.4)",
            )
        )
    return lines


def short(value: float) -> str:
    """Three digits: 6.74B, 1.40T, 512, or 3.20e+20 where there is no letter for it."""
    for letter, factor in (("T", 1e12), ("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if factor <= value < 1000 * factor:
            scaled = value / factor
            return f"{scaled:.{2 if scaled < 10 else 1 if scaled < 100 else 0}f}{letter}"
    return f"{value:,.0f}" if value < 1e3 else f"{value:.2e}"


__all__ = ["DEFAULT_LAW", "Duration", "Line", "Speed"]
