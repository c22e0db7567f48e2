"""A program as the C structures that the compiled kernels read. For now: there are none."""

from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from lmworks.kernels.program import Program, RaggedBatch


class Lowered:
    def run(self, batch: "RaggedBatch") -> tuple[Tensor, Tensor, Tensor]:
        raise NotImplementedError


def lower(program: "Program") -> Lowered:
    raise NotImplementedError
