"""A model from a GGUF file: architecture, weights, tokenizer and chat template, all from the one file."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

import torch
from gguf.constants import GGML_QUANT_SIZES
from torch import Tensor

from lmworks.model.config import ModelConfig
from lmworks.model.gguf_config import read_config
from lmworks.model.gguf_file import GgufFile, open_gguf
from lmworks.model.gguf_names import Architecture, Place, from_file, places
from lmworks.model.huggingface import UnsupportedModel
from lmworks.tokenizer.gguf_vocabulary import read_tokenizer
from lmworks.tokenizer.tokenizer import Tokenizer


@dataclass(frozen=True)
class GgufModel:
    config: ModelConfig
    weights: "GgufWeights"
    tokenizer: Tokenizer
    chat_template: str | None
    licence: str | None


class GgufWeights(Mapping[str, Tensor]):
    """The parameters of `Transformer(config)` by our names, each dequantised when it is asked for and not kept."""

    def __init__(self, file: GgufFile, config: ModelConfig, architecture: Architecture) -> None:
        self._file, self._config, self._architecture = file, config, architecture
        self._places = places(config, architecture)
        _check(file, self._places)

    def __getitem__(self, name: str) -> Tensor:
        return self.read(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def read(self, name: str, dtype: torch.dtype = torch.float32) -> Tensor:
        """One parameter, dequantised straight to `dtype`."""
        place = self._places[name]
        rows = slice(place.first, place.first + place.shape[0])
        tensor = self._file.read(place.theirs, dtype, rows).view(place.shape)
        return from_file(name, tensor, self._config, self._architecture)

    def release(self) -> None:
        """All that is wanted has been read; see `GgufFile.release`."""
        self._file.release()

    def blocks(self, name: str) -> tuple[str, Tensor] | None:
        """A matrix as the file has it: the name of its type and its quantised blocks, (rows, bytes of a row) uint8.

        None for what is not quantised by blocks that lie along a row.
        """
        place = self._places[name]
        tensor = self._file.tensors[place.theirs]
        if len(place.shape) != 2 or GGML_QUANT_SIZES[tensor.kind][0] == 1:
            return None
        raw = self._file.raw(place.theirs, slice(place.first, place.first + place.shape[0]))
        return tensor.kind.name, from_file(name, raw, self._config, self._architecture)


def read_gguf(path: Path) -> GgufModel:
    """Reads a decoder and its tokenizer; nothing is dequantised yet.

    UnsupportedModel or another ValueError names what is missing, damaged or not computed here.
    """
    file = open_gguf(path)
    parts = file.metadata.get("split.count", 1)
    if parts > 1:
        raise UnsupportedModel(f"{path} is one of {parts} parts: join them with llama-gguf-split --merge")
    try:
        config, architecture = read_config(file)
        weights = GgufWeights(file, config, architecture)
    except (ArithmeticError, LookupError, RuntimeError, TypeError) as error:  # from sizes that no model can have
        raise ValueError(f"the metadata of {path} describe no possible model: {error}") from error
    return GgufModel(
        config,
        weights,
        read_tokenizer(file.metadata),
        file.metadata.get("tokenizer.chat_template"),
        file.metadata.get("general.license"),
    )


def _check(file: GgufFile, expected: Mapping[str, Place]) -> None:
    """ValueError names tensors that are missing, of another shape, or without a place in the model."""
    rows: Counter[str] = Counter()
    for place in expected.values():
        rows[place.theirs] += place.shape[0]
    unknown = sorted(file.tensors.keys() - rows.keys() - {"rope_freqs.weight"})
    missing = sorted(rows.keys() - file.tensors.keys())
    if unknown or missing:
        raise ValueError(f"the GGUF file's tensors do not fit its metadata: missing {missing[:5]}, extra {unknown[:5]}")
    for place in expected.values():
        shape, wanted = file.tensors[place.theirs].matrix, (rows[place.theirs], prod(place.shape[1:]))
        if shape != wanted:
            raise ValueError(
                f"the GGUF file's tensor {place.theirs} is a matrix of {shape}, its metadata asks for {wanted}"
            )
