"""The protocol of an objective, what it may draw at random, and functions on its examples, whatever they hold."""

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, replace
from itertools import pairwise
from typing import Any, ClassVar, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from lmworks.data.batches import PADDING, Batch
from lmworks.model.heads import VocabularyHead
from lmworks.model.transformer import Transformer
from lmworks.train.losses import Loss, token_cross_entropy

Examples = TypeVar("Examples")
TOGETHER = 4096  # padded tokens of a forward, where rows are sorted by their lengths


class Objective(Protocol[Examples]):
    """Two pure functions. The first runs next to the training, on the CPU; the second on the model's device.

    Examples are a dataclass of tensors (or None, or names → tensors) with one row for each sequence or group, so that a
    micro-batch is a slice of them.

    splits_sequences     rows may be cut along their tokens, as the loss at each reads its own hidden state alone;
                         context parallelism needs it
    reads_hidden_states  it is an `OnHiddenStates`; a pipeline needs it
    unit                 of the loss; "" where it has none
    """

    __slots__ = ()
    splits_sequences: ClassVar[bool] = False
    reads_hidden_states: ClassVar[bool] = False
    unit: ClassVar[str] = "nats per target"

    def examples(self, batch: Any, seed: int) -> Examples:
        """The examples of `batch`, a `data.batching.Batch` or what else the loader gives: the batch itself, unless an
        objective makes others of it.

        What is drawn at random depends on the seed and on each row's own numbers (`Batch.sources`, `Batch.sequences`)
        alone: not on the rows next to it."""
        return batch

    def counts(self, examples: Examples) -> Mapping[str, int]:
        """The number of targets that each of the objective's losses has in these examples."""
        ...

    def losses(self, model: Transformer, examples: Examples) -> Mapping[str, Loss]:
        """The losses, each a sum over its targets. What is minimised is the sum of their means over the step."""
        ...

    def loss_weights(self) -> Mapping[str, float]:
        """The weights, in what is minimised, of losses that do not weigh 1. Their sums hold it, their nats do not."""
        return {}


class OnHiddenStates(Objective[Examples]):
    """An objective that reads its losses off the last hidden states: a pipeline takes its two steps on different
    devices. Its examples have the model's input as `ids`, (batch, length) int64."""

    __slots__ = ()
    reads_hidden_states: ClassVar[bool] = True

    @abstractmethod
    def hidden(self, model: Transformer, examples: Examples) -> Tensor:
        """The hidden states (batch, length, width) of the examples, in one forward."""

    @abstractmethod
    def losses_of(self, model: Transformer, hidden: Tensor, examples: Examples) -> Mapping[str, Loss]:
        """The losses, from what `hidden` gave: of the model they take the head and the token embedding alone."""

    def losses(self, model: Transformer, examples: Examples) -> Mapping[str, Loss]:
        """See `Objective`; the errors are those of the two steps."""
        return self.losses_of(model, self.hidden(model, examples), examples)


class TokenPrediction(OnHiddenStates[Examples]):
    """An objective that predicts the `targets` of its examples at the places of their `mask`, both (batch, length),
    from the hidden states there.

    predicted  the name of the loss
    label_smoothing  and `z_loss` as in `losses.cross_entropy`
    """

    __slots__ = ()
    predicted: ClassVar[str]
    label_smoothing: float
    z_loss: float

    def counts(self, examples: Any) -> Mapping[str, int]:
        return {self.predicted: int(examples.mask.sum())}

    def losses_of(self, model: Transformer, hidden: Tensor, examples: Any) -> Mapping[str, Loss]:
        smoothing = {"label_smoothing": self.label_smoothing, "z_loss": self.z_loss}
        return {self.predicted: predict_tokens(model, hidden, examples.targets, examples.mask, **smoothing)}


def predict_tokens(
    model: Transformer,
    hidden: Tensor,
    targets: Tensor,
    mask: Tensor,
    *,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
) -> Loss:
    """Cross-entropy of the model's own head, at the positions where `mask` is set and nowhere else.

    `hidden` (batch, length, width), `targets` (batch, length) int64, `mask` (batch, length) bool. TypeError for a model
    whose head does not project to the vocabulary.
    """
    head = model.head
    if not isinstance(head, VocabularyHead):
        raise TypeError(f"this objective predicts tokens, and the model's head is {model.config.head}")
    loss = token_cross_entropy(
        head.features(hidden[mask]),  # (targets, width)
        head.projection_to_vocabulary(model.tokens),
        targets[mask],
        label_smoothing=label_smoothing,
        z_loss=z_loss,
    )
    return Loss(loss.sum, len(loss.nats), {"nats": loss.nats.sum()})


def generator_of(seed: int, source: int, sequence: int, piece: int = 0) -> np.random.Generator:
    """The random numbers of one sequence of a source, or of one piece of it, at one visit: the same in any batch.

    `seed` says which visit it is; the loop counts it up with the batches.
    """
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(source, sequence, piece))))


def pieces_of(batch: Batch, apart: bool = True) -> Iterator[tuple[int, slice, tuple[int, int, int]]]:
    """(row, where in it, source, sequence and number, as `generator_of` takes them) of each piece of a document in a
    batch; without `apart` all that is no padding in a row is one piece."""
    keys = zip(batch.sources.tolist(), batch.sequences.tolist(), strict=True)
    for row, (documents, (source, sequence)) in enumerate(zip(batch.documents.cpu().numpy(), keys, strict=True)):
        real = int((documents != PADDING).sum())
        borders = np.flatnonzero(np.diff(documents[:real])) + 1 if apart else []
        edges = [0, *borders, real] if real else []
        for number, (start, stop) in enumerate(pairwise(edges)):
            yield row, slice(start, stop), (source, sequence, number)


def select_rows(examples: Examples, rows: slice | Tensor) -> Examples:
    """Some rows of the examples."""
    return _map(examples, lambda tensor: tensor[rows])


def micro_batches(examples: Examples, size: int) -> list[Examples]:
    """The examples in parts of at most `size` rows, at least one."""
    rows = count_rows(examples)
    if size >= rows:
        return [examples]
    return [select_rows(examples, slice(start, start + size)) for start in range(0, rows, size)]


def count_rows(examples: Any) -> int:
    return next(len(value) for field in fields(examples) if (value := getattr(examples, field.name)) is not None)


def to_device(examples: Examples, device: torch.device | str) -> Examples:
    return _map(examples, lambda tensor: tensor.to(device, non_blocking=True))


def rows_by_length(lengths: Tensor) -> Iterator[tuple[Tensor, int]]:
    """Numbers of rows of nearly one length, the longest first, and how long the longest of them is, at least 2, for
    forwards of `TOGETHER` tokens, few of which are padding. `lengths` (rows,) int64."""
    descending, order = lengths.sort(descending=True, stable=True)
    start = 0
    while start < len(order):
        longest = max(int(descending[start]), 2)
        rows = order[start : start + max(TOGETHER // longest, 1)]
        yield rows, longest
        start += len(rows)


def _map(examples: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """The examples with each tensor changed, also those of a mapping from names to tensors."""

    def changed(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {name: change(tensor) for name, tensor in value.items()}
        return change(value) if isinstance(value, Tensor) else value

    return replace(examples, **{field.name: changed(getattr(examples, field.name)) for field in fields(examples)})
