"""From one number, minutes or parameters or tokens, to everything that a pre-training run needs, with reasons."""

import math
from dataclasses import dataclass, replace

from lmworks.model.config import ModelConfig
from lmworks.model.model_costs import count_parameters
from lmworks.train.config import PretrainConfig
from lmworks.train.optimizer_config import AdamW, Muon, Schedule, peak_rate
from lmworks.train.planning.compute import inner_parameters
from lmworks.train.planning.hyperparameters import RULES
from lmworks.train.planning.layout import Layout
from lmworks.train.planning.model_shape import FAMILIES, TooFewParametersError, explain_shape
from lmworks.train.planning.plan import Measure, Plan, PlanConfig, make_plan
from lmworks.train.planning.scaling_laws import training_flops
from lmworks.train.planning.units import readable_hours, short

RULE = "deepseek"  # of `hyperparameters.RULES`: the one whose rate and batch both follow from the operations
EPOCHS = 4  # repeating data so often is nearly as good as new data (Muennighoff et al. 2023, section 5)
LEAST_STEPS = 200  # a schedule of fewer has no room to warm up, to learn and to come down
WARMUP, LEAST_WARMUP = 0.02, 10  # of the steps; steps
HIGHEST_RATE = 0.005  # a decoder of a million parameters learns less at 0.0075: `benchmarks/first_steps.py`
_FULL = 0.9  # of the minutes: a model that takes less of them for all the data is too small
MEASURED_SEQUENCES = 8  # at a time, of which the machine's speed is measured


@dataclass(frozen=True, slots=True)
class Derived:
    """A run: its model, its steps, and (what, value, why) of each number."""

    model: ModelConfig
    batch: int
    steps: int
    rate: float
    warmup: int
    reasons: tuple[tuple[str, str, str], ...]


def derive(config: PretrainConfig, vocabulary: int, available: int, measure: Measure | None = None) -> Derived:
    """`available` tokens of data; `measure` gives the speed of this machine, and is needed for `minutes` alone.

    ValueError or LookupError as `make_plan`, for targets that contradict each other.
    """
    plan = _plan(config, vocabulary, config.tokens, measure)
    reasons, tokens, most_tokens = [], plan.allocation.tokens, float(EPOCHS * available)
    if tokens > most_tokens and config.tokens is None:
        reasons.append(
            ("tokens wanted", short(tokens), f"by the law of {plan.request.law}; there are {short(available)}")
        )
        tokens = most_tokens
        if config.minutes is not None and config.parameters is None:
            plan, tokens = _larger(config, vocabulary, plan, tokens, measure)
    if plan.speed is not None and config.minutes is not None:
        reasons.insert(0, ("speed", f"{plan.speed.rate / 1e9:,.0f} GFLOP/s", plan.speed.source))
    shape = plan.shape
    assert shape is not None  # there is a rule for each family
    reasons += [*shape.reasons]
    limit = "as given" if config.tokens else f"at most {EPOCHS} times"
    reasons.append(("tokens", short(tokens), f"{tokens / available:.2f} times the data, {limit}"))
    if plan.duration is not None and config.minutes is not None:
        hours = plan.duration.hours * tokens / plan.allocation.tokens
        unused = "" if hours > _FULL * config.minutes / 60 else "; more data would use the rest of the minutes"
        reasons.append(("time", readable_hours(hours), f"operations of all tokens, at the speed above{unused}"))
    advice = RULES[RULE].suggest(inner_parameters(shape.config), tokens)
    batch, why_batch = _batch(config, tokens, advice.batch_tokens)
    steps = max(math.ceil(tokens / config.length / batch), 1)
    rate, why_rate = _rate(config, advice.learning_rate)
    reasons.append(("batch", f"{batch} {'sequence' if batch == 1 else 'sequences'}", why_batch))
    reasons.append(("steps", f"{steps:,}", "tokens / batch"))
    reasons.append(("rate", f"{rate:.2g}", why_rate))
    warmup, why_warmup = _warmup(config.train.schedule, steps)
    reasons.append(("warm-up", f"{warmup} steps", why_warmup))
    return Derived(shape.config, batch, steps, rate, warmup, tuple(reasons))


def _larger(
    config: PretrainConfig, vocabulary: int, plan: Plan, tokens: float, measure: Measure | None
) -> tuple[Plan, float]:
    """The plan of a larger model for these tokens, which are fewer than `plan` wants, and how many the minutes buy it.
    It has at most a parameter for each token: one that is larger still would learn the texts by heart."""
    assert config.minutes is not None and plan.speed is not None
    most, seconds = round(max(tokens, count_parameters(plan.config))), 60 * config.minutes
    if training_flops(most, tokens) < _FULL * seconds * plan.speed.rate:
        return _plan(replace(config, minutes=None, parameters=most), vocabulary, tokens, measure), tokens
    plan = _plan(config, vocabulary, tokens, measure)
    assert plan.duration is not None
    affordable = tokens * seconds / (3600 * plan.duration.hours)  # none may take the minutes for exactly these tokens
    if affordable > tokens / _FULL:
        size = larger = count_parameters(plan.config)  # then of the next larger model
        while explain_shape(larger, config.family, vocabulary, config.length).parameters <= size:
            larger *= 1.05
        plan = _plan(replace(config, parameters=round(larger)), vocabulary, None, measure)
        affordable = plan.allocation.tokens
    return plan, min(tokens, affordable)


def _batch(config: PretrainConfig, tokens: float, advised_tokens: float) -> tuple[int, str]:
    """Sequences in a step, and why. ValueError where one step would take more than the run."""
    sequences = tokens / config.length
    if config.batch:
        if config.batch > math.ceil(sequences):
            raise ValueError(
                f"a batch of {config.batch:,} sequences of {config.length:,} tokens is more than the {short(tokens)} "
                f"tokens of the run: give at most {math.ceil(sequences):,}, or more tokens"
            )
        return config.batch, "as given"
    advised = max(round(advised_tokens / config.length), 1)
    most = max(int(sequences / LEAST_STEPS), 1)
    if advised <= most:
        return advised, RULES[RULE].source
    advice = f"{RULES[RULE].source} says {advised}"
    if sequences < LEAST_STEPS:
        return most, f"{advice}; the fewest, as the tokens are too few for {LEAST_STEPS} steps"
    return most, f"{advice}; so many that there are at least {LEAST_STEPS} steps"


def _rate(config: PretrainConfig, advised: float) -> tuple[float, str]:
    """The peak learning rate, and why. `advised` was fitted with AdamW, whose rates serve Muon too; to others it says
    nothing. Prolonged to runs of minutes, the rule asks for more than those can use."""
    optimizer = config.train.optimizer
    if config.rate:
        return config.rate, "as given"
    if isinstance(optimizer, AdamW | Muon) and optimizer.rate is None:
        most = f"; at most {HIGHEST_RATE:g}, where runs of minutes learn best"
        return min(advised, HIGHEST_RATE), f"{RULES[RULE].source}{most}"
    if optimizer.rate == type(optimizer)().rate:
        return peak_rate(optimizer), f"what {optimizer.kind} has by default: the rule for rates is Adam's"
    return peak_rate(optimizer), "the optimizer's, as given"


def _warmup(schedule: Schedule, steps: int) -> tuple[int, str]:
    """The steps of warm-up, and why."""
    if schedule.warmup is not None:
        return schedule.warmup, "the schedule's, as given"
    half = max(steps // 2, 1)
    if half < LEAST_WARMUP:
        return half, "half of the steps, at least one, as they are few"
    return max(round(WARMUP * steps), LEAST_WARMUP), f"{WARMUP:.0%} of the steps, at least {LEAST_WARMUP}"


def _plan(config: PretrainConfig, vocabulary: int, tokens: float | None, measure: Measure | None) -> Plan:
    request = PlanConfig(
        hours=None if config.minutes is None else config.minutes / 60,
        params=config.parameters,
        tokens=tokens,
        model=config.family,
        vocabulary=vocabulary,
        numbers="float32" if config.train.precision == "float32" else "mixed",
        layout=Layout(sequences=MEASURED_SEQUENCES, length=config.length),
    )
    try:
        return make_plan(request, measure)
    except TooFewParametersError:
        if config.minutes is None or config.parameters is not None or config.tokens is not None:
            raise
        # Minutes that buy less than the smallest model are spent on that one.
        least = float(FAMILIES[config.family].smallest(vocabulary, config.length))
        return make_plan(replace(request, params=least, tokens=None), measure)
