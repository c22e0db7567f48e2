"""The next token of each row of a step: adjusted logits, temperature, truncation, one reproducible draw.

Temperature, top-k, typical, top-p and min-p themselves are defined in `lmworks.kernels.top_p_sampling`.

Every row has its own parameters and is chosen by itself, so no row sees another, not even in the rounding; and its draw
is a function of its request's seed and step alone. So neighbours in the batch, arrival order and restarts change
nothing, and a guess can be checked by sampling its place as always.

Rows of greedy requests are read at one place. The others are adjusted in NumPy and drawn from by a kernel, on the CPU.
From another device only these are copied, and of a row that top-k bounds only what it leaves.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lmworks.generate.logit_processors import Ids, leaves_no_choice, needs_processing, process_logits
from lmworks.generate.protocol import SamplingParameters
from lmworks.generate.runner import LogitRows
from lmworks.kernels.top_p_sampling import RowSampling, sample_tokens


class Sampled(NamedTuple):
    """One token for each row; five tensors (rows,) on the CPU."""

    ids: Tensor  # int64
    log_probabilities: Tensor  # of the model: log softmax of the raw logits
    sampled_log_probabilities: Tensor  # of the distribution that was sampled from; 0 for a greedy choice
    dead: Tensor  # bool: nothing may be chosen, or the logits are not finite; the row's other values mean nothing
    forced: Tensor  # bool: forced tokens, bans or a mask left one token


def sample(
    rows: LogitRows,
    parameters: Sequence[SamplingParameters],
    prompts: Sequence[Ids],
    completions: Sequence[Ids],
    draws: Sequence[float],
    masks: Sequence[np.ndarray | None],
) -> Sampled:
    """Choose one token for each row; the rows themselves stay as they are.

    parameters    of each row.
    prompts       the ids of each row's prompt; read only by the repetition penalty.
    completions   the ids of each row's completion before this token, guesses that are taken for granted included.
    draws         each row's draw in [0, 1) (see `uniform`); used only where the temperature is not 0.
    masks         None, or which tokens a constraint allows: bit i of word w of a uint32 array stands for token
                  32 · w + i; ⌈vocabulary / 32⌉ words.
    """
    # A few numbers: NumPy takes a fraction of the time that as many operations of PyTorch take.
    ids, log_normaliser = moved(rows.best).copy(), moved(rows.log_normaliser)
    sampled, dead = np.zeros_like(log_normaliser), ~np.isfinite(log_normaliser)
    forced = np.zeros_like(dead)
    adjusted = [needs_processing(*values) for values in zip(parameters, completions, masks, strict=True)]
    busy = [
        row for row, lost in enumerate(dead.tolist()) if not lost and (parameters[row].temperature > 0 or adjusted[row])
    ]
    if busy:
        bounds = [0 if adjusted[row] else parameters[row].top_k for row in busy]
        scores, held = zip(*on_host(rows.logits, busy, bounds), strict=True)
        scores = [
            process_logits(values, parameters[row], prompts[row], completions[row], masks[row])
            for row, values in zip(busy, scores, strict=True)
        ]
        forced[busy] = [adjusted[row] and leaves_no_choice(values) for row, values in zip(busy, scores, strict=True)]
        chosen = _choose(scores, [parameters[row] for row in busy], [draws[row] for row in busy])
        ids[busy] = [token if row is None else row[token] for (token, _), row in zip(chosen, held, strict=True)]
        sampled[busy] = [value for _, value in chosen]
        dead[busy] = sampled[busy] == -np.inf
    return Sampled(*map(torch.from_numpy, (ids, log_probability(rows, ids), sampled, dead, forced)))


def _choose(
    scores: Sequence[np.ndarray], parameters: Sequence[SamplingParameters], draws: Sequence[float]
) -> list[tuple[int, float]]:
    """For each row of scores (tokens,) the token and the ln of the probability it had, -inf when nothing may be chosen.

    Where the temperature is 0, it is the largest score, with 0.
    """
    drawing = [row for row, p in enumerate(parameters) if p.temperature > 0]
    settings = [
        RowSampling(draws[row], p.temperature, p.top_k, p.typical_p, p.top_p, p.min_p)
        for row, p in ((row, parameters[row]) for row in drawing)
    ]
    drawn = dict(zip(drawing, sample_tokens([scores[row] for row in drawing], settings), strict=True))
    largest = {row: int(values.argmax()) for row, values in enumerate(scores) if row not in drawn}
    drawn |= {row: (token, -np.inf if scores[row][token] == -np.inf else 0.0) for row, token in largest.items()}
    return [drawn[row] for row in range(len(scores))]


def log_probability(rows: LogitRows, ids: np.ndarray) -> np.ndarray:
    """ln of the model's probability of one token of each row: ids (rows,) int64 -> (rows,) float32."""
    with np.errstate(invalid="ignore"):  # of a row that is dead
        return logits_of(rows.logits, ids) - moved(rows.log_normaliser)


_MULTIPLIERS = 0xD2E7470EE14C6C93, 0xCA5A826395121157
_INCREMENTS = 0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B
_WORD = 2**64 - 1


def uniform(seed: int, step: int) -> float:
    """The draw in [0, 1) that belongs to step `step` of the request with seed `seed`.

    Philox-4x64-10, a counter-based generator without state (Salmon et al. 2011, "Parallel random numbers: as easy as 1,
    2, 3", section 3.3): keyed by the seed, positioned by the step. The same numbers as those of `numpy.random.Philox`,
    which counts from 1; making one of its objects takes ten times as long as the ten rounds.
    """
    a, b, c, d = step + 1, 0, 0, 0  # the counter's words
    key, other_key = seed, 0
    for _ in range(10):
        first, second = a * _MULTIPLIERS[0], c * _MULTIPLIERS[1]  # 128 bits
        a, b, c, d = (second >> 64) ^ b ^ key, second & _WORD, (first >> 64) ^ d ^ other_key, first & _WORD
        key, other_key = (key + _INCREMENTS[0]) & _WORD, (other_key + _INCREMENTS[1]) & _WORD
    return (a >> 32) / 2**32  # 32 bits, so that a draw times a float64 total never rounds up to the total


def alternatives_of(counts: Sequence[int], rows: LogitRows) -> list[list[tuple[int, float]]]:
    """For each row so many of the most probable tokens under the model, best first, with their log-probabilities; fewer
    where the vocabulary is smaller."""
    if not any(counts):
        return [[] for _ in counts]
    asking = [row for row, count in enumerate(counts) if count]
    asked = rows.select(asking)
    values, ids = asked.logits.topk(min(max(counts), asked.logits.shape[1]), dim=-1)
    values = values - asked.log_normaliser[:, None]
    best = {
        row: list(zip(*pair, strict=True)) for row, *pair in zip(asking, ids.tolist(), values.tolist(), strict=True)
    }
    return [best[row][:count] if count else [] for row, count in enumerate(counts)]


# ---------------------------------------------------------------------------------------------------------------------
# Logits in the memory of the host: from another device a row of a usual vocabulary is 200 KB, so only rows that are
# asked for are copied, and where the k largest logits suffice only these.

Held = tuple[np.ndarray, np.ndarray | None]


def on_host(logits: Tensor, rows: Sequence[int], bounds: Sequence[int]) -> list[Held]:
    """Copy rows of (all rows, vocabulary): for each, logits (n,) float32 and their ids (n,), rising; None: all ids.

    bounds   for each row, how many of the largest logits suffice; 0: all are needed.
    """
    if _is_there(logits):
        values = logits.numpy()
        return [(values[row], None) for row in rows]
    limits = {row: bound for row, bound in zip(rows, bounds, strict=True) if 0 < bound < logits.shape[1]}
    copied = _largest_on_host(logits, limits) if limits else {}
    whole = [row for row in rows if row not in copied]
    if whole:
        copied |= {row: (values, None) for row, values in zip(whole, moved(logits[whole]), strict=True)}
    return [copied[row] for row in rows]


def _largest_on_host(logits: Tensor, limits: dict[int, int]) -> dict[int, Held]:
    """The largest logits of some rows, not more than each one's limit. A row is left out where the next logit equals
    the last of them: which of the two belongs to them is decided by their ids, and `topk` does not look at these."""
    best = logits[list(limits)].topk(max(limits.values()) + 1)
    largest: dict[int, Held] = {}
    for (row, limit), values, ids in zip(limits.items(), moved(best.values), moved(best.indices), strict=True):
        if values[limit - 1] > values[limit]:
            order = ids[:limit].argsort()
            largest[row] = values[order], ids[order]
    return largest


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
