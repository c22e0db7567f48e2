"""Small models in double precision, and what one process computes with them: what a divided model must give as well.

In double precision, sums in another order differ by 1e-13 of their size or so, and no wrong gradient hides in that.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.tensor import DTensor

from lmworks.adapt.task_head import with_further_tokens
from lmworks.data.batches import PADDING, Batch
from lmworks.model import config as configs
from lmworks.model.presets import (
    bart,
    bert,
    gemma2,
    gopher,
    gpt2,
    gpt_neox,
    llama,
    mistral,
    mixtral,
    qwen3,
    spanbert,
    switch,
    t5,
)
from lmworks.model.presets.decoders import change_attention
from lmworks.model.transformer import Transformer
from lmworks.train.objectives.causal import CausalLanguageModel
from lmworks.train.objectives.corruption_vocabulary import Vocabulary
from lmworks.train.objectives.masked import MaskedLanguageModel
from lmworks.train.objectives.multi_token_prediction import MultiTokenPrediction
from lmworks.train.objectives.objective import Objective
from lmworks.train.objectives.prefix import PrefixLanguageModel
from lmworks.train.objectives.span_boundary import SpanBoundary
from lmworks.train.objectives.span_corruption import SpanCorruption

VOCABULARY = 67  # divisible by nothing
LENGTH = 32
_NORM = configs.Norm("layer", 1e-5)
_MASKED = configs.MaskedLanguageModelHead("gelu", _NORM)
_LLAMA = llama(VOCABULARY, 16, 2, heads=4, kv_heads=2, hidden=24, context_length=LENGTH)


def _positioned(position: Any) -> configs.ModelConfig:
    return change_attention(_LLAMA, lambda attention, _: replace(attention, position=position))


MODELS: dict[str, configs.ModelConfig] = {
    "llama": _LLAMA,
    "llama, biases and scales": llama(
        VOCABULARY, 16, 2, 4, 4, 24, LENGTH, attention_bias=True, feed_forward_bias=True, tied=True
    ),
    "gpt2": gpt2(VOCABULARY, 16, 2, 4, context_length=LENGTH),
    "gpt_neox": gpt_neox(VOCABULARY, 32, 2, 4, 24),
    "qwen3": qwen3(VOCABULARY, 16, 2, 4, 2, 24, LENGTH, head_dim=8),
    "gemma2": gemma2(VOCABULARY, 16, 2, 4, 2, 24, LENGTH, head_dim=8, window=5),
    "mistral": mistral(VOCABULARY, 16, 2, 4, 2, 24, LENGTH, window=6),
    "sinks": change_attention(_LLAMA, lambda attention, _: replace(attention, sinks=True)),
    "alibi": _positioned(configs.Alibi()),
    "relative bias of a layer": _positioned(configs.RelativeBias(8, 16)),
    "shaw": _positioned(configs.Shaw(5)),
    "gopher": gopher(VOCABULARY, 16, 2, 4, 24, LENGTH),
    "mixtral": mixtral(VOCABULARY, 16, 2, 4, 2, 24, LENGTH, experts=4),
    "multi-token": with_further_tokens(_LLAMA),
    "bert": bert(VOCABULARY, 16, 2, 4, 24, LENGTH, head=_MASKED),
    "spanbert": spanbert(VOCABULARY, 16, 2, 4, 24, LENGTH, max_span=4),
    "t5": t5(VOCABULARY, 16, 2, 4, 24, head_dim=8, buckets=8),
    "bart": bart(VOCABULARY, 16, 2, 4, 24, context_length=LENGTH),
    "switch": switch(VOCABULARY, 16, 2, 4, 24, experts=4, head_dim=8, capacity=4),
}


def new_model(name: str, seed: int = 0) -> Transformer:
    """With every weight at random: zeros of biases, sinks and tables would hide what is wrong with them."""
    model = Transformer(MODELS[name]).double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return model


def objective_of(name: str) -> Objective[Any]:
    vocabulary = Vocabulary(VOCABULARY - 1, np.arange(VOCABULARY) < VOCABULARY - 2)
    match name:
        case "bert":
            return MaskedLanguageModel(vocabulary)
        case "spanbert":
            return SpanBoundary(vocabulary, rate=0.3, max_span=4, places=4)
        case "t5" | "bart" | "switch":
            return SpanCorruption(tuple(range(VOCABULARY - 9, VOCABULARY - 1)), VOCABULARY - 1)
        case "multi-token":
            return MultiTokenPrediction()
        case "prefix":
            return PrefixLanguageModel()
        case "llama, biases and scales":
            return CausalLanguageModel(label_smoothing=0.1, z_loss=0.01)
        case _:
            return CausalLanguageModel()


def new_batch(rows: int = 3, length: int = LENGTH, seed: int = 0) -> Batch:
    """Rows of several documents each, of which positions start afresh, and padding behind the last of some rows."""
    generator = np.random.default_rng(seed)
    ids = torch.from_numpy(generator.integers(0, VOCABULARY - 9, (rows, length)))
    documents, positions = torch.full((rows, length), PADDING), torch.zeros(rows, length, dtype=torch.int64)
    for row in range(rows):
        ends = sorted(generator.choice(np.arange(4, length - 4), 2, replace=False).tolist())
        borders = [0, *ends, length - 3 * (row % 2)]
        for number, (start, stop) in enumerate(pairwise(borders)):
            documents[row, start:stop] = 10 * row + number
            positions[row, start:stop] = torch.arange(stop - start)
    targets = torch.roll(ids, -1, 1)
    later = torch.nn.functional.pad(documents[:, 1:], (0, 1), value=PADDING)
    mask = (documents == later) & (documents != PADDING)
    number = torch.arange(rows)
    return Batch(ids, positions, documents, targets, mask, torch.zeros_like(number), number)


@dataclass
class Taken:
    """Of one step: the mean of each loss, and the gradient of their sum by each weight, whole."""

    losses: dict[str, float]
    gradients: dict[str, Tensor]


def take(
    model: Transformer,
    objective: Objective[Any],
    examples: Any,
    over: dist.ProcessGroup | None = None,
    whole: Callable[[str, Tensor], Tensor] = lambda name, gradient: gradient,
) -> Taken:
    """Losses and gradients as the loop takes them: sums of losses, divided by the counts of all ranks of `over`, which
    hold other tokens; `whole` makes a gradient whole that is not divided as a DTensor."""
    model.zero_grad(set_to_none=True)
    counts = dict(objective.counts(examples))
    if over is not None:
        counts = {name: int(summed(torch.tensor(count), over)) for name, count in counts.items()}
    found = objective.losses(model, examples)
    sum(loss.sum / counts[name] for name, loss in found.items()).backward()  # type: ignore[union-attr]
    losses = {name: loss.metrics["nats"].detach() for name, loss in found.items()}
    if over is not None:
        losses = {name: summed(loss, over) for name, loss in losses.items()}
    gradients = {}
    for name, weight in model.named_parameters():
        gradient = torch.zeros_like(weight) if weight.grad is None else weight.grad
        if isinstance(weight, DTensor):
            assert isinstance(gradient, DTensor)
            assert gradient.placements == weight.placements, name
        gradient = whole(name, gradient)
        gradients[name] = gradient.full_tensor() if isinstance(gradient, DTensor) else gradient
    return Taken({name: float(loss) / counts[name] for name, loss in losses.items()}, gradients)


def summed(value: Tensor, group: dist.ProcessGroup) -> Tensor:
    """Over a group that is not the one which divides it, where it is a DTensor."""
    value = value.clone()
    dist.all_reduce(value.to_local() if isinstance(value, DTensor) else value, group=group)
    return value


def check_same(taken: Taken, expected: Taken) -> None:
    assert taken.gradients.keys() == expected.gradients.keys()
    for name, loss in expected.losses.items():
        np.testing.assert_allclose(taken.losses[name], loss, rtol=1e-12)
    largest = max(float(gradient.abs().max()) for gradient in expected.gradients.values())
    for name, gradient in expected.gradients.items():
        assert gradient.any() or ".experts." in name, f"{name} has no gradient: nothing is shown of it"
        # Without rotation the bias of a key moves all scores of a query alike: its gradient is a sum of roundings.
        torch.testing.assert_close(
            taken.gradients[name],
            gradient,
            rtol=1e-10,
            atol=1e-13 * largest,
            msg=lambda text, name=name: f"{name}: {text}",
        )


def held(model: Transformer, belongs: Callable[[str], bool] = lambda name: True) -> int:
    """Values of weights that this process holds, by its memory."""
    parts = {}
    for name, weight in model.named_parameters():
        part = weight.to_local() if isinstance(weight, DTensor) else weight
        if belongs(name):
            assert part.untyped_storage().nbytes() == part.nbytes, f"{name} holds on to what is not its own"
            parts[part.data_ptr()] = part.numel()
    return sum(parts.values())
