"""Fused operations: their definition in PyTorch, and kernels in C++ for the CPU."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lmworks.kernels.operations import linear as linear
    from lmworks.kernels.packing import PackedMatrix as PackedMatrix
    from lmworks.kernels.packing import pack_weight as pack_weight
    from lmworks.kernels.pages import Pages as Pages
    from lmworks.kernels.program import LayerProgram as LayerProgram
    from lmworks.kernels.program import Program as Program
    from lmworks.kernels.program import RaggedBatch as RaggedBatch
    from lmworks.kernels.program import run as run

_PUBLIC = {
    "LayerProgram": "program",
    "PackedMatrix": "packing",
    "Pages": "pages",
    "Program": "program",
    "RaggedBatch": "program",
    "linear": "operations",
    "pack_weight": "packing",
    "run": "program",
}

__all__ = ["LayerProgram", "PackedMatrix", "Pages", "Program", "RaggedBatch", "linear", "pack_weight", "run"]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(f"{__name__}.{_PUBLIC[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
