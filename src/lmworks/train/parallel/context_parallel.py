"""Context parallelism: each device has a part of every sequence, and gathers the keys and values of all of it.

As in LLaMA 3 (Grattafiori et al. 2024, section 3.3.2): a row of n tokens is cut into 2 C pieces for C devices, of which
device i takes the pieces i and 2 C - 1 - i, so that under a causal mask all have the same work. Attention gathers keys
and values, which with grouped heads are small next to the queries, and in the backward their gradients are summed and
divided again. All else in a model concerns one token at a time, and needs no exchange.

The gathering stands where the model keeps a cache: what attention hands over are the keys and values of this device's
tokens, what it gets back are those of all. Masks are made of the tokens' places in the whole row, while positions, from
which rotations and biases come, may start afresh in it.
"""

from dataclasses import fields, replace
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.distributed import ProcessGroup
from torch.distributed.device_mesh import DeviceMesh
from torch.nn.attention.flex_attention import create_block_mask

from lmworks.model import config as configs
from lmworks.model import masks
from lmworks.model.attention import Context, Memory
from lmworks.model.kv_cache import Cache
from lmworks.model.stack import Stack
from lmworks.model.transformer import Transformer
from lmworks.train.objectives.objective import Objective
from lmworks.train.parallel.collectives import all_gather, gather
from lmworks.train.parallel.module_override import override_methods

Examples = TypeVar("Examples")

# What is known of each token by itself. All else of an example, such as its documents, says who sees whom, and is
# looked up by place: it stays whole.
_OF_TOKENS = ("ids", "positions", "targets", "mask")


def shard_context(model: Transformer, mesh: DeviceMesh) -> Transformer:
    """Changes `model`, in place, to take this device's part of each row, as `shard_sequence` cuts it; returns it.

    Its parameters stay whole. After a backward their gradients are of this device's tokens alone: to be summed over the
    devices of the 1-D `mesh`, as over replicas. `model.hidden` wants `positions`, and a `rule` is asked about places in
    the whole row.

    ValueError for a model with two stacks, or whose experts have a capacity, which is one of whole sequences.
    """
    if model.config.encoder is not None and model.config.decoder is not None:
        raise ValueError("an encoder–decoder reads two sequences, which are not divided: set context to 1")
    for stack in model.config.stacks:
        for block in stack.blocks:
            network = block.feed_forward
            if isinstance(network, configs.MixtureOfExperts) and (network.capacity or network.capacity_factor):
                raise ValueError(
                    "an expert's capacity is counted over a whole sequence: set context to 1, or no capacity"
                )
    group = mesh.get_group()
    override_methods(model, _ContextParallelTransformer)
    for module in list(model.modules()):
        if isinstance(module, Stack):
            override_methods(module, _ContextParallelStack, context_group=group)
    return model


def check_objective(objective: Objective[Any]) -> None:
    """TypeError for an objective whose examples cannot be cut along their rows."""
    if not objective.splits_sequences:
        raise TypeError(
            f"{type(objective).__name__} looks beyond the token of each place, so that its rows are not divided: set "
            "context to 1. CausalLanguageModel, MaskedLanguageModel and PrefixLanguageModel can be"
        )


def shard_sequence(examples: Examples, mesh: DeviceMesh) -> Examples:
    """This device's part of each row of the `examples` of an objective that `check_objective` lets pass.

    Ids, positions, targets and their mask are cut; who sees whom is looked up by place, and stays whole. ValueError for
    a length that 2 · devices do not divide.
    """
    known = {field.name for field in fields(examples)}  # type: ignore[arg-type]
    whole = {name: getattr(examples, name) for name in _OF_TOKENS if name in known}
    positions = places(whole["ids"].shape[1], mesh.size(), mesh.get_local_rank()).to(whole["ids"].device)
    return replace(examples, **{name: tensor[:, positions] for name, tensor in whole.items()})  # type: ignore[type-var]


def places(length: int, devices: int, rank: int) -> Tensor:
    """The places of a row of `length` tokens that device `rank` has: pieces `rank` and `2 devices - 1 - rank` of
    `2 devices`; (length / devices,) int64, ascending. ValueError where these do not divide the length."""
    if length % (2 * devices):
        raise ValueError(
            f"{devices} devices take two pieces each of a row, and {length} tokens make no {2 * devices} equal pieces: "
            f"set the loader's length to a multiple of {2 * devices}"
        )
    pieces = torch.arange(length).view(2 * devices, -1)
    return torch.cat((pieces[rank], pieces[2 * devices - 1 - rank]))


# ---------------------------------------------------------------------------------------------------------------------
# What runs on each device


class _ContextParallelTransformer:
    """A transformer that takes parts of rows: it needs their positions, which places in a part do not say."""

    def hidden(self, ids: Tensor, *others: Any, positions: Tensor | None = None, **more: Any) -> Tensor:
        if positions is None or more.get("attention_mask") is not None or more.get("cache") is not None:
            raise ValueError("a part of a row needs its positions, a rule in the place of an attention mask, no cache")
        return super().hidden(ids, *others, positions=positions, **more)  # type: ignore[misc]


class _GatheredKeys:
    """A `Cache` that holds the whole row's keys for this device's queries, in the order of the devices.

    positions, key_positions  (batch or 1, length / devices) and (batch or 1, length)
    places, key_places        in the row, (length / devices,) and (length,)
    """

    mask = None

    def __init__(self, positions: Tensor, group: ProcessGroup) -> None:
        self.group, self.positions = group, positions
        self.key_positions = all_gather(positions, group, dim=1)
        length, devices = self.key_positions.shape[1], group.size()
        of_devices = [places(length, devices, rank).to(positions.device) for rank in range(devices)]
        self.places, self.key_places = of_devices[group.rank()], torch.cat(of_devices)

    def update(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """(batch, kv_heads, length / devices, head_dim) each → (batch, kv_heads, length, head_dim) each."""
        both = gather(torch.stack((key, value)), self.group, dim=3)
        return both[0], both[1]


class _ContextParallelStack:
    """A stack whose attention gathers the keys of the whole row, and takes rules about places in it."""

    context_group: ProcessGroup
    config: configs.Stack

    def forward(
        self,
        hidden: Tensor,
        positions: Tensor,
        attention_mask: Tensor | None = None,
        cache: Cache | None = None,
        memory: Memory | None = None,
        rule: masks.Predicate | None = None,
    ) -> Tensor:
        keys = _GatheredKeys(positions, self.context_group)
        return super().forward(hidden, positions, None, keys, memory, rule)  # type: ignore[misc]

    def _mask(
        self,
        pattern: configs.Pattern | None,
        context: Context,
        batch: int,
        attention_mask: Tensor | None,
        rule: masks.Predicate | None,
        flexible: bool,
    ) -> masks.Mask | None:
        """As the stack's, of this device's queries and all keys."""
        keys = context.cache
        assert isinstance(keys, _GatheredKeys)
        sparse = None if pattern is None else masks.pattern(pattern)
        if rule is None and sparse is None and not self.config.causal:
            return None
        allowed = rule or (masks.causal if self.config.causal else masks.everything)
        queries, stored = keys.positions.expand(batch, -1), keys.key_positions.expand(batch, -1)

        def seen(row: Tensor, query: Tensor, key: Tensor) -> Tensor:
            by_place = allowed(row, keys.places[query], keys.key_places[key])
            return by_place if sparse is None else by_place & sparse(row, queries[row, query], stored[row, key])

        device, lengths = queries.device, (queries.shape[1], stored.shape[1])
        if flexible:
            return create_block_mask(
                lambda row, _, query, key: seen(row, query, key), batch, None, *lengths, str(device)
            )
        own, of_all = (torch.arange(length, device=device)[None] for length in lengths)
        return masks.dense(seen, batch, own, of_all)
