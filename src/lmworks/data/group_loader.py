"""Batches of groups in an order that is arithmetic, as `loader.py` has them of token shards.

step → places of its groups in the run → epoch and place in it → group (`shuffle.py`) → its tokens (`token_groups.py`)
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from lmworks.data.config import GroupLoaderConfig
from lmworks.data.shuffle import in_epochs
from lmworks.data.token_groups import GroupBatch, TokenGroups


class GroupLoader:
    """Iterates over the batches of a run as rank `rank` of `world_size`.

    A group is never divided: a batch of rank r holds the groups r·batch // W to (r + 1)·batch // W - 1 of the global
    one. The last step of a run without `steps` may be smaller; one that continues behind it passes over no group.

    groups  what is shown
    steps   of the run; step  the next to be given out

    A resumed run may have more steps or fewer; ValueError where anything else differs.
    """

    stall_share = 0.0  # a batch is made in less time than it takes to hand it over
    metrics: Mapping[str, float] = MappingProxyType({})

    def __init__(
        self,
        config: GroupLoaderConfig,
        groups: TokenGroups,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if not world_size <= config.batch <= len(groups):
            raise ValueError(
                f"a batch of {config.batch} groups, of {len(groups):,} for {world_size} ranks: set batch to a number "
                f"between {world_size} and {len(groups):,}"
            )
        if (longest := int(groups.lengths.max())) > config.length:
            raise ValueError(
                f"a sequence has {longest:,} tokens: set length to that, or make groups of {config.length:,}"
            )
        self.config, self.groups, self.rank, self.world_size = config, groups, rank, world_size
        self._stream = {"groups": groups.digest, "batch": config.batch, "seed": config.seed}
        self._planned = len(groups) if config.steps is None else config.steps * config.batch
        self.steps = -(-self._planned // config.batch)
        self.step = 0
        self._check_ranks(self._planned)

    def batch(self, step: int) -> GroupBatch:
        """This rank's groups of any step: the same whenever it is asked for."""
        first, end = (self._first(each, self._planned) for each in (step, step + 1))
        lower, upper = (first + (end - first) * rank // self.world_size for rank in (self.rank, self.rank + 1))
        return self.groups.batch(in_epochs(np.arange(lower, upper), len(self.groups), self.config.seed, "pairs"))

    def _first(self, step: int, planned: int) -> int:
        """How many groups come before a step of a run that was planned to show so many."""
        batch = self.config.batch
        return min(step * batch, planned) + max(step + -planned // batch, 0) * batch

    def _check_ranks(self, planned: int) -> None:
        smallest = planned % self.config.batch or self.config.batch
        if smallest < self.world_size and -(-planned // self.config.batch) <= self.steps:
            raise ValueError(f"a step holds {smallest} groups, fewer than ranks: set steps")

    def __iter__(self) -> "GroupLoader":
        return self

    def __next__(self) -> GroupBatch:
        if self.step >= self.steps:
            raise StopIteration
        self.step += 1
        return self.batch(self.step - 1)

    def state(self) -> dict[str, Any]:
        """Where the run stands, as JSON: the next step, and what decides which batches there are."""
        return {"step": self.step, "planned": self._planned, "stream": self._stream}

    def restore(self, state: Mapping[str, Any]) -> int:
        """Resume where a state was saved; returns the next step. ValueErrors leave the loader where it was."""
        for name, now in self._stream.items():
            if (was := state["stream"][name]) != now:
                raise ValueError(f"the saved position is one in another stream of groups: {name} was {was}, is {now}")
        if state["step"] > self.steps:
            raise ValueError(f"the saved position is step {state['step']} of a run of {self.steps}")
        planned = min(state.get("planned", self._planned), self._planned)
        self._check_ranks(planned)
        self.step, self._planned = state["step"], planned
        return self.step
