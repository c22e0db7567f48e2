"""Weights of which some matrices are quantised, as a checkpoint holds them next to those of a GGUF file."""

from collections.abc import Mapping
from functools import partial

from torch import Tensor

from lmworks.kernels.weight_formats import BLOCK_FORMATS, GROUP, Quantised, dequantise, gguf_kind
from lmworks.model.tensor_files import LazyTensors


class QuantisedWeights(LazyTensors):
    """The parameters of a model by our names. Each is made when it is asked for, a matrix dequantised to float32, and
    not kept, so that a model trained in place does not change them; the engine and the writers of files take `stored`,
    where matrices are as they are."""

    def __init__(self, stored: Mapping[str, Tensor | Quantised]) -> None:
        self.stored = dict(stored)
        super().__init__({name: partial(_read, value) for name, value in self.stored.items()})

    @property
    def quantised(self) -> dict[str, Quantised]:
        """The quantised ones, as they are."""
        return {name: value for name, value in self.stored.items() if isinstance(value, Quantised)}

    @property
    def nbytes(self) -> int:
        """Bytes of all weights, the quantised ones in GGUF's blocks."""
        return sum(stored_bytes(value) for value in self.stored.values())


def _read(value: Tensor | Quantised) -> Tensor:
    return dequantise(value) if isinstance(value, Quantised) else value.clone()


def stored_bytes(value: Tensor | Quantised) -> int:
    """Bytes of a weight in a file: a quantised matrix in GGUF's blocks, with their scales."""
    if isinstance(value, Tensor):
        return value.nbytes
    return value.rows * -(-value.columns // GROUP) * BLOCK_FORMATS[gguf_kind(value)][1]
