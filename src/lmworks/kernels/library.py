"""The compiled kernels: the same C++ sources once for each set of instructions, of which the best is taken at run time.

    avx512_bf16   AVX-512 with VNNI and BF16        (AMD Zen 4 and later, Intel Cooper Lake, Sapphire Rapids and later)
    avx512        AVX-512 with VNNI                 (Intel Ice Lake)
    avx2          AVX2 with FMA and F16C            (x86 since 2013)
    portable      what the compiler's target has    (anything, ARM too)

They are plain C functions in shared libraries that know neither Python nor PyTorch, so that building the package needs
a C++ compiler and nothing else. Where it was built without one, `load` says so once and the reference runs instead.
"""

import ctypes
import os
from ctypes import POINTER, byref, c_char_p, c_float, c_int32, c_int64, c_void_p
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from lmworks.compiled import library_path, warn_of_missing
from lmworks.kernels import c_structures
from lmworks.kernels.weight_formats import FORMATS, Format

NAMES = ("avx512_bf16", "avx512", "avx2", "portable")
CHOICE = "LMWORKS_KERNELS"  # environment variable: one of the names, or "reference"

_ERRORS = {
    1: "token {at} of the batch has an id that the embedding does not have",
    2: "token {at} of the batch has a position beyond the rotation, the learned positions or its page table",
    3: "token {at} of the batch belongs to a sequence that the page tables do not have",
    4: "token {at} of the batch needs a page that its table does not have, or that the cache does not have",
    5: "row {at} of the wanted logits is of a token that the batch does not have",
    6: "token {at} of the batch uses an adapter that the program does not have",
}


@dataclass(eq=False)
class Library:
    """One compiled library, and the number of threads that calls through this object take: another object may stand for
    the same library with another number. Calls from several threads run one after the other, and release Python's lock.
    """

    name: str
    functions: ctypes.CDLL
    threads: int

    def call(self, function: str, *arguments: object) -> int:
        """Calls `lmworks_FUNCTION`; MemoryError where the step is too large for the memory."""
        self.functions.lmworks_set_threads(self.threads)
        error = getattr(self.functions, f"lmworks_{function}")(*arguments)
        if error == 7:
            raise MemoryError("a step needs more memory than there is: compute fewer tokens at a time")
        return error

    def set_threads(self, count: int) -> None:
        """From the next call on; ValueError for less than one."""
        if count < 1:
            raise ValueError(f"the kernels need at least one thread, got {count}")
        self.threads = count


def check(error: int, at: int) -> None:
    """ValueError for an error that a batch caused, `at` its token or row."""
    if error:
        raise ValueError(_ERRORS[error].format(at=at))


@cache
def load(name: str | None = None) -> Library | None:
    """A library by name, or the best that was built and that this machine can run; None: there is none, or the
    environment variable asks for the reference.

    ValueError for a name that there is not, or that this machine cannot run.
    """
    choice = name or os.environ.get(CHOICE)
    if choice == "reference":
        return None
    runnable = available()
    if choice is None:
        if not runnable:
            warn_of_missing("models run slowly, in PyTorch alone")
        return _open(runnable[0]) if runnable else None
    if choice not in runnable:
        raise ValueError(f"{CHOICE} and `load` take one of {', '.join((*runnable, 'reference'))} here, not {choice!r}")
    return _open(choice)


@cache
def available() -> tuple[str, ...]:
    """The names of the libraries that were built and that this machine can run, the fastest first."""
    detect = _path("detect")
    if detect is None:
        return ()
    ask = ctypes.CDLL(str(detect)).lmworks_best
    ask.restype = c_char_p
    best = NAMES.index(ask().decode())
    return tuple(name for name in NAMES[best:] if _path(name) is not None)


def set_threads(count: int) -> None:
    """Sets the number of threads of the inference kernels; at first, one for each core that the process may run on.
    Those of training use as many as PyTorch."""
    library = load()
    if library is not None:
        library.set_threads(count)


@cache
def _open(name: str) -> Library:
    path = _path(name)
    assert path is not None
    functions = ctypes.CDLL(str(path))
    pointer = c_void_p
    functions.lmworks_run.argtypes = (pointer, pointer)
    functions.lmworks_linear.argtypes = (pointer, pointer, pointer, c_int64, c_int32, pointer)
    functions.lmworks_norm_gated_linear.argtypes = (
        *(pointer, pointer, c_int64, c_int32, c_int32),
        *(pointer, c_int64, pointer),
    )
    functions.lmworks_attend.argtypes = (pointer, pointer, pointer, pointer)
    functions.lmworks_read_numbers.argtypes = (pointer, c_int64, POINTER(c_int64))
    functions.lmworks_multiply_ones.argtypes = (c_int32, POINTER(c_int64))
    functions.lmworks_draw.argtypes = (pointer, c_int64)
    functions.lmworks_attend_trained.argtypes = (pointer, c_int32)
    functions.lmworks_softmax_loss.argtypes = (
        *(pointer, pointer, c_int64, c_int64, c_int32, c_float, c_float),
        *(pointer, pointer, pointer),
    )
    functions.lmworks_adamw.argtypes = (pointer,)
    functions.lmworks_set_threads.argtypes = (c_int32,)
    functions.lmworks_sizes.argtypes = (POINTER(c_int64),)
    sizes = (c_int64 * len(c_structures.SIZES))()
    functions.lmworks_sizes(sizes)
    if tuple(sizes) != c_structures.SIZES:
        raise ImportError(f"{path} was built from other sources than this package: install the package again")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else functions.lmworks_threads()
    return Library(name, functions, cores)


def _path(name: str) -> Path | None:
    return library_path("lmworks.kernels", name)


# ---------------------------------------------------------------------------------------------------------------------
# Peaks of the machine: work on the library's threads, in its instructions, to be timed (`generate/benchmark.py`). Both
# return a number that only all of the work gives.


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
