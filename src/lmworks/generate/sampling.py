"""The next token of each row of a batch: repetition penalty, temperature, top-k, top-p, one reproducible draw.

Every row has its own parameters. Randomness comes from a counter: the draw of a request at a step is a function of its seed
and the step alone, so neighbours in the batch, arrival order and restarts cannot change it. Sorting a vocabulary costs more
than a layer of a small model, so the candidates come from a top-k selection wherever that is exact.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from lmworks.generate.protocol import SamplingParameters

# A nucleus rarely holds more tokens than this. When it does, and only then, the row's whole vocabulary is sorted.
NUCLEUS_CANDIDATES = 256


def uniform(seed: int, step: int) -> float:
    """The draw in [0, 1) that belongs to step `step` of the request with seed `seed`.

    Philox-4x64, a counter-based generator (Salmon et al., 2011): keyed by the seed, positioned by the step, without state.
    """
    word = int(np.random.Philox(key=seed, counter=[step, 0, 0, 0]).random_raw())
    return (word >> 32) / 2**32  # 32 bits: the largest draw stays below 1 when multiplied by a total in float64


def sample(
    logits: Tensor, parameters: Sequence[SamplingParameters], draws: Sequence[float]
) -> tuple[Tensor, Tensor, Tensor]:
    """Choose one token for each row.

    logits: (batch, vocabulary) float32, the penalty already applied (`penalise`); parameters and draws: one for each row.
    Returns (ids, log_probabilities of the model, log_probabilities of the distribution sampled from), each (batch,); the
    second is relative to the logits given. A greedy row takes the argmax, which it "samples" with probability 1.
    """
    ids = logits.argmax(-1)
    sampled = torch.zeros(len(ids), dtype=torch.float32, device=logits.device)
    random = [row for row, parameter in enumerate(parameters) if parameter.temperature > 0]
    truncated = [row for row in random if _truncates(parameters[row], logits.shape[1])]
    for rows, draw in ((truncated, _draw_truncated), ([row for row in random if row not in truncated], _draw_full)):
        if rows:
            scaled = logits[rows] / _column([parameters[row].temperature for row in rows], logits)
            ids[rows], sampled[rows] = draw(scaled, [parameters[row] for row in rows], [draws[row] for row in rows])
    return ids, log_probability(logits, ids), sampled


def log_probability(logits: Tensor, ids: Tensor) -> Tensor:
    """ln softmax of each row at its id: (batch, vocabulary), (batch,) -> (batch,), without the softmax of the others."""
    return logits.gather(1, ids[:, None]).squeeze(1) - logits.logsumexp(-1)


def penalise(logits: Tensor, rows: Sequence[int], seen: Sequence[Sequence[int]], penalties: Sequence[float]) -> Tensor:
    """Discourage tokens that occurred before, in prompt or completion: CTRL (Keskar et al., 2019, section 4.1).

    The paper divides the logit by the penalty. That would encourage a token whose logit is negative, so negative logits are
    multiplied instead, as everybody has done since. Returns a new (batch, vocabulary) tensor; other rows are unchanged.
    """
    logits = logits.clone()
    for row, ids, penalty in zip(rows, seen, penalties, strict=True):
        index = torch.tensor(ids, device=logits.device)
        values = logits[row, index]
        logits[row, index] = torch.where(values > 0, values / penalty, values * penalty)
    return logits


def _truncates(parameter: SamplingParameters, vocabulary: int) -> bool:
    return 0 < parameter.top_k < vocabulary or parameter.top_p < 1


def _column(values: Sequence[float], like: Tensor) -> Tensor:
    return torch.tensor(values, dtype=torch.float32, device=like.device)[:, None]


def _draw_full(
    logits: Tensor, parameters: Sequence[SamplingParameters], draws: Sequence[float]
) -> tuple[Tensor, Tensor]:
    """From the whole vocabulary, by inverting the distribution function in the order of the ids: nothing is sorted."""
    ids = _invert(logits.softmax(-1), draws)
    return ids, log_probability(logits, ids)


def _draw_truncated(
    logits: Tensor, parameters: Sequence[SamplingParameters], draws: Sequence[float]
) -> tuple[Tensor, Tensor]:
    """From the top k, and inside them from the nucleus: the fewest tokens whose probability reaches top_p.

    The nucleus is that of Holtzman et al. (2020, section 3.1), of the distribution renormalised after top-k.
    """
    vocabulary = logits.shape[1]
    limits = [parameter.top_k or vocabulary for parameter in parameters]
    width = min(vocabulary, max(min(limit, NUCLEUS_CANDIDATES) if limit == vocabulary else limit for limit in limits))
    values, candidates = logits.topk(width, dim=-1)  # (rows, width), in falling order
    top_p, limit = _column([parameter.top_p for parameter in parameters], logits), _column(limits, logits)
    # The mass that top-p is a part of: that of the k candidates, or of the vocabulary where there is no k.
    rank = torch.arange(width, device=logits.device)
    values = values.masked_fill(rank >= limit, -torch.inf)
    whole = torch.where(limit < vocabulary, values.logsumexp(-1, keepdim=True), logits.logsumexp(-1, keepdim=True))
    probabilities = (values - whole).exp()
    before = probabilities.cumsum(-1) - probabilities  # mass of the more probable candidates
    if width < vocabulary and bool(((before + probabilities)[:, -1:] < top_p).logical_and(limit >= vocabulary).any()):
        return _draw_sorted(logits, parameters, draws)
    kept = probabilities.masked_fill(before >= top_p, 0.0)
    return _pick(kept, candidates, draws)
