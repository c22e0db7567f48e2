"""Keys and values of the tokens seen so far, so that a new token costs one position and not the whole text again.

The model knows no scheduler: attention hands its new keys and values to the `Cache` it was given and gets back
everything it may attend to. Who sits in which slot, and for how long, is decided elsewhere.

Use caches under `torch.no_grad()` or `torch.inference_mode()`: they are written in place.
"""

from typing import Protocol

import torch
from torch import Tensor

from lmworks.model import config as configs

# A view shows stored entries by whole chunks, the ones too many masked. A kernel adds up the entries behind its last
# full vector in another order, so without this the longest row of a batch would change the rounding of all the others.
CHUNK = 64


class Cache(Protocol):
    """The protocol of a cache in a forward.

    positions      (batch, length) int64, the positions of the new tokens, none negative.
    key_positions  (batch or 1, stored) int64, the positions of what `update` gives back.
    mask           (batch or 1, 1, length or 1, stored) bool, False = hidden from a token, whatever the model's rule of
                   who may attend to whom; None for a fresh text, where all that is stored is the new tokens.
    """

    @property
    def positions(self) -> Tensor: ...

    @property
    def key_positions(self) -> Tensor: ...

    @property
    def mask(self) -> Tensor | None: ...

    def update(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Stores keys and values (batch, kv_heads, length, head_dim); gives all (batch, kv_heads, stored, head_dim)."""
        ...


class KVCache:
    """Preallocated memory for `slots` sequences of up to `length` tokens.

    `keys[layer]` and `values[layer]` are (slots, kv_heads, length, head_dim); entry [s, :, p] belongs to position p of
    the sequence in slot s. Nothing is ever cleared: a position counts as stored because a view's positions say so.
    """

    def __init__(
        self,
        config: configs.ModelConfig,
        slots: int,
        length: int,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        if config.decoder is None:
            raise ValueError("only a decoder has a cache; an encoder sees its whole text at once")
        shapes = [(slots, b.attention.kv_heads, length, b.attention.head_dim) for b in config.decoder.blocks]
        self.keys = [torch.zeros(shape, dtype=dtype, device=device) for shape in shapes]
        self.values = [torch.zeros(shape, dtype=dtype, device=device) for shape in shapes]
        self.slots, self.length = slots, length
        table = (config.decoder_embedding or config.embedding).positions
        self.limit = min(length, table.length) if isinstance(table, configs.Learned) else length  # of positions

    def view(self, slots: Tensor, positions: Tensor) -> "CacheView":
        """The cache as one forward sees it.

        slots       (batch,) int64, all different: the slot that each row of the batch lives in.
        positions   (batch, length) int64: where each new token goes, less than the cache's length and than the number
                    of learned positions. -1 marks padding in a ragged batch: it is not stored, nothing attends to it,
                    and what the model gives there is undefined.

        ValueError if a slot or a position lies outside the cache, or a position past the learned ones.
        """
        return CacheView(self, slots, positions)

    def copy(self, source: int, targets: Tensor, length: int) -> None:
        """Copies the first `length` tokens of slot `source` to the slots `targets` (n,): one prompt, many samples."""
        for stored in (*self.keys, *self.values):
            stored[targets, :, :length] = stored[source, :, :length]


class CacheView:
    """A `KVCache` for one batch: see `KVCache.view`, and `Cache` for what the model asks of it."""

    def __init__(self, cache: KVCache, slots: Tensor, positions: Tensor) -> None:
        if slots.dim() != 1 or positions.dim() != 2 or not positions.numel():
            shapes = f"{tuple(slots.shape)} and {tuple(positions.shape)}"
            raise ValueError(f"a view takes slots (batch,) and positions (batch, length), neither empty; got {shapes}")
        slot_list, batch, length = slots.tolist(), *positions.shape
        _check(cache, slot_list, positions)
        device = positions.device
        self.positions = positions.clamp(min=0)
        self._cache = cache
        end = int(positions.max()) + 1
        self._stored = min(cache.length, -(-end // CHUNK) * CHUNK)
        contiguous = slot_list == list(range(slot_list[0], slot_list[0] + batch))
        # The batch's own memory: a plain slice where its slots lie side by side, otherwise a gather.
        self._rows: slice | Tensor = slice(slot_list[0], slot_list[0] + batch) if contiguous else slots
        start = end - length  # negative where every row begins with padding
        aligned = start >= 0 and bool((positions == torch.arange(start, end, device=device)).all())
        # Rows that write the same positions, side by side, are one block of memory.
        self._block = slice(start, end) if contiguous and aligned else None
        self._valid = positions >= 0  # (batch, length)
        self._all_valid = bool(self._valid.all())
        self._targets = (slots[:, None].expand(batch, length)[self._valid], positions[self._valid])  # (tokens,) each
        self._fresh = aligned and start == 0
        keys_at = torch.arange(self._stored, device=device)
        self.key_positions = self.positions if self._fresh else keys_at[None]
        last = self.positions.amax(dim=1)  # (batch,), of a row's new tokens: what lies behind it belongs to others
        self.mask = None if self._fresh else keys_at <= last[:, None, None, None]

    def update(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        keys, values = self._cache.keys[layer], self._cache.values[layer]
        self._write(keys, key)
        self._write(values, value)
        if self._fresh:
            return key, value
        return keys[self._rows, :, : self._stored], values[self._rows, :, : self._stored]

    def _write(self, stored: Tensor, new: Tensor) -> None:
        """Puts `new` (batch, kv_heads, length, head_dim) into `stored` (slots, kv_heads, length, head_dim)."""
        if self._block is not None:
            stored[self._rows, :, self._block] = new
            return
        slots, positions = self._targets
        tokens = new.transpose(1, 2)  # (batch, length, kv_heads, head_dim)
        stored[slots, :, positions] = tokens.flatten(0, 1) if self._all_valid else tokens[self._valid]


def _check(cache: KVCache, slots: list[int], positions: Tensor) -> None:
    if len(slots) != positions.shape[0] or len(set(slots)) != len(slots):
        raise ValueError(f"{positions.shape[0]} rows need as many different slots, got {slots}")
    if min(slots) < 0 or max(slots) >= cache.slots:
        raise ValueError(f"slots {slots} lie outside the cache's {cache.slots} slots")
    lowest, highest = int(positions.min()), int(positions.max())
    if lowest < -1 or not 0 <= highest < cache.length:
        raise ValueError(
            f"positions {lowest} to {highest} lie outside the cache's length {cache.length} (-1 is padding)"
        )
    if highest >= cache.limit:
        raise ValueError(f"position {highest} is past the model's {cache.limit} learned positions")
