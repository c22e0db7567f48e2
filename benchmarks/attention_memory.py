"""Peak memory of attention against the length: the formula as it stands, our kernel of training, and PyTorch's.

    .venv/bin/python benchmarks/attention_memory.py [--lengths 512 1024 2048 4096 8192]

Causal attention in float32, one text, 4 query heads of 64 dimensions on 2 key heads. Each number is a process of its
own: it makes its inputs, runs the same attention once on 16 tokens, so that libraries and threads are there, notes the
highest resident memory so far (`ru_maxrss`), runs once at the full length, and prints by how much that peak has risen.
So it is what the operation takes on top of its inputs: outputs, gradients and whatever is held in between. Pages of
freed memory that the warm-up left behind are used again without being counted: differences below 1 MiB say nothing.

The column beside it is what the formula must hold at least. Plain: 2 matrices of n × n for each head at once (scores
and weights), 3 with the backward pass (weights, and the gradients of weights and scores). Kernels: inputs are given, so
the output and, per row, the maximum, the sum and their logarithm; with the backward pass also the gradients.
"""

import argparse
import resource
import subprocess
import sys

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from lmworks.model import masks
from lmworks.model.flash_attention import trained_attention

HEADS, KV_HEADS, HEAD_DIM, BYTES, MIB = 4, 2, 64, 4, 2**20
SCALE = HEAD_DIM**-0.5


def plain(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """softmax(scale · query keyᵀ, where causal) value, with every intermediate result."""
    key, value = (shared.repeat_interleave(HEADS // KV_HEADS, dim=1) for shared in (key, value))
    hidden = torch.ones(query.shape[2], key.shape[2], dtype=torch.bool).triu(1)
    scores = (query @ key.mT * SCALE).masked_fill(hidden, float("-inf"))
    return scores.softmax(dim=-1) @ value


def kernel(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    past = masks.documents(torch.zeros(1, query.shape[2]), causal=True)
    return trained_attention(query, key, value, SCALE, past)


def sdpa(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(query, key, value, is_causal=True, scale=SCALE, enable_gqa=True)


WAYS = {"plain": plain, "kernel": kernel, "sdpa": sdpa}


def peak() -> int:
    """Bytes: the highest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # Linux counts in KiB


def once(way: str, length: int, backward: bool) -> None:
    shapes = ((HEADS, length), (KV_HEADS, length), (KV_HEADS, length))
    inputs = [torch.randn(1, *shape, HEAD_DIM, requires_grad=backward) for shape in shapes]
    output = WAYS[way](*inputs)
    if backward:
        output.sum().backward()


def measure(way: str, length: int, backward: bool) -> None:
    """In the child: prints the rise of the peak in bytes, without the inputs."""
    torch.manual_seed(0)
    once(way, 16, backward)
    before = peak()
    once(way, length, backward)
    print(peak() - before - (HEADS + 2 * KV_HEADS) * length * HEAD_DIM * BYTES)


def formula(way: str, length: int, backward: bool) -> int:
    """Bytes that must be held besides the inputs."""
    rows, values = HEADS * length, HEADS * length * HEAD_DIM
    gradients = (HEADS + 2 * KV_HEADS) * length * HEAD_DIM if backward else 0
    if way == "plain":
        return BYTES * ((3 if backward else 2) * rows * length + values + gradients)
    return BYTES * (values + 3 * rows + gradients)


def in_a_process(way: str, length: int, backward: bool) -> float:
    command = [sys.executable, __file__, "--measure", way, str(length), str(int(backward))]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def table(lengths: list[int], backward: bool) -> None:
    print("forward and backward, MiB" if backward else "forward, MiB")
    print(f"{'n':>6}" + "".join(f"{way:>10}{'formula':>10}" for way in WAYS))
    for length in lengths:
        found = (f"{in_a_process(way, length, backward) / MIB:>10.1f}" for way in WAYS)
        expected = (f"{formula(way, length, backward) / MIB:>10.1f}" for way in WAYS)
        print(f"{length:>6}" + "".join(map("".join, zip(found, expected, strict=True))), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lengths", type=int, nargs="+", default=[512, 1024, 2048, 4096, 8192])
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        way, length, backward = options.measure
        measure(way, int(length), backward == "1")
    else:
        table(options.lengths, backward=False)
        table(options.lengths, backward=True)


if __name__ == "__main__":
    main()
