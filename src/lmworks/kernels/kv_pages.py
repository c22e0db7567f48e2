"""The memory of a paged key/value cache: pages of 16 tokens, in the layout that attention reads (Kwon et al. 2023).

One tensor of bytes for each layer, (pages, 2, kv_heads, bytes): keys at 0 and values at 1, so that a page is copied by
one slice. Within the page of one head:

    float32    keys [head_dim][16 tokens]            values [16 tokens][head_dim]
    bfloat16   keys [head_dim / 2][16 tokens][2]     values [8 pairs of tokens][head_dim][2]
    int8       as bfloat16, then 16 float32 scales, one for each token

so both products find what they add up, dimensions of a key and tokens of a value, side by side in pairs, and 16 results
in the lanes of a vector.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

CacheFormat = Literal["float32", "bfloat16", "int8"]
CACHE_FORMATS: tuple[CacheFormat, ...] = get_args(CacheFormat)
PAGE = 16  # tokens
_BYTES = {"float32": 4, "bfloat16": 2, "int8": 1}
_SCALE_BYTES = {"float32": 0, "bfloat16": 0, "int8": 4}  # of each token and head


@dataclass(frozen=True, eq=False)
class Pages:
    """The pages of one layer. `data`: (pages, 2, kv_heads, bytes) uint8."""

    data: Tensor
    format: CacheFormat
    head_dim: int

    @property
    def count(self) -> int:
        return self.data.shape[0]

    @property
    def kv_heads(self) -> int:
        return self.data.shape[2]


def allocate(
    count: int,
    kv_heads: int,
    head_dim: int,
    format: CacheFormat,  # noqa: A002 - the field's word
    device: torch.device | str = "cpu",
) -> Pages:
    """`count` pages of zeros; ValueError for a format there is none of, or a `head_dim` that is no multiple of 16."""
    if format not in CACHE_FORMATS:
        raise ValueError(f"{format!r} is no format of a cache; there are {', '.join(CACHE_FORMATS)}")
    if head_dim % 16 or head_dim <= 0:
        raise ValueError(f"the kernels need heads of a multiple of 16 dimensions, got {head_dim}")
    size = PAGE * (head_dim * _BYTES[format] + _SCALE_BYTES[format])
    shape = (count, 2, kv_heads, size)
    if torch.device(device).type == "cpu":  # whose zeros cost no memory until they are written to, unlike torch's
        return Pages(torch.from_numpy(np.zeros(shape, np.uint8)), format, head_dim)
    return Pages(torch.zeros(shape, dtype=torch.uint8, device=device), format, head_dim)


def read(pages: Pages, table: Sequence[int], length: int) -> tuple[Tensor, Tensor]:
    """Keys and values of the first `length` tokens of the sequence whose pages are `table`.

    Two tensors (kv_heads, length, head_dim) float32. Tokens of a dropped page (-1) are zeros.
    """
    numbers = torch.tensor(list(table[: -(-length // PAGE)]), device=pages.data.device, dtype=torch.long)
    data = pages.data[numbers.clamp(min=0)]  # (pages, 2, kv_heads, bytes)
    data = data * (numbers >= 0).to(torch.uint8)[:, None, None, None]
    (keys, key_scales), (values, value_scales) = _views(pages, data)
    key = _scaled(keys.transpose(2, 3).flatten(3), key_scales)
    value = _scaled(values.transpose(3, 4).flatten(2, 3), value_scales)
    by_head = [half.transpose(0, 1).flatten(1, 2)[:, :length].contiguous() for half in (key, value)]
    return by_head[0], by_head[1]


def write(pages: Pages, table: Sequence[int], first: int, key: Tensor, value: Tensor) -> None:
    """Stores `key` and `value` (kv_heads, length, head_dim) as the tokens from `first` on.

    The definition of what the kernels do: int8 rounds each token and head by its largest absolute value.
    """
    positions = torch.arange(first, first + key.shape[1], device=key.device)
    page = torch.tensor(list(table), device=key.device, dtype=torch.long)[positions // PAGE]
    slot = positions % PAGE
    (keys, key_scales), (values, value_scales) = _views(pages, pages.data)
    run = keys.shape[-1]
    key_tokens = _rounded(key, keys.dtype, key_scales, page, slot)
    keys[page, :, :, slot] = key_tokens.unflatten(-1, (-1, run))
    values[page, :, slot // run, :, slot % run] = _rounded(value, values.dtype, value_scales, page, slot)


def _rounded(tokens: Tensor, dtype: torch.dtype, scales: Tensor | None, page: Tensor, slot: Tensor) -> Tensor:
    """(kv_heads, length, head_dim) → (length, kv_heads, head_dim) as stored; its scales are stored right away."""
    tokens = tokens.transpose(0, 1).float()
    if scales is not None:
        largest = tokens.abs().amax(dim=-1)
        scales[page, :, slot] = largest / 127
        tokens = (tokens * torch.where(largest == 0, 0.0, 127 / largest)[..., None]).round()
    return tokens.to(dtype)


def _views(pages: Pages, data: Tensor) -> tuple[tuple[Tensor, Tensor | None], ...]:
    """Views of the keys, (pages, kv_heads, head_dim / run, 16, run), and of the values, (pages, kv_heads, 16 / run,
    head_dim, run), each with their scales, (pages, kv_heads, 16), where the format has them. A run is the neighbours
    that one lane of 4 bytes adds up."""
    run, size = 1 if pages.format == "float32" else 2, PAGE * pages.head_dim * _BYTES[pages.format]
    numbers = data[..., :size].view(getattr(torch, pages.format))
    scales = data[..., size:].view(torch.float32) if _SCALE_BYTES[pages.format] else None
    shapes = (pages.head_dim // run, PAGE, run), (PAGE // run, pages.head_dim, run)
    return tuple(
        (numbers[:, half].unflatten(-1, shape), None if scales is None else scales[:, half])
        for half, shape in enumerate(shapes)
    )


def _scaled(values: Tensor, scales: Tensor | None) -> Tensor:
    """(pages, kv_heads, 16, head_dim) float32."""
    return values.float() if scales is None else values.float() * scales[..., None]
