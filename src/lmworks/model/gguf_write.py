"""Writing a checkpoint as one GGUF file, which llama.cpp and the programs built on it run.

The architectures of `gguf_names.py` are tried, and the first one is taken that reads back as the very same config.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from math import prod
from pathlib import Path
from typing import Any, Literal, NamedTuple

import gguf
import numpy as np
import torch
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFValueType, LlamaFileType

from lmworks.kernels.weight_formats import GROUP, Quantised, gguf_kind, to_gguf
from lmworks.model import config as configs
from lmworks.model.checkpoint import Checkpoint
from lmworks.model.config import ModelConfig, UnsupportedModel
from lmworks.model.gguf_file import GgufFile, GgufTensor
from lmworks.model.gguf_names import ARCHITECTURES, Architecture, tensor_slices, to_file
from lmworks.model.gguf_read import ConfigReader, rope_divisors, shortest_decimal
from lmworks.model.huggingface import whole_weights
from lmworks.model.tensor_files import QuantisedWeights
from lmworks.tokenizer.gguf_vocabulary import write_tokenizer

Kind = Literal["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1"]
_ALIGNED = 32  # bytes, that the header and each tensor fill up
_VALUE_TYPES = {
    bool: GGUFValueType.BOOL,
    int: GGUFValueType.UINT32,
    float: GGUFValueType.FLOAT32,
    str: GGUFValueType.STRING,
    list: GGUFValueType.ARRAY,
}
_FILE_TYPES = {
    "F32": LlamaFileType.ALL_F32,
    "F16": LlamaFileType.MOSTLY_F16,
    "BF16": LlamaFileType.MOSTLY_BF16,
    "Q8_0": LlamaFileType.MOSTLY_Q8_0,
    "Q4_0": LlamaFileType.MOSTLY_Q4_0,
    "Q4_1": LlamaFileType.MOSTLY_Q4_1,
}


def save_gguf(checkpoint: Checkpoint, path: str | Path, kind: Kind = "F16") -> Path:
    """Writes the checkpoint with its tokenizer and chat template, whole or not at all; one tensor is held at a time.

    Matrices are stored as `kind`; those of `QuantisedWeights` as they are, bit for bit, in Q8_0, Q4_0 or Q4_1; vectors,
    positions and routers, which are small and matter, as float32. A matrix whose rows do not divide into blocks of 32
    is float16. What is read back from `F32` is what was written, but for
    Gemma's norms: the file holds them plus one, which rounds their last bits, and the same weight is applied.

    FileExistsError when there is something already; UnsupportedModel or another ValueError names the first part of the
    config or tokenizer that llama.cpp does not compute.
    """
    path = Path(path).absolute()
    if path.exists():
        raise FileExistsError(f"{path} exists already; choose another name, checkpoints are never overwritten")
    metadata, architecture = _metadata_of(checkpoint, kind)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        _write(checkpoint, temporary, metadata, architecture, kind)
        os.link(temporary, path)  # fails, and does not replace, when there is such a file by now
    finally:
        temporary.unlink(missing_ok=True)
    return path


def _metadata_of(checkpoint: Checkpoint, kind: Kind) -> tuple[dict[str, Any], Architecture]:
    metadata, architecture = write_config(checkpoint.config)
    metadata |= write_tokenizer(checkpoint.required_tokenizer, checkpoint.config.embedding.vocabulary)
    metadata["general.file_type"] = int(_FILE_TYPES[kind])
    further = {"general.license": checkpoint.licence, "tokenizer.chat_template": checkpoint.chat_template}
    return metadata | {key: value for key, value in further.items() if value is not None}, architecture


def _write(
    checkpoint: Checkpoint, path: Path, metadata: dict[str, Any], architecture: Architecture, kind: Kind
) -> None:
    writer = gguf.GGUFWriter(path, architecture.name)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    for key, value in metadata.items():
        if value != []:  # of which the file has no type
            writer.add_key_value(key, value, _VALUE_TYPES[type(value)])
    stored = _whole_blocks(checkpoint)
    if stored:
        checkpoint.require_untrained()
    tensors = _tensors(checkpoint, architecture, kind)
    for name, tensor in tensors.items():
        dtype = np.dtype(np.float32)  # not used: the kind is given
        writer.add_tensor_info(name, tensor.shape, dtype, tensor.nbytes, raw_dtype=tensor.kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    floats = checkpoint.weights if stored else whole_weights(checkpoint.model)
    for name, (shape, parameters, there, _) in tensors.items():
        if name == "rope_freqs.weight":
            divisors = llama3_divisors(checkpoint.config)
            assert divisors is not None
            writer.write_tensor_data(divisors.numpy())
            continue
        as_stored = all(parameter in stored and gguf_kind(stored[parameter]) == there.name for parameter in parameters)
        values = [to_gguf(stored[parameter])[1] if as_stored else floats[parameter].cpu() for parameter in parameters]
        rows = torch.cat(
            [
                to_file(parameter, given, checkpoint.config, architecture)
                for parameter, given in zip(parameters, values, strict=True)
            ]
        )
        if as_stored:
            writer.write_tensor_data(rows.numpy())
        else:
            writer.write_tensor_data(gguf.quantize(rows.float().numpy().reshape(shape), there))
    writer.flush()
    assert writer.fout is not None
    os.fsync(writer.fout[0].fileno())
    writer.close()


def gguf_bytes(checkpoint: Checkpoint, kind: Kind = "F16") -> int:
    """Bytes of the file that `save_gguf` writes; the values of the weights, which may be on `meta`, are not read."""
    metadata, architecture = _metadata_of(checkpoint, kind)
    tensors = _tensors(checkpoint, architecture, kind)
    # What the library adds, as long as what stands for it here.
    metadata |= {"general.architecture": architecture.name, "general.quantization_version": 0}
    header = 24 + sum(12 + len(key.encode()) + _value_bytes(value) for key, value in metadata.items())
    header += sum(24 + len(name.encode()) + 8 * len(tensor.shape) for name, tensor in tensors.items())
    return sum(-(-size // _ALIGNED) * _ALIGNED for size in (header, *(tensor.nbytes for tensor in tensors.values())))


def _value_bytes(value: Any) -> int:
    match value:
        case bool():
            return 1
        case int() | float():
            return 4
        case str():
            return 8 + len(value.encode())
        case _:
            return 12 + sum(map(_value_bytes, value))


class _FileTensor(NamedTuple):
    """A tensor of the file: its shape, our parameters in it, and how it is stored."""

    shape: tuple[int, ...]
    parameters: list[str]
    kind: GGMLQuantizationType
    nbytes: int


def _tensors(checkpoint: Checkpoint, architecture: Architecture, kind: Kind) -> dict[str, _FileTensor]:
    layout: dict[str, tuple[tuple[int, ...], list[str]]] = {}
    divisors = llama3_divisors(checkpoint.config)
    if divisors is not None:
        layout["rope_freqs.weight"] = (tuple(divisors.shape), [])
    for ours, location in tensor_slices(checkpoint.config, architecture).items():
        shape, parameters = layout.get(location.tensor, ((0,), []))
        if "_exps." in location.tensor:
            shape = (len(parameters) + 1, *location.shape)
        else:
            shape = (shape[0] + location.shape[0], *location.shape[1:])
        layout[location.tensor] = (shape, [*parameters, ours])
    stored, tensors = _whole_blocks(checkpoint), dict[str, _FileTensor]()
    for name, (shape, parameters) in layout.items():
        there = _kind(
            name, shape, [gguf_kind(stored[parameter]) if parameter in stored else kind for parameter in parameters]
        )
        block, size = GGML_QUANT_SIZES[there]
        tensors[name] = _FileTensor(shape, parameters, there, prod(shape) // block * size)
    return tensors


def _whole_blocks(checkpoint: Checkpoint) -> dict[str, Quantised]:
    """The quantised matrices that are whole blocks."""
    quantised = checkpoint.weights.quantised if isinstance(checkpoint.weights, QuantisedWeights) else {}
    return {name: matrix for name, matrix in quantised.items() if matrix.columns % GROUP == 0}


def _kind(name: str, shape: tuple[int, ...], kinds: Sequence[str]) -> GGMLQuantizationType:
    if len(shape) == 1 or name in ("position_embd.weight", "rope_freqs.weight") or "ffn_gate_inp" in name:
        return GGMLQuantizationType.F32
    tensor_kind = GGMLQuantizationType[kinds[0] if len(set(kinds)) == 1 else "F16"]
    return tensor_kind if shape[-1] % GGML_QUANT_SIZES[tensor_kind][0] == 0 else GGMLQuantizationType.F16


# ---------------------------------------------------------------------------------------------------------------------
# The config


def write_config(config: ModelConfig) -> tuple[dict[str, Any], Architecture]:
    """The metadata of a config, and the architecture it is written as.

    UnsupportedModel names the first part that no architecture of llama.cpp computes.
    """
    failures = []
    for architecture in ARCHITECTURES:
        try:
            metadata = _metadata(config, architecture)
            read = ConfigReader(_as_file(config, metadata, architecture), architecture).config()
        except (KeyError, TypeError, ValueError) as error:
            failures.append((len(ARCHITECTURES), f"{architecture.name} lacks {error}"))
            continue
        differences = list(_differences(_explicit(config), _explicit(read), ""))
        windows = [b.attention.pattern for stack in config.stacks for b in stack.blocks if b.attention.pattern]
        if architecture.period is None and any(getattr(w, "size", 0) < config.context_length for w in windows):
            differences.append("a window: llama.cpp computes none")
        if not differences:
            return metadata, architecture
        failures.append((len(differences), f"{architecture.name} has another {differences[0]}"))
    raise UnsupportedModel(f"GGUF cannot express this config: {min(failures)[1]}")


def _metadata(config: ModelConfig, architecture: Architecture) -> dict[str, Any]:
    decoder = config.decoder
    if decoder is None:
        raise UnsupportedModel("a decoder")
    attentions = [block.attention for block in decoder.blocks]
    attention, network, norm = attentions[0], decoder.blocks[0].feed_forward, decoder.blocks[0].norm
    values: dict[str, Any] = {
        "context_length": config.context_length,
        "embedding_length": config.embedding.width,
        "block_count": len(decoder.blocks),
        "attention.head_count": attention.heads,
        "attention.head_count_kv": attention.kv_heads,
        f"attention.layer_norm_{'rms_' if norm.kind == 'rms' else ''}epsilon": norm.eps,
    }
    if attention.head_dim * attention.heads != config.embedding.width or architecture.norm_offset:
        values |= {"attention.key_length": attention.head_dim, "attention.value_length": attention.head_dim}
    if isinstance(network, configs.MixtureOfExperts):
        values |= {"expert_count": network.experts, "expert_used_count": network.top_k}
        network = network.expert
    values["feed_forward_length"] = network.hidden
    if attention.softcap is not None:
        values["attn_logit_softcapping"] = attention.softcap
    if isinstance(config.head, configs.LanguageModelHead) and config.head.softcap is not None:
        values["final_logit_softcapping"] = config.head.softcap
    windows = [a.pattern.size for a in attentions if isinstance(a.pattern, configs.Window)]
    if windows:
        values["attention.sliding_window"] = windows[0]
    everywhere = [a for a in attentions if a.pattern is None] or attentions
    local = [a.rope for a in attentions if a.pattern is not None and a.rope is not None]
    if architecture.local_theta is not None and local:
        values["rope.freq_base_swa"] = local[0].theta
    if everywhere[0].rope is not None:
        values |= _rope_metadata(everywhere[0].rope, attention.head_dim)
    return {f"{architecture.name}.{key}": value for key, value in values.items()}


def _rope_metadata(rope: configs.Rope, head_dim: int) -> dict[str, Any]:
    values: dict[str, Any] = {"rope.freq_base": rope.theta, "rope.dimension_count": int(head_dim * rope.fraction)}
    match rope.scaling:
        case configs.LinearScaling(factor):
            values |= {"rope.scaling.type": "linear", "rope.scaling.factor": factor}
        case configs.YarnScaling() as yarn:
            values |= {"rope.scaling.type": "yarn", "rope.scaling.factor": yarn.factor}
            values["rope.scaling.original_context_length"] = yarn.original_length
            values |= {"rope.scaling.yarn_beta_fast": yarn.beta_fast, "rope.scaling.yarn_beta_slow": yarn.beta_slow}
        case _:
            pass
    return values


def llama3_divisors(config: ModelConfig) -> torch.Tensor | None:
    """The tensor `rope_freqs.weight`, which a model with LLaMA 3's scaling has."""
    attention = config.decoder.blocks[0].attention if config.decoder else None
    if attention is None or attention.rope is None or not isinstance(attention.rope.scaling, configs.Llama3Scaling):
        return None
    return rope_divisors(attention.rope, attention.head_dim)


def _as_file(config: ModelConfig, metadata: Mapping[str, Any], architecture: Architecture) -> GgufFile:
    """The file without its weights, enough to read the config from."""
    shapes = {location.tensor: location.shape for location in tensor_slices(config, architecture).values()}
    divisors = llama3_divisors(config)
    if divisors is not None:
        shapes["rope_freqs.weight"] = tuple(divisors.shape)
    tensors = {name: GgufTensor(name, shape, GGMLQuantizationType.F32, 0) for name, shape in shapes.items()}
    return GgufFile(dict(metadata), tensors, b"" if divisors is None else divisors.numpy().tobytes())


def _explicit(config: ModelConfig) -> ModelConfig:
    """The config with the defaults of its attentions written out, so that equal ones compare equal."""
    assert config.decoder is not None
    blocks = tuple(
        replace(
            block,
            attention=replace(
                block.attention,
                output_bias=block.attention.has_output_bias,
                scale=shortest_decimal(block.attention.scale or block.attention.head_dim**-0.5),
            ),
        )
        for block in config.decoder.blocks
    )
    return replace(config, decoder=replace(config.decoder, blocks=blocks))


def _differences(given: Any, read_back: Any, path: str) -> Iterator[str]:
    if isinstance(given, tuple) and isinstance(read_back, tuple) and len(given) == len(read_back):
        for index, (given_item, read_item) in enumerate(zip(given, read_back, strict=True)):
            yield from _differences(given_item, read_item, f"{path}.{index}")
    elif is_dataclass(given) and type(given) is type(read_back):
        for field in fields(given):
            yield from _differences(getattr(given, field.name), getattr(read_back, field.name), f"{path}.{field.name}")
    elif given != read_back:
        yield f"{path.removeprefix('.')}: {given!r} is not {read_back!r}"
