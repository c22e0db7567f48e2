"""What a model makes of data that it is not trained on, without gradients."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import log
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lmworks.model.transformer import Transformer
from lmworks.records import Score, Scored, Unscored
from lmworks.statistics import bootstrap_interval, ratio_score, sign, without_spread
from lmworks.train.objectives.objective import Objective, count_rows, select_rows, to_device

_VERSION = 1  # of what is measured, for the signature


@dataclass(frozen=True, slots=True)
class Validation:
    """What was measured, with intervals over parts of the data and their number n; Unscored where there is one part.

    nats            mean loss over targets, of each of the objective's losses.
    targets         how many targets each was taken over.
    total           what training minimises, without smoothing and penalties: the sum of the means, as the objective
                    weighs them.
    bits_per_byte   of the text of the targets: comparable between vocabularies; Unscored where bytes are unknown.
    """

    nats: Mapping[str, Score]
    targets: Mapping[str, int]
    total: Score
    bits_per_byte: Score


@torch.no_grad()
def validate(
    model: Transformer,
    objective: Objective,
    batches: Iterable[Any],
    micro_batch: int | None = None,
    bytes_of_token: Tensor | None = None,
    device: torch.device | str = "cpu",
    signature: object = None,
    measured: Callable[[Any], dict[str, tuple[float, int]]] | None = None,
) -> Validation:
    """Losses of `micro_batch` sequences at a time, by default a batch: what the intervals take to be independent.

    `bytes_of_token` (vocabulary,) int64: bytes of text that each token stands for. `signature` says of which model and
    data the numbers are. `measured` gives (sum, count) of each loss of some examples, where the model alone cannot.
    Bits per byte are known of objectives whose examples have `targets` and a `mask` of those that were asked for.
    ValueError without a target.
    """
    losses: list[dict[str, tuple[float, int]]] = []  # of each part: name → (sum, count)
    texts: list[int | None] = []  # and its bytes of text
    for batch in batches:
        examples = objective.examples(batch, seed=0)  # the same corruption at every validation
        rows = count_rows(examples)
        size = micro_batch or max(rows, 1)  # an objective may find nothing to ask in a batch
        for start in range(0, rows, size):
            piece = select_rows(examples, slice(start, start + size))
            losses.append(sums_of(model, objective, to_device(piece, device)) if measured is None else measured(piece))
            texts.append(_bytes_of(piece, sum(objective.counts(piece).values()), bytes_of_token))
    names = list(losses[0]) if losses else []
    counts = {name: sum(each[name][1] for each in losses) for name in names}
    if not all(counts.values()) or not counts:
        raise ValueError("the validation data holds no target: its documents are empty or wholly masked")
    told = {"version": _VERSION, "objective": repr(objective), "part": micro_batch, "of": signature}
    nats: dict[str, Score] = {}
    for name in names:
        sums, over = zip(*(each[name] for each in losses), strict=True)
        nats[name] = ratio_score(sums, over, {"metric": f"nats of {name}", **told})
    return Validation(nats, counts, _total(nats, objective.loss_weights(), losses, told), _bits(losses, texts, told))


def sums_of(model: Transformer, objective: Objective, examples: Any) -> dict[str, tuple[float, int]]:
    """(sum, count) of each of the losses, in nats where it has nats."""
    found = objective.losses(model, examples)
    return {name: (float(loss.metrics.get("nats", loss.sum)), loss.count) for name, loss in found.items()}


def _total(
    nats: Mapping[str, Score],
    weights: Mapping[str, float],
    losses: list[dict[str, tuple[float, int]]],
    told: object,
) -> Score:
    """The weighted sum of the means. Its interval draws all losses of a part together, as they are of the same text."""
    if len(nats) == 1 and not weights:
        return next(iter(nats.values()))
    shares = np.array([weights.get(name, 1.0) for name in nats])
    rows = np.array([[each[name] for name in nats] for each in losses], dtype=np.float64)  # (parts, losses, 2)

    def summed(sample: np.ndarray) -> np.ndarray:  # (replicates, parts, losses, 2)
        sums = sample.sum(axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            return (sums[..., 0] / sums[..., 1] * shares).sum(axis=-1)

    value = float(summed(rows[None])[0])
    if not all(isinstance(score, Scored) for score in nats.values()):
        return without_spread(value)
    return Scored(
        value, bootstrap_interval(rows, summed), len(rows), sign({"metric": "weighted sum of nats", "told": told})
    )


def _bits(losses: list[dict[str, tuple[float, int]]], texts: list[int | None], told: object) -> Score:
    sizes = [size for size in texts if size is not None]
    if len(sizes) < len(texts) or not sum(sizes) or len(losses[0]) > 1:
        return Unscored("the bytes of text that the targets stand for are not known")
    bits = [sum(nats for nats, _ in each.values()) / log(2) for each in losses]
    return ratio_score(bits, sizes, {"metric": "bits per byte", "told": told})


def _bytes_of(examples: Any, count: int, bytes_of_token: Tensor | None) -> int | None:
    """The bytes of text of the examples' `count` targets, which are not the batch's where an objective asks for others;
    None where they are not known, or are not tokens."""
    targets, mask = getattr(examples, "targets", None), getattr(examples, "mask", None)
    if bytes_of_token is None or targets is None or mask is None or int(mask.sum()) != count:
        return None
    return int(bytes_of_token[targets[mask]].sum())
