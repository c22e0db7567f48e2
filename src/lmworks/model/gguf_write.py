"""Writing a checkpoint as one GGUF file, which llama.cpp and the programs built on it run."""

import os
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any, Literal

import gguf
import numpy as np
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType, LlamaFileType
from torch import Tensor

from lmworks.model.checkpoint import Checkpoint
from lmworks.model.gguf_config import llama3_divisors, write_config
from lmworks.model.gguf_names import Architecture, places, to_file
from lmworks.tokenizer.gguf_vocabulary import write_tokenizer

Kind = Literal["F32", "F16", "Q8_0", "Q4_0"]
_FILE_TYPES = {
    "F32": LlamaFileType.ALL_F32,
    "F16": LlamaFileType.MOSTLY_F16,
    "Q8_0": LlamaFileType.MOSTLY_Q8_0,
    "Q4_0": LlamaFileType.MOSTLY_Q4_0,
}


def save_gguf(checkpoint: Checkpoint, path: str | Path, kind: Kind = "F16") -> Path:
    """Writes the checkpoint with its tokenizer and chat template, whole or not at all; one tensor is held at a time.

    Matrices are stored as `kind`; vectors, positions and routers, which are small and matter, as float32. A matrix
    whose rows do not divide into blocks of 32 is float16. What is read back from `F32` is what was written, but for
    Gemma's norms: the file holds them plus one, which rounds their last bits, and the same weight is applied.

    FileExistsError when there is something already; UnsupportedModel or another ValueError names the first part of the
    config or tokenizer that llama.cpp does not compute.
    """
    path = Path(path).absolute()
    if path.exists():
        raise FileExistsError(f"{path} exists already; choose another name, checkpoints are never overwritten")
    config = checkpoint.config
    metadata, architecture = write_config(config)
    metadata |= write_tokenizer(checkpoint.tokenizer, config.embedding.vocabulary)
    metadata["general.file_type"] = int(_FILE_TYPES[kind])
    for key, value in {
        "general.license": checkpoint.licence,
        "tokenizer.chat_template": checkpoint.chat_template,
    }.items():
        if value is not None:
            metadata[key] = value
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        _write(checkpoint, temporary, metadata, architecture, kind)
        os.link(temporary, path)  # fails, and does not replace, when there is such a file by now
    finally:
        temporary.unlink(missing_ok=True)
    return path


def _write(
    checkpoint: Checkpoint, path: Path, metadata: dict[str, Any], architecture: Architecture, kind: Kind
) -> None:
    writer = gguf.GGUFWriter(path, architecture.name)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    for key, value in metadata.items():
        _add(writer, key, value)
    tensors = _layout(checkpoint, architecture)
    kinds = {name: _kind(name, shape, kind) for name, (shape, _) in tensors.items()}
    for name, (shape, _) in tensors.items():
        block, size = GGML_QUANT_SIZES[kinds[name]]
        dtype = np.dtype(np.float32)  # not used: the kind is given
        writer.add_tensor_info(name, shape, dtype, prod(shape) // block * size, raw_dtype=kinds[name])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for (name, (shape, _)), values in zip(tensors.items(), _values(checkpoint, architecture, tensors), strict=True):
        writer.write_tensor_data(gguf.quantize(values.reshape(shape), kinds[name]))
    writer.flush()
    assert writer.fout is not None
    os.fsync(writer.fout[0].fileno())
    writer.close()


_Layout = dict[str, tuple[tuple[int, ...], list[str]]]  # their name → its shape, and our parameters in it


def _layout(checkpoint: Checkpoint, architecture: Architecture) -> _Layout:
    layout: _Layout = {}
    divisors = llama3_divisors(checkpoint.config)
    if divisors is not None:
        layout["rope_freqs.weight"] = (tuple(divisors.shape), [])
    for ours, place in places(checkpoint.config, architecture).items():
        shape, parts = layout.get(place.theirs, ((0,), []))
        if "_exps." in place.theirs:
            shape = (len(parts) + 1, *place.shape)
        else:
            shape = (shape[0] + place.shape[0], *place.shape[1:])
        layout[place.theirs] = (shape, [*parts, ours])
    return layout


def _values(checkpoint: Checkpoint, architecture: Architecture, layout: _Layout) -> Iterator[np.ndarray]:
    weights: dict[str, Tensor] = checkpoint.model.state_dict()
    for name, (_, parts) in layout.items():
        if name == "rope_freqs.weight":
            divisors = llama3_divisors(checkpoint.config)
            assert divisors is not None
            yield divisors.numpy()
        else:
            stored = [to_file(part, weights[part].cpu(), checkpoint.config, architecture).numpy() for part in parts]
            yield stored[0] if len(stored) == 1 else np.concatenate(stored)


def _kind(name: str, shape: tuple[int, ...], kind: Kind) -> GGMLQuantizationType:
    if len(shape) == 1 or name in ("position_embd.weight", "rope_freqs.weight") or "ffn_gate_inp" in name:
        return GGMLQuantizationType.F32
    whole = shape[-1] % GGML_QUANT_SIZES[GGMLQuantizationType[kind]][0] == 0
    return GGMLQuantizationType[kind] if whole else GGMLQuantizationType.F16


def _add(writer: gguf.GGUFWriter, key: str, value: Any) -> None:
    match value:
        case bool():
            writer.add_bool(key, value)
        case int():
            writer.add_uint32(key, value)
        case float():
            writer.add_float32(key, value)
        case str():
            writer.add_string(key, value)
        case _:
            writer.add_array(key, value)
