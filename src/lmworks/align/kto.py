"""Kahneman-Tversky optimisation (Ethayarajh et al. 2024, section 4.1): completions that are wanted or not, one by one.

λ_D σ(-β (r - z0)) of a wanted completion, λ_U σ(-β (z0 - r)) of another; r = S ln π(y|x) - S ln π_ref(y|x), and the
baseline z0 = max(0, mean of r over completions y' of other prompts), without a gradient

Each row's y' is chosen once, with the row, so that its ln π_ref is a column as the row's own is. z0 is the mean over a
whole step, on all ranks, under the policy as it is before the step: micro-batches change nothing.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from lmworks.align.config import KTOConfig
from lmworks.align.dpo import REFERENCE
from lmworks.align.log_probabilities import completion_sums, sequences_of
from lmworks.data.group_loader import GroupLoader
from lmworks.data.token_groups import GroupBatch, TokenGroup, TokenGroups, join_groups
from lmworks.model.transformer import Transformer
from lmworks.train.losses import Loss
from lmworks.train.objectives.objective import Objective, micro_batches, to_device
from lmworks.train.parallel.ranks import ALONE, Ranks

BASELINE = "baseline"  # the column with z0, the same in a whole step
PER_WANTED = "per_wanted"  # that with the rows of the step for each wanted one
Total = Callable[[Sequence[float]], list[float]]  # sums over ranks


def kto(policy: Tensor, reference: Tensor, desirable: Tensor, z0: Tensor, config: KTOConfig = KTOConfig()) -> Tensor:  # noqa: B008
    """The loss of each completion, (rows,); policy and reference (rows,): S ln π; wanted (rows,) bool; z0 () or
    (rows,)."""
    gain = torch.where(desirable, policy - reference - z0, z0 - (policy - reference))
    weight = torch.where(desirable, config.desirable, config.undesirable)
    return weight * torch.sigmoid(-config.beta * gain)


def with_mismatched(groups: TokenGroups, length: int) -> TokenGroups:
    """Groups of one completion with a second one behind it: the completion of the next row that has another prompt."""
    assert groups.learned is not None
    pairs, made = [], []
    for ids, learned in zip(
        *(np.split(column, groups.ends[:-1]) for column in (groups.tokens, groups.learned)), strict=True
    ):
        first = int(learned.argmax())
        pairs.append((ids[:first].tolist(), ids[first:].tolist(), learned[first:].tolist()))
    for number, (prompt, own, mask) in enumerate(pairs):
        others = (pairs[(number + step) % len(pairs)] for step in range(1, len(pairs)))
        _, other, other_mask = next((pair for pair in others if pair[0] != prompt), pairs[number - 1])
        ids = [[*prompt, *own], [*prompt, *other][:length]]
        masks = [[False] * len(prompt) + mask, ([False] * len(prompt) + other_mask)[:length]]
        made.append(TokenGroup(ids, masks, {"label": [float(groups.columns["label"][number]), 0.0]}))
    return join_groups(made, groups.cut)


@torch.no_grad()
def with_baseline(
    model: Transformer, batches: Sequence[GroupBatch], total: Total = list, micro_batch: int | None = None
) -> list[GroupBatch]:
    """The batches of one step with the columns `baseline`, under the model as it is, and `per_wanted`. A forward has
    `micro_batch` rows, as those of the loss and of the reference; by default a batch."""
    ratio, desirable = 0.0, sum(int((batch.columns["label"][:, 0] > 0).sum()) for batch in batches)
    for batch in (piece for whole in batches for piece in micro_batches(whole, micro_batch or len(whole))):
        mismatched = to_device(_part(batch, 1), model.tokens.device)
        policy = completion_sums(model, sequences_of(mismatched)).double()
        ratio += float((policy - mismatched.columns[REFERENCE][:, 0]).sum())
    ratio, rows, desirable = total([ratio, sum(len(batch) for batch in batches), desirable])
    same = {BASELINE: max(ratio / rows, 0.0), PER_WANTED: rows / max(desirable, 1)}

    def filled(batch: GroupBatch) -> dict[str, Tensor]:
        return {name: torch.full_like(batch.columns[REFERENCE], value) for name, value in same.items()}

    return [replace(batch, columns={**batch.columns, **filled(batch)}) for batch in batches]


@dataclass(frozen=True, slots=True, eq=False)
class WithBaseline:
    """Batches of one step together, with the baseline under the model as it is whenever they are read."""

    model: Transformer
    batches: Sequence[GroupBatch]

    def __iter__(self) -> Iterator[GroupBatch]:
        return iter(with_baseline(self.model, self.batches))


class KTOLoader(GroupLoader):
    """A loader whose batches have the baseline of their step under `policy`, over all ranks."""

    policy: Transformer | None = None
    micro_batch: int | None = None
    ranks: Ranks = ALONE

    def __next__(self) -> GroupBatch:
        batch = super().__next__()
        assert self.policy is not None, "the run's model makes the baseline: set policy before the first step"
        return with_baseline(self.policy, [batch], self.ranks.total, self.micro_batch)[0]


@dataclass(frozen=True, slots=True)
class KTO(Objective[GroupBatch]):
    """Completions with the columns `label`, `reference` and `baseline`; a target each.

    Metrics: `accuracy` (r is above z0 where the completion is wanted, below it elsewhere; ties half), `log_ratio`,
    the mean of r, `log_ratio_chosen`, that of wanted completions, a token, and `z0` (TRL's `kl`).
    """

    unit: ClassVar[str] = ""
    config: KTOConfig = KTOConfig()  # noqa: RUF009

    def examples(self, batch: GroupBatch, seed: int) -> GroupBatch:
        return _part(batch, 0)

    def counts(self, examples: GroupBatch) -> Mapping[str, int]:
        return {"kto": len(examples)}

    def losses(self, model: Transformer, examples: GroupBatch) -> Mapping[str, Loss]:
        sequences = sequences_of(examples)
        policy = completion_sums(model, sequences)  # (rows,)
        columns = {name: values[:, 0] for name, values in examples.columns.items()}
        reference, z0 = columns[REFERENCE].to(policy), columns[BASELINE].to(policy)
        desirable = columns["label"] > 0
        loss = kto(policy, reference, desirable, z0, self.config).sum()
        ratio = (policy - reference).detach()
        sides = torch.where(desirable, 1, -1) * (ratio - z0).sign()
        right, chosen = 0.5 + 0.5 * sides, ratio * desirable * columns[PER_WANTED].to(policy)
        metrics = {"accuracy": right.sum(), "log_ratio": ratio.sum(), "z0": z0.sum()}
        metrics["log_ratio_chosen"] = (chosen / sequences.mask[:, 1:].sum(-1)).sum()
        return {"kto": Loss(loss, len(examples), metrics)}


def _part(batch: GroupBatch, number: int) -> GroupBatch:
    """One sequence of each group."""
    columns = {name: values[:, [number]] for name, values in batch.columns.items()}
    batches = (tensor[:, [number]] for tensor in (batch.ids, batch.attention_mask, batch.completion_mask))
    return GroupBatch(*batches, columns)  # type: ignore[call-arg] - of three parts
