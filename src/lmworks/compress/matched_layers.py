"""Losses on the layers of a student and a teacher: hidden states (Romero et al. 2015) and attention maps (Wang et al.
2020), of layers that are matched evenly (Jiao et al. 2020, section 3.1)."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from lmworks.compress.distillation_losses import divergence
from lmworks.model.attention import Attention
from lmworks.model.config import ModelConfig, Rope
from lmworks.model.positions import rotate
from lmworks.model.stack import Block
from lmworks.model.transformer import Transformer
from lmworks.train.run import PROJECTIONS

_HIDDEN = -1e4  # a score that leaves no probability, and no gradient that is no number


def matched_layers(student: int, teacher: int) -> list[int]:
    """For each of the student's layers the number of the teacher's, so that the last ones match. ValueError for a
    teacher with fewer layers."""
    if teacher < student:
        raise ValueError(f"a teacher of {teacher} layers cannot be matched by a student of {student}: leave layers out")
    return [-(-(layer + 1) * teacher // student) - 1 for layer in range(student)]


def blocks_of(model: Transformer) -> list[Block]:
    """The decoder's blocks; ValueError for a model without a decoder."""
    if model.decoder is None:
        raise ValueError("only a decoder is compressed so: the model has none")
    return list(model.decoder.blocks)  # type: ignore[arg-type]


def add_projections(model: Transformer, width: int, seed: int) -> Transformer:
    """The model, in place, with a projection of each block's hidden states to the teacher's `width`, which are learned
    with it and not delivered."""
    own, generator = model.config.embedding.width, torch.Generator().manual_seed(seed)
    layers = nn.ModuleList(nn.Linear(own, width, bias=False) for _ in blocks_of(model))
    for layer in layers:
        nn.init.normal_(layer.weight, std=own**-0.5, generator=generator)  # type: ignore[arg-type]
    model.add_module(PROJECTIONS.removesuffix("."), layers.to(model.tokens))
    return model


def hidden_state_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """The squared distance relative to the teacher's square, (…, width) each → (…,) float32 at least: they grow from
    layer to layer, and each is to count alike."""
    student, teacher = _wide(student), _wide(teacher)
    return (student - teacher).square().sum(-1) / teacher.square().sum(-1).clamp(min=1e-12)


def attention_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """KL(teacher ‖ student) of attention maps, (batch, heads, length, length) log-probabilities each → (batch, length),
    the mean over heads; where the numbers of heads differ, of the means of their maps."""
    if student.shape[1] != teacher.shape[1]:
        student, teacher = (maps.logsumexp(1, keepdim=True) - math.log(maps.shape[1]) for maps in (student, teacher))
    return divergence(student, teacher, beta=0).mean(1)


def attention_map(attention: Attention, call: tuple[Any, ...], visible: Tensor) -> Tensor:
    """ln of the shares that each query gives to keys, (batch, heads, length, length) float32 at least, of a call of
    `attention` and who sees whom, `visible` (batch, 1, length, length) bool."""
    hidden, context = call
    query, key = (
        linear(hidden).unflatten(-1, (-1, attention.config.head_dim)).transpose(1, 2)
        for linear in (attention.query, attention.key)
    )
    if attention.query_norm is not None and attention.key_norm is not None:
        query, key = attention.query_norm(query), attention.key_norm(key)
    if context.rotation is not None:
        query, key = rotate(query, context.rotation), rotate(key, context.rotation)
    key = key.repeat_interleave(query.shape[1] // key.shape[1], dim=1)
    scores = _wide(query @ key.transpose(-1, -2)) * attention.scale
    return scores.masked_fill(~visible, _HIDDEN).log_softmax(-1)


def _wide(tensor: Tensor) -> Tensor:
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def check_maps(config: ModelConfig) -> None:
    """ValueError for attention whose maps `attention_map` does not compute."""
    assert config.decoder is not None
    for attention in (block.attention for block in config.decoder.blocks):
        plain = isinstance(attention.position, Rope | None) and not attention.pattern
        if not plain or attention.softcap or attention.sinks:
            raise ValueError("attention maps are of plain causal attention; leave loss.attention_maps at 0")
