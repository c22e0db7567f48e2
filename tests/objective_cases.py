"""What must hold for every objective, whatever it asks: the tests of each call these."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from lmworks.data.batching import PADDING, Batch
from lmworks.model.transformer import Transformer
from lmworks.train.objectives.objective import Objective, part_of, rows_of

TOLERANCE = {"rtol": 2e-4, "atol": 2e-5}  # float32 sums in another order


def means_and_gradients(model: Transformer, objective: Objective, examples: Any) -> tuple[dict[str, float], list[Any]]:
    """The mean of each loss, and the gradients of their sum, as the loop takes them of one part."""
    model.zero_grad(set_to_none=True)
    losses = objective.losses(model, examples)
    counts = objective.counts(examples)
    assert {name: loss.count for name, loss in losses.items()} == counts
    sum(loss.sum / counts[name] for name, loss in losses.items()).backward()  # type: ignore[union-attr]
    means = {name: float(loss.sum.detach()) / counts[name] for name, loss in losses.items()}
    return means, [None if p.grad is None else p.grad.clone() for p in model.parameters()]


def check_parts(model: Transformer, objective: Objective, batch: Batch, seed: int = 3) -> None:
    """Parts of a batch have the batch's losses and gradients, and rows in another order have them too: what is drawn
    for a row does not depend on its neighbours."""
    examples = objective.examples(batch, seed)
    counts = objective.counts(examples)
    whole, gradients = means_and_gradients(model, objective, examples)
    model.zero_grad(set_to_none=True)
    sums = dict.fromkeys(counts, 0.0)
    for row in range(rows_of(examples)):
        losses = objective.losses(model, part_of(examples, slice(row, row + 1)))
        total = sum(loss.sum / counts[name] for name, loss in losses.items())
        if isinstance(total, torch.Tensor) and total.requires_grad:
            total.backward()
        for name, loss in losses.items():
            sums[name] += float(loss.sum.detach())
    for name, mean in whole.items():
        torch.testing.assert_close(sums[name] / counts[name], mean, **TOLERANCE)
    for parameter, gradient in zip(model.parameters(), gradients, strict=True):
        if gradient is not None:
            torch.testing.assert_close(parameter.grad, gradient, **TOLERANCE)
    order = torch.arange(len(batch) - 1, -1, -1)
    other = objective.examples(replace(batch, **{name: getattr(batch, name)[order] for name in batch.__slots__}), seed)
    again, _ = means_and_gradients(model, objective, other)
    for name, mean in whole.items():
        torch.testing.assert_close(again[name], mean, **TOLERANCE)


def check_padding(model: Transformer, objective: Objective, batch: Batch, more: int = 5, seed: int = 3) -> None:
    """Padding behind every row changes nothing."""
    whole, gradients = means_and_gradients(model, objective, objective.examples(batch, seed))
    padded, others = means_and_gradients(model, objective, objective.examples(pad(batch, more), seed))
    for name, mean in whole.items():
        torch.testing.assert_close(padded[name], mean, **TOLERANCE)
    for ours, theirs in zip(gradients, others, strict=True):
        torch.testing.assert_close(ours, theirs, **TOLERANCE)


def pad(batch: Batch, more: int) -> Batch:
    """The batch with `more` places of padding behind each row."""

    def longer(tensor: torch.Tensor, value: int) -> torch.Tensor:
        return torch.nn.functional.pad(tensor, (0, more), value=value)

    return replace(
        batch,
        ids=longer(batch.ids, 0),
        positions=longer(batch.positions, 0),
        documents=longer(batch.documents, PADDING),
        targets=longer(batch.targets, 0),
        mask=longer(batch.mask, False),
    )


def check_packing(
    model: Transformer, objective: Objective, packed: Batch, alone: Callable[[], list[Batch]], seed: int = 3
) -> None:
    """Documents packed into rows have the losses and gradients of each alone in its row. For objectives that draw
    nothing at random: what another row draws is something else."""
    whole, gradients = means_and_gradients(model, objective, objective.examples(packed, seed))
    batches = [objective.examples(batch, seed) for batch in alone()]
    counts = {name: sum(objective.counts(batch)[name] for batch in batches) for name in whole}
    model.zero_grad(set_to_none=True)
    for batch in batches:
        sum(loss.sum / counts[name] for name, loss in objective.losses(model, batch).items()).backward()  # type: ignore[union-attr]
    assert counts == objective.counts(objective.examples(packed, seed))
    for parameter, gradient in zip(model.parameters(), gradients, strict=True):
        if gradient is not None:
            torch.testing.assert_close(parameter.grad, gradient, **TOLERANCE)
