"""Replay: what a model could do before, learned together with what it is rewarded for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from lmworks.align.log_probabilities import Sequences, completion_log_probabilities, sequences_of
from lmworks.data.conversations import conversation_files, read_dialogues, turns_of
from lmworks.data.shuffle import Permutation
from lmworks.data.token_groups import TokenGroups
from lmworks.model.transformer import Transformer
from lmworks.records import PromptCompletion
from lmworks.train.losses import Loss
from lmworks.train.objectives.objective import Objective, select_rows

_REPLAYED = "replayed"  # column: whether a sequence is one of these


def read_demonstrations(files: Sequence[str], base: Path) -> list[PromptCompletion]:
    """Rows that fine-tuning reads, too; of a conversation, its last answer and what stands before it. The errors are
    those of `read_dialogues`."""
    demonstrations = []
    for _, row in read_dialogues(conversation_files(files, base, rows="replay")):
        messages, prompt = turns_of(row)
        answer = max(number for number, message in enumerate(messages) if message.role == "assistant")
        where = prompt or answer
        demonstrations.append(PromptCompletion(messages[:where], messages[where : answer + 1], tools=row.tools))
    return demonstrations


@dataclass(frozen=True, slots=True)
class WithReplay(Objective[Sequences]):
    """An objective on rollouts, plus the loss of `rows` of the `groups` in each step, `weight` times; rank
    and number of the processes that divide them are `share`."""

    unit: ClassVar[str] = ""
    objective: Objective[Sequences]
    groups: TokenGroups
    rows: int
    weight: float
    share: tuple[int, int] = (0, 1)

    def examples(self, batch: Sequences, seed: int) -> Sequences:
        """The rollouts and, below them, the rows."""
        rank, world_size = self.share
        indices = seed * self.rows + np.arange(rank, self.rows, world_size)
        rows = sequences_of(self.groups.batch(Permutation(len(self.groups), "replay")(indices % len(self.groups))))
        length = max(batch.ids.shape[1], rows.ids.shape[1])

        def joined(first: Tensor, second: Tensor) -> Tensor:
            return torch.cat([F.pad(tensor, (0, length - tensor.shape[1])) for tensor in (first, second)])

        columns = {name: joined(values, torch.zeros(rows.ids.shape)) for name, values in batch.columns.items()}
        columns[_REPLAYED] = torch.cat([torch.zeros(len(batch)), torch.ones(len(rows))])[:, None]
        mask, lengths = joined(batch.mask, rows.mask), torch.cat([batch.lengths, rows.lengths])
        return Sequences(joined(batch.ids, rows.ids), mask, lengths, columns)

    def counts(self, examples: Sequences) -> Mapping[str, int]:
        rollouts, rows = _divided(examples)
        return {**self.objective.counts(rollouts), "replay": int(rows.mask[:, 1:].sum())}

    def loss_weights(self) -> Mapping[str, float]:
        return {**self.objective.loss_weights(), "replay": self.weight}

    def losses(self, model: Transformer, examples: Sequences) -> Mapping[str, Loss]:
        rollouts, rows = _divided(examples)
        losses = dict(self.objective.losses(model, rollouts)) if len(rollouts) else {}
        if len(rows):
            nats = -completion_log_probabilities(model, rows).sum()
            losses["replay"] = Loss(self.weight * nats, int(rows.mask[:, 1:].sum()), {"nats": nats.detach()})
        return losses


def _divided(examples: Sequences) -> tuple[Sequences, Sequences]:
    replayed = examples.columns[_REPLAYED][:, 0] > 0
    return select_rows(examples, ~replayed), select_rows(examples, replayed)
