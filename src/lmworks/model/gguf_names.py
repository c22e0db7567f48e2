"""llama.cpp's architectures, and the names of our parameters in a GGUF file."""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from torch import Tensor

from lmworks.model.config import Activation, ModelConfig, UnsupportedModel
from lmworks.model.transformer import empty_model

# Our module names → GGUF's; `{}` stands for the number of a layer. Where several of ours are one of theirs, they follow
# each other in its rows in our order: the queries, keys and values of `attn_qkv`, gate and up, the experts.
_COMMON = {
    "embedding.tokens": "token_embd",
    "decoder.blocks.{}.attention_norm": "blk.{}.attn_norm",
    "decoder.blocks.{}.attention.query": "blk.{}.attn_q",
    "decoder.blocks.{}.attention.key": "blk.{}.attn_k",
    "decoder.blocks.{}.attention.value": "blk.{}.attn_v",
    "decoder.blocks.{}.attention.output": "blk.{}.attn_output",
    "decoder.blocks.{}.attention.query_norm": "blk.{}.attn_q_norm",
    "decoder.blocks.{}.attention.key_norm": "blk.{}.attn_k_norm",
    "decoder.blocks.{}.attention_post_norm": "blk.{}.post_attention_norm",
    "decoder.blocks.{}.feed_forward_norm": "blk.{}.ffn_norm",
    "decoder.blocks.{}.feed_forward.gate": "blk.{}.ffn_gate",
    "decoder.blocks.{}.feed_forward.up": "blk.{}.ffn_up",
    "decoder.blocks.{}.feed_forward.down": "blk.{}.ffn_down",
    "decoder.blocks.{}.feed_forward.router": "blk.{}.ffn_gate_inp",
    "decoder.blocks.{}.feed_forward.experts.{}.gate": "blk.{}.ffn_gate_exps",
    "decoder.blocks.{}.feed_forward.experts.{}.up": "blk.{}.ffn_up_exps",
    "decoder.blocks.{}.feed_forward.experts.{}.down": "blk.{}.ffn_down_exps",
    "decoder.blocks.{}.feed_forward_post_norm": "blk.{}.post_ffw_norm",
    "decoder.norm": "output_norm",
    "head.projection": "output",
}
_FUSED_ATTENTION = {
    f"decoder.blocks.{{}}.attention.{projection}": "blk.{}.attn_qkv" for projection in ("query", "key", "value")
}


@dataclass(frozen=True)
class Architecture:
    """A value of `general.architecture`, with all that it implies besides the numbers in the file.

    rotates_neighbours  the rows of queries and keys are ordered so that neighbours are rotated, see `positions.py`.
    norm_offset         Gemma's: the file stores the weights of its norms with it, we without.
    period              every so many-th layer sees everything and the others through the window; None: llama.cpp
                        computes no windows.
    local_theta         base of the rotation in the layers with a window, None: the same as everywhere.
    softcaps            the keys of its caps of scores and logits, and what a missing one means; 0: none.
    large               with so many layers (the 27B models), scores are scaled by `(width / heads) ** -0.5`.
    own_head_dim        heads need not divide the width among them.
    needs, may          of the tensors that not every architecture has, those of a layer that this one has or can have.
    """

    name: str
    activation: Activation = "silu"
    gated: bool = True
    norm: Literal["rms", "layer"] = "rms"
    norm_offset: float = 0.0
    rotates_neighbours: bool = False
    period: int | None = None
    local_theta: float | None = None
    softcaps: Mapping[str, float] = field(default_factory=dict)
    large: int | None = None
    own_head_dim: bool = True
    needs: tuple[str, ...] = ()
    may: tuple[str, ...] = ()
    modules: Mapping[str, str] = field(default_factory=dict)

    def name_of(self, module: str) -> str | None:
        return self.modules.get(module) or _COMMON.get(module)


_LEARNED_POSITIONS = {"embedding.positions": "position_embd"}
_FUSED_GATE = {"decoder.blocks.{}.feed_forward.gate": "blk.{}.ffn_up"}

_BIASES = ("attn_output.bias", "ffn_up.bias")
_SANDWICH = ("post_attention_norm.weight", "post_ffw_norm.weight")

# The order decides between architectures that can express the same config: the first one is written.
ARCHITECTURES = (
    Architecture("qwen2", own_head_dim=False, needs=("attn_q.bias",)),
    Architecture("llama", rotates_neighbours=True, may=("attn_q.bias", *_BIASES, "ffn_gate_inp.weight")),
    Architecture("qwen3", needs=("attn_q_norm.weight",)),
    Architecture("phi3", own_head_dim=False, modules=_FUSED_ATTENTION | _FUSED_GATE),
    Architecture("gemma", "gelu_tanh", norm_offset=1.0),
    Architecture(
        "gemma2", "gelu_tanh", norm_offset=1.0, period=2, large=46, needs=_SANDWICH,
        softcaps={"attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0},
    ),
    Architecture(
        "gemma3", "gelu_tanh", norm_offset=1.0, period=6, local_theta=10_000.0, large=62,
        softcaps={"final_logit_softcapping": 0.0}, needs=(*_SANDWICH, "attn_q_norm.weight"),
    ),
    Architecture(
        "gpt2", "gelu_tanh", gated=False, norm="layer", own_head_dim=False, needs=("attn_qkv.bias", *_BIASES),
        modules=_FUSED_ATTENTION | _LEARNED_POSITIONS,
    ),
)  # fmt: skip
OPTIONAL = {name for architecture in ARCHITECTURES for name in (*architecture.needs, *architecture.may)}


class TensorSlice(NamedTuple):
    """One of our parameters in the file: rows of `tensor`, beginning with `first`."""

    tensor: str
    first: int
    shape: tuple[int, ...]


def tensor_slices(config: ModelConfig, architecture: Architecture) -> dict[str, TensorSlice]:
    """Where the file holds each parameter of `Transformer(config)`; UnsupportedModel names one without a place."""
    rows: Counter[str] = Counter()
    result: dict[str, TensorSlice] = {}
    for name, parameter in empty_model(config).state_dict().items():
        module, _, kind = name.rpartition(".")
        numbers = re.findall(r"(?<=\.)\d+(?=\.)", name)
        template = architecture.name_of(re.sub(r"(?<=\.)\d+(?=\.|$)", "{}", module))
        if template is None or kind not in ("weight", "bias"):
            raise UnsupportedModel(f"a place for {name}")
        tensor = f"{template.format(*numbers)}.{kind}"
        result[name] = TensorSlice(tensor, rows[tensor], tuple(parameter.shape))
        rows[tensor] += parameter.shape[0]
    return result


def from_file(name: str, tensor: Tensor, config: ModelConfig, architecture: Architecture) -> Tensor:
    """Our values of the parameter `name`, from the file's."""
    if _is_norm(name) and architecture.norm_offset:
        return tensor - architecture.norm_offset  # exact near one: the same weight is applied, whatever its last bits
    heads = _rotated_heads(name, config, architecture)
    return tensor if heads is None else _swap(tensor, heads, tensor.shape[0] // heads // 2, 2)


def to_file(name: str, tensor: Tensor, config: ModelConfig, architecture: Architecture) -> Tensor:
    """The inverse of `from_file`, of rows in whatever form: norms are float32."""
    if _is_norm(name) and architecture.norm_offset:
        return tensor.float() + architecture.norm_offset
    heads = _rotated_heads(name, config, architecture)
    return tensor if heads is None else _swap(tensor, heads, 2, tensor.shape[0] // heads // 2)


def _swap(tensor: Tensor, heads: int, outer: int, inner: int) -> Tensor:
    """Exchanges the two parts of the number of a row within its head."""
    return tensor.unflatten(0, (heads, outer, inner)).transpose(1, 2).reshape(tensor.shape)


def _is_norm(name: str) -> bool:
    return name.removesuffix(".weight").endswith("norm")


def _rotated_heads(name: str, config: ModelConfig, architecture: Architecture) -> int | None:
    if not architecture.rotates_neighbours or config.decoder is None:
        return None
    attention = config.decoder.blocks[0].attention
    return {"attention.query": attention.heads, "attention.key": attention.kv_heads}.get(
        ".".join(name.split(".")[-3:-1])
    )
