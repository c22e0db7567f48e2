"""The next token of each row of a step: adjusted logits, temperature, truncation, one reproducible draw.

Every row has its own parameters, and no row sees another: not through the draws, which are a function of a request's
seed and step alone, and not through rounding, for which `exponentials.py` and `truncating.py` take care. So neighbours
in the batch, arrival order and restarts change nothing, and a guess can be checked by sampling its place as always.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lmworks.generate.adjusting import Ids, adjust, adjusts
from lmworks.generate.exponentials import draw_from_softmax
from lmworks.generate.logit_rows import LogitRows
from lmworks.generate.protocol import SamplingParameters
from lmworks.generate.truncating import Search, draw_truncated, first_search

# Logits that are worked on at a time on a CPU. Larger temporaries leave the cache, and glibc hands them back to the
# system, so that every step pays for their pages again: that took longer than all the arithmetic.
_PIECE = 200_000


class Sampled(NamedTuple):
    """One token for each row; four tensors (rows,)."""

    ids: Tensor  # int64
    log_probabilities: Tensor  # of the model: log softmax of the raw logits
    sampled_log_probabilities: Tensor  # of the distribution that was sampled from; 0 for a greedy choice
    dead: Tensor  # bool: nothing may be chosen, or the logits are not finite; the row's other values mean nothing


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
    ids, sampled = rows.best.clone(), torch.zeros_like(rows.log_normaliser)
    dead = ~rows.log_normaliser.isfinite()
    for search, piece in _pieces(rows.logits, parameters, completions, masks, dead.tolist()):
        given = ([values[row] for row in piece] for values in (parameters, prompts, completions, draws, masks))
        ids[piece], sampled[piece], dead[piece] = _choose(rows.logits[piece], *given, search)
    return Sampled(ids, log_probability(rows, ids), sampled, dead)


def _pieces(
    logits: Tensor,
    parameters: Sequence[SamplingParameters],
    completions: Sequence[Ids],
    masks: Sequence[np.ndarray | None],
    lost: Sequence[bool],
) -> list[tuple[Search | None, list[int]]]:
    """The rows that ask for more than their best token, those that are searched alike together, a few at a time."""
    alike: dict[tuple[bool, Search | None], list[int]] = {}
    for row, parameter in enumerate(parameters):
        drawn = parameter.temperature > 0
        if not lost[row] and (drawn or adjusts(parameter, completions[row], masks[row])):
            search = first_search(parameter, logits.shape[1]) if drawn else None
            alike.setdefault((drawn, search), []).append(row)
    size = max(1, _PIECE // logits.shape[1]) if logits.device.type == "cpu" else len(parameters)
    return [
        (search, rows[start : start + size])
        for (_, search), rows in alike.items()
        for start in range(0, len(rows), size)
    ]


def _choose(
    logits: Tensor,
    parameters: Sequence[SamplingParameters],
    prompts: Sequence[Ids],
    completions: Sequence[Ids],
    draws: Sequence[float],
    masks: Sequence[np.ndarray | None],
    search: Search | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Adjust logits (rows, vocabulary) in place, then take the best of each row or draw; all rows alike.

    Returns ids, sampled log-probabilities and which rows are dead, all (rows,).
    """
    adjust(logits, parameters, prompts, completions, masks)
    if parameters[0].temperature == 0:
        best = logits.argmax(-1, keepdim=True)
        return best.squeeze(1), torch.zeros_like(logits[:, 0]), logits.gather(1, best).squeeze(1) == -torch.inf
    dead = logits.amax(-1) == -torch.inf
    logits[dead] = 0.0  # something to draw from, which nobody looks at
    temperature = torch.tensor([[p.temperature] for p in parameters], dtype=torch.float32, device=logits.device)
    uniforms = torch.tensor(draws, dtype=torch.float64, device=logits.device)
    values = logits.div_(temperature)
    maxima = values.amax(-1, keepdim=True)
    if search is None:
        return *draw_from_softmax(values, maxima, uniforms), dead
    return *draw_truncated(values, maxima, parameters, uniforms, search), dead


def most_probable(rows: LogitRows, count: int) -> tuple[Tensor, Tensor]:
    """The `count` most probable tokens of each row under the model, best first.

    Returns ids int64 and log-probabilities float32, each (rows, count); fewer where the vocabulary is smaller.
    """
    values, ids = rows.logits.topk(min(count, rows.logits.shape[1]), dim=-1)
    return ids, values - rows.log_normaliser[:, None]


def log_probability(rows: LogitRows, ids: Tensor) -> Tensor:
    """ln of the model's probability of one token of each row: ids (rows,) -> (rows,)."""
    return rows.logits.gather(1, ids[:, None]).squeeze(1) - rows.log_normaliser


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
