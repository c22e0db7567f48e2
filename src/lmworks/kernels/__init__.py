"""Fused operations: their definition in PyTorch, and kernels in C++ for the CPU."""

from typing import TYPE_CHECKING

from lmworks.lazy import lazy_exports

if TYPE_CHECKING:
    from lmworks.kernels.fused_operations import linear, run
    from lmworks.kernels.kv_pages import Pages
    from lmworks.kernels.packing import PackedMatrix, pack_weight
    from lmworks.kernels.program import LayerProgram, Program, RaggedBatch

__getattr__, __all__ = lazy_exports(__name__, __file__)
