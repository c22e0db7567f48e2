"""The next token of each row of a batch: bias, penalties, temperature, top-k, top-p, one reproducible draw.

Every row has its own parameters. Randomness comes from a counter: the draw of a request at a step is a function of its
seed and the step alone, so neighbours in the batch, arrival order and restarts cannot change it. Sorting a vocabulary
can cost more than a forward of a small model, so the candidates come from a top-k selection wherever that is exact.
"""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lmworks.generate.protocol import SamplingParameters

# A nucleus rarely holds more tokens than this. When it does, and only then, the whole vocabulary is sorted.
NUCLEUS_CANDIDATES = 256


class Sampled(NamedTuple):
    """One token for each row; three tensors (batch,)."""

    ids: Tensor
    log_probabilities: Tensor  # of the model: log softmax of the raw logits
    sampled_log_probabilities: Tensor  # of the distribution that was sampled from; 0 for a greedy choice


def uniform(seed: int, step: int) -> float:
    """The draw in [0, 1) that belongs to step `step` of the request with seed `seed`.

    Philox-4x64, a counter-based generator (Salmon et al., 2011): keyed by the seed, positioned by the step, without
    state.
    """
    word = int(np.random.Philox(key=seed, counter=[step, 0, 0, 0]).random_raw())
    return (word >> 32) / 2**32  # 32 bits, so that a draw times a float64 total never rounds up to the total


def sample(
    logits: Tensor,
    parameters: Sequence[SamplingParameters],
    prompts: Sequence[Sequence[int]],
    completions: Sequence[Sequence[int]],
    draws: Sequence[float],
) -> Sampled:
    """Choose one token for each row of logits (batch, vocabulary) float32, the model's raw ones.

    For each row: its parameters, the ids of its prompt and of its completion so far (read only by the penalties) and
    its draw in [0, 1) (see `uniform`; used only where the temperature is not 0).
    """
    vocabulary = logits.shape[1]
    adjusted = _adjust(logits, parameters, prompts, completions)
    ids = adjusted.argmax(-1)
    sampled = torch.zeros_like(ids, dtype=torch.float32)
    truncated = [row for row, p in enumerate(parameters) if p.temperature > 0 and _truncates(p, vocabulary)]
    full = [row for row, p in enumerate(parameters) if p.temperature > 0 and not _truncates(p, vocabulary)]
    for rows, draw in ((truncated, _draw_truncated), (full, _draw_full)):
        if rows:
            chosen = [parameters[row] for row in rows]
            scaled = adjusted[rows] / _column([p.temperature for p in chosen], logits)
            ids[rows], sampled[rows] = draw(scaled, chosen, [draws[row] for row in rows])
    return Sampled(ids, log_probability(logits, ids), sampled)


def most_probable(logits: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The `count` most probable tokens of each row (batch, vocabulary) of raw logits, best first.

    Returns ids and log-probabilities, each (batch, count); fewer where the vocabulary is smaller.
    """
    values, ids = logits.topk(min(count, logits.shape[1]), dim=-1)
    return ids, values - logits.logsumexp(-1, keepdim=True)


def log_probability(logits: Tensor, ids: Tensor) -> Tensor:
    """ln softmax of each row at its id: (batch, vocabulary), (batch,) -> (batch,), without the whole softmax."""
    return logits.gather(1, ids[:, None]).squeeze(1) - logits.logsumexp(-1)


def _adjust(
    logits: Tensor,
    parameters: Sequence[SamplingParameters],
    prompts: Sequence[Sequence[int]],
    completions: Sequence[Sequence[int]],
) -> Tensor:
    """The logits after bias and penalties, in that order; the same tensor where no row has any."""
    rows = [row for row, p in enumerate(parameters) if _adjusts(p)]
    if not rows:
        return logits
    logits = logits.clone()
    for row in rows:
        parameter = parameters[row]
        if parameter.logit_bias:
            _add(logits[row], list(parameter.logit_bias), list(parameter.logit_bias.values()))
        if parameter.repetition_penalty != 1:
            _penalise_repetition(logits[row], parameter.repetition_penalty, [*prompts[row], *completions[row]])
        counts = Counter(completions[row])
        if counts and (parameter.frequency_penalty or parameter.presence_penalty):
            frequency, presence = parameter.frequency_penalty, parameter.presence_penalty
            _add(logits[row], list(counts), [-count * frequency - presence for count in counts.values()])
    return logits


def _adjusts(parameter: SamplingParameters) -> bool:
    return bool(
        parameter.logit_bias
        or parameter.repetition_penalty != 1
        or parameter.frequency_penalty
        or parameter.presence_penalty
    )


def _add(row: Tensor, ids: list[int], values: list[float]) -> None:
    """Add values to the logits (vocabulary,) at different ids, in place."""
    row[torch.tensor(ids, device=row.device)] += torch.tensor(values, dtype=row.dtype, device=row.device)


def _penalise_repetition(row: Tensor, penalty: float, seen: Sequence[int]) -> None:
    """Make tokens that occurred before less likely, in place: CTRL (Keskar et al., 2019, section 4.1).

    The paper divides the logit by the penalty. That would favour a token whose logit is negative, so negative logits
    are multiplied instead, as has become usual. Like everywhere else today, the tokens of the prompt count as seen.
    """
    index = torch.tensor(seen, device=row.device)
    values = row[index]
    row[index] = torch.where(values > 0, values / penalty, values * penalty)


def _truncates(parameter: SamplingParameters, vocabulary: int) -> bool:
    return 0 < parameter.top_k < vocabulary or parameter.top_p < 1


def _column(values: Sequence[float], like: Tensor) -> Tensor:
    return torch.tensor(values, dtype=torch.float32, device=like.device)[:, None]


def _draw_full(
    logits: Tensor, parameters: Sequence[SamplingParameters], draws: Sequence[float]
) -> tuple[Tensor, Tensor]:
    """From the whole vocabulary: ids and their log-probabilities, each (rows,). Nothing is sorted."""
    ids = _invert(logits.softmax(-1), draws)
    return ids, log_probability(logits, ids)


def _draw_truncated(
    logits: Tensor, parameters: Sequence[SamplingParameters], draws: Sequence[float], widest: int = NUCLEUS_CANDIDATES
) -> tuple[Tensor, Tensor]:
    """From the top k, and inside them from the nucleus: the fewest tokens whose probability reaches top_p.

    The nucleus is that of Holtzman et al. (2020, section 3.1), of the distribution renormalised after top-k. Where
    there is no k, the nucleus is sought among the `widest` most probable tokens, and among all when it does not fit
    into them.
    """
    vocabulary = logits.shape[1]
    limits = [min(p.top_k or vocabulary, vocabulary) for p in parameters]
    width = min(vocabulary, max(limit if limit < vocabulary else widest for limit in limits))
    limit = _column(limits, logits)
    top_p = _column([p.top_p if p.top_p < 1 else torch.inf for p in parameters], logits)  # 1 is off, rounding or not

    values, candidates = logits.topk(width, dim=-1)  # (rows, width), in falling order
    values = values.masked_fill(torch.arange(width, device=logits.device) >= limit, -torch.inf)
    # top_p is a part of the mass of the k candidates, or of the whole vocabulary where there is no k
    normaliser = torch.where(limit < vocabulary, values.logsumexp(-1, keepdim=True), logits.logsumexp(-1, keepdim=True))
    probabilities = (values - normaliser).exp()
    reached = probabilities.cumsum(-1)
    if width < vocabulary and bool(((limit == vocabulary) & (reached[:, -1:] < top_p)).any()):
        return _draw_truncated(logits, parameters, draws, widest=vocabulary)
    nucleus = probabilities.masked_fill(reached - probabilities >= top_p, 0.0)
    nucleus = nucleus / nucleus.sum(-1, keepdim=True)
    ranks = _invert(nucleus, draws)[:, None]
    return candidates.gather(1, ranks).squeeze(1), nucleus.gather(1, ranks).squeeze(1).log()


def _invert(probabilities: Tensor, draws: Sequence[float]) -> Tensor:
    """The entry of each row at which the distribution function passes the draw: (rows, n), (rows,) -> (rows,).

    float64, so that the rounding of the sums (below 1e-11 for a large vocabulary) favours no token.
    """
    reached = probabilities.cumsum(-1, dtype=torch.float64)
    target = torch.tensor(draws, dtype=torch.float64, device=probabilities.device)[:, None] * reached[:, -1:]
    return torch.searchsorted(reached, target, right=True).squeeze(1)
