"""A plan of a training run from whatever is given of it: a budget, a model, tokens, a layout. Free of torch.

The measurement of this machine is given as a function, `measured_throughput.measured_speed`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from lmworks.config import positive
from lmworks.model.config import ModelConfig
from lmworks.model.model_costs import count_parameters
from lmworks.train.planning.communication import communication_bytes
from lmworks.train.planning.compute import (
    UTILISATION,
    bubble_share,
    find_device,
    inner_parameters,
    repeated_share,
    train_flops_per_token,
)
from lmworks.train.planning.layout import NUMBERS, Layout
from lmworks.train.planning.memory import Memory, expected_memory
from lmworks.train.planning.model_shape import (
    FAMILIES,
    Shape,
    TooFewParametersError,
    explain_shape,
)
from lmworks.train.planning.scaling_laws import DEFAULT_LAW, Allocation, Law, find_law, training_flops

THIS_MACHINE = "this"
_FIRST_RATE = 1e11  # operations a second, of which the first model is guessed
_FIRST_GUESS = 10e6  # parameters, at most, of the first model
_LEAST_SLOPE = 0.2  # of time over budget, both logarithms: measurements of one model may differ more than two models
ONE_OR_TWO = (
    "give one or two of: how much to spend (flops, hours or budget), params (or a model of a published size), tokens; "
    "the rest follows"
)
_ROUNDS, _CLOSE = 3, 0.15  # of budget → model → speed → time, or until the time is so close to that asked for


@dataclass(frozen=True)
class PlanConfig:
    """The known quantities of a run: one or two of `flops`, `hours`, `budget`, `params`, `tokens`; the others follow.

    flops        Operations to spend, such as 1e21.
    hours        Hours on all devices to spend, such as 8, or 0.5 for 30 minutes.
    budget       Money to spend, at `price`.
    params       Parameters, embeddings included, such as 7e9, 7B or 300M; a `model` of a published size says them by
                 itself.
    tokens       Tokens to train on, such as 20B or 1.4T.
    model        A family whose shape is chosen: llama, qwen3, gpt2, gpt_neox; or a size of `lmworks model list`.
    law          The scaling law that decides: the plan lists all by name; or the folder of a sweep.
    vocabulary   Tokens of the vocabulary, for a family.
    device       `this` machine, which is measured, or v100-32gb, a100-40gb, a100-80gb, h100-80gb, h200.
    utilisation  Share of a named device's peak that is reached.
    price        Of one device for an hour.
    numbers      mixed, float32 or bfloat16.
    optimizer    adamw, lion, momentum or sgd.
    layout       How the devices share the work.
    """

    flops: float | None = None
    hours: float | None = None
    budget: float | None = None
    params: float | None = None
    tokens: float | None = None
    model: str = "llama"
    law: str = DEFAULT_LAW
    vocabulary: int = 32_000
    device: str = THIS_MACHINE
    utilisation: float = UTILISATION
    price: float | None = None
    numbers: str = "mixed"
    optimizer: str = "adamw"
    layout: Layout = field(default_factory=Layout)

    def __post_init__(self) -> None:
        positive(flops=self.flops, hours=self.hours, budget=self.budget)
        positive(params=self.params, tokens=self.tokens, price=self.price)
        if sum(value is not None for value in (self.flops, self.hours, self.budget)) > 1:
            raise ValueError("flops, hours and budget all say how much to spend: give one of them")
        if self.budget is not None and self.price is None:
            raise ValueError("a budget buys hours of devices: give a price too, what one device costs for an hour")
        positive(up_to=1, utilisation=self.utilisation)
        if self.numbers not in NUMBERS:
            raise ValueError(f"numbers is one of {', '.join(NUMBERS)}, got {self.numbers!r}")

    @property
    def device_hours(self) -> float | None:
        """Hours of all devices together, where hours or money were given."""
        if self.hours is not None:
            return self.hours * self.layout.devices
        return None if self.budget is None or self.price is None else self.budget / self.price


@dataclass(frozen=True)
class Speed:
    """Model operations per second of one device, and where that is from. `whole_run`: what a pipeline waits and what is
    computed again is in it already, as in a published utilisation."""

    rate: float
    source: str
    whole_run: bool


@dataclass(frozen=True)
class Duration:
    """`hours` on the wall, `device_hours` of all devices together, and their `cost` in the unit of the price, if there
    was one."""

    hours: float
    device_hours: float
    cost: float | None


@dataclass(frozen=True)
class Plan:
    """`given` names what the allocation was found from; its loss is None where the law says one above
    `worst_loss(config)`, as of a run smaller than any that it was fitted on. `shape` is None for a model of a published
    size. Without a `speed` there is no `duration`, and `unmeasured` says why. `communication` is in bytes a step, by
    part."""

    request: PlanConfig
    allocation: Allocation
    given: tuple[str, ...]
    config: ModelConfig
    shape: Shape | None
    layout: Layout
    memory: Memory
    communication: dict[str, float]
    speed: Speed | None
    unmeasured: str
    duration: Duration | None


Measure = Callable[[ModelConfig, Layout, str], Speed]


def make_plan(request: PlanConfig, measure: Measure | None = None) -> Plan:
    """All of the plan. `measure(config, layout, numbers)` gives the speed of this machine; None: not known.

    ValueError or LookupError, with the fix, for what does not go together; so too where the speed of this machine
    decides and cannot be measured.
    """
    law = find_law(request.law).law
    fixed = fixed_model(request.model)
    known = {"parameters": request.params, "tokens": request.tokens, "flops": request.flops}
    if fixed is not None:
        if request.params is not None:
            raise ValueError(f"{request.model} has its own number of parameters: leave params out, or name a family")
        known["parameters"] = _counted(fixed, law)
    given = tuple(name for name, value in known.items() if value is not None)
    if request.device_hours is not None:
        given = (*given, "flops")
    if not 1 <= len(given) <= 2:  # before anything is measured
        raise ValueError(ONE_OR_TWO)
    if request.device_hours is not None:
        known["flops"] = _affordable_flops(request, law, fixed, known, measure)
    allocation = law.allocate(**known)
    shape = None if fixed is not None else _shape(request, allocation.parameters)
    config = fixed if shape is None else shape.config
    assert config is not None
    layout = replace(request.layout, length=min(request.layout.length, config.context_length))
    memory = expected_memory(config, layout, NUMBERS[request.numbers], request.optimizer)
    communication = communication_bytes(config, layout, NUMBERS[request.numbers], memory.rank)
    speed, unmeasured = _speed_or_why_not(request, config, layout, measure)
    duration = None
    if speed is not None:
        token_hours = _device_seconds_per_token(config, layout, speed) / 3600
        if request.device_hours is not None and request.tokens is None:
            # Models come in steps, and none may take the time for exactly what the law allots.
            allocation = law.allocate(parameters=allocation.parameters, tokens=request.device_hours / token_hours)
        hours = allocation.tokens * token_hours
        cost = None if request.price is None else hours * request.price
        duration = Duration(hours / layout.devices, hours, cost)
    if allocation.loss is not None and allocation.loss > worst_loss(config):
        allocation = replace(allocation, loss=None)
    return Plan(
        request, allocation, given, config, shape, layout, memory, communication, speed, unmeasured, duration
    )  # fmt: skip


def worst_loss(config: ModelConfig) -> float:
    """Nats per token of a model that has learnt nothing: it takes all tokens of its vocabulary for equally likely."""
    return math.log(config.embedding.vocabulary)


def fixed_model(name: str) -> ModelConfig | None:
    """The config of a published size; None for a family, whose shape is chosen. LookupError for anything else."""
    import difflib

    from lmworks.model.presets.sizes import SIZES

    if name in FAMILIES:
        return None
    if name in SIZES:
        return SIZES[name].config
    near = difflib.get_close_matches(name.lower(), [*FAMILIES, *SIZES], n=4, cutoff=0.4) or list(FAMILIES)
    raise LookupError(f"{name!r} is no family with a rule and no published size; did you mean {', '.join(near)}?")


def _device_seconds_per_token(config: ModelConfig, layout: Layout, speed: Speed) -> float:
    """At `speed`; unless that is of a whole run, the bubble of a pipeline and what is computed again come on top."""
    overhead = 1.0 if speed.whole_run else (1 + repeated_share(layout.recompute)) * (1 + bubble_share(layout))
    return train_flops_per_token(config, layout.length) / speed.rate * overhead


def _affordable_flops(
    request: PlanConfig, law: Law, fixed: ModelConfig | None, known: dict[str, float | None], measure: Measure | None
) -> float:
    """6 N D of the run that takes the device hours: the model decides the speed, and the speed the model.

    From a first model's speed on, the secant method on the logarithms of budget and time: small models take most of
    their time for what does not grow with them, so that the time is no multiple of the budget.
    """
    assert request.device_hours is not None
    asked = request.device_hours * 3600

    def token_seconds(config: ModelConfig) -> float:
        layout = replace(request.layout, length=min(request.layout.length, config.context_length))
        speed, why_not = _speed_or_why_not(request, config, layout, measure)
        if speed is None:
            raise ValueError(f"a run of given time needs a speed, and that of this machine is not known: {why_not}")
        return _device_seconds_per_token(config, layout, speed)

    config, parameters = fixed, known["parameters"]
    if config is None:
        if parameters is None:  # a guess, and no large one; a vocabulary makes the smallest model large
            least = FAMILIES[request.model].smallest(request.vocabulary, request.layout.length)
            parameters = law.allocate(flops=asked * _FIRST_RATE, tokens=known["tokens"]).parameters
            parameters = min(max(parameters, least), max(_FIRST_GUESS, least))
        config = _shape(request, parameters).config
    flops = training_flops(_counted(config, law), asked / token_seconds(config))
    if fixed is not None or known["parameters"] is not None:
        return flops
    before: tuple[float, float] | None = None
    for _ in range(_ROUNDS):
        allocation = law.allocate(**(known | {"flops": flops}))
        took = allocation.tokens * token_seconds(_shape(request, allocation.parameters).config)
        here, missed = math.log(flops), math.log(took / asked)
        if abs(missed) < _CLOSE:
            break
        slope = 1.0 if before is None or here == before[0] else (missed - before[1]) / (here - before[0])
        before = here, missed
        flops = math.exp(here - missed / min(max(slope, _LEAST_SLOPE), 1.0))
    return flops


def _speed_or_why_not(
    request: PlanConfig, config: ModelConfig, layout: Layout, measure: Measure | None
) -> tuple[Speed | None, str]:
    if request.device != THIS_MACHINE:
        device = find_device(request.device)
        source = f"{request.utilisation:.0%} of the {device.peak / 1e12:,.0f} TFLOP/s of one {device.name}"
        return Speed(device.peak * request.utilisation, source, whole_run=True), ""
    if measure is None:
        return None, "nothing was measured"
    try:
        return measure(config, layout, request.numbers), ""
    except ValueError as error:
        return None, str(error)


def _shape(request: PlanConfig, parameters: float) -> Shape:
    """ValueError that names what was given, where it is too little for any model."""
    try:
        return explain_shape(parameters, request.model, request.vocabulary, request.layout.length)
    except TooFewParametersError as error:
        if request.params is not None:
            raise
        targets = ("flops", "hours", "budget", "tokens")
        given = {name: value for name in targets if (value := getattr(request, name)) is not None}
        budget = " and ".join(f"{name}={value:g}" for name, value in given.items())
        changes = [f"{'fewer' if name == 'tokens' and len(given) > 1 else 'more'} {name}" for name in given]
        least = FAMILIES[request.model].smallest(request.vocabulary, request.layout.length)
        raise TooFewParametersError(
            f"{budget} would go into a model of {parameters:,.0f} parameters, and the smallest {request.model} with a "
            f"vocabulary of {request.vocabulary:,} has {least:,}: give {', '.join(changes)} or a smaller vocabulary"
        ) from error


def _counted(config: ModelConfig, law: Law) -> float:
    """The parameters that the law counts."""
    return float(count_parameters(config) if law.counts == "all" else inner_parameters(config))
