"""All weights of a program side by side in large pages of memory.

A decoding step reads every weight once. In pages of 4 KiB that is tens of thousands of translations of addresses, and
the processor's prefetchers stop at each page's end; pages of 2 MiB, which Linux gives to whoever asks for them, take
both away. That is worth some percent of the speed of one sequence, and it needs memory in one piece.
"""

import mmap
from dataclasses import replace

import torch
from torch import Tensor

from lmworks.kernels.c_structures import SITES
from lmworks.kernels.packing import PackedMatrix
from lmworks.kernels.program import Program

_ALIGNMENT = 64  # bytes: a line of the cache


def gather(program: Program) -> Program:
    """The same program with all its matrices in one piece of memory, in the order in which a step reads them.

    Takes the memory of the weights a second time until the given program is gone.
    """
    layer_matrices = [getattr(layer, site) for layer in program.layers for site in SITES]
    values = {id(matrix.values): matrix.values for matrix in (*layer_matrices, program.head, program.embedding)}
    memory = large_pages(sum(_room(tensor) for tensor in values.values()))
    moved, start = {}, 0
    for key, tensor in values.items():
        moved[key] = memory[start : start + tensor.nbytes].view(tensor.shape).copy_(tensor)
        start += _room(tensor)

    def move(matrix: PackedMatrix) -> PackedMatrix:
        return replace(matrix, values=moved[id(matrix.values)])

    layers = tuple(replace(layer, **{site: move(getattr(layer, site)) for site in SITES}) for layer in program.layers)
    head = move(program.head)
    embedding = head if program.embedding is program.head else move(program.embedding)
    return replace(program, layers=layers, embedding=embedding, head=head)


def _room(tensor: Tensor) -> int:
    return -(-tensor.nbytes // _ALIGNMENT) * _ALIGNMENT


def large_pages(size: int) -> Tensor:
    """(size,) uint8, in large pages where the system has them."""
    if not hasattr(mmap, "MADV_HUGEPAGE"):
        return torch.empty(size, dtype=torch.uint8)
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)  # shared memory gets no large pages
    memory.madvise(mmap.MADV_HUGEPAGE)
    return torch.frombuffer(memory, dtype=torch.uint8)  # keeps the mapping alive
