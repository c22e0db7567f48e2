"""Compiled parts of the package, the warning where they are missing, and the cores and memory that there are.

They are plain C functions in shared libraries that know neither Python nor PyTorch, so that building the package needs
a C++ compiler and nothing else. Without one all but training Unigram runs in Python.
"""

import ctypes
import os
import warnings
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def library_path(package: str, name: str) -> Path | None:
    """The shared library `liblmworks_NAME.so` of a package, or None where it was not built.

    It lies next to the package's modules, or, when lmworks is installed to be edited, where it was built to.
    """
    folders = import_module(package).__path__
    candidates = (Path(folder) / f"liblmworks_{name}.so" for folder in folders)
    return next((path for path in candidates if path.is_file()), None)


def warn_of_missing(consequence: str) -> None:
    """Says once that there is no compiled part, what follows from that, and what to do."""
    warnings.warn(
        f"lmworks was installed without its compiled parts, so that {consequence}. To build them, install a C++ "
        "compiler (g++ or clang) and then lmworks again.",
        RuntimeWarning,
        stacklevel=3,
    )


def cores() -> int:
    """The processor cores that this process may use; macOS does not tell them from the others."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def free_memory(device: "torch.device") -> int:
    """Bytes that a new process may still take on the device."""
    if device.type == "cuda":
        import torch

        return torch.cuda.mem_get_info()[0]
    try:
        lines = Path("/proc/meminfo").read_text("utf-8").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def open_library(
    name: str,
    variable: str,
    consequence: str,
    functions: Mapping[str, tuple[type | None, Sequence[type]]] | None = None,
) -> ctypes.CDLL | None:
    """The library of the package `lmworks.NAME`; None where it was not built, of which the `consequence` is told, or
    where the environment variable asks for the reference in Python. `functions` are the types of the results and the
    arguments of its functions, by their names without `lmworks_`."""
    choice = os.environ.get(variable, "")
    if choice == "reference":
        return None
    if choice:
        raise ValueError(f"{variable} is {choice!r}; allowed: 'reference', or leave it unset")
    path = library_path(f"lmworks.{name}", name)
    if path is None:
        warn_of_missing(consequence)
        return None
    library = ctypes.CDLL(str(path))
    for function_name, (result, arguments) in (functions or {}).items():
        function = getattr(library, f"lmworks_{function_name}")
        function.restype, function.argtypes = result, arguments
    return library
