"""Pipeline schedules: the order of micro-batches on each device, and the messages between them. Free of torch.

The model is cut into devices · chunks pieces; device r has the pieces r, r + devices, and so on, as its chunks 0, 1 and
further. A schedule says what one device does, one action after the other. When an action can begin follows from all
devices' schedules together (`timeline`), and from this the messages, which both ends of each must know in the same
order (`steps`).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from typing import Literal, NamedTuple

from lmworks.train.parallel.config import ParallelConfig

Kind = Literal["forward", "backward"]


class Action(NamedTuple):
    """The forward or the backward of a micro-batch through one chunk of a device."""

    kind: Kind
    micro_batch: int
    chunk: int = 0


# ---------------------------------------------------------------------------------------------------------------------
# The actions of one device


def gpipe(micro_batches: int) -> list[Action]:
    """All forwards, then all backwards (Huang et al. 2019, section 2.3), on every device."""
    return _alternate(_groups("forward", micro_batches), _groups("backward", micro_batches), micro_batches)


def one_forward_one_backward(devices: int, micro_batches: int, rank: int) -> list[Action]:
    """1F1B: a device that has as many micro-batches under way as there are devices from it to the end takes a backward
    after each forward (Narayanan et al. 2021, section 2.2.1, PipeDream-Flush)."""
    return _alternate(_groups("forward", micro_batches), _groups("backward", micro_batches), devices - rank - 1)


def interleaved(devices: int, chunks: int, micro_batches: int, rank: int) -> list[Action]:
    """1F1B of several chunks: as many micro-batches as there are devices go through the first chunk, then these through
    the second, and so on (Narayanan et al. 2021, section 2.2.2)."""
    forwards = _groups("forward", micro_batches, range(chunks), devices)
    backwards = _groups("backward", micro_batches, reversed(range(chunks)), devices)
    return _alternate(forwards, backwards, 2 * (devices - rank - 1) + (chunks - 1) * devices)


def forward_only(devices: int, chunks: int, micro_batches: int) -> list[Action]:
    """Evaluation: the forwards of `interleaved`, of any number of micro-batches."""
    return _groups("forward", micro_batches, range(chunks), devices)


def schedules(config: ParallelConfig, micro_batches: int) -> list[list[Action]]:
    """The actions of each device of the pipeline. ValueError for a number of micro-batches that chunks cannot take."""
    devices, chunks = config.pipeline, config.chunks
    if chunks > 1 and micro_batches % devices:
        raise ValueError(
            f"an interleaved schedule takes micro-batches in multiples of pipeline, got {micro_batches} and {devices} "
            "(Narayanan et al. 2021, section 2.2): make batch a multiple of micro_batch · pipeline, or set chunks to 1"
        )
    if chunks > 1:
        return [interleaved(devices, chunks, micro_batches, rank) for rank in range(devices)]
    if config.schedule == "gpipe":
        return [gpipe(micro_batches) for _ in range(devices)]
    return [one_forward_one_backward(devices, micro_batches, rank) for rank in range(devices)]


def _groups(kind: Kind, micro_batches: int, chunks: Iterable[int] = (0,), size: int = 1) -> list[Action]:
    """`size` micro-batches through each of the chunks, then the next `size`."""
    order = list(chunks)
    return [
        Action(kind, micro_batch, chunk)
        for start in range(0, micro_batches, size)
        for chunk in order
        for micro_batch in range(start, min(start + size, micro_batches))
    ]


def _alternate(forwards: list[Action], backwards: list[Action], warm_up: int) -> list[Action]:
    """`warm_up` forwards, then a forward and a backward by turns, then the backwards that are left."""
    turns = list(zip(forwards[warm_up:], backwards, strict=False))
    return [*forwards[:warm_up], *chain.from_iterable(turns), *backwards[len(turns) :]]


# ---------------------------------------------------------------------------------------------------------------------
# All devices together


class Timed(NamedTuple):
    start: int
    action: Action


def timeline(actions: list[list[Action]], forward: int = 1, backward: int = 1) -> list[list[Timed]]:
    """When each device begins its actions, if a forward of a chunk takes `forward` units of time, a backward `backward`
    and a message none. ValueError for schedules that wait for each other forever."""
    devices, chunks = len(actions), _chunks(actions)
    duration = {"forward": forward, "backward": backward}
    ended: dict[tuple[Kind, int, int], int] = {}  # (kind, micro-batch, piece) → when
    timed: list[list[Timed]] = [[] for _ in actions]
    free = [0] * devices
    waiting = True
    while waiting:
        waiting = False
        for rank, rank_actions in enumerate(timed):
            for action in actions[rank][len(rank_actions) :]:
                needs = _needs(action, action.chunk * devices + rank, devices * chunks - 1)
                if not all(need in ended for need in needs):
                    break
                start = max([free[rank], *(ended[need] for need in needs)])
                rank_actions.append(Timed(start, action))
                free[rank] = start + duration[action.kind]
                ended[action.kind, action.micro_batch, action.chunk * devices + rank] = free[rank]
                waiting = True  # there may be more that can begin now
    if any(len(rank_actions) < len(order) for rank_actions, order in zip(timed, actions, strict=True)):
        raise ValueError("these schedules wait for each other: no device can continue")
    return timed


def _needs(action: Action, piece: int, last: int) -> list[tuple[Kind, int, int]]:
    """The actions that must have ended before one in a piece of the model can begin."""
    if action.kind == "forward":
        return [("forward", action.micro_batch, piece - 1)] if piece else []
    inputs: list[tuple[Kind, int, int]] = [("forward", action.micro_batch, piece)]
    return inputs if piece == last else [*inputs, ("backward", action.micro_batch, piece + 1)]


def _chunks(actions: list[list[Action]]) -> int:
    return 1 + max((action.chunk for action in chain.from_iterable(actions)), default=0)


class Message(NamedTuple):
    """Hidden states, or their gradients, for an action of another device."""

    sender: int
    receiver: int
    action: Action


@dataclass(frozen=True, slots=True)
class Step:
    """One unit of time of a device: an action or nothing, and then the messages that leave and arrive."""

    action: Action | None
    send: Message | None
    receive: list[Message]


def steps(actions: list[list[Action]], rank: int) -> list[Step]:
    """The steps of device `rank`.

    A message is sent in the unit of time in which its sender has acted, and received in the same one, whenever it is
    needed. So sender and receiver agree on the order of all their messages, and one may wait for those of a step once
    its own action is done: nothing that it waits for can wait for it.
    """
    timed = timeline(actions)
    devices, chunks = len(actions), _chunks(actions)
    at = [dict(rank_actions) for rank_actions in timed]
    exchanges = []
    for time in range(1 + max((rank_actions[-1].start for rank_actions in timed if rank_actions), default=-1)):
        acting = {other: actions_at[time] for other, actions_at in enumerate(at) if time in actions_at}
        messages = [message(action, other, devices, chunks) for other, action in acting.items()]
        sent = next((m for m in messages if m is not None and m.sender == rank), None)
        received = [m for m in messages if m is not None and m.receiver == rank]
        if rank in acting or received:
            exchanges.append(Step(acting.get(rank), sent, received))
    return exchanges


def message(action: Action, rank: int, devices: int, chunks: int) -> Message | None:
    """The message that device `rank` sends after an action; None at the two ends of the model."""
    kind, micro_batch, chunk = action
    if kind == "forward":
        following = chunk + (rank == devices - 1)
        consumer = Action(kind, micro_batch, following)
        return None if following == chunks else Message(rank, (rank + 1) % devices, consumer)
    before = chunk - (rank == 0)
    return None if before < 0 else Message(rank, (rank - 1) % devices, Action(kind, micro_batch, before))
