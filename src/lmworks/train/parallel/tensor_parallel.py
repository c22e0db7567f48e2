"""Tensor parallelism (Shoeybi et al. 2019, section 3): each matrix of a model divided among devices.

In attention each device has some of the heads, in a feed-forward network some of the hidden units: the first matrices
are divided by their outputs, the last one by its inputs, and all that is exchanged are the hidden states before and
after both. Embedding and head are divided by the vocabulary (`vocabulary_parallel.py`). With sequence parallelism
(Korthikanti et al. 2022, section 4.2.2) norms and residuals are divided too, along the sequence.

The model's own code runs as it is, on this device's part of each tensor. Around it stand the collectives of
`collectives.py`, and every parameter becomes a DTensor that says how it is divided and is read as its part.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.distributed import ProcessGroup
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor

from lmworks.model import config as configs
from lmworks.model.attention import Attention, Context, Memory
from lmworks.model.heads import LanguageModelHead, MaskedLanguageModelHead, SpanBoundaryHead
from lmworks.model.mixture_of_experts import FeedForward
from lmworks.model.stack import Block, Stack
from lmworks.model.transformer import Embedding, Transformer
from lmworks.train.parallel.collectives import add, add_and_divide, divide, enter, gather, join
from lmworks.train.parallel.config import ParallelConfig, check_layout
from lmworks.train.parallel.module_override import override_methods, read_parameters
from lmworks.train.parallel.vocabulary_parallel import DividedHead, VocabularyEmbedding

LENGTH = 1  # the dimension of hidden states (batch, length, width) that sequence parallelism divides


@dataclass(frozen=True)
class _Division:
    """The division of a parameter, and how a device reads its part.

    placement  None: whole on each device
    once       it is added to what is summed over the devices: each adds an equal part of it
    rows       those of the part that this device computes with; None: all
    """

    placement: Shard | None = None
    once: bool = False
    rows: slice | None = None


# A projection's weight is (outputs, inputs).
_BY_OUTPUT, _BY_INPUT, _ADDED_ONCE = _Division(Shard(0)), _Division(Shard(1)), _Division(once=True)
_DIVIDED: Mapping[type[nn.Module], Mapping[str, _Division]] = {
    Attention: {
        **dict.fromkeys((f"{name}.weight" for name in ("query", "key", "value")), _BY_OUTPUT),
        **dict.fromkeys((f"{name}.bias" for name in ("query", "key", "value")), _BY_OUTPUT),
        "output.weight": _BY_INPUT,
        "output.bias": _ADDED_ONCE,
        "sinks": _BY_OUTPUT,  # (heads,)
        "relative.table": _BY_INPUT,  # (buckets, heads)
        "relative.projection.weight": _BY_OUTPUT,
        "relative.content_bias": _BY_OUTPUT,  # (heads, head_dim)
        "relative.position_bias": _BY_OUTPUT,
    },
    FeedForward: {
        **dict.fromkeys(("gate.weight", "gate.bias", "up.weight", "up.bias"), _BY_OUTPUT),
        "down.weight": _BY_INPUT,
        "down.bias": _ADDED_ONCE,
    },
    Stack: {"relative_bias.table": _BY_INPUT},
    Embedding: {"tokens.weight": _BY_OUTPUT},
    LanguageModelHead: {"projection.weight": _BY_OUTPUT, "bias": _BY_OUTPUT},
    MaskedLanguageModelHead: {"bias": _BY_OUTPUT},
    SpanBoundaryHead: {"bias": _BY_OUTPUT},
}


def shard_tensors(model: Transformer, mesh: DeviceMesh, sequence: bool = False) -> Transformer:
    """Changes `model`, equal on all devices of the 1-D `mesh`, into this device's part of it, in place; returns it.

    It is called as before, with the same whole inputs on each device, and gives the same whole outputs. Every parameter
    is a DTensor on `mesh`, `Shard` or `Replicate`; after a backward its gradient is one of the same placement, with
    nothing left to be summed over these devices. What is divided: see `_DIVIDED`; with fewer key heads than devices,
    every device holds all key heads and computes with its own.

    sequence  also divide norms and residuals along the sequence, whose length the devices must then divide

    ValueError for sizes that do not divide, naming what to change, and for a model with adapters. A `KVCache`, which is
    of all heads, does not fit the divided model.
    """
    check_layout(model.config, ParallelConfig(tensor=mesh.size()))
    _check(model, mesh.size())
    group, blocks = mesh.get_group(), [module for module in model.modules() if isinstance(module, Block)]
    stacks = [module for module in model.modules() if isinstance(module, Stack)]
    regions = [
        part
        for block in blocks
        for part in (block.attention, block.cross_attention, block.feed_forward)
        if part is not None
    ]
    # Of what is whole on all devices but used for a part of the work: each use gives a part of the gradient.
    shared = {id(weight) for part in (*regions, *(stacks if sequence else ())) for weight in part.parameters()}
    _divide_parameters(model, mesh, shared)
    for region in regions:
        override_methods(region, _Region, tensor_group=group, divides_sequence=sequence)
        if isinstance(region, Attention):
            heads = region.config.heads // mesh.size()
            own_heads = slice(heads * mesh.get_local_rank(), heads * (mesh.get_local_rank() + 1))
            override_methods(region, _Heads, tensor_group=group, own_heads=own_heads)
    if sequence:
        for stack in stacks:
            override_methods(stack, _DividedSequence, tensor_group=group, begins=True, ends=True)
    vocabulary = model.config.embedding.vocabulary
    for module in list(model.modules()):
        if isinstance(module, LanguageModelHead | MaskedLanguageModelHead):
            override_methods(module, DividedHead, tensor_group=group, vocabulary=vocabulary)
    if (tokens := model.embedding.tokens) is not None:  # not on a later stage of a pipeline
        first = -(-vocabulary // mesh.size()) * mesh.get_local_rank()
        override_methods(tokens, VocabularyEmbedding, tensor_group=group, first=first)
    return model


def _check(model: Transformer, devices: int) -> None:
    """ValueError for what `check_layout` does not know of: how training divides."""
    config, vocabulary = model.config, model.config.embedding.vocabulary
    with torch.device("meta"):
        known = dict(Transformer(config).named_parameters())
    if strange := [name for name, _ in model.named_parameters() if name not in known]:
        raise ValueError(f"{strange[0]} is an adapter's, which is not divided: merge the adapters, or set tensor to 1")
    if -(-vocabulary // devices) * (devices - 1) >= vocabulary:
        raise ValueError(f"a vocabulary of {vocabulary} leaves one of {devices} devices without any: lower tensor")
    for stack in config.stacks:
        alibi = any(isinstance(block.attention.position, configs.Alibi) for block in stack.blocks)
        if stack.relative_bias is not None and alibi:
            raise ValueError("a stack with a relative bias and ALiBi is not divided by heads: set tensor to 1")


# ---------------------------------------------------------------------------------------------------------------------
# What runs on each device


class _Region:
    """A part whose input and output are whole, or divided along the sequence; inside each device does a part of the
    work."""

    tensor_group: ProcessGroup
    divides_sequence: bool

    def forward(self, hidden: Tensor, *others: Any) -> Tensor:
        return self._leave(super().forward(self._enter(hidden), *others))  # type: ignore[misc]

    def _enter(self, hidden: Tensor) -> Tensor:
        group = self.tensor_group
        return gather(hidden, group, LENGTH) if self.divides_sequence else enter(hidden, group)

    def _leave(self, partial_sum: Tensor) -> Tensor:
        group = self.tensor_group
        return add_and_divide(partial_sum, group, LENGTH) if self.divides_sequence else add(partial_sum, group)


class _Heads:
    """An attention that is a region: its other inputs are divided by heads, or shared by them."""

    tensor_group: ProcessGroup
    own_heads: slice
    config: configs.Attention
    _enter: Callable[[Tensor], Tensor]
    _leave: Callable[[Tensor], Tensor]

    def forward(self, hidden: Tensor, context: Context) -> Tensor:
        if isinstance(self.config.position, configs.Alibi) and context.bias is not None:
            context = replace(context, bias=context.bias[:, self.own_heads])  # the stack's, of all heads
        return super().forward(hidden, context)  # type: ignore[misc]

    def cross(self, hidden: Tensor, memory: Memory, layer: int) -> Tensor:
        memory = replace(memory, hidden=enter(memory.hidden, self.tensor_group))
        return self._leave(super().cross(self._enter(hidden), memory, layer))  # type: ignore[misc]


class _DividedSequence:
    """A stack with whole input and output, between whose blocks the sequence is divided (sequence parallelism).

    begins  whether this is the first piece of the model: of a pipeline's others, what arrives is divided already
    ends    whether it is the last one; what others give stays divided
    """

    tensor_group: ProcessGroup
    begins: bool
    ends: bool

    def forward(self, hidden: Tensor, *others: Any, **more: Any) -> Tensor:
        if self.begins:
            hidden = divide(hidden, self.tensor_group, LENGTH)  # (batch, length / devices, width)
        hidden = super().forward(hidden, *others, **more)  # type: ignore[misc]
        return join(hidden, self.tensor_group, LENGTH) if self.ends else hidden


# ---------------------------------------------------------------------------------------------------------------------
# Parameters


def _divide_parameters(model: Transformer, mesh: DeviceMesh, shared: set[int]) -> None:
    divisions = _divisions(model, mesh)
    for module in list(model.modules()):
        readers = {}
        for name, weight in list(module.named_parameters(recurse=False)):
            division = divisions.get(id(weight), _Division())
            placed = distribute_tensor(weight.detach(), mesh, [division.placement or Replicate()], src_data_rank=None)
            module.register_parameter(name, nn.Parameter(placed, weight.requires_grad))
            summed = id(weight) in shared and division.placement is None
            readers[name] = partial(_read, mesh=mesh, division=division, summed=summed)
        read_parameters(module, readers)


def _divisions(model: Transformer, mesh: DeviceMesh) -> dict[int, _Division]:
    """By the identities of the parameters that are not simply whole on every device."""
    divisions = {}
    for module in model.modules():
        table = next((table for kind, table in _DIVIDED.items() if isinstance(module, kind)), {})
        for name, weight in module.named_parameters():
            if name in table:
                divisions[id(weight)] = table[name]
        if isinstance(module, Attention) and module.config.kv_heads < mesh.size():
            # The rows of the key head that this device's queries share.
            head = module.config.kv_heads * mesh.get_local_rank() // mesh.size()
            rows = slice(module.config.head_dim * head, module.config.head_dim * (head + 1))
            for projection in (module.key, module.value):
                divisions |= {id(weight): _Division(rows=rows) for weight in projection.parameters()}
    return divisions


def _read(weight: nn.Parameter, mesh: DeviceMesh, division: _Division, summed: bool) -> Tensor:
    """The tensor that this device computes with."""
    whole = cast(DTensor, weight)
    if whole.device_mesh != mesh:  # FSDP divides it further: nobody computes with it before it is gathered
        return weight
    local = whole.to_local()
    if summed:
        local = enter(local, mesh.get_group())
    if division.rows is not None:
        local = local[division.rows]
    if division.once:
        local = local / mesh.size()  # the same on all devices: compiled, they would else send in different orders
    return local
