"""Scaled dot-product attention itself: softmax(scale · query keyᵀ + bias, where allowed) value.

Four ways to the same result, chosen by what the scores need:

- `F.scaled_dot_product_attention`, which never holds the n × n scores (Dao et al. 2022);
- in training on the CPU, where each query sees one range of keys, our own kernel of that algorithm, some four times
  faster there (`flash_attention.py`);
- FlexAttention, where the mask is a block mask, so that not even the mask is n × n;
- for capped scores and sinks, which neither can express with every mask, the formula as it stands, a few queries at a
  time.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from torch.nn.attention.flex_attention import AuxRequest, BlockMask, flex_attention

from lmworks.kernels.training_kernels import KeyRanges
from lmworks.model.flash_attention import forked_attention, trained_attention
from lmworks.model.masks import ForkedRanges, Mask

QUERIES_AT_A_TIME = 512  # of the plain formula: bounds the scores held to 512 × stored for each head


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    scale: float,
    mask: Mask | None = None,
    causal: bool = False,
    bias: Tensor | None = None,
    softcap: float | None = None,
    sinks: Tensor | None = None,
    prefix: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """`query` (batch, heads, length, head_dim), `key` and `value` (batch, kv_heads, stored, head_dim) → the shape of
    `query`.

    mask     bool, True = may attend, broadcastable to (batch, heads, length, stored); no row of it may be empty. Or a
             block mask (`masks.blockwise`), together with neither `bias` nor `sinks`; or ranges of
             keys (`masks.key_ranges`), together with none of these and no `softcap`.
    causal   without a mask: each query sees its own place and what came before (length == stored).
    bias     added to the scaled scores, broadcastable to (batch, heads, length, stored).
    softcap  scaled scores become `softcap * tanh(scores / softcap)`, before bias and mask.
    sinks    (heads,): a logit that takes part in each softmax and contributes no value.
    prefix   keys and values (kv_heads, P, head_dim), which stand before the others and which every query sees: `mask`
             and `causal` are of the others alone, a `bias` is of both.
    """
    if prefix is not None:
        prefix = tuple(tensor.to(key.dtype).expand(len(key), -1, -1, -1) for tensor in prefix)  # type: ignore[assignment]
    grouped = query.shape[1] != key.shape[1]
    if isinstance(mask, ForkedRanges):
        if prefix is not None:
            raise ValueError("continuations that share a prefix have no trained prefix besides")
        return forked_attention(query, key, value, scale, mask)
    if isinstance(mask, KeyRanges):
        return trained_attention(query, key, value, scale, mask, prefix)
    if isinstance(mask, BlockMask):
        return _blockwise(query, key, value, scale, mask, softcap, prefix)
    plain = softcap is not None or sinks is not None
    if causal and mask is None and (plain or bias is not None or prefix is not None):
        mask = torch.ones(query.shape[2], key.shape[2], dtype=torch.bool, device=query.device).tril()
    if prefix is not None:
        key, value = torch.cat((prefix[0], key), dim=2), torch.cat((prefix[1], value), dim=2)
        mask = None if mask is None else F.pad(mask, (prefix[0].shape[2], 0), value=True)
    if plain:
        return _plain(query, key, value, scale, mask, bias, softcap, sinks)
    if bias is not None:
        mask = bias if mask is None else bias.masked_fill(~mask, float("-inf"))
    causal = causal and mask is None
    return F.scaled_dot_product_attention(
        query, key, value, attn_mask=mask, is_causal=causal, scale=scale, enable_gqa=grouped
    )


def _blockwise(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    scale: float,
    mask: BlockMask,
    softcap: float | None,
    prefix: tuple[Tensor, Tensor] | None,
) -> Tensor:
    """FlexAttention; with a prefix, over prefix and keys apart, joined by the log-sum-exp of each."""
    cap = None if softcap is None else _cap(softcap)
    settings = {"score_mod": cap, "scale": scale, "enable_gqa": query.shape[1] != key.shape[1]}
    flex = compiled_flex_attention()
    if prefix is None:
        return flex(query, key, value, block_mask=mask, **settings)
    request = AuxRequest(lse=True)
    pieces = [
        flex(query, key, value, block_mask=mask, return_aux=request, **settings),
        flex(query, *prefix, return_aux=request, **settings),
    ]
    shares = torch.stack([sums.lse for _, sums in pieces]).softmax(dim=0)  # (2, batch, heads, length)
    return sum(share[..., None] * output for share, (output, _) in zip(shares, pieces, strict=True)).to(query.dtype)  # type: ignore[union-attr]


def _plain(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    scale: float,
    mask: Tensor | None,
    bias: Tensor | None,
    softcap: float | None,
    sinks: Tensor | None,
) -> Tensor:
    heads, stored = query.shape[1], key.shape[2]
    key, value = (shared.repeat_interleave(heads // shared.shape[1], dim=1) for shared in (key, value))
    outputs = []
    for start in range(0, query.shape[2], QUERIES_AT_A_TIME):
        rows = slice(start, start + QUERIES_AT_A_TIME)
        scores = query[:, :, rows] @ key.transpose(-1, -2) * scale  # (batch, heads, queries, stored)
        if softcap is not None:
            scores = softcap * torch.tanh(scores / softcap)
        if bias is not None:
            scores = scores + _rows(bias, rows)
        if mask is not None:
            scores = scores.masked_fill(~_rows(mask, rows), float("-inf"))
        if sinks is not None:
            column = sinks.to(scores.dtype).view(1, heads, 1, 1).expand(*scores.shape[:3], 1)
            scores = torch.cat((scores, column), dim=-1)
        weights = scores.softmax(dim=-1, dtype=torch.promote_types(scores.dtype, torch.float32)).to(value.dtype)
        outputs.append(weights[..., :stored] @ value)
    return torch.cat(outputs, dim=2)


def _rows(tensor: Tensor, rows: slice) -> Tensor:
    """The queries `rows` of a mask or a bias, whose dimension of queries may be 1."""
    return tensor if tensor.shape[-2] == 1 else tensor[..., rows, :]


@cache
def compiled_flex_attention() -> Callable[..., Any]:
    """FlexAttention as a kernel, compiled at its first use; uncompiled it would hold the n × n scores."""
    return torch.compile(flex_attention)


@cache
def _cap(softcap: float) -> Callable[..., Tensor]:
    """FlexAttention's form of `softcap`; one function for all layers, so that they share a kernel."""
    return lambda score, batch, head, query, key: softcap * torch.tanh(score / softcap)
