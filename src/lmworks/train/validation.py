"""Validation: losses in nats (the perplexity is exp of them), bits per byte and metrics on held-out data."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import log
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lmworks.model.transformer import Transformer
from lmworks.records import Score, Scored, Unscored
from lmworks.statistics import bootstrap_interval, ratio_score
from lmworks.statistics.scores import interval_score
from lmworks.train.losses import metric_names, reported
from lmworks.train.objectives.objective import Objective, count_rows, micro_batches, to_device

_VERSION = 1  # of the measurement, for the signature

Sums = Mapping[tuple[str, str], tuple[float, int]]  # (loss, metric) as `losses.reported` names them → (sum, count)


@dataclass(frozen=True, slots=True)
class Validation:
    """Scores with intervals over micro-batches of the data and their number n; Unscored where there is one.

    nats            mean loss over targets, of each of the objective's losses.
    targets         how many targets each was taken over.
    total           what training minimises, without smoothing and penalties: the sum of the means, as the objective
                    weighs them.
    bits_per_byte   of the text of the targets: comparable between vocabularies; Unscored where bytes are unknown.
    metrics         mean over the targets of its loss of each other metric, by `losses.metric_names`.
    """

    nats: Mapping[str, Score]
    targets: Mapping[str, int]
    total: Score
    bits_per_byte: Score
    metrics: Mapping[str, Score]


@torch.no_grad()
def validate(
    model: Transformer,
    objective: Objective,
    batches: Iterable[Any],
    micro_batch: int | None = None,
    bytes_of_token: Tensor | None = None,
    device: torch.device | str = "cpu",
    signature: object = None,
    loss_sums: Callable[[Any], Sums] | None = None,
) -> Validation:
    """Losses of `micro_batch` sequences at a time, by default a batch: what the intervals take to be independent.

    `bytes_of_token` (vocabulary,) int64: bytes of text that each token stands for. `signature` says of which model and
    data the numbers are. `loss_sums` gives the sums of some examples, where the model alone cannot.
    Bits per byte are known of objectives whose examples have `targets` and a `mask` of those that were asked for.
    ValueError without a target.
    """
    batch_sums: list[Sums] = []
    texts: list[int | None] = []  # bytes of text of each part
    for batch in batches:
        examples = objective.examples(batch, seed=0)  # the same corruption at every validation
        rows = count_rows(examples)  # none where an objective finds nothing to ask in a batch
        for piece in micro_batches(examples, micro_batch or rows) if rows else ():
            batch_sums.append(
                sums_of(model, objective, to_device(piece, device)) if loss_sums is None else loss_sums(piece)
            )
            texts.append(_bytes_of(piece, sum(objective.counts(piece).values()), bytes_of_token))
    keys = list(batch_sums[0]) if batch_sums else []
    counts = {loss: sum(part[loss, "loss"][1] for part in batch_sums) for loss, name in keys if name == "loss"}
    if not all(counts.values()) or not counts:
        raise ValueError("the validation data holds no target: its documents are empty or wholly masked")
    # The keys "part" and "nats of" stay as they are: scores of before have these signatures.
    signed = {"version": _VERSION, "objective": repr(objective), "part": micro_batch, "of": signature}

    def mean(key: tuple[str, str], metric: str) -> Score:
        sums, over = zip(*(part[key] for part in batch_sums), strict=True)
        return ratio_score(sums, over, {"metric": metric, **signed}, proportion=key[1] == "accuracy")

    nats = {name: mean((name, "loss"), f"nats of {name}") for name in counts}
    metrics = {name: mean(key, name) for key, name in metric_names(keys).items()}
    total = _total(nats, objective.loss_weights(), batch_sums, signed)
    return Validation(nats, counts, total, _bits(list(nats), batch_sums, texts, signed), metrics)


def sums_of(model: Transformer, objective: Objective, examples: Any) -> Sums:
    """(sum, count) of each loss and each of its metrics."""
    losses = objective.losses(model, examples)
    return {key: (float(value), losses[key[0]].count) for key, value in reported(losses).items()}


def _total(nats: Mapping[str, Score], weights: Mapping[str, float], parts: Sequence[Sums], signed: object) -> Score:
    """The weighted sum of the means. Its interval draws all losses of a part together, as they are of the same text."""
    if len(nats) == 1 and not weights:
        return next(iter(nats.values()))
    shares = np.array([weights.get(name, 1.0) for name in nats])
    rows = np.array([[part[name, "loss"] for name in nats] for part in parts], dtype=np.float64)  # (parts, losses, 2)

    def summed(sample: np.ndarray) -> np.ndarray:  # (replicates, parts, losses, 2)
        sums = sample.sum(axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            return (sums[..., 0] / sums[..., 1] * shares).sum(axis=-1)

    units = len(rows) if all(isinstance(score, Scored) for score in nats.values()) else 1
    interval = partial(bootstrap_interval, rows, summed, of_items=True)
    signature = {"metric": "weighted sum of nats", "told": signed}
    return interval_score(float(summed(rows[None])[0]), len(rows), units, signature, interval)


def _bits(names: Sequence[str], parts: Sequence[Sums], texts: Sequence[int | None], signed: object) -> Score:
    sizes = [size for size in texts if size is not None]
    if len(sizes) < len(texts) or not sum(sizes) or len(names) > 1:
        return Unscored("the bytes of text that the targets stand for are not known")
    bits = [part[names[0], "loss"][0] / log(2) for part in parts]
    return ratio_score(bits, sizes, {"metric": "bits per byte", "told": signed})


def _bytes_of(examples: Any, count: int, bytes_of_token: Tensor | None) -> int | None:
    """The bytes of text of the examples' `count` targets, which are not the batch's where an objective asks for others;
    None where they are not known, or are not tokens."""
    targets, mask = getattr(examples, "targets", None), getattr(examples, "mask", None)
    if bytes_of_token is None or targets is None or mask is None or int(mask.sum()) != count:
        return None
    return int(bytes_of_token[targets[mask]].sum())
