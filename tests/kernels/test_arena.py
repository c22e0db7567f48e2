"""Weights that were moved together are the same weights."""

from dataclasses import replace

import torch
from programs import batch, random_program

from lmworks.kernels.arena import gather
from lmworks.kernels.c_structures import SITES
from lmworks.kernels.program import run


def test_a_gathered_program_computes_the_same() -> None:
    program = random_program(format_="int4", bias=True)
    gathered, step = gather(program), batch([(0, 0, [1, 2, 3])], [[0]])
    assert gathered.head is gathered.embedding and gathered.nbytes == program.nbytes
    found, expected = (run(each, step, hidden=True) for each in (gathered, program))
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True) if a is not None and b is not None)


def test_a_head_with_a_bias_still_shares_its_weights() -> None:
    program = random_program()
    program = replace(program, head=replace(program.head, bias=torch.ones(program.vocabulary)))
    gathered = gather(program)
    assert gathered.head.values.data_ptr() == gathered.embedding.values.data_ptr()
    assert gathered.nbytes == program.nbytes


def test_matrices_lie_in_the_order_in_which_they_are_read() -> None:
    program = gather(random_program(layers=3))
    matrices = [getattr(layer, site) for layer in program.layers for site in SITES] + [program.head]
    places = [matrix.values.data_ptr() for matrix in matrices]
    ends = [place + matrix.values.nbytes for place, matrix in zip(places, matrices, strict=True)]
    assert all(0 <= place - end < 64 for place, end in zip(places[1:], ends, strict=False))
    assert all(place % 64 == 0 for place in places)
