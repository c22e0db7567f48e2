"""The distribution that `SamplingParameters` describe, written out plainly: one row, float64, everything sorted."""

import numpy as np

from lmworks.generate.protocol import SamplingParameters


def distribution(
    logits: np.ndarray,
    parameters: SamplingParameters,
    prompt: list[int],
    completion: list[int],
    allowed: np.ndarray | None = None,
) -> tuple[np.ndarray, float]:
    """Probabilities (vocabulary,) float64 from logits (vocabulary,), and the margin of the decisions that led there.

    The margin is the smallest distance between two numbers whose order decided what is kept (inf where nothing was
    decided). Where it is as small as the rounding of float32, a sampler in float32 may rightly decide otherwise.
    """
    scores = adjusted(logits, parameters, prompt, completion, allowed)
    if parameters.temperature == 0:
        return (np.arange(len(scores)) == scores.argmax()).astype(np.float64), np.inf
    probabilities = np.exp((scores - scores.max()) / parameters.temperature)
    probabilities /= probabilities.sum()
    margins = [np.inf]
    for truncate, strength, on in (
        (_top_k, parameters.top_k, 0 < parameters.top_k < len(scores)),
        (_typical, parameters.typical_p, parameters.typical_p < 1),
        (_top_p, parameters.top_p, parameters.top_p < 1),
        (_min_p, parameters.min_p, parameters.min_p > 0),
    ):
        if on:
            kept, margin = truncate(probabilities, strength)
            probabilities = np.where(kept, probabilities, 0)
            probabilities /= probabilities.sum()
            margins.append(margin)
    return probabilities, min(margins)


def adjusted(
    logits: np.ndarray,
    parameters: SamplingParameters,
    prompt: list[int],
    completion: list[int],
    allowed: np.ndarray | None = None,
) -> np.ndarray:
    """The logits after everything that comes before the temperature, float64."""
    scores = logits.astype(np.float64)
    for token in range(len(scores)):
        if parameters.forced_tokens[len(completion) :] and token != parameters.forced_tokens[len(completion)]:
            scores[token] = -np.inf
        if allowed is not None and not allowed[token]:
            scores[token] = -np.inf
        if token in parameters.banned_tokens:
            scores[token] = -np.inf
        scores[token] += parameters.logit_bias.get(token, 0.0)
        if token in prompt or token in completion:
            positive = scores[token] > 0
            scores[token] *= 1 / parameters.repetition_penalty if positive else parameters.repetition_penalty
        times = completion.count(token)
        scores[token] -= times * parameters.frequency_penalty + (times > 0) * parameters.presence_penalty
    return scores


def _top_k(probabilities: np.ndarray, k: float) -> tuple[np.ndarray, float]:
    order = np.argsort(-probabilities, kind="stable")
    kept = order[: int(k)]
    last, beyond = float(probabilities[kept[-1]]), float(probabilities[order[len(kept)]])
    return np.isin(np.arange(len(order)), kept), (last - beyond) / last if last else np.inf


def _typical(probabilities: np.ndarray, mass: float) -> tuple[np.ndarray, float]:
    possible = probabilities > 0
    information = np.where(possible, -np.log(np.where(possible, probabilities, 1)), np.inf)
    entropy = (probabilities[possible] * information[possible]).sum()
    distance = np.abs(information - entropy)
    order = np.argsort(distance, kind="stable")
    count, margin = _reach(probabilities[order], mass)
    kept = np.isin(np.arange(len(order)), order[:count])
    if count < possible.sum():
        margin = min(margin, distance[order[count]] - distance[order[count - 1]])
    return kept, margin


def _top_p(probabilities: np.ndarray, mass: float) -> tuple[np.ndarray, float]:
    order = np.argsort(-probabilities, kind="stable")
    count, margin = _reach(probabilities[order], mass)
    return np.isin(np.arange(len(order)), order[:count]), margin


def _reach(probabilities: np.ndarray, mass: float) -> tuple[int, float]:
    """How many of the first ones it takes to reach the mass, and how close that was."""
    reached = np.cumsum(probabilities)
    count = int((reached < mass).sum()) + 1
    return min(count, len(reached)), float(np.abs(reached - mass).min())


def _min_p(probabilities: np.ndarray, part: float) -> tuple[np.ndarray, float]:
    ratios = probabilities / probabilities.max()
    others = ratios[ratios < 1]  # that the largest one is kept does not hang on rounding
    return ratios >= part, float(np.abs(others / part - 1).min()) if len(others) else np.inf


def packed(allowed: np.ndarray) -> np.ndarray:
    """The mask that says the same as allowed (vocabulary,) bool: uint32 words, the lowest bit first."""
    words = [0] * -(-len(allowed) // 32)
    for token in np.flatnonzero(allowed).tolist():
        words[token // 32] |= 1 << token % 32
    return np.array(words, dtype=np.uint32)
