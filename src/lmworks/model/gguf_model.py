"""A model from a GGUF file: architecture, weights, tokenizer and chat template, all from the one file."""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lmworks.model import presets
from lmworks.model.config import Attention, ModelConfig
from lmworks.model.gguf_file import GgufFile, open_gguf
from lmworks.model.huggingface import UnsupportedModel
from lmworks.model.weights import empty_model
from lmworks.tokenizer.byte_level import byte_level_bpe
from lmworks.tokenizer.tokenizer import Tokenizer

# Our module names and GGUF's, with {} for the number of a layer.
_MODULES = {
    "embedding.tokens": "token_embd",
    "decoder.blocks.{}.attention_norm": "blk.{}.attn_norm",
    "decoder.blocks.{}.attention.query": "blk.{}.attn_q",
    "decoder.blocks.{}.attention.key": "blk.{}.attn_k",
    "decoder.blocks.{}.attention.value": "blk.{}.attn_v",
    "decoder.blocks.{}.attention.output": "blk.{}.attn_output",
    "decoder.blocks.{}.feed_forward_norm": "blk.{}.ffn_norm",
    "decoder.blocks.{}.feed_forward.gate": "blk.{}.ffn_gate",
    "decoder.blocks.{}.feed_forward.up": "blk.{}.ffn_up",
    "decoder.blocks.{}.feed_forward.down": "blk.{}.ffn_down",
    "decoder.norm": "output_norm",
    "unembedding": "output",
}


@dataclass(frozen=True)
class GgufModel:
    config: ModelConfig
    weights: dict[str, Tensor]  # our names, float32
    tokenizer: Tokenizer
    chat_template: str | None
    licence: str | None


def read_gguf(path: Path) -> GgufModel:
    """Reads a LLaMA model with a byte-level BPE tokenizer; UnsupportedModel names what else the file asks for."""
    file = open_gguf(path)
    config = _config(file)
    return GgufModel(
        config,
        _weights(file, config),
        _tokenizer(file.metadata),
        file.metadata.get("tokenizer.chat_template"),
        file.metadata.get("general.license"),
    )


def _config(file: GgufFile) -> ModelConfig:
    metadata = file.metadata
    architecture = metadata["general.architecture"]
    if architecture != "llama":
        raise UnsupportedModel(f"general.architecture = {architecture!r} is not supported; supported: 'llama'")
    if metadata.get("llama.rope.scaling.type", "none") != "none" or "rope_freqs.weight" in file.tensors:
        raise UnsupportedModel("scaled rotary frequencies (llama.rope.scaling, rope_freqs) are not supported")
    if metadata.get("llama.expert_count", 0):
        raise UnsupportedModel("llama.expert_count: mixtures of experts are not supported")
    width, heads = metadata["llama.embedding_length"], metadata["llama.attention.head_count"]
    head_dim = metadata.get("llama.attention.key_length", width // heads)
    if metadata.get("llama.rope.dimension_count", head_dim) != head_dim:
        raise UnsupportedModel("llama.rope.dimension_count: rotating a part of the head is not supported")
    return presets.llama(
        vocabulary=file.tensors["token_embd.weight"].shape[0],
        width=width,
        layers=metadata["llama.block_count"],
        heads=heads,
        kv_heads=metadata.get("llama.attention.head_count_kv", heads),
        hidden=metadata["llama.feed_forward_length"],
        context_length=metadata["llama.context_length"],
        head_dim=head_dim,
        rope_theta=_decimal(metadata.get("llama.rope.freq_base", 10_000.0)),
        norm_eps=_decimal(metadata["llama.attention.layer_norm_rms_epsilon"]),
        tied="output.weight" not in file.tensors,
        attention_bias="blk.0.attn_q.bias" in file.tensors,
        feed_forward_bias="blk.0.ffn_up.bias" in file.tensors,
    )


def _weights(file: GgufFile, config: ModelConfig) -> dict[str, Tensor]:
    layers = range(len(config.decoder.blocks) if config.decoder else 0)
    names = {o.format(n): t.format(n) for o, t in _MODULES.items() for n in (layers if "{}" in o else [0])}

    def read(ours: str) -> Tensor:
        module, _, parameter = ours.rpartition(".")
        values = file.read(f"{names[module]}.{parameter}")
        if module.endswith(("attention.query", "attention.key")):
            values = _undo_permutation(values, config, module)
        return torch.from_numpy(values)

    expected = list(empty_model(config).state_dict())
    with ThreadPoolExecutor(os.cpu_count()) as threads:  # numpy lets go of the interpreter while it dequantises
        weights = dict(zip(expected, threads.map(read, expected), strict=True))
    unused = len(file.tensors) - len(weights)
    if unused:
        raise UnsupportedModel(
            f"{unused} tensors of the file have no place in a llama model: {sorted(file.tensors)[:5]}"
        )
    return weights


def _undo_permutation(values: np.ndarray, config: ModelConfig, module: str) -> np.ndarray:
    """Rows from llama.cpp's order, which rotates neighbours, to ours, which rotates halves (see `positions.py`)."""
    assert config.decoder is not None
    attention: Attention = config.decoder.blocks[0].attention
    heads = attention.heads if module.endswith("query") else attention.kv_heads
    pairs = values.reshape(heads, attention.head_dim // 2, 2, *values.shape[1:])  # (heads, plane, half, …)
    return np.ascontiguousarray(pairs.swapaxes(1, 2)).reshape(values.shape)


def _tokenizer(metadata: dict[str, Any]) -> Tokenizer:
    kind = metadata["tokenizer.ggml.model"]
    if kind != "gpt2":
        raise UnsupportedModel(f"tokenizer.ggml.model = {kind!r} is not supported; supported: 'gpt2' (byte-level BPE)")
    if metadata.get("tokenizer.ggml.add_bos_token", False) or metadata.get("tokenizer.ggml.add_space_prefix", False):
        raise UnsupportedModel("tokenizer.ggml.add_bos_token and add_space_prefix are not supported")
    tokens = metadata["tokenizer.ggml.tokens"]
    backend = byte_level_bpe(
        tokens,
        metadata["tokenizer.ggml.merges"],
        metadata["tokenizer.ggml.token_type"],
        metadata.get("tokenizer.ggml.pre", "default"),
    )
    suffix = "_token_id"
    ids = {key.removeprefix("tokenizer.ggml."): index for key, index in metadata.items() if key.endswith(suffix)}
    names = {"bos_token": "bos", "eos_token": "eos", "unk_token": "unknown", "pad_token": "padding"}
    roles = {role: tokens[ids[name + suffix]] for role, name in names.items() if name + suffix in ids}
    ends_of_turn = [ids[name + suffix] for name in ("eot", "eom") if name + suffix in ids]
    return Tokenizer(backend, roles, ends_of_turn)


def _decimal(value: float) -> float:
    """The number that was meant by a float32: 1e-05 and not 9.999999747378752e-06."""
    return float(str(np.float32(value)))
