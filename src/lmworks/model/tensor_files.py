"""Tensors by name, made when they are asked for; on disk: safetensors, in one file or in shards, memory-mapped, and
PyTorch's pickles only when asked for."""

import json
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from lmworks.artefact import write_json
from lmworks.kernels.weight_formats import BLOCK_FORMATS, GROUP, Quantised, dequantise, gguf_kind
from lmworks.model.config import UnsupportedModel
from lmworks.tokenizer.tokenizer_folder import read_json

SAFETENSORS, PICKLED = "model.safetensors", "pytorch_model.bin"
SHARD = 5 * 10**9  # bytes of a file, at most, unless one tensor is larger
DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)

Readers = Mapping[str, Callable[[], Tensor]]


class LazyTensors(Mapping[str, Tensor]):
    """Tensors by name, each made by its reader again whenever it is asked for, so that none is held here."""

    def __init__(self, readers: Readers) -> None:
        self._readers = readers

    def __getitem__(self, name: str) -> Tensor:
        return self._readers[name]()

    def __iter__(self) -> Iterator[str]:
        return iter(self._readers)

    def __len__(self) -> int:
        return len(self._readers)


class QuantisedWeights(LazyTensors):
    """The parameters of a model by our names, some matrices quantised. Each is made when it is asked for, a matrix
    dequantised to float32, and not kept, so that a model trained in place does not change them; the engine and the
    writers of files take `stored`, where matrices are as they are."""

    def __init__(self, stored: Mapping[str, Tensor | Quantised]) -> None:
        self.stored = dict(stored)
        super().__init__({name: partial(_float_copy, value) for name, value in self.stored.items()})

    @property
    def quantised(self) -> dict[str, Quantised]:
        """The quantised ones, as they are."""
        return {name: value for name, value in self.stored.items() if isinstance(value, Quantised)}

    @property
    def nbytes(self) -> int:
        """Bytes of all weights, the quantised ones in GGUF's blocks."""
        return sum(stored_bytes(value) for value in self.stored.values())


def _float_copy(value: Tensor | Quantised) -> Tensor:
    return dequantise(value) if isinstance(value, Quantised) else value.clone()


def stored_bytes(value: Tensor | Quantised) -> int:
    """Bytes of a weight in a file: a quantised matrix in GGUF's blocks, with their scales."""
    if isinstance(value, Tensor):
        return value.nbytes
    return value.rows * -(-value.columns // GROUP) * BLOCK_FORMATS[gguf_kind(value)][1]


def read_weights(folder: Path, pickle: bool = False) -> LazyTensors:
    """The tensors of `model.safetensors`, or of the shards that its index lists, by the names they have there.

    Files are checked at once: a ValueError names one that is damaged, or that disagrees with the index. A tensor is
    read when it is asked for, as a view of the mapped file, whose pages stay in memory no longer than the tensor; a
    ValueError names one whose dtype is not floating point of 16 bits or more.

    Without safetensors, `pickle` reads `pytorch_model.bin` and its shards with PyTorch's restricted unpickler, which
    builds tensors and calls nothing else; without `pickle` they are refused as UnsupportedModel.
    """
    files, open_file = _listed(folder, SAFETENSORS), open_safetensors
    if not files:
        files, open_file = _listed(folder, PICKLED), _open_pickle
        if files and not pickle:
            raise UnsupportedModel(
                f"only pickled weights ({', '.join(sorted(files)[:2])}), a format that can run code: "
                "save the model as safetensors, or load it with pickle=True, which allows nothing but tensors"
            )
    if not files:
        raise FileNotFoundError(
            f"{folder} has neither {SAFETENSORS} nor {SAFETENSORS}.index.json: there are no weights"
        )
    readers: dict[str, Callable[[], Tensor]] = {}
    for file, listed in sorted(files.items()):
        if not (folder / file).is_file():
            raise FileNotFoundError(f"{folder / file} is missing, though the index lists it: copy it there")
        shard = open_file(folder / file)
        if listed is not None and shard.keys() != listed:
            absent, extra = sorted(listed - shard.keys()), sorted(shard.keys() - listed)
            raise ValueError(f"{file} does not fit the index: it lacks {absent[:5]} and has {extra[:5]} besides")
        readers |= shard
    return LazyTensors(readers)


def write_tensors(folder: Path, tensors: Mapping[str, Tensor], sizes: Mapping[str, int], shard_size: int) -> None:
    """Writes `model.safetensors`, or shards of at most `shard_size` bytes and their index, as `transformers` does.

    `sizes` are the tensors' bytes, so that a shard is read from `tensors` no sooner than it is written. A tensor above
    `shard_size` gets a file to itself.
    """
    shards, weight_map = _shards(sizes, shard_size), dict[str, str]()
    for number, names in enumerate(shards, start=1):
        file = SAFETENSORS if len(shards) == 1 else f"model-{number:05}-of-{len(shards):05}.safetensors"
        write_tensor_file({name: tensors[name] for name in names}, folder / file, {"format": "pt"})
        weight_map |= dict.fromkeys(names, file)
    if len(shards) > 1:
        index = {"metadata": {"total_size": sum(sizes.values())}, "weight_map": dict(sorted(weight_map.items()))}
        write_json(folder / f"{SAFETENSORS}.index.json", index)


def _shards(sizes: Mapping[str, int], shard_size: int) -> list[list[str]]:
    shards: list[list[str]] = [[]]
    for name, size in sizes.items():
        if shards[-1] and sum(sizes[member] for member in shards[-1]) + size > shard_size:
            shards.append([])
        shards[-1].append(name)
    return shards


def tensor_file_bytes(tensors: Mapping[str, Tensor], shard_size: int = SHARD) -> int:
    """Bytes of the safetensors that `write_tensors` writes of these tensors, which may be on the device `meta`."""
    total, kinds = 0, {torch.int64: "I64", torch.float32: "F32", torch.int32: "I32", torch.bfloat16: "BF16"}
    kinds[torch.float16] = "F16"  # in this order the library puts a file's tensors, and those of a dtype by name
    for names in _shards({name: tensor.nbytes for name, tensor in tensors.items()}, shard_size):
        header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
        end = 0
        for name in sorted(names, key=lambda name: (list(kinds).index(tensors[name].dtype), name)):
            start, end = end, end + tensors[name].nbytes
            shape = list(tensors[name].shape)
            header[name] = {"dtype": kinds[tensors[name].dtype], "shape": shape, "data_offsets": [start, end]}
        size = len(json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode())
        total += 8 + -(-size // 8) * 8 + end
    return total


def write_tensor_file(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str] | None) -> None:
    """One safetensors file; OSError where it cannot be written, a full disk for example."""
    try:
        save_file(tensors, path, metadata)
    except SafetensorError as error:
        raise OSError(f"{path} cannot be written: {error}") from error
    if len(metadata or {}) > 1:
        # The library writes the header's metadata in another order each time: in one order, equal tensors are equal
        # files.
        with path.open("r+b") as stream:
            size = int.from_bytes(stream.read(8), "little")
            header = json.loads(stream.read(size))
            header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
            ordered = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode().ljust(size)
            assert len(ordered) == size
            stream.seek(8)
            stream.write(ordered)


def _listed(folder: Path, single: str) -> dict[str, set[str] | None]:
    """The weight files, and the tensors that the index says each has: None without index. Empty: there are no files."""
    if (folder / single).exists():
        return {single: None}
    index = f"{single}.index.json"
    if not (folder / index).exists():
        return {}
    weight_map = read_json(folder / index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise ValueError(f"{index} has no weight_map from tensors to files")
    files: dict[str, set[str] | None] = {}
    for name, file in weight_map.items():
        if not isinstance(file, str) or Path(file).name != file:  # a path could lead out of the folder
            raise ValueError(f"{index} says that {name} is in {file!r}, which is not the name of a file next to it")
        names = files.setdefault(file, set())
        assert names is not None
        names.add(name)
    return files


def open_safetensors(path: Path) -> dict[str, Callable[[], Tensor]]:
    """The readers of one file's tensors, as `read_weights` says; ValueError for a damaged file."""
    try:
        with safe_open(path, framework="pt") as file:
            return {name: partial(_read_safetensor, path, name) for name in file.keys()}  # noqa: SIM118  no mapping
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path.name} is not a whole safetensors file: {error}; copy or download it again") from error


def _read_safetensor(path: Path, name: str) -> Tensor:
    # Opened again for each tensor: a handle that stays open would keep the pages of all that were read from it.
    try:
        with safe_open(path, framework="pt") as file:
            return _checked(path, name, file.get_tensor(name))
    except SafetensorError as error:
        raise ValueError(f"{path.name}: {name} cannot be read: {error}") from error


def _open_pickle(path: Path) -> dict[str, Callable[[], Tensor]]:
    try:
        # Files of PyTorch before 1.6 are no zip archives and cannot be mapped.
        state_dict = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except Exception as error:  # damaged bytes may lead the unpickler to any exception there is
        function = re.search(r"GLOBAL (\S+)", str(error))
        cause = f"it would call {function[1]}" if function else f"it is damaged ({type(error).__name__})"
        raise ValueError(f"{path.name} was refused: {cause}; only tensors are read from a pickle") from error
    if not isinstance(state_dict, dict):
        raise ValueError(f"{path.name} holds a {type(state_dict).__name__}, not tensors by their names")
    for name, value in state_dict.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise ValueError(f"{path.name}: {name!r} is a {type(value).__name__}, not a tensor")
    return {name: partial(_checked, path, name, tensor.detach()) for name, tensor in state_dict.items()}


def _checked(path: Path, name: str, tensor: Tensor) -> Tensor:
    integers = name.endswith((".weight_packed", ".weight_shape"))  # of compressed-tensors, which says what they are
    if (tensor.dtype not in DTYPES and not integers) or tensor.layout != torch.strided or tensor.is_meta:
        supported = ", ".join(str(dtype).removeprefix("torch.") for dtype in DTYPES)
        kind = str(tensor.dtype).removeprefix("torch.")
        form = "" if tensor.layout == torch.strided and not tensor.is_meta else " and is not dense"
        raise UnsupportedModel(f"{path.name}: {name} has dtype {kind}{form}; supported: dense {supported}")
    return tensor
