"""Rollouts: completions sampled for training, as token ids with all that an update needs to know of their sampling."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from lmworks.generate.protocol import Completion, EngineProtocol, FinishReason, Request, SamplingParameters


@dataclass(frozen=True, slots=True)
class Rollout:
    """A prompt and what followed it. Nothing of it is ever made a text and tokenised again.

    ids                prompt and completion
    sampled            of each id, whether the policy chose it: not the prompt's, what a constraint forced, nor what an
                       environment said
    log_probabilities  of each id, ln p of the distribution that it was sampled from; 0 where it was not
    model_log_probabilities  the same of the model itself, without temperature and truncation
    text               of the last answer
    """

    ids: tuple[int, ...]
    sampled: tuple[bool, ...]
    log_probabilities: tuple[float, ...]
    model_log_probabilities: tuple[float, ...]
    text: str
    finish_reason: FinishReason
    policy_version: int
    seed: int


def roll_out(
    engine: EngineProtocol,
    prompts: Sequence[Sequence[int]],
    samples: int,
    sampling: SamplingParameters,
    key: str,
    adapter: str = "",
) -> list[list[Rollout]]:
    """`samples` completions of each prompt (its ids), all in the engine together.

    Each has a seed of its own that follows from `key` (such as the run's seed and its step), the number of the prompt
    and the number of the sample, so that a run that goes on draws the same again. UnsupportedError for an engine that
    gives no ids or no log-probabilities.
    """
    engine.capabilities.require("token_ids")
    engine.capabilities.require("sampled_log_probabilities")
    requests = [
        Request(tuple(ids), sampling=replace(sampling, seed=seed_of(key, number, sample)), adapter=adapter)
        for number, ids in enumerate(prompts)
        for sample in range(samples)
    ]
    found = [rollout_of(completion) for completion in engine.generate(requests)]
    return [found[start : start + samples] for start in range(0, len(found), samples)]


def rollout_of(completion: Completion) -> Rollout:
    """One turn, from what an engine gave."""
    prompt, ids = completion.prompt_ids, completion.ids
    drawn, own = completion.sampled_log_probabilities, completion.log_probabilities
    assert prompt is not None and ids is not None and drawn is not None and own is not None
    sampled = completion.sampled or (True,) * len(ids)
    unsampled = (0.0,) * len(prompt)
    return Rollout(
        (*prompt, *ids),
        (*(False,) * len(prompt), *sampled),
        (*unsampled, *(value if chosen else 0.0 for value, chosen in zip(drawn, sampled, strict=True))),
        (*unsampled, *(value if chosen else 0.0 for value, chosen in zip(own, sampled, strict=True))),
        completion.text,
        completion.finish_reason,
        completion.policy_version or 0,
        completion.seed,
    )


def seed_of(key: str, number: int, sample: int) -> int:
    """A seed in [0, 2^63)."""
    return int.from_bytes(hashlib.sha256(f"{key} {number} {sample}".encode()).digest()[:8]) >> 1
