"""Replay: what a model could do before, learned beside what it is rewarded for, and measured."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from lmworks.align.log_probabilities import Sequences, completion_log_probabilities, sequences_of
from lmworks.align.policy_gradient import RolloutBatch
from lmworks.data.completion_groups import group_completions
from lmworks.data.conversations import conversation_files, read_dialogues, turns_of
from lmworks.data.order import Permutation
from lmworks.data.token_groups import GroupBatch, TokenGroups
from lmworks.model.checkpoint import Checkpoint
from lmworks.model.transformer import Transformer
from lmworks.records import LeftOut, PromptCompletion
from lmworks.statistics import sign
from lmworks.train.losses import Loss
from lmworks.train.objectives.objective import Objective, select_rows
from lmworks.train.run import Run
from lmworks.train.validation import Validation, validate

_REPLAYED = "replayed"  # column: whether a sequence is one of these
_AT_A_TIME = 16  # rows of a validation


def sft_groups(files: Sequence[str], length: int, checkpoint: Checkpoint, base: Path) -> TokenGroups:
    """Prompts with one completion each. The errors are those of `read_demonstrations` and `group_completions`."""
    left_out: list[LeftOut] = []
    return group_completions(read_demonstrations(files, base), checkpoint.chat, length, left_out)


def read_demonstrations(files: Sequence[str], base: Path) -> list[PromptCompletion]:
    """Rows that fine-tuning reads, too; of a conversation, its last answer and what stands before it. The errors are
    those of `read_dialogues`."""
    found = []
    for _, row in read_dialogues(conversation_files(files, base, rows="replay")):
        messages, prompt = turns_of(row)
        answer = max(number for number, message in enumerate(messages) if message.role == "assistant")
        place = prompt or answer
        found.append(PromptCompletion(messages[:place], messages[place : answer + 1], tools=row.tools))
    return found


@dataclass(frozen=True, slots=True)
class Imitation(Objective[GroupBatch]):
    """Cross-entropy of completions, a token."""

    def counts(self, examples: GroupBatch) -> Mapping[str, int]:
        return {"replay": int(examples.completion_mask[:, :, 1:].sum())}

    def losses(self, model: Transformer, examples: GroupBatch) -> Mapping[str, Loss]:
        nats = -completion_log_probabilities(model, sequences_of(examples)).sum()
        return {"replay": Loss(nats, self.counts(examples)["replay"])}


@dataclass(frozen=True, slots=True)
class WithReplay(Objective[RolloutBatch]):
    """An objective on rollouts, and beside it the loss of `rows` of the `groups` in each step, `weight` times."""

    objective: Objective[RolloutBatch]
    groups: TokenGroups
    rows: int
    weight: float

    def examples(self, batch: RolloutBatch, seed: int) -> RolloutBatch:
        """The rollouts and, below them, the rows."""
        places = seed * self.rows + np.arange(self.rows)
        numbers = Permutation(len(self.groups), "replay")(places % len(self.groups))
        rows = sequences_of(self.groups.batch(numbers))
        length = max(batch.ids.shape[1], rows.ids.shape[1])

        def joined(first: Tensor, second: Tensor) -> Tensor:
            return torch.cat([F.pad(each, (0, length - each.shape[1])) for each in (first, second)])

        unknown = torch.zeros(rows.ids.shape)
        columns = {name: joined(values, unknown) for name, values in batch.columns.items()}
        replayed = torch.cat([torch.zeros(len(batch)), torch.ones(len(rows.ids))])[:, None]
        mask, real = joined(batch.mask, rows.mask), torch.cat([batch.real, rows.real])
        return RolloutBatch(joined(batch.ids, rows.ids), mask, real, {**columns, _REPLAYED: replayed})

    def counts(self, examples: RolloutBatch) -> Mapping[str, int]:
        rollouts, rows = self._divided(examples)
        return {**self.objective.counts(rollouts), "replay": int(rows.mask[:, 1:].sum())}

    def loss_weights(self) -> Mapping[str, float]:
        return {**self.objective.loss_weights(), "replay": self.weight}

    def losses(self, model: Transformer, examples: RolloutBatch) -> Mapping[str, Loss]:
        rollouts, rows = self._divided(examples)
        losses = dict(self.objective.losses(model, rollouts)) if len(rollouts) else {}
        if len(rows):
            found = completion_log_probabilities(model, Sequences(rows.ids, rows.mask, rows.real))
            nats = -found.sum()
            losses["replay"] = Loss(self.weight * nats, int(rows.mask[:, 1:].sum()), {"nats": nats.detach()})
        return losses

    @staticmethod
    def _divided(examples: RolloutBatch) -> tuple[RolloutBatch, RolloutBatch]:
        replayed = examples.columns[_REPLAYED][:, 0] > 0
        return select_rows(examples, ~replayed), select_rows(examples, replayed)


def replay_validation(run: Run, groups: TokenGroups) -> Callable[[], Validation]:
    """Loss of held-out completions under the run's model, which rises where it forgets."""
    starts = range(0, len(groups), _AT_A_TIME)
    batches = [groups.batch(range(start, min(start + _AT_A_TIME, len(groups)))) for start in starts]
    parts: Any = {"model": run.checkpoint.config, "data": groups.digest, "precision": run.config.precision}
    return lambda: validate(run.model, Imitation(), batches, 1, None, run.device, sign(parts))
