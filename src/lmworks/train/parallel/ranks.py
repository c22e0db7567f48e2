"""The processes of a run: how they find each other, and the few numbers that they must agree on."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from lmworks.compiled import choose_device
from lmworks.train.parallel.config import ParallelConfig

_PATIENCE = timedelta(days=1)  # of those that wait in a collective for what one does alone, such as an evaluation
DIMENSIONS = ("pipeline", "data", "context", "tensor")  # the outermost first: neighbours share a machine


@dataclass(frozen=True, eq=False)
class Ranks:
    """The processes of a run as one of them sees them. Of one process alone every method gives back what it is given.

    mesh          of the dimensions `DIMENSIONS`; None for one process
    replica_mesh  data and context as one dimension: processes with the same weights and other tokens
    expert_mesh   the same processes as two, "copies" and "expert": those that have the same experts, and those among
                  which experts are divided; with ZeRO 2 and 3 also where each has all
    """

    config: ParallelConfig = field(default_factory=ParallelConfig)
    mesh: DeviceMesh | None = None
    replica_mesh: DeviceMesh | None = None
    expert_mesh: DeviceMesh | None = None

    @property
    def rank(self) -> int:
        return 0 if self.mesh is None else dist.get_rank()

    @property
    def size(self) -> int:
        return 1 if self.mesh is None else dist.get_world_size()

    @property
    def first(self) -> bool:
        """Whether this process is the one that reports, and writes what is written once."""
        return self.rank == 0

    @property
    def device(self) -> torch.device:
        return torch.device("cpu") if self.mesh is None else device_of_rank()

    @property
    def peaks(self) -> float:
        """The peak of all processes, as a multiple of what one reaches alone on its machine with the threads that it
        has: each has a GPU of its own, but those of one machine share its cores."""
        if self.device.type == "cuda":
            return self.size
        machines = int(os.environ.get("GROUP_WORLD_SIZE", "1"))
        shares = max((os.cpu_count() or 1) / torch.get_num_threads(), 1)
        return machines * min(self.size / machines, shares)

    @property
    def rows(self) -> tuple[int, int]:
        """(number, of how many): which share of every batch's rows this process makes."""
        return (0, 1) if self.mesh is None else (self.mesh.get_local_rank("data"), self.config.data)

    def along(self, dimension: str) -> DeviceMesh:
        """The ranks that differ from this one in `dimension` alone, itself among them."""
        assert self.mesh is not None
        return self.mesh[dimension]

    @property
    def replicas(self) -> dist.ProcessGroup | None:
        """The group of `replica_mesh`; None where this process is the only one."""
        return None if self.config.shards == 1 or self.replica_mesh is None else self.replica_mesh.get_group()

    def replicas_of(self, name: str) -> dist.ProcessGroup | None:
        """The processes that hold the same part of this weight and see other tokens; None where there is one."""
        if self.expert_mesh is None or ".experts." not in name:  # of which other processes may have others
            return self.replicas
        copies = self.expert_mesh["copies"]
        return copies.get_group() if copies.size() > 1 else None

    def total(self, values: Sequence[float], dimension: str | None = None) -> list[float]:
        """The sums over the replicas, or along one dimension of the mesh."""
        group = self.replicas if dimension is None else self.along(dimension).get_group()
        return list(values) if group is None else self._reduced(values, dist.ReduceOp.SUM, group)

    def sum(self, value: Tensor) -> Tensor:
        """The sum over all processes of a tensor, which is overwritten."""
        if self.mesh is not None:
            dist.all_reduce(value)
        return value

    def most(self, values: Sequence[float]) -> list[float]:
        """The largest over all processes: of flags, whether any is set."""
        return list(values) if self.mesh is None else self._reduced(values, dist.ReduceOp.MAX, None)

    def any(self, flag: bool) -> bool:
        """Whether it is set on any process: for what a clock or a signal decides."""
        return bool(self.most([flag])[0])

    def wait(self) -> None:
        """Until all are here."""
        if self.mesh is not None:
            dist.barrier()

    def _reduced(self, values: Sequence[float], how: Any, group: dist.ProcessGroup | None) -> list[float]:
        held = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(held, how, group=group)
        return held.tolist()


ALONE = Ranks()


def join(config: ParallelConfig) -> Ranks:
    """Meet the other processes that torchrun started, and lay them out as `config` says.

    One process needs neither group nor mesh. ValueError where there are more or fewer processes than the degrees ask
    for, with the command that starts as many.
    """
    started = dist.get_world_size() if dist.is_initialized() else int(os.environ.get("WORLD_SIZE", "1"))
    if started != config.devices:
        degrees = " · ".join(f"{name} {n}" for name in DIMENSIONS if (n := getattr(config, name)) > 1) or "one of each"
        raise ValueError(
            f"the layout ({degrees}) takes {config.devices} processes, and there are {started}: start them by "
            f"`torchrun --nproc-per-node {config.devices} ...`, or change the degrees of `parallel`"
        )
    if config.devices == 1:
        return Ranks(config)
    device = device_of_rank()
    if not dist.is_initialized():
        _meet("gloo" if device.type == "cpu" else "cpu:gloo,cuda:nccl")
    if device.type == "cuda":
        torch.cuda.set_device(device)
    mesh = init_device_mesh(device.type, tuple(getattr(config, name) for name in DIMENSIONS), mesh_dim_names=DIMENSIONS)
    experts = None
    if config.expert > 1 or config.zero >= 2:
        shape = (config.pipeline, config.shards // config.expert, config.expert, config.tensor)
        experts = init_device_mesh(device.type, shape, mesh_dim_names=("pipeline", "copies", "expert", "tensor"))
    return Ranks(config, mesh, mesh["data", "context"]._flatten("replicas"), experts)


def _meet(backend: str) -> None:
    """Under torchrun by the store that it keeps, under names of its own for each start: what processes that died wrote
    there would mislead those that take their place."""
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        dist.init_process_group(backend, timeout=_PATIENCE)
        return
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    store = store_of_start("meeting")
    dist.init_process_group(backend, timeout=_PATIENCE, store=store, rank=rank, world_size=size)


def store_of_start(name: str, patience: timedelta = timedelta(minutes=10)) -> Any:
    """A part of torchrun's store that only the processes of this start see; what is read is waited for so long."""
    meeting: Any = dist  # whose stubs leave out its stores
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    start = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    whole = meeting.TCPStore(address, port, is_master=False, wait_for_workers=False, timeout=patience)
    return meeting.PrefixStore(f"lmworks/{start}/{name}", whole)


def device_of_rank() -> torch.device:
    """A GPU of its own where the machine has one for each of its processes, else the CPU."""
    return choose_device()
