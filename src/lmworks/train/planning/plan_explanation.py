"""A plan in words: every number with its reason. Free of torch."""

from dataclasses import dataclass

from lmworks.model.model_costs import count_parameters
from lmworks.train.planning.compute import DEVICES, inner_parameters, train_flops_per_token
from lmworks.train.planning.hyperparameters import RULES, Suggestion, critical_batch_tokens
from lmworks.train.planning.plan import THIS_MACHINE, Plan, worst_loss
from lmworks.train.planning.scaling_laws import LAWS, ParametricLaw, find_law
from lmworks.train.planning.units import readable_bytes, readable_hours, short


@dataclass(frozen=True)
class Line:
    """A number of the plan, in words, with its reason."""

    name: str
    value: str
    why: str


def allocation_lines(plan: Plan) -> list[Line]:
    """Parameters, tokens and operations, and the law that they follow from."""
    allocation, name = plan.allocation, plan.request.law
    law = find_law(name).law
    best = law.allocate(allocation.flops)
    ratio, best_ratio = allocation.tokens / allocation.parameters, best.tokens / best.parameters

    def why(key: str) -> str:
        if key in plan.given:
            return "given, or what the hours or the money buy" if key == "flops" else "given"
        return f"by the law {name}" if len(plan.given) == 1 else "C = 6 N D"

    counted = "" if law.counts == "all" else "; this law counts no embeddings"
    lines = [
        Line("operations", f"{allocation.flops:.3g} FLOPs", why("flops") + ": 6 for each parameter and token"),
        Line("parameters", short(allocation.parameters), why("parameters") + counted),
        Line("tokens", short(allocation.tokens), why("tokens")),
        Line("tokens per parameter", f"{ratio:.3g}", f"{best_ratio:.3g} is best for these operations by {name}"),
        *_doubt_lines(plan),
    ]
    if allocation.loss is None and isinstance(law, ParametricLaw):
        vocabulary, worst = plan.config.embedding.vocabulary, worst_loss(plan.config)
        loss = law.loss(allocation.parameters, allocation.tokens)
        beyond = (
            f"the law says {loss:.2f}, more than the ln({vocabulary:,}) = {worst:.2f} of a model that has learnt "
            "nothing: the run is smaller than any that it was fitted on"
        )
        return [*lines, Line("loss", "unknown", beyond)]
    if allocation.loss is None or best.loss is None:
        return lines
    other = "nats per token of the text that the law was fitted on; with yours, good for comparisons only"
    lines.append(Line("loss", f"{allocation.loss:.3f}", other))
    if allocation.loss > best.loss + 5e-4:
        reached = f"{short(best.parameters)} parameters on {short(best.tokens)} tokens, with the same operations"
        lines.append(Line("loss at the best ratio", f"{best.loss:.3f}", reached))
    return lines


def _doubt_lines(plan: Plan) -> list[Line]:
    """Doubts about the law of a sweep, where that decides."""
    law, vocabulary = find_law(plan.request.law), plan.config.embedding.vocabulary
    lines = [Line("the law is", "doubtful", doubt) for doubt in law.doubts]
    if law.vocabulary is not None and law.vocabulary != vocabulary:
        mend = "" if plan.shape is None else f": give --vocabulary {law.vocabulary}"
        other = f"the plan has {vocabulary:,}, with which texts make other tokens and models have other sizes"
        lines.append(Line("the law's vocabulary", f"{law.vocabulary:,}", other + mend))
    return lines


def law_lines(plan: Plan) -> list[Line]:
    """The advice of each published law for the same operations, and custom where that decides."""
    lines = []
    for name, published in (LAWS | {plan.request.law: find_law(plan.request.law)}).items():
        advice = published.law.allocate(plan.allocation.flops)
        value = f"{short(advice.parameters)} on {short(advice.tokens)}"
        lines.append(Line(name, value, f"{published.source}: {published.note}"))
    return lines


def shape_lines(plan: Plan) -> list[Line]:
    """The architecture, with the rule behind each number; for a published size, its source."""
    if plan.shape is not None:
        return [Line(*reason) for reason in plan.shape.reasons]
    from lmworks.model.presets.sizes import SIZES

    source = SIZES[plan.request.model].source
    return [Line("parameters", f"{count_parameters(plan.config):,}", f"{plan.request.model}: {source}")]


def layout_lines(plan: Plan) -> list[Line]:
    """Devices and batch."""
    layout = plan.layout
    degrees = {name: getattr(layout, name) for name in ("data", "tensor", "pipeline", "context")}
    product = " × ".join(f"{name} {degree}" for name, degree in degrees.items() if degree > 1) or "no parallelism"
    batch = f"{layout.sequences} × {layout.length:,} tokens, {layout.micro_batches} × {layout.data} of them a step"
    least = min(advice.batch_tokens for _, _, advice in _advice(plan))
    if layout.tokens_per_step < least / 2:
        batch += (
            f"; small: raise micro_batches or data to come near the {short(least)} and more that the rules below say"
        )
    steps = plan.allocation.tokens / layout.tokens_per_step
    return [
        Line("devices", f"{layout.devices:,}", product),
        Line("batch", f"{short(layout.tokens_per_step)} tokens", batch),
        Line("steps", f"{steps:,.0f}", "tokens over batch"),
    ]


_MEMORY_REASONS = {
    "weights": "as the forward reads them",
    "gradients": "one for each weight",
    "optimizer": "its values, and the copy of the weights in float32 where there is one",
    "gathered weights": "of two blocks and of both ends at a time (ZeRO 3)",
    "gradients of a block": "before they are summed and divided (ZeRO 2 and 3)",
    "activations: norms": "inputs and outputs of the norms",
    "activations: attention": "queries, keys, values, and what attention gives; no scores",
    "activations: cross-attention": "the same for the encoder's output",
    "activations: feed-forward": "what is before and behind the activation function",
    "activations: block inputs": "from which a block is computed again",
    "activations: final norm": "its input and output",
    "activations: further tokens": "norms and joined vectors of the steps ahead, whose blocks are in the lines above",
    "working block": "what one block computes again, and gradients passing through it, beyond the room of the loss",
    "loss": "in float32: probabilities and gradients of the logits that exist at a time",
}


def memory_lines(plan: Plan) -> list[Line]:
    """One device, the fullest of a pipeline, at the peak of a step."""
    memory = plan.memory
    lines = []
    for part, size in memory.parts.items():
        share = f"{size / memory.total:.0%}"
        lines.append(Line(part, readable_bytes(size), f"{share}; {_MEMORY_REASONS[part]}"))
    limit = DEVICES.get(plan.request.device)
    fits = ""
    if limit is not None:
        room = memory.total / limit.memory
        fits = f"{room:.0%} of {limit.name}: " + ("it fits" if room < 0.95 else _smaller(plan, limit.memory)) + ". "
    lines.append(Line("in all", readable_bytes(memory.total), fits + "; ".join(memory.notes)))
    return lines


def _smaller(plan: Plan, limit: float) -> str:
    """Ways to save memory, the cheapest first; none that saves activations where even without them it is too much."""
    layout = plan.layout
    if plan.memory.states >= 0.95 * limit:
        if layout.zero < 3 and layout.shards > 1:
            return f"too much even without activations; try zero={layout.zero + 1}"
        return (
            "too much even without activations; divide weights, gradients and optimizer among more devices: data with "
            "zero=3, tensor up to 8, then pipeline"
        )
    if layout.recompute == "nothing":
        return "too much; try recompute=selective, then recompute=blocks"
    if layout.zero < 3 and layout.shards > 1:
        return f"too much; try zero={layout.zero + 1}"
    if layout.sequences > 1:
        return "too much; try fewer sequences and more micro_batches"
    return "too much; take more devices: data with zero=3, tensor up to 8, then pipeline"


_SENT = {
    "data": "gradients, and weights with ZeRO",
    "tensor": "hidden states in each layer: keep these devices close",
    "pipeline": "hidden states to the next stage, gradients back",
    "context": "keys and values around the ring",
    "expert": "tokens to their experts and back",
}


def communication_lines(plan: Plan) -> list[Line]:
    """Bytes that the device sends in a step; nothing for a device alone."""
    return [Line(part, readable_bytes(size), _SENT[part]) for part, size in plan.communication.items()]


def time_lines(plan: Plan) -> list[Line]:
    """Time and price of the run."""
    flops = train_flops_per_token(plan.config, plan.layout.length)
    lines = [Line("operations per token", f"{flops:.3g}", "forward and backward, with queries times keys in full")]
    if plan.speed is None or plan.duration is None:
        return [*lines, Line("time", "unknown", plan.unmeasured)]
    lines.append(Line("speed of a device", f"{plan.speed.rate / 1e12:,.3g} TFLOP/s", plan.speed.source))
    duration = plan.duration
    where = "this machine" if plan.request.device == THIS_MACHINE else f"{plan.layout.devices:,} {plan.request.device}"
    if plan.request.device == THIS_MACHINE and plan.layout.devices > 1:
        where = f"{plan.layout.devices:,} machines like this one"
    lines.append(Line("time", readable_hours(duration.hours), f"on {where}, without waiting for data or each other"))
    if plan.layout.devices > 1:
        digits = 0 if duration.device_hours >= 10 else 2
        lines.append(Line("device hours", f"{duration.device_hours:,.{digits}f}", "devices × hours"))
    if duration.cost is not None:
        lines.append(Line("cost", f"{duration.cost:,.0f}", f"at {plan.request.price:g} for a device and an hour"))
    return lines


def hyperparameter_lines(plan: Plan) -> list[Line]:
    """Learning rate and batch to begin a search with, by each rule."""
    lines = []
    for name, counted, advice in _advice(plan):
        value = f"rate {advice.learning_rate:.2g}, batch {short(advice.batch_tokens)}"
        head = ", the head's projection included" if RULES[name].with_head else ""
        lines.append(
            Line(name, value, f"{RULES[name].source}; from {short(counted)} parameters without embeddings{head}")
        )
    if plan.allocation.loss is not None:
        tokens = short(critical_batch_tokens(plan.allocation.loss))
        why = "at the loss above: larger batches save few steps (Kaplan et al. 2020, equation 1.4)"
        lines.append(Line("critical batch", f"{tokens} tokens", why))
    return lines


def _advice(plan: Plan) -> list[tuple[str, float, Suggestion]]:
    """The suggestion of each rule, and the parameters that it was given."""
    inner, projection = inner_parameters(plan.config), plan.config.embedding.vocabulary * plan.config.embedding.width
    counted = {name: float(inner + (projection if rule.with_head else 0)) for name, rule in RULES.items()}
    return [(name, count, RULES[name].suggest(count, plan.allocation.tokens)) for name, count in counted.items()]


SECTIONS = {
    "budget": allocation_lines,
    "the same operations by each law: parameters on tokens": law_lines,
    "shape": shape_lines,
    "layout": layout_lines,
    "memory of one device": memory_lines,
    "sent by one device in a step": communication_lines,
    "time": time_lines,
    "peak learning rate and tokens of a batch to begin with": hyperparameter_lines,
}
