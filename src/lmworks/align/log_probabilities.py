"""Log-probabilities of completions under a policy or a reference: what every method of alignment is made of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor, nn

from lmworks.data.token_groups import GroupBatch, TokenGroups
from lmworks.model.config import Learned
from lmworks.model.heads import VocabularyHead
from lmworks.model.masks import shared_prefixes
from lmworks.model.transformer import Transformer
from lmworks.progress import Report, no_report
from lmworks.train.losses import token_log_probabilities
from lmworks.train.objectives.objective import TOGETHER, rows_by_length, select_rows, to_device
from lmworks.train.parallel.ranks import ALONE, Ranks

_ROWS = 16  # of which the reference's log-probabilities are computed together


@dataclass(frozen=True, slots=True, eq=False)
class Sequences:
    """Prompts with completions, padded behind.

    ids      (sequences, length) int64
    mask     (sequences, length) bool: the completion's tokens, each of which follows from those before it
    lengths  (sequences,) int64: tokens without padding
    columns  of rollouts: name → (sequences, length) float32, 0 outside of `mask`: `advantages`; `sampled`, ln p of the
             distribution sampled from; where they were computed, `old`, of the policy as a trainer computes it, and
             `reference`; for a critic its `values` at the rollouts, and `returns`
    """

    ids: Tensor
    mask: Tensor
    lengths: Tensor
    columns: Mapping[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def tokens(self) -> int:
        """Places that are no padding."""
        return int(self.lengths.sum())


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


def completion_sums(model: Transformer, sequences: Sequences, temperature: float = 1.0) -> Tensor:
    """Σ ln p of each completion, (sequences,): added in float64, so that padding changes no digit, and a policy that is
    its reference has a ratio of exactly 1."""
    log_probabilities = completion_log_probabilities(model, sequences, temperature)
    return log_probabilities.double().sum(-1).to(log_probabilities.dtype)


def log_probabilities_and_values(
    model: Transformer, sequences: Sequences, temperature: float, critic: nn.Module | None
) -> tuple[Tensor, Tensor]:
    """ln p as above, and the critic's value of what stands before each token of a completion, (sequences, length) both,
    from one forward; all 0 without a critic."""
    head = model.head
    if not isinstance(head, VocabularyHead):
        raise TypeError(f"a policy predicts tokens, and the model's head is {model.config.head}")
    check_temperature(model, temperature)
    projection = head.projection_to_vocabulary(model.tokens)
    mask = sequences.mask[:, 1:]
    features = hidden_at(model, sequences, F.pad(mask, (0, 1)))  # (targets, width): of what stands before each
    targets = sequences.ids[:, 1:][mask]
    numbers = token_log_probabilities(head.features(features) / temperature, projection, targets)
    log_probabilities = _placed(numbers, mask)
    if critic is None:
        return log_probabilities, torch.zeros_like(log_probabilities)
    return log_probabilities, _placed(critic(features)[:, 0].to(numbers), mask)


def check_temperature(model: Transformer, temperature: float) -> None:
    """ValueError for one that the logits of a model cannot be divided by."""
    if temperature != 1.0 and isinstance(model.head, VocabularyHead):
        projection = model.head.projection_to_vocabulary(model.tokens)
        if projection.softcap or projection.bias is not None:
            raise ValueError("a temperature other than 1 is of models without a bias and a soft cap of the logits")


def _placed(numbers: Tensor, mask: Tensor) -> Tensor:
    """(rows, length), 0 but where `mask` (rows, length - 1), which begins with the second token, has the numbers."""
    padded = numbers.new_zeros(len(mask), mask.shape[1] + 1)
    padded[:, 1:][mask] = numbers
    return padded


def hidden_at(model: Transformer, sequences: Sequences, at: Tensor) -> Tensor:
    """The hidden states at these places, (sequences, length) bool, row by row, (places, width).

    Where the model's attention has a kernel for it, sequences are packed without padding, and neighbours with the same
    prompt share it.
    """
    ids, mask, stack = sequences.ids, sequences.mask, model.decoder
    learned = isinstance(model.config.embedding.positions, Learned)
    if stack is None or learned or not stack.shares_prefixes(model.tokens):
        hidden = model.tokens.new_zeros(*ids.shape, model.tokens.shape[1])
        for rows, longest in rows_by_length(sequences.lengths):
            hidden[rows, :longest] = model.hidden(ids[rows, :longest])
        return hidden[at]
    columns = torch.arange(ids.shape[1], device=ids.device)
    prompt, end = mask.int().argmax(-1), (at * (columns + 1)).amax(-1)  # (rows,)
    own = (ids[1:] == ids[:-1]) | (columns >= prompt[1:, None])
    same = own.all(-1) & (prompt[1:] == prompt[:-1]) & (prompt[1:] > 0)
    same = torch.cat((same.new_zeros(1), same))  # (rows,): with the prompt of the row before
    tokens = (end - prompt * same).cumsum(0)
    hidden_states = [model.tokens.new_zeros(0, model.tokens.shape[1])]
    for number in (tokens // TOGETHER).unique():
        rows = tokens // TOGETHER == number
        (row, positions, texts, branches), place = _pack(ids[rows], prompt[rows], end[rows], same[rows])
        if row.numel():
            hidden = model.hidden(row, positions=positions, rule=shared_prefixes(texts, branches))[0]  # (tokens, width)
            hidden_states.append(hidden[place[at[rows]]])
    return torch.cat(hidden_states)


def _pack(ids: Tensor, prompt: Tensor, end: Tensor, same: Tensor) -> tuple[Tensor, Tensor]:
    """Ids, positions, and the texts and branches of `shared_prefixes`, (4, 1, tokens) int64, of rows up to their `end`
    (rows,), one behind the other, with one prompt for those that have the `same` as the row before; and the place of
    each of their tokens, (rows, length) int64."""
    number = torch.arange(len(ids), device=ids.device)
    first = number.where(~same, 0).cummax(0).values  # (rows,): the row whose prompt it is
    shared = same & (number > 0)
    starts = (end - prompt * shared).cumsum(0) - (end - prompt * shared)
    columns = torch.arange(ids.shape[1], device=ids.device)
    positions = starts[:, None] + columns - (prompt * shared)[:, None]
    positions = positions.where(columns >= (prompt * shared)[:, None], starts[first][:, None] + columns)
    real = columns < end[:, None]
    branches = (number - first + 1)[:, None] * (columns >= prompt[:, None])
    packed = ids.new_zeros(4, int((end - prompt * shared).sum()))
    for part, values in zip(packed, (ids, columns, first[:, None], branches), strict=True):
        part[positions[real]] = values.expand_as(ids)[real]
    return packed[:, None], positions


@torch.no_grad()
def reference_sums(
    model: Transformer,
    groups: TokenGroups,
    device: torch.device | str = "cpu",
    progress: Report = no_report,
    together: Sequence[NDArray[np.int64]] | None = None,
    ranks: Ranks = ALONE,
    apart: int = 1,
) -> NDArray[np.float32]:
    """Σ ln p of each sequence's completion, (sequences,), under a reference model: a column of `groups`. All processes
    call it, and each computes a share.

    together  numbers of the groups of each forward; of the others the sums are 0. In bfloat16 a sum differs by tenths
              of a nat with what is next to it: with a run's own micro-batches, its first steps have ratios of 1.
    apart     Forwards of each: one of all first sequences of these groups, one of all second ones, …
    """
    was, done, sums = model.training, 0, np.zeros(len(groups.ends), np.float32)
    model.eval()
    together = together or np.split(np.arange(len(groups)), range(_ROWS, len(groups), _ROWS))
    rank, world_size = ranks.rows
    together = together[rank::world_size]
    for numbers in together:
        sequences = to_device(sequences_of(groups.batch(numbers)), device)
        rows = np.concatenate([np.arange(*groups.first[number : number + 2]) for number in numbers])
        for part in (slice(number, None, apart) for number in range(apart)):
            sums[rows[part]] = completion_sums(model, select_rows(sequences, part)).cpu().numpy()
        done += len(numbers)
        progress(done, sum(map(len, together)), "rows under the reference")
    model.train(was)
    return np.array(ranks.total(sums.tolist()), np.float32)


_DRIFT = 0.05  # nats a token: between two formats of one model it is a tenth of that


@torch.no_grad()
def check_start(model: Transformer, groups: GroupBatch, reference: str) -> None:
    """ValueError where a policy does not begin as its reference: Σ ln π is not the column `reference`, so that a ratio
    is no measure of how far the policy has come."""
    sequences = to_device(sequences_of(groups), model.tokens.device)
    policy = completion_log_probabilities(model, sequences).double().sum(-1).cpu()
    expected = groups.columns[reference][groups.attention_mask.any(-1)]
    drift = ((policy - expected).abs() / sequences.mask.sum(-1).cpu()).max()
    if drift > _DRIFT:
        raise ValueError(
            f"the policy does not begin as its reference: ln p of a token differs by up to {float(drift):.2g} before "
            "the first step. Give the same weights for both: merge an adapter into its base first, and train a new one"
        )
