"""Contrastive search: the token that is probable and whose state is unlike all states before it.

Su et al. 2022, "A contrastive framework for neural text generation", section 3.2, equation 5. Of the k most probable
tokens v after the text x, the one is taken that maximises

    (1 - α) · p(v | x)  -  α · max over j of cos(h_v, h_j)

where h_j is the last hidden state of token j of the text, and h_v that of v behind it. A text that begins to repeat
itself has states that are nearly those before, so it turns away, without any draw.

A candidate's state takes a forward that also gives the logits behind it, so a step is one forward with k rows, of which
the next step uses one. The candidates are forks in the cache.
"""

import time
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812

from lmworks.generate.beam_search import allowed_logits, compute_masks, largest, prefill
from lmworks.generate.engine_step import NOTHING_ALLOWED, Batcher
from lmworks.generate.job import Job, Steps
from lmworks.generate.logit_processors import leaves_no_choice
from lmworks.generate.protocol import ContrastiveParameters, require_no_draws
from lmworks.generate.request_state import RequestState


def contrastive_search(
    batcher: Batcher, job: Job[Any], request: RequestState, parameters: ContrastiveParameters
) -> Steps[list[RequestState]]:
    """The completion of a request, which is done at the end.

    p is renormalised after bans, bias, penalties, forced tokens and the constraint of the request. All states of the
    prompt are needed, so nothing of it is taken from the cache. At the deadline the completion ends where it is.

    ValueError when nothing may follow and, before any work, for parameters of a draw; OutOfPagesError and
    FloatingPointError as in `beam_search`.
    """
    require_no_draws(request.sampling)
    sequence = job.add(batcher.open(request.prompt_ids[:1], request.adapter, request.source_ids))  # nothing is cached
    request.start()
    rows, states = yield from prefill(job, sequence, request.prompt_ids, batcher.runner.grid, all_states=True)
    context = F.normalize(states, dim=-1)  # (tokens, width)
    rows = rows.select([-1])
    while True:
        logits = rows.logits[0].cpu().numpy()
        yield from compute_masks(batcher, [request])
        allowed = allowed_logits(logits, request)
        candidates, probabilities = _most_probable(allowed, parameters.candidates)
        forks = [job.fork(sequence) for _ in candidates]
        next_rows, states = yield [job.work(fork, [token], 1) for fork, token in zip(forks, candidates, strict=True)]
        states = F.normalize(states, dim=-1)  # (candidates, width)
        likeness = (states @ context.T).amax(-1).cpu().numpy()
        best = int(((1 - parameters.penalty) * probabilities - parameters.penalty * likeness).argmax())
        log_probability = float(logits[candidates[best]]) - rows.log_normaliser.item()
        request.append(candidates[best], log_probability, 0.0, forced=leaves_no_choice(allowed))
        if not request.done and time.perf_counter() >= request.deadline_at:
            request.finish("deadline")
        if request.done:
            return [request]
        sequence, context, rows = forks[best], torch.cat([context, states[best : best + 1]]), next_rows.select([best])
        job.keep([sequence])


def _most_probable(logits: np.ndarray, count: int) -> tuple[list[int], np.ndarray]:
    """The tokens that may be chosen, at most `count`, with their probabilities (tokens,), most probable first."""
    best = largest(logits, count)
    if not len(best):
        raise ValueError(NOTHING_ALLOWED)
    weights = np.exp(logits - logits[best[0]], dtype=np.float64)
    return best.tolist(), weights[best] / weights.sum()
