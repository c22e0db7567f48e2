"""A program as the C structures that the compiled kernels read. For now: there are none."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lmworks.kernels.program import LogitRows, Program, RaggedBatch


class Lowered:
    def run(self, batch: "RaggedBatch") -> "LogitRows":
        raise NotImplementedError


def lower(program: "Program") -> Lowered:
    raise NotImplementedError
