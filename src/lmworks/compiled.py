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

INTEGERS = ("int8", "int4")  # weights that compiled parts multiply, on the CPU alone


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


def choose_device(name: str = "auto", weights: str = "auto") -> "torch.device":
    """The device of a name such as "cpu", "cuda" or "cuda:1"; of "auto" a GPU of its own where the machine has one for
    each of its processes, and else, or where `weights` are `INTEGERS`, the CPU. ValueError for a device that is not
    there, or not for these weights."""
    import torch

    local = int(os.environ.get("LOCAL_RANK", "0"))
    count = int(os.environ.get("LOCAL_WORLD_SIZE", os.environ.get("WORLD_SIZE", "1")))
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    there = ["cpu", *(f"cuda:{gpu}" for gpu in range(gpus)), *(["mps"] if torch.backends.mps.is_available() else [])]
    auto = f"cuda:{local}" if gpus >= count and weights not in INTEGERS else "cpu"
    if (chosen := {"auto": auto, "cuda": f"cuda:{local}"}.get(name, name)) not in there:
        raise ValueError(f"no device {name!r}: PyTorch {torch.__version__} finds {', '.join(there)}; set device=auto")
    if weights in INTEGERS and chosen != "cpu":
        raise ValueError(f"weights={weights} run on the CPU alone, not on {name}: set device=cpu, or weights=auto")
    return torch.device(chosen)


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
