"""The training throughput of this machine for a model's shape, from a shallow model; measurements are cached.

One and two blocks of the model, with its embedding, head and loss, run forward and backward on the shapes that training
will have; the difference is a block's time, the rest that of the ends, and the optimizer's step comes on top. So norms,
attention and the loss are in, which a rate of matrix products alone leaves out. What else runs on the machine makes it
look slower than it is.
"""

import json
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from lmworks.artefact import hash_json, write_json
from lmworks.compiled import free_memory
from lmworks.config import from_mapping
from lmworks.model.config import Learned, ModelConfig
from lmworks.model.download import home
from lmworks.model.heads import VocabularyHead
from lmworks.model.model_costs import count_parameters
from lmworks.model.transformer import Transformer
from lmworks.progress import Report, no_report
from lmworks.train.activation_checkpointing import blocks
from lmworks.train.master_weights import Weights
from lmworks.train.objectives.objective import predict_tokens
from lmworks.train.optimizer_config import AdamW
from lmworks.train.parallel.ranks import device_of_rank
from lmworks.train.planning.compute import train_flops_per_token
from lmworks.train.planning.layout import Layout
from lmworks.train.planning.plan import Speed

_STEP_SECONDS = 1.0  # a step that would take longer is measured on fewer tokens
_SECONDS = 0.3  # of each measurement
_LEAST_PASSES = 2
_ROUNDS, _MOST_ROUNDS = 3, 12  # more than the first where something else runs next to it
_LEAST_TOKENS = 64
_BEATEN = 0.7  # of the time that was measured: clocks vary by less

_VERSION = 5  # of what is measured: an older measurement is made again

Dtype = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class Calibration:
    """Seconds of one micro-batch of `sequences` × `length` tokens on one device, and what they mean.

    block       forward and backward of one block.
    ends        of embedding, final norm, head and loss.
    update      of the optimizer's step (AdamW), per parameter.
    products    operations per second of the block's matrix products alone, forward and backward: what is reachable.
    rate        operations per second of a whole forward and backward at the model's depth.
    method      with what, in words.
    """

    sequences: int
    length: int
    layers: int
    block: float
    ends: float
    update: float
    products: float
    rate: float
    method: str

    def seconds(self, parameters: int, tokens: float, batch_tokens: float, devices: int = 1) -> float:
        """Seconds of training on `tokens`, in steps of `batch_tokens`, on so many devices like this one that never
        wait for each other."""
        forward_backward = (self.ends + self.layers * self.block) / (self.sequences * self.length)
        return tokens * forward_backward / devices + tokens / batch_tokens * parameters * self.update


def calibrate(
    config: ModelConfig,
    sequences: int = 1,
    length: int | None = None,
    dtype: Dtype = "float32",
    device: str = "cpu",
    progress: Report = no_report,
) -> Calibration:
    """Measured on this machine, or what was measured for the same shape before and kept in `$LMWORKS_HOME/calibrations`
    (default: `~/.cache/lmworks/calibrations`). Takes about five seconds; what was kept is tried for a moment, and
    measured again where this machine is much faster now: something ran next to it then.

    `sequences` × `length` (default: what the model was made for) is the micro-batch; where a step of that would be
    long, fewer tokens are measured, and `Calibration` says how many. What another program disturbed so much that
    nothing was left for the ends is given, and not kept. ValueError for a model that is no decoder or encoder alone,
    and for one of which not even two blocks fit into the memory.
    """
    if len(config.stacks) != 1:
        raise ValueError("an encoder–decoder cannot be measured like this: plan with a device and a utilisation")
    cached = kept_calibration(config, sequences, length, dtype, device)
    if cached is not None and not is_beaten(cached, config, dtype, device):
        return cached
    measured = measure(config, sequences, length or config.context_length, dtype, device, progress)
    if measured.ends:
        path = _path(config, sequences, length, dtype, device)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, asdict(measured))
    return measured


def kept_calibration(
    config: ModelConfig,
    sequences: int = 1,
    length: int | None = None,
    dtype: Dtype = "float32",
    device: str = "cpu",
) -> Calibration | None:
    """The cached measurement of `calibrate` for this shape, None where there is none."""
    path = _path(config, sequences, length, dtype, device)
    if not path.is_file():
        return None
    return from_mapping(Calibration, json.loads(path.read_text("utf-8")))


def _path(config: ModelConfig, sequences: int, length: int | None, dtype: Dtype, device: str) -> Path:
    length = min(length or config.context_length, config.context_length)
    name = torch.cuda.get_device_name() if device.startswith("cuda") else platform.processor() or platform.machine()
    machine = [device, name, platform.node(), str(torch.get_num_threads()), torch.__version__]
    key = hash_json([_VERSION, asdict(config), sequences, length, dtype, machine])
    return home() / "calibrations" / f"{key[:24]}.json"


def measured_speed(config: ModelConfig, layout: Layout, numbers: str, progress: Report = no_report) -> Speed:
    """The speed of this machine for a plan: on its first GPU, or its processor. ValueError as `calibrate`."""
    device, dtype = device_and_dtype(numbers)
    calibration = calibrate(config, layout.sequences, layout.length, dtype, device, progress=progress)
    return Speed(calibration.rate, f"measured here: {calibration.method}", whole_run=False)


def is_measured(config: ModelConfig, layout: Layout, numbers: str) -> bool:
    """Whether `measured_speed` has its answer already."""
    device, dtype = device_and_dtype(numbers)
    return kept_calibration(config, layout.sequences, layout.length, dtype, device) is not None


def device_and_dtype(numbers: str) -> tuple[str, Dtype]:
    """The device of this machine, and what a run in these `numbers` or of this precision computes in."""
    return device_of_rank().type, "float32" if numbers == "float32" else "bfloat16"


# ---------------------------------------------------------------------------------------------------------------------
# The measurement


def measure(
    config: ModelConfig, sequences: int, length: int, dtype: Dtype, device: str, progress: Report = no_report
) -> Calibration:
    """A new measurement, as `calibrate` makes it."""
    length = min(length, config.context_length)
    # Two models' weights and gradients, and the optimizer of one.
    needed = 24 * count_parameters(_first_layers(config, 2))
    if device == "cpu" and needed > (free := free_memory(torch.device(device))):
        raise ValueError(
            f"measuring two blocks takes {needed / 1e9:.0f} GB and {free / 1e9:.0f} GB are free: plan for a known "
            "device with --device"
        )
    number = getattr(torch, dtype)
    passes = Passes(device, progress)
    products = _product_rate(config, sequences * length, number, device, passes)
    sequences, length = _affordable(config, sequences, length, products)
    shallow, deeper = (_shallow(config, layers, number, device) for layers in (1, min(2, _layers(config))))
    ids = torch.randint(config.embedding.vocabulary, (sequences, length), device=device)
    ends, block = _ends_and_block(lambda: _step(shallow, ids), lambda: _step(deeper, ids), _layers(config), passes)
    weights = Weights(shallow, AdamW(), dtype)
    gradients = {name: torch.zeros_like(weight) for name, weight in weights.weights.items()}

    def step() -> None:
        for name, weight in weights.weights.items():
            weight.grad = gradients[name]
        weights.update(1.0)

    update = passes.fastest(step) / sum(gradient.numel() for gradient in gradients.values())
    layers = _layers(config)
    flops = train_flops_per_token(config, length) * sequences * length
    threads = "" if device != "cpu" else f" on {torch.get_num_threads()} threads"
    method = (
        f"PyTorch {torch.__version__}, {dtype}, {device}{threads}: forward and backward of one and of two blocks on "
        f"{sequences} × {length:,} tokens"
    )
    seconds = ends + layers * block
    return Calibration(sequences, length, layers, block, ends, update, products, flops / seconds, method)


def is_beaten(cached: Calibration, config: ModelConfig, dtype: Dtype, device: str) -> bool:
    """Whether one block now takes so much less time that something must have run next to the kept measurement."""
    model = _shallow(config, 1, getattr(torch, dtype), device)
    ids = torch.randint(config.embedding.vocabulary, (cached.sequences, cached.length), device=device)
    seconds = Passes(device, no_report).fastest(lambda: _step(model, ids), _SECONDS / 2)
    return seconds < _BEATEN * (cached.ends + cached.block)


def _ends_and_block(
    one: Callable[[], object], two: Callable[[], object], layers: int, passes: "Passes"
) -> tuple[float, float]:
    """Seconds of the ends and of a block, from those of one block and of two. A model of one layer is all ends."""
    if layers == 1:
        return passes.fastest(one), 0.0
    shallow = deep = float("inf")
    for number in range(_MOST_ROUNDS):  # in turns, so that what else runs meets both; the fastest pass of all counts
        shallow, deep = min(shallow, passes.fastest(one)), min(deep, passes.fastest(two))
        if number + 1 >= _ROUNDS and deep > shallow:
            break
    if deep >= 2 * shallow:  # the ends take next to nothing
        return 0.0, deep / 2
    if deep > shallow:
        return 2 * shallow - deep, deep - shallow
    raise ValueError(
        "two blocks were no slower than one: something else runs on this machine. Try again when it is idle, set "
        "parameters or tokens instead of a time, or let `lmworks plan` take a known --device"
    )


def _layers(config: ModelConfig) -> int:
    return len(config.stacks[-1].blocks)


def _first_layers(config: ModelConfig, layers: int) -> ModelConfig:
    stack = replace(config.stacks[-1], blocks=config.stacks[-1].blocks[:layers])
    return replace(config, decoder=stack) if config.decoder is not None else replace(config, encoder=stack)


def _shallow(config: ModelConfig, layers: int, dtype: torch.dtype, device: str) -> Transformer:
    """The model with its first layers only; its weights are small random numbers."""
    model = Transformer(_first_layers(config, layers)).to(device=device, dtype=dtype).train()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.02)
    return model


def _step(model: Transformer, ids: Tensor) -> None:
    """Forward and backward as a run has them."""
    model.zero_grad(set_to_none=True)
    if isinstance(model.head, VocabularyHead):
        loss = predict_tokens(model, model.hidden(ids), ids, torch.ones_like(ids, dtype=torch.bool))
        (loss.sum / loss.count).backward()
    else:
        model(ids).float().square().mean().backward()


def _product_rate(config: ModelConfig, tokens: int, dtype: torch.dtype, device: str, passes: "Passes") -> float:
    """Operations per second of the first block's projections: with the weights forward, with both factors backward."""
    rows = min(tokens, 2048)
    seconds = flops = 0.0
    block, width = blocks(Transformer(_first_layers(config, 1)).to("meta"))[0], config.embedding.width
    shapes = [(m.in_features, m.out_features) for m in block.modules() if isinstance(m, torch.nn.Linear)]
    for inputs, outputs in shapes or [(width, width)]:
        hidden = torch.randn(rows, inputs, device=device).to(dtype)
        weight = torch.randn(outputs, inputs, device=device).to(dtype)
        gradient = torch.randn(rows, outputs, device=device).to(dtype)

        def work(hidden: Tensor = hidden, weight: Tensor = weight, gradient: Tensor = gradient) -> None:
            torch.matmul(hidden, weight.T)
            torch.matmul(gradient, weight)
            torch.matmul(gradient.T, hidden)

        seconds += passes.fastest(work, 0.2)
        flops += 6.0 * rows * inputs * outputs
    return flops / seconds


def _affordable(config: ModelConfig, sequences: int, length: int, rate: float) -> tuple[int, int]:
    """Fewer sequences, then shorter ones, until a step of two blocks is short at the products' rate."""

    def seconds(sequences: int, length: int) -> float:
        share = min(2, _layers(config)) / _layers(config)
        return train_flops_per_token(config, length) * share * sequences * length / rate

    while sequences > 1 and seconds(sequences, length) > _STEP_SECONDS:
        sequences = max(1, sequences // 2)
    while length > _LEAST_TOKENS and seconds(sequences, length) > _STEP_SECONDS:
        length = max(_LEAST_TOKENS, length // 2)
    learned = config.embedding.positions
    return sequences, min(length, learned.length) if isinstance(learned, Learned) else length


class Passes:
    """Times what runs on a device, and reports each pass: nobody knows beforehand how many there will be."""

    def __init__(self, device: str, progress: Report) -> None:
        self.device, self.progress, self.count = device, progress, 0

    def fastest(self, work: Callable[[], object], seconds: float = _SECONDS) -> float:
        """Seconds of the fastest pass; the first, which also allocates, does not count."""
        self._pass(work)
        passes: list[float] = []
        while sum(passes) < seconds or len(passes) < _LEAST_PASSES:
            passes.append(self._pass(work))
        return min(passes)

    def _pass(self, work: Callable[[], object]) -> float:
        began = time.perf_counter()
        work()
        if self.device.startswith("cuda"):
            torch.cuda.synchronize()
        seconds = time.perf_counter() - began
        self.count += 1
        self.progress(self.count, None, "passes to measure this machine")
        return seconds
