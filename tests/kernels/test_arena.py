"""Weights that were moved together are the same weights."""

from dataclasses import replace

import torch
from programs import batch, random_program

from lmworks.kernels.c_structures import SITES
from lmworks.kernels.fused_operations import run
from lmworks.kernels.program import in_large_pages


def test_a_moved_program_computes_the_same() -> None:
    program = random_program(format_="int4", bias=True)
    moved, step = in_large_pages(program), batch([(0, 0, [1, 2, 3])], [[0]])
    assert moved.head is moved.embedding and moved.nbytes == program.nbytes
    found, expected = (run(each, step, hidden=True) for each in (moved, program))
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True) if a is not None and b is not None)


def test_a_head_with_a_bias_still_shares_its_weights() -> None:
    program = random_program()
    program = replace(program, head=replace(program.head, bias=torch.ones(program.vocabulary)))
    moved = in_large_pages(program)
    assert moved.head.values.data_ptr() == moved.embedding.values.data_ptr()
    assert moved.nbytes == program.nbytes


def test_matrices_lie_in_the_order_in_which_they_are_read() -> None:
    program = in_large_pages(random_program(layers=3))
    matrices = [getattr(layer, site) for layer in program.layers for site in SITES] + [program.head]
    places = [matrix.values.data_ptr() for matrix in matrices]
    ends = [place + matrix.values.nbytes for place, matrix in zip(places, matrices, strict=True)]
    assert all(0 <= place - end < 64 for place, end in zip(places[1:], ends, strict=False))
    assert all(place % 64 == 0 for place in places)
