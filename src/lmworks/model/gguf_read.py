"""A model from a GGUF file: architecture, weights, tokenizer and chat template, all from the one file.

What the metadata do not say is part of what `general.architecture` means to llama.cpp, see `gguf_names.py`.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from gguf.constants import GGML_QUANT_SIZES
from torch import Tensor

from lmworks.model import config as configs
from lmworks.model.config import ModelConfig, UnsupportedModel
from lmworks.model.gguf_file import GgufFile, open_gguf
from lmworks.model.gguf_names import ARCHITECTURES, OPTIONAL, Architecture, TensorSlice, from_file, tensor_slices
from lmworks.model.positions import rope_frequencies
from lmworks.model.tensor_files import LazyTensors
from lmworks.tokenizer.gguf_vocabulary import read_tokenizer
from lmworks.tokenizer.tokenizer import Tokenizer

_LLAMA3_LENGTHS = (8192, 2048, 4096, 16384, 32768)  # `rope_freqs` keeps the effect of the original length, not itself
_TOO_LARGE = 1 << 28
_BETAS = {"fast": 32.0, "slow": 1.0}
_UNUSED_YARN = ("attn_factor", "yarn_attn_factor", "yarn_ext_factor", "yarn_log_multiplier", "alpha")


class GgufWeights(LazyTensors):
    """The parameters of `Transformer(config)` by our names, each dequantised when it is asked for and not kept."""

    def __init__(self, file: GgufFile, config: ModelConfig, architecture: Architecture) -> None:
        self._file, self._config, self._architecture = file, config, architecture
        self._tensor_slices = tensor_slices(config, architecture)
        _check(file, self._tensor_slices)
        super().__init__({name: partial(self._read, name) for name in self._tensor_slices})

    @property
    def quantised(self) -> bool:
        """Whether a tensor is stored in blocks."""
        return any(GGML_QUANT_SIZES[tensor.kind][0] > 1 for tensor in self._file.tensors.values())

    def _read(self, name: str) -> Tensor:
        location = self._tensor_slices[name]
        tensor = self._file.read(location.tensor, slice(location.first, location.first + location.shape[0])).view(
            location.shape
        )
        return from_file(name, tensor, self._config, self._architecture)

    def release(self) -> None:
        """Free the file after everything needed has been read; see `GgufFile.release`."""
        self._file.release()

    def blocks(self, name: str) -> tuple[str, Tensor] | None:
        """A matrix as the file has it: the name of its type and its quantised blocks, (rows, bytes of a row) uint8.

        None for what is not quantised by blocks that lie along a row.
        """
        location = self._tensor_slices[name]
        tensor = self._file.tensors[location.tensor]
        if len(location.shape) != 2 or GGML_QUANT_SIZES[tensor.kind][0] == 1:
            return None
        raw = self._file.raw(location.tensor, slice(location.first, location.first + location.shape[0]))
        return tensor.kind.name, from_file(name, raw, self._config, self._architecture)


class GgufModel(NamedTuple):
    """The parts of a GGUF file, whose weights are dequantised when they are asked for."""

    config: ModelConfig
    weights: GgufWeights
    tokenizer: Tokenizer
    chat_template: str | None
    licence: str | None


def read_gguf(path: Path) -> GgufModel:
    """Reads a decoder and its tokenizer; nothing is dequantised yet: the weights are `GgufWeights`.

    UnsupportedModel or another ValueError names what is missing, damaged or not computed here.
    """
    file = open_gguf(path)
    split_count = file.metadata.get("split.count", 1)
    if split_count > 1:
        raise UnsupportedModel(f"{path} is one of {split_count} parts: join them with llama-gguf-split --merge")
    try:
        config, architecture = read_config(file)
        weights = GgufWeights(file, config, architecture)
    except (ArithmeticError, LookupError, RuntimeError, TypeError) as error:  # from sizes that no model can have
        raise ValueError(f"the metadata of {path} describe no possible model: {error}") from error
    template, licence = (file.metadata.get(key) for key in ("tokenizer.chat_template", "general.license"))
    return GgufModel(config, weights, read_tokenizer(file.metadata), template, licence)


def _check(file: GgufFile, expected: Mapping[str, TensorSlice]) -> None:
    """ValueError names tensors that are missing, of another shape, or without a place in the model."""
    rows: Counter[str] = Counter()
    for location in expected.values():
        rows[location.tensor] += location.shape[0]
    unknown = sorted(file.tensors.keys() - rows.keys() - {"rope_freqs.weight"})
    missing = sorted(rows.keys() - file.tensors.keys())
    if unknown or missing:
        raise ValueError(f"the GGUF file's tensors do not fit its metadata: missing {missing[:5]}, extra {unknown[:5]}")
    for location in expected.values():
        shape = file.tensors[location.tensor].matrix
        expected_shape = (rows[location.tensor], prod(location.shape[1:]))
        if shape != expected_shape:
            raise ValueError(
                f"the GGUF file's tensor {location.tensor} is a matrix of {shape}, its metadata asks for "
                f"{expected_shape}"
            )


# ---------------------------------------------------------------------------------------------------------------------
# The config


def read_config(file: GgufFile) -> tuple[ModelConfig, Architecture]:
    """UnsupportedModel or another ValueError names the first key or tensor that is missing or not computed here."""
    name = file.need("general.architecture", str)
    architectures = [architecture for architecture in ARCHITECTURES if architecture.name == name]
    if not architectures:
        known = ", ".join(sorted(architecture.name for architecture in ARCHITECTURES))
        raise UnsupportedModel(f"general.architecture = {name!r} is not supported; supported: {known}")
    return ConfigReader(file, architectures[0]).config(), architectures[0]


@dataclass(frozen=True)
class ConfigReader:
    file: GgufFile
    architecture: Architecture

    def number(self, key: str, default: float | None = None, kind: type = int) -> Any:
        """The metadata value `<architecture>.<key>`."""
        full = f"{self.architecture.name}.{key}"
        if default is not None and full not in self.file.metadata:
            return default
        value = self.file.need(full, kind)
        if kind is float:
            return shortest_decimal(value)
        if not (1 if default is None else 0) <= value < _TOO_LARGE:
            raise ValueError(f"the GGUF file's {full} = {value} is no possible size")
        return value

    def config(self) -> ModelConfig:
        architecture, tensors = self.architecture, self.file.tensors
        self._check_parts()
        width, layers = self.number("embedding_length"), self.number("block_count")
        length, position = self.number("context_length"), "position_embd.weight" in tensors
        for name in ("token_embd.weight", f"blk.{layers - 1}.attn_norm.weight"):
            if name not in tensors:
                raise ValueError(f"the GGUF file of {layers} layers has no tensor {name}")
        embedding = configs.Embedding(
            tensors["token_embd.weight"].shape[0],
            width,
            configs.Learned(length) if position else None,
            scale=width**0.5 if architecture.norm_offset else None,
        )
        blocks = tuple(self._block(layer, width, layers) for layer in range(layers))
        stack = configs.Stack(blocks, causal=True, final_norm=self._norm())
        cap = self._softcap("final_logit_softcapping")
        return ModelConfig(
            embedding, None, stack, configs.LanguageModelHead("output.weight" not in tensors, softcap=cap), length
        )

    def _check_parts(self) -> None:
        architecture = self.architecture
        present = {name for name in OPTIONAL if f"blk.0.{name}" in self.file.tensors}
        wrong = (present ^ set(architecture.needs)) - set(architecture.may)
        if wrong:
            raise UnsupportedModel(
                f"tensors blk.N.{sorted(wrong)} are missing from, or no part of, {architecture.name}"
            )

    def _norm(self) -> configs.Norm:
        key = "layer_norm_rms_epsilon" if self.architecture.norm == "rms" else "layer_norm_epsilon"
        eps = self.number(f"attention.{key}", kind=float)
        return configs.Norm(self.architecture.norm, eps, self.architecture.norm_offset)

    def _block(self, layer: int, width: int, layers: int) -> configs.Block:
        architecture, tensors = self.architecture, self.file.tensors
        sandwich = "blk.0.post_attention_norm.weight" in tensors
        network = configs.FeedForward(
            self.number("feed_forward_length"),
            architecture.activation,
            architecture.gated,
            bias="blk.0.ffn_up.bias" in tensors,
        )
        experts, router = self.number("expert_count", 0), f"blk.{layer}.ffn_gate_inp.weight"
        mixture = configs.MixtureOfExperts(network, experts, self.number("expert_used_count")) if experts else network
        if experts and (router not in tensors or tensors[router].matrix[0] != experts):  # before so many are made
            raise ValueError(f"the GGUF file of {experts} experts has no tensor {router} of as many rows")
        return configs.Block(
            self._attention(layer, width, layers),
            mixture,
            self._norm(),
            norm_at="sandwich" if sandwich else "pre",
        )

    def _attention(self, layer: int, width: int, layers: int) -> configs.Attention:
        architecture, tensors = self.architecture, self.file.tensors
        heads = self.number("attention.head_count")
        head_dim = self.number("attention.key_length", width // heads)
        if not architecture.own_head_dim and head_dim * heads != width:
            raise UnsupportedModel(f"attention.key_length: {heads} heads of {head_dim} are not the width {width}")
        if self.number("attention.value_length", head_dim) != head_dim:
            raise UnsupportedModel("attention.value_length that differs from key_length is not supported")
        window = self._window(layer)
        learned = "position_embd.weight" in tensors
        bias = bool({"blk.0.attn_q.bias", "blk.0.attn_qkv.bias"} & tensors.keys())
        output_bias = "blk.0.attn_output.bias" in tensors
        return configs.Attention(
            heads,
            self.number("attention.head_count_kv", heads),
            head_dim,
            bias,
            None if output_bias == bias else output_bias,
            scale=(width // heads) ** -0.5 if layers == architecture.large else None,
            position=None if learned else self._rope(head_dim, local=window is not None),
            qk_norm=self._norm() if "blk.0.attn_q_norm.weight" in tensors else None,
            pattern=window,
            softcap=self._softcap("attn_logit_softcapping"),
        )

    def _softcap(self, key: str) -> float | None:
        default = self.architecture.softcaps.get(key)
        return None if default is None else self.number(key, default, float) or None

    def _window(self, layer: int) -> configs.Window | None:
        size = self.number("attention.sliding_window", 0)
        pattern: Any = self.file.metadata.get(f"{self.architecture.name}.attention.sliding_window_pattern")
        if isinstance(pattern, list):
            return configs.Window(size) if size and pattern[layer] else None
        period = pattern or self.architecture.period
        return configs.Window(size) if size and (period is None or (layer + 1) % period) else None

    def _rope(self, head_dim: int, local: bool) -> configs.Rope:
        fraction = self.number("rope.dimension_count", head_dim) / head_dim
        if fraction != 1.0 and self.architecture.rotates_neighbours:
            raise UnsupportedModel("rope.dimension_count: rotating a part of the head is not supported")
        theta = self.number("rope.freq_base", 10_000.0, float)
        if local and self.architecture.local_theta is not None:
            return configs.Rope(self.number("rope.freq_base_swa", self.architecture.local_theta, float), fraction)
        rope = configs.Rope(theta, fraction)
        factor = self.number("rope.scaling.factor", 0.0, float) or self.number("rope.scale_linear", 1.0, float)
        kind = self.file.metadata.get(f"{self.architecture.name}.rope.scaling.type", "linear")
        if "rope_freqs.weight" in self.file.tensors:
            if not self.architecture.rotates_neighbours or kind != "linear" or factor != 1.0:
                raise UnsupportedModel("rope_freqs.weight is supported in llama, without another scaling")
            return replace(rope, scaling=self._llama3(rope, head_dim))
        if kind == "none" or (kind == "linear" and factor == 1.0):
            return rope
        if kind == "linear":
            return replace(rope, scaling=configs.LinearScaling(factor))
        unused = [key for key in _UNUSED_YARN if self.number(f"rope.scaling.{key}", 1.0, float) != 1.0]
        if kind != "yarn" or unused:
            raise UnsupportedModel(
                f"rope.scaling.type = {kind!r} with {unused} is not supported; plain linear, yarn are"
            )
        length = self.number("rope.scaling.original_context_length", self.number("context_length"))
        fast, slow = (self.number(f"rope.scaling.yarn_beta_{end}", value, float) for end, value in _BETAS.items())
        return replace(rope, scaling=configs.YarnScaling(factor, length, fast, slow))

    def _llama3(self, rope: configs.Rope, head_dim: int) -> configs.Llama3Scaling:
        stored = self.file.read("rope_freqs.weight").flatten()
        for length in _LLAMA3_LENGTHS:
            scaling = configs.Llama3Scaling(shortest_decimal(stored.max().item()), length)
            # A float32 divisor, computed in another order than ours: a few units in its last place.
            if torch.allclose(rope_divisors(replace(rope, scaling=scaling), head_dim), stored, rtol=1e-5):
                return scaling
        raise UnsupportedModel("rope_freqs.weight is not LLaMA 3's scaling of the rotation with its usual borders")


def rope_divisors(rope: configs.Rope, head_dim: int) -> torch.Tensor:
    """The scaling's divisor of each plane's frequency, (rotated / 2,) float32: llama.cpp's `rope_freqs`."""
    rotated = int(head_dim * rope.fraction)
    return rope_frequencies(replace(rope, scaling=None), rotated)[0] / rope_frequencies(rope, rotated)[0]


def shortest_decimal(value: float) -> float:
    """The number that was meant by a float32: 1e-05 and not 9.999999747378752e-06."""
    return float(str(np.float32(value)))
