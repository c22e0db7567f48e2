"""A model of which one device of a pipeline holds some layers.

It stays a `Transformer`, and all its weights keep their names: blocks have the numbers that they have in the whole
model, and what other devices hold is missing. One chunk at a time is run as if it were the whole (`one_chunk`): the
hidden states that arrived take the place of the embedding's, and the final norm comes behind the last chunk only. So
whatever calls `model.hidden` with ids, positions and rules need not know of the pipeline.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn

from lmworks.model import config as configs
from lmworks.model.stack import Stack
from lmworks.model.transformer import Embedding, Transformer
from lmworks.train.parallel.config import ParallelConfig, check_layout, chunk_layers, head_reads_tokens
from lmworks.train.parallel.module_override import override_methods


def split(model: Transformer, parallel: ParallelConfig, rank: int) -> Transformer:
    """Takes from `model` all that device `rank` of the pipeline does not hold; returns it.

    The first device has the embedding, the last one the final norm and the head, and the token vectors too where the
    head reads them; `shared_weights` names what several hold. ValueError for a model that cannot be divided like that.
    """
    check_layout(model.config, ParallelConfig(pipeline=parallel.pipeline, chunks=parallel.chunks))
    first, last = rank == 0, rank == parallel.pipeline - 1
    stack = _stack(model)
    blocks = dict(enumerate(stack.blocks))
    stack.blocks = Blocks(blocks, chunk_layers(len(blocks), parallel, rank))
    if not last:
        stack.norm = model.head = None
    embedding = model.embedding
    if not first:
        embedding.positions = embedding.token_types = embedding.norm = None
        if not (last and head_reads_tokens(model.config.head)):
            embedding.tokens = None
    override_methods(embedding, _Arrival, arrived=None)
    override_methods(model, _PipelineStage)
    return model


class Blocks(nn.ModuleList):
    """Some of a stack's blocks, under the numbers they have in it. Iterating gives those of the chunk that runs, or all
    where none does.

    chunks  the numbers in each chunk
    """

    def __init__(self, blocks: Mapping[int, nn.Module], chunks: list[list[int]]) -> None:
        super().__init__()
        self.chunks = chunks
        self.running: int | None = None
        for number in sorted(number for chunk in chunks for number in chunk):
            self.add_module(str(number), blocks[number])

    @property
    def numbers(self) -> list[int]:
        if self.running is None:
            return [int(name) for name in self._modules]
        return self.chunks[self.running]

    def __iter__(self) -> Iterator[nn.Module]:
        return iter([self.get_submodule(str(number)) for number in self.numbers])

    def __len__(self) -> int:
        return len(self.numbers)


class _Arrival:
    """An embedding that gives the hidden states which arrived from the stage before, where there are any."""

    arrived: Tensor | None

    def forward(self, ids: Tensor, *others: Any, **more: Any) -> Tensor:
        return super().forward(ids, *others, **more) if self.arrived is None else self.arrived  # type: ignore[misc]


class _PipelineStage:
    """A model whose token vectors may be on another device, if no head reads them."""

    embedding: Embedding
    config: configs.ModelConfig

    @property
    def tokens(self) -> Tensor:
        table = self.embedding.tokens
        return torch.empty(0, self.config.embedding.width) if table is None else table.weight


@contextmanager
def one_chunk(model: Transformer, chunk: int, hidden: Tensor | None) -> Iterator[None]:
    """In it `model.hidden` runs one chunk of a split model, on the `hidden` states (batch, length, width) that arrived;
    None for the first piece, which embeds.

    Modules stay where they are in the model, but for the final norm: what wraps the model or its blocks always sees the
    same ones.
    """
    stack, embedding = cast(Any, _stack(model)), cast(Any, model.embedding)
    blocks, norm, kinds = stack.blocks, stack.norm, stack._kinds
    assert isinstance(blocks, Blocks)
    try:
        blocks.running = chunk
        stack._kinds = [kinds[number] for number in blocks.numbers]  # a stack counts the blocks that it runs from 0
        stack.begins, stack.ends = hidden is None, blocks.numbers[-1] == len(kinds) - 1
        if not stack.ends:
            stack.norm = None
        embedding.arrived = hidden
        yield
    finally:
        blocks.running, stack.norm, stack._kinds, embedding.arrived = None, norm, kinds, None


def shared_weights(config: configs.ModelConfig, devices: int) -> dict[str, list[int]]:
    """The names of weights that several devices of the pipeline hold, and which do, in their order. Their gradients are
    summed (`pipeline.sum_shared`); the first one saves them and counts them in the norm."""
    shared: dict[str, list[int]] = {}
    if head_reads_tokens(config.head) and devices > 1:
        shared["embedding.tokens.weight"] = [0, devices - 1]
    for name, stack in (("encoder", config.encoder), ("decoder", config.decoder)):
        if stack is not None and stack.relative_bias is not None and devices > 1:
            shared[f"{name}.relative_bias.table"] = list(range(devices))
    return shared


def _stack(model: Transformer) -> Stack:
    stack = model.decoder or model.encoder
    assert stack is not None
    return stack
