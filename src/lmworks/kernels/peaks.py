"""What the machine can do at most, at the hands of the compiled kernels: work to be timed, and nothing around it.

Both run on the threads of the library and in its instructions, so that no kernel can be faster. Both return what only
whoever did all of the work knows.
"""

from ctypes import byref, c_int64

import torch
from torch import Tensor

from lmworks.kernels.library import Library
from lmworks.kernels.weight_formats import FORMATS, Format


def read_numbers(numbers: Tensor, kernels: Library) -> int:
    """Reads all of `numbers`, contiguous int32 in memory, once; returns their sum. They must lie in [-2¹⁶, 2¹⁶]."""
    if numbers.dtype != torch.int32 or numbers.device.type != "cpu" or not numbers.is_contiguous():
        raise ValueError(f"contiguous int32 numbers in memory are read, not {numbers.dtype} on {numbers.device}")
    total = c_int64()
    kernels.call("read_numbers", numbers.data_ptr(), numbers.numel(), byref(total))
    return total.value


def multiply_ones(format_: Format, kernels: Library) -> int:
    """Multiplies and adds numbers that lie in registers, in the instructions that products with a matrix of this format
    are made of; returns how many multiplications that were. Some milliseconds of work."""
    products = c_int64()
    kernels.call("multiply_ones", FORMATS.index(format_), byref(products))
    return products.value
