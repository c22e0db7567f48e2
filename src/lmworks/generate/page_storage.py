"""Keys and values in pages: moving pages in any layout, and as plain tensors for any model on any device. (The fused
kernels lay theirs out again: `kernels/kv_pages.py`.)"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from lmworks.generate.paged_cache import DROPPED, PAGE
from lmworks.model.config import Stack, Window
from lmworks.model.kv_cache import CHUNK

CacheDtype = Literal["float32", "bfloat16", "float16", "int8"]


def layer_groups(stack: Stack) -> tuple[tuple[int | None, ...], list[int]]:
    """The window of each group of layers, the unlimited one first, and the group of each layer."""
    patterns = [block.attention.pattern for block in stack.blocks]
    seen = [pattern.size if isinstance(pattern, Window) else None for pattern in patterns]
    windows = tuple(sorted(set(seen), key=lambda window: (window is not None, window or 0)))
    return windows, [windows.index(window) for window in seen]


class PageTensors:
    """Pages of keys and values, whatever is in them: for each group of layers (`layer_groups`) the tensors whose first
    dimension counts its pages. (group, page) names a page."""

    def __init__(self, groups: Sequence[Sequence[Tensor]]) -> None:
        self._groups = groups
        # The same memory; NumPy fills it in a sixth of the time.
        self._bytes = [
            [tensor.view(torch.uint8).numpy() if tensor.device.type == "cpu" else tensor for tensor in tensors]
            for tensors in groups
        ]

    @property
    def nbytes(self) -> int:
        return sum(tensor.nbytes for tensors in self._groups for tensor in tensors)

    def copy(self, group: int, source: int, target: int) -> None:
        for tensor in self._groups[group]:
            tensor[target] = tensor[source]

    def clear(self, pages: Sequence[tuple[int, int]]) -> None:
        """Fill with zeros."""
        for group in {group for group, _ in pages}:
            numbers = [page for page_group, page in pages if page_group == group]
            for data in self._bytes[group]:
                data[numbers] = 0

    def read(self, pages: Sequence[tuple[int, int]]) -> list[list[Tensor]]:
        """The content, on the CPU."""
        return [[tensor[page].to("cpu", copy=True) for tensor in self._groups[group]] for group, page in pages]

    def restore(self, pages: Sequence[tuple[int, int]], content: object) -> None:
        """Write the content that `read` gave into pages, which may be others."""
        for (group, page), values in zip(pages, content, strict=True):  # type: ignore[call-overload]
            for tensor, value in zip(self._groups[group], values, strict=True):
                tensor[page] = value.to(tensor.device)


class PageStorage(PageTensors):
    """`keys[layer]` and `values[layer]` are (pages + 1, kv_heads, PAGE, head_dim); the last page is a place to write
    what nobody reads.

    As int8 each token of each head has a scale of its own, (pages + 1, kv_heads, PAGE, 1) float32.
    """

    def __init__(self, stack: Stack, pages: int, dtype: CacheDtype, compute: torch.dtype, device: torch.device) -> None:
        self.windows, self.group_of = layer_groups(stack)
        self.scratch, self.compute, self.device = pages, compute, device
        kind = getattr(torch, dtype)
        heads = [(block.attention.kv_heads, block.attention.head_dim) for block in stack.blocks]

        def zeros(width: int | None = None, kind: torch.dtype = kind) -> list[Tensor]:
            return [
                torch.zeros(pages + 1, kv_heads, PAGE, width or head_dim, dtype=kind, device=device)
                for kv_heads, head_dim in heads
            ]

        self.keys, self.values = zeros(), zeros()
        self.scales = (zeros(1, torch.float32), zeros(1, torch.float32)) if kind == torch.int8 else None
        layers = list(zip(self.group_of, self.keys, self.values, *(self.scales or ()), strict=True))
        super().__init__([[t for of, *ts in layers if of == group for t in ts] for group in range(len(self.windows))])

    def write(self, layer: int, pages: Tensor, offsets: Tensor, key: Tensor, value: Tensor) -> None:
        """`key`, `value` (batch, kv_heads, length, head_dim) to `pages`, at their `offsets` (batch, length)."""
        for which, (stored, new) in enumerate(((self.keys[layer], key), (self.values[layer], value))):
            tokens = new.transpose(1, 2)  # (batch, length, kv_heads, head_dim)
            if self.scales is not None:
                scale = tokens.float().abs().amax(-1, keepdim=True) / 127  # (batch, length, kv_heads, 1)
                self.scales[which][layer][pages, :, offsets] = scale
                tokens = (tokens.float() / scale.clamp(min=1e-30)).round()
            stored[pages, :, offsets] = tokens.to(stored.dtype)

    def gather(self, layer: int, tables: Tensor) -> tuple[Tensor, Tensor]:
        """The keys and values of whole pages, `tables` (batch, pages) → (batch, kv_heads, stored, head_dim) each."""
        gathered = []
        for which, stored in enumerate((self.keys[layer], self.values[layer])):
            pages = stored[tables]  # (batch, pages, kv_heads, PAGE, head_dim)
            if self.scales is not None:
                pages = (pages.float() * self.scales[which][layer][tables]).to(self.compute)
            gathered.append(pages.transpose(1, 2).flatten(2, 3).to(self.compute))
        return gathered[0], gathered[1]


class PagedView:
    """The pages as one forward sees them: a `lmworks.model.kv_cache.Cache`.

    Each row has its page `tables` (group, pages) and its `length` new tokens from `starts` on. A row without tables is
    padding: it is written where nobody reads.

    Rows show their pages by whole chunks, the ones too many masked, so that the longest row of a batch does not change
    the order in which a kernel adds up the others. A single row that begins a text needs no pages to be read.
    """

    def __init__(
        self, storage: PageStorage, tables: Sequence[Sequence[Sequence[int]]], starts: Sequence[int], length: int
    ) -> None:
        device = storage.device
        self._storage = storage
        first = torch.tensor(starts, device=device)[:, None]
        self.positions = first + torch.arange(length, device=device)  # (batch, length)
        stored = -(-(max(starts) + length) // CHUNK) * CHUNK
        self._tables = [
            torch.tensor(
                [
                    _filled(row[group] if row else (), -(-(start + length) // PAGE), stored // PAGE, storage.scratch)
                    for row, start in zip(tables, starts, strict=True)
                ],
                device=device,
            )
            for group in range(len(storage.windows))
        ]  # (batch, stored / PAGE) for each group
        self._places = self.positions % PAGE
        self._fresh = len(tables) == 1 and starts[0] == 0
        keys_at = torch.arange(stored, device=device)
        self.key_positions = self.positions if self._fresh else keys_at[None]
        last = self.positions[:, -1]  # what lies behind a row's last new token belongs to nobody
        self.mask = None if self._fresh else keys_at <= last[:, None, None, None]

    def update(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        tables = self._tables[self._storage.group_of[layer]]
        pages = tables.gather(1, self.positions // PAGE)  # (batch, length)
        self._storage.write(layer, pages, self._places, key, value)
        if self._fresh and self._storage.scales is None:
            return key, value
        gathered = self._storage.gather(layer, tables)
        if not self._fresh:
            return gathered
        length = self.positions.shape[1]
        return gathered[0][:, :, :length], gathered[1][:, :, :length]


def _filled(table: Sequence[int], used: int, count: int, scratch: int) -> list[int]:
    """The first `used` pages of a row's table, filled up to `count`. What was dropped is masked, and so is what lies
    behind: it may be any page that holds numbers, but not one that is reserved and was not begun yet."""
    row = [scratch if page == DROPPED else page for page in table[:used]]
    return row + [scratch] * (count - len(row))
