"""The next token of each row of a step: adjusted logits, temperature, truncation, one reproducible draw.

Every row has its own parameters and is chosen by itself, so no row sees another, not even in the rounding; and its draw
is a function of its request's seed and step alone. So neighbours in the batch, arrival order and restarts change
nothing, and a guess can be checked by sampling its place as always.

Rows of greedy requests are read at one place. The others are NumPy's: on a CPU its vector instructions sort, select and
exponentiate one row at a time within the cache, faster than PyTorch does all rows together. From another device their
logits are copied.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lmworks.generate.adjusting import Ids, adjust, adjusts
from lmworks.generate.drawing import draw_from, exponentials
from lmworks.generate.logit_rows import LogitRows
from lmworks.generate.protocol import SamplingParameters
from lmworks.generate.truncating import truncations


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
    ids, sampled, dead = rows.best.clone(), torch.zeros_like(rows.log_normaliser), ~rows.log_normaliser.isfinite()
    busy = [
        row
        for row, (p, completion, mask, lost) in enumerate(
            zip(parameters, completions, masks, dead.tolist(), strict=True)
        )
        if not lost and (p.temperature > 0 or adjusts(p, completion, mask))
    ]
    if busy:
        logits = rows.logits.cpu().numpy()
        given = zip(parameters, prompts, completions, masks, draws, strict=True)
        chosen = [_choose(logits[row], *values) for row, values in enumerate(given) if row in busy]
        tokens, log_probabilities = zip(*chosen, strict=True)
        ids[busy] = torch.tensor(tokens, device=ids.device)
        sampled[busy] = torch.tensor(log_probabilities, dtype=torch.float32, device=ids.device)
        dead[busy] = sampled[busy] == -torch.inf
    return Sampled(ids, log_probability(rows, ids), sampled, dead)


def _choose(
    logits: np.ndarray,
    parameter: SamplingParameters,
    prompt: Ids,
    completion: Ids,
    mask: np.ndarray | None,
    draw: float,
) -> tuple[int, float]:
    """The token of one row (vocabulary,) and the ln of the probability it had; (0, -inf) when nothing may be chosen."""
    scores = adjust(logits, parameter, prompt, completion, mask)
    if scores.max() == -np.inf:
        return 0, -np.inf
    if parameter.temperature == 0:
        return int(scores.argmax()), 0.0
    ids = None  # of what is left: everything
    for truncation in truncations(parameter, len(scores)):
        places = truncation(scores)
        ids, scores = places if ids is None else ids[places], scores[places]
    entry, log_probability = draw_from(exponentials(scores, parameter.temperature), draw)
    return entry if ids is None else int(ids[entry]), log_probability


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
