"""Best of n: several samples of one request, ranked by what the model thinks of them."""

import secrets
from dataclasses import replace

from lmworks.config import at_least
from lmworks.generate.protocol import Completion, EngineProtocol, Request


def best_of(engine: EngineProtocol, request: Request, count: int) -> list[Completion]:
    """`count` completions of one request, the one with the largest mean log-probability of a token first.

    They differ by their seeds: `seed`, `seed + 1`, … of the request, fresh ones if it has none. The local engine
    computes their prompt once, since they bring it together.

    ValueError for a greedy request, whose completions would all be the same; UnsupportedError for an engine without
    log-probabilities.
    """
    at_least(1, count=count)
    if count > 1 and request.sampling.temperature == 0:
        raise ValueError("greedy completions are all the same: give the request a temperature")
    engine.capabilities.require("log_probabilities")
    first = secrets.randbits(63) if request.sampling.seed is None else request.sampling.seed
    samples = [
        replace(
            request,
            id=f"{request.id}-{number}" if request.id else "",
            sampling=replace(request.sampling, seed=(first + number) % 2**64),
        )
        for number in range(count)
    ]

    def mean_log_probability(completion: Completion) -> float:
        values = completion.log_probabilities
        return sum(values) / len(values) if values else float("-inf")  # it was cancelled before it had a token

    return sorted(engine.generate(samples), key=mean_log_probability, reverse=True)
