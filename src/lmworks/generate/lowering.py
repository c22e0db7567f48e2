"""From a decoder, or an encoder that pools, to a program of fused kernels: `lower` takes the blocks it knows, and says
of others why it does not.

What is computed is what the modules compute, in the same order; what is lost is stated by the format of the weights.
Norm offsets are folded into their weights, the scale of a head into the final norm, the vector of token type 0 into the
learned positions, the queries, keys and values into one matrix, gate and up into another.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor

from lmworks.adapt.lora import Lora, check_plain
from lmworks.adapt.prefix_tuning import PrefixAttention
from lmworks.generate.page_storage import layer_groups
from lmworks.kernels.kv_pages import PAGE, CacheFormat, allocate, write
from lmworks.kernels.packing import PackedMatrix, concatenate
from lmworks.kernels.program import Adapter, LayerProgram, Norm, Program, Site, in_large_pages
from lmworks.kernels.weight_formats import Format, Quantised
from lmworks.model import config as configs
from lmworks.model.positions import rotation, sinusoids
from lmworks.model.quantised_linear import pack_parameter, shapes_of
from lmworks.model.transformer import Transformer, empty_model

FormatOf = Callable[[str], Format | Literal["stored"]]

_PROJECTIONS = {"attention": ("query", "key", "value", "output"), "feed_forward": ("gate", "up", "down")}


def _stack(config: configs.ModelConfig) -> configs.Stack:
    stack = config.decoder or config.encoder
    assert stack is not None
    return stack


class NotLoweredError(ValueError):
    """The kernels do not compute this model; the message says which part."""


def unsupported_reason(config: configs.ModelConfig) -> str | None:
    """The part of a model that the kernels do not compute; None when they compute all of it."""
    if config.encoder is not None and config.decoder is not None:
        return "it has an encoder and a decoder"
    stack, embedding, head = _stack(config), config.embedding, config.head
    pools, last = isinstance(head, configs.PoolHead), stack.blocks[0].norm_at == "post"
    predicts = isinstance(head, configs.LanguageModelHead) and stack.causal and (last or stack.final_norm is not None)
    if not pools and not predicts:
        return "its head is not a final norm and a projection to the vocabulary"
    if any((block.norm_at == "post") != last for block in stack.blocks) or (last and stack.final_norm is not None):
        return "its norms come after the residual connection in some places only"
    if embedding.norm is not None and not last:
        return "its embedding has a norm"
    if embedding.token_types and not isinstance(embedding.positions, configs.Learned):
        return "its embedding has token types"
    if pools and any(block.attention.pattern or block.attention.softcap for block in stack.blocks):
        return "it pools, and its attention has a pattern or a cap"
    if stack.relative_bias is not None:
        return "its scores have a relative bias"
    return next((reason for block in stack.blocks if (reason := _unknown(block))), None)


def _unknown(block: configs.Block) -> str | None:
    attention, feed_forward = block.attention, block.feed_forward
    if not isinstance(feed_forward, configs.FeedForward):
        return "it has a mixture of experts"
    if feed_forward.activation == "tanh":
        return "its activation is tanh"
    if not isinstance(attention.position, configs.Rope | None):
        return f"its positions are of the kind {attention.position.kind}"
    if not isinstance(attention.pattern, configs.Window | None):
        return f"its attention has the pattern {attention.pattern.kind}"
    if attention.sinks:
        return "its attention has sinks"
    if attention.head_dim % 16:
        return f"its heads have {attention.head_dim} dimensions, no multiple of 16"
    return None


def lower(
    config: configs.ModelConfig,
    weights: Mapping[str, Tensor | Quantised],
    format_of: FormatOf,
    pages: int,
    cache_format: CacheFormat,
    positions: int,
) -> Program:
    """The program of a model.

    weights     its parameters by our names; each is asked for once. A matrix may be `Quantised` (see
                `quantised_linear.quantised_weights`).
    format_of   the format of each matrix, by the name of its parameter; "stored": what is `Quantised`, and a GGUF
                file's blocks, as they are, bit for bit; what has no counterpart in int8.
    pages       of the cache, `positions` of a sequence at most. A model that pools, an encoder too, has no cache.

    `NotLoweredError` for a model that the kernels do not compute.
    """
    reason = unsupported_reason(config)
    if reason is not None:
        raise NotLoweredError(f"the fused kernels do not run this model: {reason}")
    pages = 0 if isinstance(config.head, configs.PoolHead) else pages
    make = _ProgramBuilder(config, weights, format_of, pages, cache_format, positions)
    embedding, head, scale, softcap = make.matrix(["embedding.tokens"]), None, 1.0, 0.0
    if isinstance(config.head, configs.LanguageModelHead):
        scale, softcap = config.head.scale or 1.0, config.head.softcap or 0.0
        head = embedding if config.head.tied else make.matrix(["head.projection"])
        if config.head.bias:
            head = replace(head, bias=make.vector("head.bias"))
    last = len(make.stack.blocks) - 1
    program = Program(
        layers=tuple(make.layer(number) for number in range(last + 1)),
        embedding=embedding,
        final_norm=make.last_norm(last, scale),
        head=head,
        embedding_scale=1.0 if config.embedding.scale is None else config.embedding.scale,
        positions=make.learned_positions(),
        head_softcap=softcap,
    )
    return in_large_pages(program)


def formats_of(program: Program) -> dict[str, Format]:
    """The format in which a program holds each matrix, by the name of its parameter."""
    formats: dict[str, Format] = {"embedding.tokens.weight": program.embedding.format}
    if program.head is not None:
        formats["head.projection.weight"] = program.head.format
    for number, layer in enumerate(program.layers):
        for module, projections in _PROJECTIONS.items():
            for projection in projections:
                _, _, matrix = _place(layer, projection)
                formats[f"decoder.blocks.{number}.{module}.{projection}.weight"] = matrix.format
    return formats


def lower_adapter(lora: Lora, program: Program) -> dict[tuple[int, Site], tuple[Adapter, ...]]:
    """A LoRA adapter as changes of the program's joined matrices.

    ValueError for one of another model, or that changes what the kernels do not adapt.
    """
    changes: dict[tuple[int, Site], tuple[Adapter, ...]] = {}
    check_plain(lora)
    for name, (a, b, scale, _) in lora.changes.items():
        match re.fullmatch(r"decoder\.blocks\.(\d+)\.(attention|feed_forward)\.(\w+)", name):
            case re.Match() as parsed if int(parsed[1]) < len(program.layers):
                layer = program.layers[int(parsed[1])]
                site, first, matrix = _place(layer, parsed[3])
            case _:
                raise NotLoweredError(f"the fused kernels do not adapt {name}: make the engine with lowered=False")
        if a.shape[1] != matrix.columns or first + b.shape[0] > matrix.rows:
            raise ValueError(
                f"the adapter is of another model: its {name} goes from {a.shape[1]} to {b.shape[0]} values"
            )
        key = int(parsed[1]), site
        adapter = Adapter(first, a.float().contiguous(), b.float().contiguous(), scale)
        changes[key] = (*changes.get(key, ()), adapter)
    return changes


def prefix_pages(model: Transformer) -> int | None:
    """How many pages the prefix of an adapted model takes; None where there is none, or where it cannot lie in pages:
    next to another adapter, in layers with a window, or with positions that are added to the embedding."""
    names = {name for name in shapes_of(model) if not name.startswith("prefix.")}
    if names != empty_model(model.config).state_dict().keys() or not hasattr(model, "prefix"):
        return None
    if model.config.embedding.positions is not None or layer_groups(_stack(model.config))[0] != (None,):
        return None
    return -(-len(model.get_parameter("prefix.embedding")) // PAGE)


@torch.no_grad()
def lower_prefix(program: Program, model: Transformer) -> tuple[Program, range]:
    """The program with the keys and values of the model's prefix in the last pages of each layer, and their numbers.

    It ends where its pages end, so that a text can begin at the next one; what lies before it there is not seen.
    """
    assert model.decoder is not None
    (count, pages), layers = (program.layers[0].pages.count, prefix_pages(model)), []
    assert pages is not None
    for layer, block in zip(program.layers, model.decoder.blocks, strict=True):
        attention = block.attention
        assert isinstance(attention, PrefixAttention)
        first = pages * PAGE - attention.prefix_length
        key, value = attention.prefix_entries(first, torch.float32)
        write(layer.pages, range(count - pages, count), first, key.float(), value.float())
        layers.append(replace(layer, first=first))
    return replace(program, layers=tuple(layers)), range(count - pages, count)


def _place(layer: LayerProgram, projection: str) -> tuple[Site, int, PackedMatrix]:
    """The place of a part's matrix: its site, the first of its rows there, and the joined matrix."""
    queries, keys = layer.heads * layer.head_dim, layer.kv_heads * layer.head_dim
    up = -(-layer.hidden // 32) * 32 if layer.gated else 0
    sites: dict[str, tuple[Site, int, PackedMatrix]] = {
        "query": ("qkv", 0, layer.qkv),
        "key": ("qkv", queries, layer.qkv),
        "value": ("qkv", queries + keys, layer.qkv),
        "output": ("output", 0, layer.output),
        "gate": ("gate_up", 0, layer.gate_up),
        "up": ("gate_up", up, layer.gate_up),
        "down": ("down", 0, layer.down),
    }
    return sites[projection]


@dataclass
class _ProgramBuilder:
    """Builds the parts of a program from weights by name."""

    config: configs.ModelConfig
    weights: Mapping[str, Tensor | Quantised]
    format_of: FormatOf
    pages: int
    cache_format: CacheFormat
    positions: int
    _rotations: dict[tuple[configs.Rope, int], tuple[Tensor, Tensor]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.stack, self.name = _stack(self.config), "encoder" if self.config.decoder is None else "decoder"
        self._groups = layer_groups(self.stack)[1]

    def layer(self, number: int) -> LayerProgram:
        block, name = self.stack.blocks[number], f"{self.name}.blocks.{number}"
        attention, feed_forward = block.attention, block.feed_forward
        assert isinstance(feed_forward, configs.FeedForward)
        sandwich = block.norm_at == "sandwich"
        gates = ["gate", "up"] if feed_forward.gated else ["up"]
        query_norm, key_norm = (
            self.norm(f"{name}.attention.{projection}_norm", attention.qk_norm) if attention.qk_norm else None
            for projection in ("query", "key")
        )
        post = block.norm_at == "post"  # the norm behind a part is the one before the next
        own_norm = self.norm(f"{name}.attention_norm", block.norm)
        return LayerProgram(
            attention_norm=self.last_norm(number - 1 if number else None) if post else own_norm,
            qkv=self.matrix([f"{name}.attention.{projection}" for projection in ("query", "key", "value")]),
            output=self.matrix([f"{name}.attention.output"]),
            feed_forward_norm=own_norm if post else self.norm(f"{name}.feed_forward_norm", block.norm),
            gate_up=self.matrix([f"{name}.feed_forward.{gate}" for gate in gates], multiple=32),
            down=self.matrix([f"{name}.feed_forward.down"]),
            heads=attention.heads,
            kv_heads=attention.kv_heads,
            head_dim=attention.head_dim,
            scale=attention.head_dim**-0.5 if attention.scale is None else attention.scale,
            pages=allocate(self.pages, attention.kv_heads, attention.head_dim, self.cache_format),
            rotation=self._rotation(attention),
            query_norm=query_norm,
            key_norm=key_norm,
            attention_post_norm=self.norm(f"{name}.attention_post_norm", block.norm) if sandwich else None,
            feed_forward_post_norm=self.norm(f"{name}.feed_forward_post_norm", block.norm) if sandwich else None,
            window=attention.pattern.size if isinstance(attention.pattern, configs.Window) else 0,
            softcap=attention.softcap or 0.0,
            activation=feed_forward.activation,  # type: ignore[arg-type] - `unsupported_reason` has refused tanh
            gated=feed_forward.gated,
            parallel=block.norm_at == "parallel",
            in_place=post,
            bidirectional=not self.stack.causal,
            group=self._groups[number],
        )

    def last_norm(self, number: int | None, factor: float = 1.0) -> Norm | None:
        """The norm between a layer, None: the embedding, and what reads x next."""
        name, norm = "embedding.norm", self.config.embedding.norm
        if number is not None:
            name, norm = f"{self.name}.norm", self.stack.final_norm
            if self.stack.blocks[number].norm_at == "post":
                name, norm = f"{self.name}.blocks.{number}.feed_forward_norm", self.stack.blocks[number].norm
        return None if norm is None else self.norm(name, norm, factor)

    def matrix(self, names: Sequence[str], multiple: int = 1) -> PackedMatrix:
        """The matrices of these modules, one below the other, with their biases."""
        matrices = [self._packed(name, self.format_of(f"{name}.weight")) for name in names]
        if len({matrix.format for matrix in matrices}) > 1:  # a file may keep values finer than queries and keys
            matrices = [self._packed(name, "int8") for name in names]
        return matrices[0] if len(matrices) == 1 and multiple == 1 else concatenate(matrices, multiple)

    def _packed(self, name: str, target_format: Format | Literal["stored"]) -> PackedMatrix:
        bias = self.vector(f"{name}.bias") if f"{name}.bias" in self.weights else None
        return pack_parameter(self.weights, f"{name}.weight", target_format, bias)

    def vector(self, name: str) -> Tensor:
        """Float32, a copy: the weights may be changed by their owner."""
        values = self.weights[name]
        assert isinstance(values, Tensor)
        return values.detach().to(torch.float32, copy=True).contiguous()

    def norm(self, name: str, config: configs.Norm, factor: float = 1.0) -> Norm:
        weight = (self.vector(f"{name}.weight") + config.offset) * factor
        bias = self.vector(f"{name}.bias") * factor if config.kind == "layer" else None
        return Norm(config.kind, weight, config.eps, bias)

    def learned_positions(self) -> Tensor | None:
        positions = self.config.embedding.positions
        match positions:
            case configs.Learned():
                learned = self.vector("embedding.positions.weight")[positions.offset :]
                types = self.vector("embedding.token_types.weight")[0] if self.config.embedding.token_types else 0
                return (learned + types).contiguous()
            case configs.Sinusoidal():
                width = self.config.embedding.width
                return sinusoids(torch.arange(self.positions), width, positions.theta, torch.float32)
            case None:
                return None

    def _rotation(self, attention: configs.Attention) -> tuple[Tensor, Tensor] | None:
        if attention.rope is None:
            return None
        key = attention.rope, attention.head_dim
        if key not in self._rotations:
            at = torch.arange(self.positions)[None]
            cosine, sine = rotation(attention.rope, attention.head_dim, at, torch.float32)
            self._rotations[key] = cosine[0, 0].contiguous(), sine[0, 0].contiguous()
        return self._rotations[key]
