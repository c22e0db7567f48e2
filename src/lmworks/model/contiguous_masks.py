"""Contiguous masks: masks whose queries see one range of keys each, as two numbers for each query.

The kernel of attention in training (`flash_attention.trained_attention`) takes them. Most rules are such: the past, a
prefix, a document, real tokens and near ones are each a range of keys, and so is the intersection of two ranges. So the
ranges are narrowed by one rule after the other in O(n), or O(n log n) with documents, without the n × n square. Whether
a query sees all keys of its range is checked by sums along the row: a document may continue after another one, padding
may stand between tokens, positions may start afresh where documents are not apart. For those, and for rules that are
not from `masks.py`, `of_mask` asks the dense mask.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from lmworks.kernels.training_kernels import KeyRanges
from lmworks.model import config as configs
from lmworks.model import masks


class _Ranges(NamedTuple):
    """For each query (batch, length) the first and the last key, int64, and `whole`, whether it sees all between them:
    None where it does by the rules alone, whatever the batch."""

    first: Tensor
    last: Tensor
    whole: Tensor | None

    def narrowed(self, first: Tensor, last: Tensor, whole: Tensor) -> "_Ranges":
        whole = whole if self.whole is None else self.whole & whole
        return _Ranges(self.first.maximum(first), self.last.minimum(last), whole)


def key_ranges(
    rule: masks.Predicate, pattern: configs.Pattern | None, positions: Tensor, real: Tensor | None
) -> KeyRanges | None:
    """The keys that each query sees by `rule`, by a sparse `pattern` of `positions` (batch, length), among the tokens
    that are `real` (batch, length) bool; None where they are not known to be a range. In a graph that `torch.compile`
    makes, only what does not depend on the batch's values is known.

    Queries of padding, which give nothing that is defined, see themselves.
    """
    places = torch.arange(positions.shape[1], device=positions.device).expand_as(positions)
    ranges = _Ranges(torch.zeros_like(places), torch.full_like(places, positions.shape[1] - 1), None)
    for part in sorted(_parts(rule), key=lambda part: isinstance(part, masks.SeenByAll)):  # once documents are apart
        narrowed = _by_rule(ranges, part, places)
        if narrowed is None:
            return None
        ranges = narrowed
    if real is not None:
        ranges = _by_padding(ranges, real.bool(), places)
    if pattern is not None:
        narrowed = _by_pattern(ranges, pattern, positions)
        if narrowed is None:
            return None
        ranges = narrowed
    if ranges.whole is not None and (torch.compiler.is_compiling() or not bool(ranges.whole.all())):
        return None
    return KeyRanges(ranges.first.int().contiguous(), ranges.last.int().contiguous())


def forked_ranges(rule: masks.SharedPrefix) -> masks.ForkedRanges:
    """The keys of one row: all of a text's past up to the first continuation; of those after it, their own and, apart
    from these, the prefix, which is not empty."""
    texts, branches = rule.texts, rule.branches  # (1, length)
    places = torch.arange(texts.shape[1], device=texts.device)[None]
    edge = texts.new_ones(1, 1, dtype=torch.bool)
    begins = torch.cat((edge, texts.diff() != 0), dim=1)
    text = _latest(begins, places)
    own = _latest(begins | torch.cat((edge, branches.diff() != 0), dim=1), places)
    forks = (branches[0] > 1).nonzero()[:, 0]
    ends = _next(branches > 0, places).gather(1, text)[:, forks] - 1  # of the prefixes
    shared = KeyRanges(text[:, forks].int(), ends.int())
    return masks.ForkedRanges(KeyRanges(own.where(branches > 1, text).int(), places.int()), forks, shared)


def of_mask(mask: Tensor, batch: int, real: Tensor | None) -> KeyRanges | None:
    """The same of a mask (batch or 1, 1, length or 1, length), in O(n²); None where some query of a real token sees
    keys with others between them.

    `real` (batch, length) bool: queries of padding see themselves.
    """
    length = mask.shape[-1]
    if real is not None:
        mask = mask & (real.bool()[:, None, :, None] | torch.eye(length, dtype=torch.bool))
    seen = mask[:, 0]  # (batch or 1, length or 1, length)
    rows = seen.to(torch.uint8)
    first = rows.argmax(dim=-1)
    last = length - 1 - rows.flip(-1).argmax(dim=-1)
    if not torch.equal(last - first + 1, seen.sum(dim=-1)):
        return None
    first, last = (places.expand(batch, length).int().contiguous() for places in (first, last))
    return KeyRanges(first, last)


def _parts(rule: masks.Predicate) -> Iterator[masks.Predicate]:
    if isinstance(rule, masks.Both):
        yield from _parts(rule.first)
        yield from _parts(rule.second)
    else:
        yield rule


def _by_rule(ranges: _Ranges, rule: masks.Predicate, places: Tensor) -> _Ranges | None:
    if rule is masks.everything:
        return ranges
    if rule is masks.causal:
        return ranges._replace(last=ranges.last.minimum(places))
    match rule:
        case masks.PrefixLM(lengths):
            return ranges._replace(last=ranges.last.minimum(places.maximum(lengths[:, None] - 1)))
        case masks.SeenByAll(tokens) if tokens.shape == places.shape:
            return _by_tokens(ranges, tokens, places)
        case masks.Documents(numbers) if numbers.shape == places.shape:
            return _by_documents(ranges, numbers, places)
        case _:
            return None


def _by_documents(ranges: _Ranges, numbers: Tensor, places: Tensor) -> _Ranges:
    edge = numbers.new_ones(len(numbers), 1, dtype=torch.bool)
    differ = numbers[:, 1:] != numbers[:, :-1]
    first = _latest(torch.cat((edge, differ), dim=1), places)
    last = _next(torch.cat((differ, edge), dim=1), places)
    ordered = numbers.long().sort(dim=1).values
    once = (ordered[:, 1:] != ordered[:, :-1]).sum(dim=1) == differ.sum(dim=1)  # no document continues after another
    return ranges.narrowed(first, last, once[:, None].expand_as(places))


def _by_tokens(ranges: _Ranges, tokens: Tensor, places: Tensor) -> _Ranges:
    """`tokens` that are in the range and later than the query must follow it without a gap."""
    last = _latest(tokens, places).gather(1, ranges.last).maximum(places)
    before = tokens.long().cumsum(dim=1)
    return ranges.narrowed(ranges.first, last, before.gather(1, last) - before == last - places)


def _by_padding(ranges: _Ranges, real: Tensor, places: Tensor) -> _Ranges:
    at_most = places.shape[1] - 1
    first = _next(real, places).clamp(max=at_most).gather(1, ranges.first)
    last = _latest(real, places).gather(1, ranges.last)
    before = real.long().cumsum(dim=1)
    gapless = before.gather(1, last) - before.gather(1, first) == last - first
    narrowed = ranges.narrowed(first.where(real, places), last.where(real, places), gapless | ~real)
    return narrowed._replace(first=narrowed.first.where(real, places), last=narrowed.last.where(real, places))


def _by_pattern(ranges: _Ranges, pattern: configs.Pattern, positions: Tensor) -> _Ranges | None:
    """A distance of positions is one of places where positions grow by one along a range."""
    match pattern:
        case configs.Window(size):
            lowest, highest = positions - size + 1, positions + size - 1
        case configs.Banded(block, bands):
            number = positions // block
            lowest, highest = (number - bands + 1) * block, (number + bands) * block - 1
        case configs.WindowAndGlobal():
            return None
    breaks = torch.zeros_like(positions)
    breaks[:, 1:] = (positions.diff(dim=1) != 1).cumsum(dim=1)
    follows = breaks.gather(1, ranges.first) == breaks.gather(1, ranges.last)
    place_of_zero = ranges.first - positions.gather(1, ranges.first)
    return ranges.narrowed(lowest + place_of_zero, highest + place_of_zero, follows)


def _latest(marked: Tensor, places: Tensor) -> Tensor:
    """The nearest place up to each that is marked; 0 where none is."""
    return places.where(marked, 0).cummax(dim=1).values


def _next(marked: Tensor, places: Tensor) -> Tensor:
    """The nearest place from each on that is marked; the length where none is."""
    return places.where(marked, places.shape[1]).flip(1).cummin(dim=1).values.flip(1)
