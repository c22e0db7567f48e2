"""Log-probabilities of completions under a policy or a reference: what every method of alignment is made of."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lmworks.data.token_groups import GroupBatch, TokenGroups
from lmworks.model.heads import VocabularyHead
from lmworks.model.transformer import Transformer
from lmworks.progress import Report, no_report
from lmworks.train.losses import token_log_probabilities

_TOGETHER = 4096  # padded tokens of a forward: sequences of nearly one length, so that little of it is padding
_ROWS = 16  # of which the reference's log-probabilities are computed together


class Sequences(NamedTuple):
    """Sequences of all groups of a batch.

    ids   (sequences, length) int64
    mask  (sequences, length) bool: the completion's tokens, each of which follows from those before it
    real  (sequences,) int64: tokens without padding, which stands behind them
    """

    ids: Tensor
    mask: Tensor
    real: Tensor


def sequences_of(batch: GroupBatch) -> Sequences:
    """The sequences that are there, in order."""
    present = batch.attention_mask.any(-1)  # (groups, size)
    return Sequences(batch.ids[present], batch.completion_mask[present], batch.lengths[present])


def completion_log_probabilities(model: Transformer, sequences: Sequences, temperature: float = 1.0) -> Tensor:
    """ln p of each token of a completion, (sequences, length), 0 elsewhere; differentiable.

    The logits are divided by `temperature`, so that they are those of the distribution that was sampled from. Padding
    stands behind, where causal attention does not see it. TypeError for a model whose head does not predict tokens.
    """
    return log_probabilities_and_values(model, sequences, temperature, None)[0]


def pair_sums(model: Transformer, pairs: GroupBatch) -> tuple[Tensor, Tensor]:
    """Σ ln p of chosen and rejected completions, and how many tokens each has, (pairs, 2) both."""
    sequences = sequences_of(pairs)
    sums = completion_log_probabilities(model, sequences).sum(-1)
    return sums.view(-1, 2), sequences.mask[:, 1:].sum(-1).view(-1, 2)


def log_probabilities_and_values(
    model: Transformer, sequences: Sequences, temperature: float, critic: nn.Module | None
) -> tuple[Tensor, Tensor]:
    """ln p as above, and the critic's value of what stands before each token of a completion, (sequences, length) both,
    from one forward; all 0 without a critic."""
    head = model.head
    if not isinstance(head, VocabularyHead):
        raise TypeError(f"a policy predicts tokens, and the model's head is {model.config.head}")
    projection = head.projection_to_vocabulary(model.tokens)
    if temperature != 1.0 and (projection.softcap or projection.bias is not None):
        raise ValueError("a temperature other than 1 is of models without a bias and a soft cap of the logits")
    wanted = sequences.mask[:, 1:]
    rows_of, found, valued = [], [], []
    for rows, longest in by_length(sequences.real):
        mask = wanted[rows, : longest - 1]
        hidden = model.hidden(sequences.ids[rows, :longest])[:, :-1]  # (rows, longest - 1, width)
        chosen = hidden[mask]  # (targets, width)
        numbers = token_log_probabilities(
            head.features(chosen) / temperature, projection, sequences.ids[rows, 1:longest][mask]
        )
        found.append(_placed(numbers, mask, sequences.ids.shape[1]))
        if critic is not None:
            valued.append(_placed(critic(chosen)[:, 0].to(numbers), mask, sequences.ids.shape[1]))
        rows_of.append(rows)
    order = torch.cat(rows_of).argsort()
    log_probabilities = torch.cat(found)[order]
    return log_probabilities, torch.cat(valued)[order] if valued else torch.zeros_like(log_probabilities)


def _placed(numbers: Tensor, mask: Tensor, length: int) -> Tensor:
    """(rows, length), 0 but where `mask` (rows, shorter), which begins with the second token, has the numbers."""
    padded = numbers.new_zeros(len(mask), length)
    padded[:, 1 : mask.shape[1] + 1][mask] = numbers
    return padded


def by_length(real: Tensor) -> Iterator[tuple[Tensor, int]]:
    """Numbers of sequences of nearly one length, the longest first, and how long the longest of them is."""
    lengths, order = real.sort(descending=True, stable=True)
    start = 0
    while start < len(order):
        longest = max(int(lengths[start]), 2)
        rows = order[start : start + max(_TOGETHER // longest, 1)]
        yield rows, longest
        start += len(rows)


@torch.no_grad()
def reference_sums(
    model: Transformer, groups: TokenGroups, device: torch.device | str = "cpu", progress: Report = no_report
) -> NDArray[np.float32]:
    """Σ ln p of each sequence's completion, (sequences,), under a reference model: a column of `groups`."""
    was, found = model.training, []
    model.eval()
    for start in range(0, len(groups), _ROWS):
        numbers = range(start, min(start + _ROWS, len(groups)))
        sequences = Sequences(*(part.to(device) for part in sequences_of(groups.batch(numbers))))
        found.append(completion_log_probabilities(model, sequences).double().sum(-1).cpu().numpy())
        progress(numbers.stop, len(groups), "rows under the reference")
    model.train(was)
    return np.concatenate(found).astype(np.float32)


_DRIFT = 0.05  # nats a token: between two formats of one model it is a tenth of that


@torch.no_grad()
def check_start(model: Transformer, groups: GroupBatch, reference: str) -> None:
    """ValueError where a policy does not begin as its reference: Σ ln π is not the column `reference`, so that a ratio
    is no measure of how far the policy has come."""
    sequences = Sequences(*(part.to(model.tokens.device) for part in sequences_of(groups)))
    policy = completion_log_probabilities(model, sequences).double().sum(-1).cpu()
    expected = groups.columns[reference][groups.attention_mask.any(-1)]
    drift = ((policy - expected).abs() / sequences.mask.sum(-1).cpu()).max()
    if drift > _DRIFT:
        raise ValueError(
            f"the policy does not begin as its reference: ln p of a token differs by up to {float(drift):.2g} before "
            "the first step. Give the same weights for both: merge an adapter into its base first, and train a new one"
        )
