"""Attention masks: who may attend to whom.

By most rules each query sees one range of keys: the past, a document, a prefix. Whoever knows the rule states the
ranges, as two numbers for each query (`documents`, `prefixes`); they are what the kernel of training on the CPU takes,
narrowed by padding and by a sparse pattern (`key_ranges`), and there the n × n square never exists. Any other rule is a
predicate, which answers for a row of the batch, a query and a key, whole tensors of them at a time; ranges are one,
too. A predicate becomes a dense mask, (batch or 1, 1, length, stored) bool, or, where FlexAttention compiles, a block
mask, which knows the blocks of the square that are empty.

Queries and keys are given as their places in the row, 0 to length - 1. Padding and a fresh start of the positions do
not move places; with a cache, a token's place is its position. Sparse patterns are about distances in the text, and so
about positions: `at` makes a rule on places of a rule on positions.
"""

from collections.abc import Callable
from typing import NamedTuple, assert_never

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask

from lmworks.kernels.training_kernels import KeyRanges
from lmworks.model import config as configs

Predicate = Callable[[Tensor, Tensor, Tensor], Tensor]  # (row, place of the query, of the key), int64 → may attend


class ForkedRanges(NamedTuple):
    """`own_keys` of each query of a row, and the `shared_keys` (1, forks) that queries at the indices `forks` (forks,)
    int64 see besides."""

    own_keys: KeyRanges
    forks: Tensor
    shared_keys: KeyRanges


Rule = Predicate | ForkedRanges
Mask = Tensor | BlockMask | KeyRanges | ForkedRanges


def causal(row: Tensor, query: Tensor, key: Tensor) -> Tensor:
    """A language model: each token sees itself and the past."""
    return key <= query


def everything(row: Tensor, query: Tensor, key: Tensor) -> Tensor:
    """An encoder: all tokens see each other."""
    return (key == key) & (query == query)


def documents(numbers: Tensor, causal: bool) -> KeyRanges:
    """Tokens see those of their own document; `causal`: the past ones.

    `numbers` (batch, length) int64: a document is a run of equal ones. Give the model positions that start afresh in
    each, and it gives what it gives each document alone.
    """
    indices, begins, ends = _runs(numbers)
    return _ranges(_latest(begins, indices), indices if causal else _next(ends, indices))


def prefixes(numbers: Tensor, prefix: Tensor) -> KeyRanges:
    """Tokens see the past of their own document and its `prefix`, (batch, length) bool, with which it begins: the first
    tokens of a text see each other, all later ones the past (Raffel et al. 2020, section 3.2.1).

    With a cache, `numbers` are of the whole text, and the prefix must come in one forward: what is stored already was
    computed without seeing what came later.
    """
    indices, begins, ends = _runs(numbers)
    last = _latest(prefix, indices).gather(1, _next(ends, indices)).maximum(indices)
    return _ranges(_latest(begins, indices), last)


def shared_prefixes(texts: Tensor, branches: Tensor) -> ForkedRanges:
    """The past, of the own text: one row holds texts one behind the other, each a prefix with its continuations behind
    it, which see the prefix and not each other.

    `texts`, `branches` (1, length) int64: numbers of a token's text, and of its continuation, from 1; 0 in the prefix,
    which is not empty where there are several. Give the model positions as if a continuation stood behind its prefix
    alone. The first continuation and its prefix are one range; those after it see their own and, apart from it, the
    prefix.
    """
    indices, begins, _ = _runs(texts)
    text, branch = _latest(begins, indices), _latest(begins | _runs(branches)[1], indices)
    forks = (branches[0] > 1).nonzero()[:, 0]
    ends = _next(branches > 0, indices).gather(1, text)[:, forks] - 1  # of the prefixes
    return ForkedRanges(_ranges(branch.where(branches > 1, text), indices), forks, _ranges(text[:, forks], ends))


def both(first: Predicate, second: Predicate) -> Predicate:
    """The rule that allows what both allow."""
    return lambda row, query, key: first(row, query, key) & second(row, query, key)


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


# ---------------------------------------------------------------------------------------------------------------------
# Masks


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


# ---------------------------------------------------------------------------------------------------------------------
# Ranges


def key_ranges(
    ranges: KeyRanges, pattern: configs.Pattern | None, positions: Tensor, real: Tensor | None
) -> KeyRanges | None:
    """`ranges` without padding, where `real` (batch, length) bool is False, and what a sparse `pattern` of `positions`
    (batch, length) hides, in O(n).

    None where a query does not see all keys between its first and its last: padding stands between tokens, positions
    start afresh inside a range, or the pattern has global tokens; and in a graph that `torch.compile` makes, which
    cannot know that of a batch. Queries of padding, which give nothing that is defined, see themselves.
    """
    if real is None and pattern is None:
        return ranges
    if torch.compiler.is_compiling():
        return None
    first, last, gapless = ranges.first.long(), ranges.last.long(), positions >= 0
    if real is not None:
        indices, real = _indices(positions), real.bool()
        first = _next(real, indices).clamp(max=indices.shape[1] - 1).gather(1, first).where(real, indices)
        last = _latest(real, indices).gather(1, last).where(real, indices)
        before = real.long().cumsum(dim=1)
        gapless = before.gather(1, last) - before.gather(1, first) == last - first
    if pattern is not None:
        limits = _limits(pattern, positions)
        if limits is None:
            return None
        breaks = torch.zeros_like(positions)
        breaks[:, 1:] = (positions.diff(dim=1) != 1).cumsum(dim=1)
        gapless = gapless & (breaks.gather(1, first) == breaks.gather(1, last))
        index_of_zero = first - positions.gather(1, first)  # where positions grow by one along the range, as indices do
        first, last = first.maximum(limits[0] + index_of_zero), last.minimum(limits[1] + index_of_zero)
    return _ranges(first, last) if bool(gapless.all()) else None


def _limits(config: configs.Pattern, positions: Tensor) -> tuple[Tensor, Tensor] | None:
    """The first and the last position that each position sees by a pattern; None where there are more between them."""
    match config:
        case configs.Window(size):
            return positions - size + 1, positions + size - 1
        case configs.Banded(block, bands):
            number = positions // block
            return (number - bands + 1) * block, (number + bands) * block - 1
        case configs.WindowAndGlobal():
            return None


def _ranges(first: Tensor, last: Tensor) -> KeyRanges:
    return KeyRanges(first.int().contiguous(), last.int().contiguous())


def _indices(like: Tensor) -> Tensor:
    """(batch, length) int64: 0 to length - 1."""
    return torch.arange(like.shape[1], device=like.device).expand_as(like)


def _runs(numbers: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Indices, and where runs of equal numbers begin and end, bool; (batch, length) each."""
    edge, differ = numbers.new_ones(len(numbers), 1, dtype=torch.bool), numbers.diff(dim=1) != 0
    return _indices(numbers), torch.cat((edge, differ), dim=1), torch.cat((differ, edge), dim=1)


def _latest(marked: Tensor, indices: Tensor) -> Tensor:
    """The last marked index up to each; 0 where there is none."""
    return indices.where(marked, 0).cummax(dim=1).values


def _next(marked: Tensor, indices: Tensor) -> Tensor:
    """The first marked index from each on; the length where there is none."""
    return indices.where(marked, indices.shape[1]).flip(1).cummin(dim=1).values.flip(1)
