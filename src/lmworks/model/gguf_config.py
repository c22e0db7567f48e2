"""The architecture in a GGUF file's metadata, in both directions.

What a file does not say is part of what its `general.architecture` means to llama.cpp, see `gguf_names.py`. Writing
tries the architectures and takes the first one that reads back as the very same config.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import numpy as np
import torch
from gguf.constants import GGMLQuantizationType

from lmworks.model.config import (
    Attention,
    Block,
    Embedding,
    FeedForward,
    LanguageModelHead,
    Learned,
    LinearScaling,
    Llama3Scaling,
    MixtureOfExperts,
    ModelConfig,
    Norm,
    Rope,
    Stack,
    Window,
    YarnScaling,
)
from lmworks.model.gguf_file import GgufFile, GgufTensor
from lmworks.model.gguf_names import ARCHITECTURES, OPTIONAL, Architecture, places
from lmworks.model.huggingface import UnsupportedModel
from lmworks.model.positions import rope_frequencies

_LLAMA3_LENGTHS = (8192, 2048, 4096, 16384, 32768)  # `rope_freqs` keeps the effect of the original length, not itself
_TOO_LARGE = 1 << 28
_BETAS = {"fast": 32.0, "slow": 1.0}
_UNUSED_YARN = ("attn_factor", "yarn_attn_factor", "yarn_ext_factor", "yarn_log_multiplier", "alpha")


def read_config(file: GgufFile) -> tuple[ModelConfig, Architecture]:
    """UnsupportedModel or another ValueError names the first key or tensor that is missing or not computed here."""
    name = file.need("general.architecture", str)
    found = [architecture for architecture in ARCHITECTURES if architecture.name == name]
    if not found:
        known = ", ".join(sorted(architecture.name for architecture in ARCHITECTURES))
        raise UnsupportedModel(f"general.architecture = {name!r} is not supported; supported: {known}")
    return _Reader(file, found[0]).config(), found[0]


@dataclass(frozen=True)
class _Reader:
    file: GgufFile
    architecture: Architecture

    def number(self, key: str, default: float | None = None, kind: type = int) -> Any:
        """The metadata value `<architecture>.<key>`."""
        full = f"{self.architecture.name}.{key}"
        if default is not None and full not in self.file.metadata:
            return default
        value = self.file.need(full, kind)
        if kind is float:
            return _decimal(value)
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
        embedding = Embedding(
            tensors["token_embd.weight"].shape[0],
            width,
            Learned(length) if position else None,
            scale=width**0.5 if architecture.norm_offset else None,
        )
        blocks = tuple(self._block(layer, width, layers) for layer in range(layers))
        stack = Stack(blocks, causal=True, final_norm=self._norm())
        cap = self._softcap("final_logit_softcapping")
        return ModelConfig(
            embedding, None, stack, LanguageModelHead("output.weight" not in tensors, softcap=cap), length
        )

    def _check_parts(self) -> None:
        architecture = self.architecture
        present = {name for name in OPTIONAL if f"blk.0.{name}" in self.file.tensors}
        wrong = (present ^ set(architecture.needs)) - set(architecture.may)
        if wrong:
            raise UnsupportedModel(
                f"tensors blk.N.{sorted(wrong)} are missing from, or no part of, {architecture.name}"
            )

    def _norm(self) -> Norm:
        key = "layer_norm_rms_epsilon" if self.architecture.norm == "rms" else "layer_norm_epsilon"
        eps = self.number(f"attention.{key}", kind=float)
        return Norm(self.architecture.norm, eps, self.architecture.norm_offset)

    def _block(self, layer: int, width: int, layers: int) -> Block:
        architecture, tensors = self.architecture, self.file.tensors
        sandwich = "blk.0.post_attention_norm.weight" in tensors
        network = FeedForward(
            self.number("feed_forward_length"),
            architecture.activation,
            architecture.gated,
            bias="blk.0.ffn_up.bias" in tensors,
        )
        experts = self.number("expert_count", 0)
        return Block(
            self._attention(layer, width, layers),
            MixtureOfExperts(network, experts, self.number("expert_used_count")) if experts else network,
            self._norm(),
            norm_at="sandwich" if sandwich else "pre",
        )

    def _attention(self, layer: int, width: int, layers: int) -> Attention:
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
        return Attention(
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

    def _window(self, layer: int) -> Window | None:
        size = self.number("attention.sliding_window", 0)
        pattern: Any = self.file.metadata.get(f"{self.architecture.name}.attention.sliding_window_pattern")
        if isinstance(pattern, list):
            return Window(size) if size and pattern[layer] else None
        period = pattern or self.architecture.period
        return Window(size) if size and (period is None or (layer + 1) % period) else None

    def _rope(self, head_dim: int, local: bool) -> Rope:
        fraction = self.number("rope.dimension_count", head_dim) / head_dim
        if fraction != 1.0 and self.architecture.rotates_neighbours:
            raise UnsupportedModel("rope.dimension_count: rotating a part of the head is not supported")
        theta = self.number("rope.freq_base", 10_000.0, float)
        if local and self.architecture.local_theta is not None:
            return Rope(self.number("rope.freq_base_swa", self.architecture.local_theta, float), fraction)
        rope = Rope(theta, fraction)
        factor = self.number("rope.scaling.factor", 0.0, float) or self.number("rope.scale_linear", 1.0, float)
        kind = self.file.metadata.get(f"{self.architecture.name}.rope.scaling.type", "linear")
        if "rope_freqs.weight" in self.file.tensors:
            if not self.architecture.rotates_neighbours or kind != "linear" or factor != 1.0:
                raise UnsupportedModel("rope_freqs.weight is supported in llama, without another scaling")
            return replace(rope, scaling=self._llama3(rope, head_dim))
        if kind == "none" or (kind == "linear" and factor == 1.0):
            return rope
        if kind == "linear":
            return replace(rope, scaling=LinearScaling(factor))
        unused = [key for key in _UNUSED_YARN if self.number(f"rope.scaling.{key}", 1.0, float) != 1.0]
        if kind != "yarn" or unused:
            raise UnsupportedModel(
                f"rope.scaling.type = {kind!r} with {unused} is not supported; plain linear, yarn are"
            )
        length = self.number("rope.scaling.original_context_length", self.number("context_length"))
        fast, slow = (self.number(f"rope.scaling.yarn_beta_{end}", value, float) for end, value in _BETAS.items())
        return replace(rope, scaling=YarnScaling(factor, length, fast, slow))

    def _llama3(self, rope: Rope, head_dim: int) -> Llama3Scaling:
        stored = self.file.read("rope_freqs.weight").flatten()
        for length in _LLAMA3_LENGTHS:
            scaling = Llama3Scaling(_decimal(stored.max().item()), length)
            # A float32 divisor, computed in another order than ours: a few units in its last place.
            if torch.allclose(rope_divisors(replace(rope, scaling=scaling), head_dim), stored, rtol=1e-5):
                return scaling
        raise UnsupportedModel("rope_freqs.weight is not LLaMA 3's scaling of the rotation with its usual borders")


def rope_divisors(rope: Rope, head_dim: int) -> torch.Tensor:
    """The scaling's divisor of each plane's frequency, (rotated / 2,) float32: llama.cpp's `rope_freqs`."""
    rotated = int(head_dim * rope.fraction)
    return rope_frequencies(replace(rope, scaling=None), rotated)[0] / rope_frequencies(rope, rotated)[0]


def _decimal(value: float) -> float:
    """The number that was meant by a float32: 1e-05 and not 9.999999747378752e-06."""
    return float(str(np.float32(value)))


# ---------------------------------------------------------------------------------------------------------------------
# Writing


def write_config(config: ModelConfig) -> tuple[dict[str, Any], Architecture]:
    """The metadata of a config, and the architecture it is written as.

    UnsupportedModel names the first part that no architecture of llama.cpp computes.
    """
    failures = []
    for architecture in ARCHITECTURES:
        try:
            metadata = _metadata(config, architecture)
            read = _Reader(_as_file(config, metadata, architecture), architecture).config()
        except (KeyError, TypeError, ValueError) as error:
            failures.append((len(ARCHITECTURES), f"{architecture.name} lacks {error}"))
            continue
        ignored = ["a window: llama.cpp computes none"] if _ignores_window(config, architecture) else []
        found = list(_differences(_explicit(config), _explicit(read), "")) + ignored
        if not found:
            return metadata, architecture
        failures.append((len(found), f"{architecture.name} has another {found[0]}"))
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
    if isinstance(network, MixtureOfExperts):
        values |= {"expert_count": network.experts, "expert_used_count": network.top_k}
        network = network.expert
    values["feed_forward_length"] = network.hidden
    if attention.softcap is not None:
        values["attn_logit_softcapping"] = attention.softcap
    if isinstance(config.head, LanguageModelHead) and config.head.softcap is not None:
        values["final_logit_softcapping"] = config.head.softcap
    windows = [a.pattern.size for a in attentions if isinstance(a.pattern, Window)]
    if windows:
        values["attention.sliding_window"] = windows[0]
    everywhere = [a for a in attentions if a.pattern is None] or attentions
    local = [a.rope for a in attentions if a.pattern is not None and a.rope is not None]
    if architecture.local_theta is not None and local:
        values["rope.freq_base_swa"] = local[0].theta
    if everywhere[0].rope is not None:
        values |= _rope_metadata(everywhere[0].rope, attention.head_dim)
    return {f"{architecture.name}.{key}": value for key, value in values.items()}


def _rope_metadata(rope: Rope, head_dim: int) -> dict[str, Any]:
    values: dict[str, Any] = {"rope.freq_base": rope.theta, "rope.dimension_count": int(head_dim * rope.fraction)}
    match rope.scaling:
        case LinearScaling(factor):
            values |= {"rope.scaling.type": "linear", "rope.scaling.factor": factor}
        case YarnScaling() as yarn:
            values |= {"rope.scaling.type": "yarn", "rope.scaling.factor": yarn.factor}
            values["rope.scaling.original_context_length"] = yarn.original_length
            values |= {"rope.scaling.yarn_beta_fast": yarn.beta_fast, "rope.scaling.yarn_beta_slow": yarn.beta_slow}
        case _:
            pass
    return values


def llama3_divisors(config: ModelConfig) -> torch.Tensor | None:
    """The tensor `rope_freqs.weight`, which a model with LLaMA 3's scaling has."""
    attention = config.decoder.blocks[0].attention if config.decoder else None
    if attention is None or attention.rope is None or not isinstance(attention.rope.scaling, Llama3Scaling):
        return None
    return rope_divisors(attention.rope, attention.head_dim)


def _as_file(config: ModelConfig, metadata: Mapping[str, Any], architecture: Architecture) -> GgufFile:
    """The file without its weights, enough to read the config from."""
    shapes = {place.theirs: place.shape for place in places(config, architecture).values()}
    divisors = llama3_divisors(config)
    if divisors is not None:
        shapes["rope_freqs.weight"] = tuple(divisors.shape)
    tensors = {name: GgufTensor(name, shape, GGMLQuantizationType.F32, 0) for name, shape in shapes.items()}
    return GgufFile(dict(metadata), tensors, b"" if divisors is None else divisors.numpy().tobytes())


def _ignores_window(config: ModelConfig, architecture: Architecture) -> bool:
    assert config.decoder is not None
    patterns = [block.attention.pattern for block in config.decoder.blocks]
    return architecture.period is None and any(
        isinstance(p, Window) and p.size < config.context_length for p in patterns
    )


def _explicit(config: ModelConfig) -> ModelConfig:
    """The config with the defaults of its attentions written out, so that equal ones compare equal."""
    assert config.decoder is not None
    blocks = tuple(
        replace(
            block,
            attention=replace(
                block.attention,
                output_bias=block.attention.has_output_bias,
                scale=_decimal(block.attention.scale or block.attention.head_dim**-0.5),
            ),
        )
        for block in config.decoder.blocks
    )
    return replace(config, decoder=replace(config.decoder, blocks=blocks))


def _differences(ours: Any, theirs: Any, path: str) -> Iterator[str]:
    if isinstance(ours, tuple) and isinstance(theirs, tuple) and len(ours) == len(theirs):
        for index, (one, other) in enumerate(zip(ours, theirs, strict=True)):
            yield from _differences(one, other, f"{path}.{index}")
    elif is_dataclass(ours) and type(ours) is type(theirs):
        for field in fields(ours):
            yield from _differences(getattr(ours, field.name), getattr(theirs, field.name), f"{path}.{field.name}")
    elif ours != theirs:
        yield f"{path.removeprefix('.')}: {ours!r} is not {theirs!r}"
