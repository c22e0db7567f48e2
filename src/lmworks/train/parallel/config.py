"""Over how many processes a training run is laid out, and how, as data, free of torch."""

from dataclasses import dataclass
from typing import Literal

from lmworks.config import positive

Zero = Literal[0, 1, 2, 3]
PipelineSchedule = Literal["1f1b", "gpipe"]


@dataclass(frozen=True)
class ParallelConfig:
    """The degrees of parallelism; their product is the number of processes, one for each device.

    data               Replicas, each with sequences of its own.
    zero               What ZeRO divides among data and context ranks: 0 nothing, 1 optimizer states, 2 gradients too,
                       3 weights too, which is FSDP (Rajbhandari et al. 2020, section 5).
    tensor             Devices that divide each matrix (Shoeybi et al. 2019, section 3).
    sequence_parallel  Norms and residuals are divided among these as well (Korthikanti et al. 2022, section 4.2.2).
    pipeline           Devices that divide the layers.
    chunks             Pieces of layers on each device of the pipeline, above 1 interleaved (Narayanan et al. 2021,
                       section 2.2).
    schedule           The order in a pipeline: `1f1b`, or `gpipe`, which keeps all parts of a step.
    context            Devices that divide each sequence (Grattafiori et al. 2024, section 3.3.2).
    expert             Devices that divide the experts of a mixture; a part of `data` · `context`.
    """

    data: int = 1
    zero: Zero = 0
    tensor: int = 1
    sequence_parallel: bool = False
    pipeline: int = 1
    chunks: int = 1
    schedule: PipelineSchedule = "1f1b"
    context: int = 1
    expert: int = 1

    def __post_init__(self) -> None:
        positive(data=self.data, tensor=self.tensor, pipeline=self.pipeline)
        positive(chunks=self.chunks, context=self.context, expert=self.expert)
        if self.zero not in (0, 1, 2, 3):
            raise ValueError(f"zero is 0, 1, 2 or 3, got {self.zero}")
        if self.sequence_parallel and self.tensor == 1:
            raise ValueError("sequence_parallel divides among the tensor devices: set tensor above 1, or leave it out")
        if self.chunks > 1 and (self.pipeline == 1 or self.schedule != "1f1b"):
            raise ValueError("chunks interleave the 1f1b schedule of a pipeline: set pipeline above 1, or chunks to 1")
        if (self.data * self.context) % self.expert:
            raise ValueError(f"expert {self.expert} does not divide data · context = {self.data * self.context}")

    @property
    def devices(self) -> int:
        return self.data * self.tensor * self.pipeline * self.context

    @property
    def generates(self) -> bool:
        """Whether the model runs as one process's does, with a cache of keys."""
        return self.tensor == self.context == self.pipeline == 1 and (self.zero < 2 or self.shards == 1)

    @property
    def shards(self) -> int:
        """Among how many devices ZeRO divides: they hold the same weights and see other tokens."""
        return self.data * self.context
