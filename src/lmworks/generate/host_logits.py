"""Logits in the memory of the host, as much of them as a sampler needs.

On the CPU they are there. From another device a row of a usual vocabulary is 200 KB, so only the rows that are asked
for are copied, and where the k largest logits suffice only these.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

Held = tuple[np.ndarray, np.ndarray | None]


def on_host(logits: Tensor, rows: Sequence[int], bounds: Sequence[int]) -> list[Held]:
    """Of each of the rows of (all rows, vocabulary), logits (n,) float32 and their ids (n,), rising; None: it is all.

    bounds   for each row, how many of the largest logits suffice; 0: all are needed.
    """
    if _is_there(logits):
        values = logits.numpy()
        return [(values[row], None) for row in rows]
    limits = {row: bound for row, bound in zip(rows, bounds, strict=True) if 0 < bound < logits.shape[1]}
    found = _largest(logits, limits) if limits else {}
    whole = [row for row in rows if row not in found]
    if whole:
        found |= {row: (values, None) for row, values in zip(whole, moved(logits[whole]), strict=True)}
    return [found[row] for row in rows]


def _largest(logits: Tensor, limits: dict[int, int]) -> dict[int, Held]:
    """The largest logits of some rows, not more than each one's limit. A row is left out where the next logit equals
    the last of them: which of the two belongs to them is decided by their ids, and `topk` does not look at these."""
    best = logits[list(limits)].topk(max(limits.values()) + 1)
    found: dict[int, Held] = {}
    for (row, limit), values, ids in zip(limits.items(), moved(best.values), moved(best.indices), strict=True):
        if values[limit - 1] > values[limit]:
            order = ids[:limit].argsort()
            found[row] = values[order], ids[order]
    return found


def logits_of(logits: Tensor, ids: np.ndarray) -> np.ndarray:
    """The logit of one token of each row: (rows, vocabulary) and ids (rows,) int64 -> (rows,) float32."""
    if _is_there(logits):
        return logits.numpy()[np.arange(len(ids)), ids]
    return moved(logits.gather(1, torch.from_numpy(ids)[:, None].to(logits.device)).squeeze(1))


def moved(tensor: Tensor) -> np.ndarray:
    """The values of a tensor on any device; on the CPU they are shared."""
    return tensor.cpu().numpy()


def _is_there(tensor: Tensor) -> bool:
    return tensor.device.type == "cpu"
