"""Weights of which some matrices are quantised, as a checkpoint holds them next to those of a GGUF file."""

from collections.abc import Iterator, Mapping

from torch import Tensor

from lmworks.kernels.weight_formats import BLOCK_FORMATS, GROUP, Quantised, dequantise, gguf_kind


class QuantisedWeights(Mapping[str, Tensor]):
    """The parameters of a model by our names. Each is made when it is asked for, a matrix dequantised to float32, and
    not kept, so that a model trained in place does not change them; the engine and the writers of files take `stored`,
    where matrices are as they are."""

    def __init__(self, stored: Mapping[str, Tensor | Quantised]) -> None:
        self.stored = dict(stored)

    def __getitem__(self, name: str) -> Tensor:
        value = self.stored[name]
        return dequantise(value) if isinstance(value, Quantised) else value.clone()

    def __iter__(self) -> Iterator[str]:
        return iter(self.stored)

    def __len__(self) -> int:
        return len(self.stored)

    @property
    def quantised(self) -> dict[str, Quantised]:
        """The quantised ones, as they are."""
        return {name: value for name, value in self.stored.items() if isinstance(value, Quantised)}

    @property
    def nbytes(self) -> int:
        """Bytes of all weights, the quantised ones in GGUF's blocks."""
        return sum(stored_bytes(value) for value in self.stored.values())


def stored_bytes(value: Tensor | Quantised) -> int:
    """Bytes of a weight in a file: a quantised matrix in GGUF's blocks, with their scales."""
    if isinstance(value, Tensor):
        return value.nbytes
    return value.rows * -(-value.columns // GROUP) * BLOCK_FORMATS[gguf_kind(value)][1]
