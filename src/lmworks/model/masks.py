"""Who may attend to whom: rules as predicates, and the forms in which attention takes them.

A predicate answers for a row of the batch, a query and a key, whole tensors of them at a time. The same predicate
becomes a dense mask, (batch or 1, 1, length, stored) bool, or, where FlexAttention compiles, a block mask, which knows
the blocks of the n × n square that are empty and never holds the square itself; or, in training on the CPU, two numbers
for each query, where it sees one range of keys (`contiguous_masks.py`). Rules with values of their own are classes, so
that these two numbers can be computed from them.

Queries and keys are given to a predicate as their places in the row, 0 to length - 1, so that a rule may look things up
in tensors of its own: `documents` does. Padding and a fresh start of the positions do not move places; with a cache, a
token's place is its position. Sparse patterns are about distances in the text, and so about positions: `at` makes a
rule on places of a rule on positions.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, assert_never

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask

from lmworks.kernels.training_kernels import KeyRanges
from lmworks.model import config as configs

Predicate = Callable[[Tensor, Tensor, Tensor], Tensor]  # (row, place of the query, of the key), int64 → may attend


class ForkedRanges(NamedTuple):
    """`own` keys of each query of a row, and the `shared` keys (1, forks) that queries at the places `forks` (forks,)
    int64 see besides."""

    own: KeyRanges
    forks: Tensor
    shared: KeyRanges


Mask = Tensor | BlockMask | KeyRanges | ForkedRanges


def causal(row: Tensor, query: Tensor, key: Tensor) -> Tensor:
    """A language model: each token sees itself and the past."""
    return key <= query


def everything(row: Tensor, query: Tensor, key: Tensor) -> Tensor:
    """An encoder: all tokens see each other."""
    return (key == key) & (query == query)


@dataclass(frozen=True, eq=False)
class PrefixLM:
    """The first `lengths[row]` tokens see each other, all later ones the past (Raffel et al. 2020, section 3.2.1).

    `lengths` (batch,) int64, with the padding where it stands left. With a cache, the prefix must come in one forward:
    what is stored already was computed without seeing what came later.
    """

    lengths: Tensor

    def __call__(self, row: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (key <= query) | (key < self.lengths[row])


@dataclass(frozen=True, eq=False)
class SeenByAll:
    """The past, and `tokens` (batch, length) bool, wherever they stand."""

    tokens: Tensor

    def __call__(self, row: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (key <= query) | self.tokens[row, key]


@dataclass(frozen=True, eq=False)
class Documents:
    """Tokens see those of their own document: for several of them in one row, `both(causal, documents(numbers))`.

    `numbers` (batch, length) int64, equal within a document; with a cache (batch, the cache's length). Give the model
    positions that start afresh in each, and it gives what it gives each document alone.
    """

    numbers: Tensor

    def __call__(self, row: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return self.numbers[row, query] == self.numbers[row, key]


@dataclass(frozen=True, eq=False)
class SharedPrefix:
    """The past, of the own text: a row holds texts one behind the other, each a prefix with its continuations behind
    it, which see the prefix and not each other.

    `texts`, `branches` (batch, length) int64: numbers of a token's text, and of its continuation, from 1; 0 in the
    prefix. Give the model positions as if a continuation stood behind its prefix alone.
    """

    texts: Tensor
    branches: Tensor

    def __call__(self, row: Tensor, query: Tensor, key: Tensor) -> Tensor:
        branch = self.branches[row, key]
        own = (branch == 0) | (branch == self.branches[row, query])
        return (key <= query) & (self.texts[row, query] == self.texts[row, key]) & own


@dataclass(frozen=True, eq=False)
class Both:
    """The rule that allows what both allow."""

    first: Predicate
    second: Predicate

    def __call__(self, row: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return self.first(row, query, key) & self.second(row, query, key)


prefix_lm, documents, both = PrefixLM, Documents, Both


def at(positions: Tensor, rule: Predicate) -> Predicate:
    """`rule`, which is about positions, for places: the token at place i of a row has position `positions[row, i]`."""
    return lambda row, query, key: rule(row, positions[row, query], positions[row, key])


def pattern(config: configs.Pattern) -> Predicate:
    """The rule, on positions, of a sparse attention; see the patterns of `config.py`."""
    match config:
        case configs.Window(size):
            return lambda row, query, key: _nearer(query, key, size)
        case configs.Banded(block, bands):
            return lambda row, query, key: _nearer(query // block, key // block, bands)
        case configs.WindowAndGlobal(size, tokens):
            return lambda row, query, key: _nearer(query, key, size) | (key < tokens) | (query < tokens)
        case unknown:
            assert_never(unknown)


def _nearer(query: Tensor, key: Tensor, size: int) -> Tensor:
    """A distance below `size`, asked without a tensor of distances, which would be eight times as large as a mask."""
    return (key > query - size) & (key < query + size)


def reach(config: configs.Pattern) -> int:
    """The most consecutive positions among which the pattern hides nothing, wherever they begin."""
    match config:
        case configs.Window(size) | configs.WindowAndGlobal(size, _):
            return size
        case configs.Banded(block, bands):
            return block * (bands - 1) + 1
        case unknown:
            assert_never(unknown)


def dense(rule: Predicate, batch: int, queries: Tensor, keys: Tensor) -> Tensor:
    """`queries` (batch or 1, length), `keys` (batch or 1, stored) → (batch or 1, 1, length, stored): 1 where the rows
    of the batch do not differ."""
    rows = torch.arange(batch, device=queries.device)[:, None, None, None]
    return rule(rows, queries[:, None, :, None], keys[:, None, None, :])


def blockwise(rule: Predicate, batch: int, length: int, real: Tensor | None, device: torch.device) -> BlockMask:
    """The rule as FlexAttention takes it; `real` (batch, length) bool hides padding."""

    def mask_mod(row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        allowed = rule(row, query, key)
        return allowed if real is None else (allowed & real[row, key].bool()) | (query == key)

    return create_block_mask(mask_mod, batch, None, length, length, device=str(device))


def padding(attention_mask: Tensor) -> Tensor:
    """(batch, length) bool, True = real token → (batch, 1, length, length) bool, True = may attend.

    A token may always attend to itself, so that no row is empty: the softmax over nothing is NaN, and would spread.
    """
    visible = attention_mask.bool()[:, None, None, :]  # (batch, 1, 1, length)
    return visible | torch.eye(attention_mask.shape[1], dtype=torch.bool, device=attention_mask.device)
