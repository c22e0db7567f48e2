"""Logit processors, which change a row's logits before sampling: forced tokens, masks, bans, bias, penalties."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lmworks.generate.protocol import SamplingParameters


@dataclass(frozen=True, slots=True)
class Guessed:
    """A completion and guesses behind it, not copied before their values are asked for: at each step most rows need
    the length alone."""

    ids: Sequence[int]
    guesses: Sequence[int]

    def __len__(self) -> int:
        return len(self.ids) + len(self.guesses)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array([*self.ids, *self.guesses], dtype)


Ids = Sequence[int] | np.ndarray | Guessed
"""Token ids. An int64 array or an `array("q")` is read as it is; a list or tuple is converted, 20 ns for each id."""


def needs_processing(parameter: SamplingParameters, completion: Ids, mask: np.ndarray | None) -> bool:
    """The row's logits have to change."""
    return bool(
        mask is not None
        or parameter.banned_tokens
        or parameter.logit_bias
        or parameter.repetition_penalty != 1
        or len(completion) < len(parameter.forced_tokens)
        or (len(completion) and (parameter.frequency_penalty or parameter.presence_penalty))
    )


def process_logits(
    logits: np.ndarray, parameter: SamplingParameters, prompt: Ids, completion: Ids, mask: np.ndarray | None
) -> np.ndarray:
    """The row's logits (vocabulary,) float32 after everything that `SamplingParameters` puts before the temperature.

    A new array, or the same one where nothing changes; what must not be chosen is -inf. IndexError for a token that the
    vocabulary does not have, ValueError for a mask of another length than the vocabulary's.
    """
    if not needs_processing(parameter, completion, mask):
        return logits
    if len(completion) < len(parameter.forced_tokens):
        forced = parameter.forced_tokens[len(completion)]
        scores = np.full_like(logits, -np.inf)
        scores[forced] = logits[forced]
    else:
        scores = logits.copy()
    if mask is not None:
        limits = allowed_tokens(mask, len(logits)).astype(np.float32)
        limits -= 0.5
        limits *= np.inf  # inf or -inf: four vectorised passes, where an assignment under a mask branches at each token
        np.minimum(scores, limits, out=scores)
    if parameter.banned_tokens:
        scores[_array(parameter.banned_tokens)] = -np.inf
    if parameter.logit_bias:
        scores[_array(tuple(parameter.logit_bias))] += np.array(list(parameter.logit_bias.values()), dtype=np.float32)
    if parameter.repetition_penalty != 1:
        _penalise_repetition(scores, parameter.repetition_penalty, prompt, completion)
    if parameter.frequency_penalty or parameter.presence_penalty:
        # OpenAI's two: once for each occurrence in the completion, and once if there is one
        ids, times = np.unique(_array(completion), return_counts=True)
        scores[ids] -= (times * parameter.frequency_penalty + parameter.presence_penalty).astype(np.float32)
    return scores


def leaves_no_choice(scores: np.ndarray) -> bool:
    """At most one token of the processed logits (vocabulary,) may be chosen."""
    return bool(np.count_nonzero(scores > -np.inf) < 2)


def allowed_tokens(mask: np.ndarray, vocabulary: int) -> np.ndarray:
    """Unpack a mask (words,) uint32 into (vocabulary,) bool: bit i of word w is token 32 · w + i."""
    words = -(-vocabulary // 32)
    if mask.shape != (words,):
        raise ValueError(f"a mask of {vocabulary} tokens has {words} words of 32 bits, got shape {mask.shape}")
    octets = mask.astype("<u4", copy=False).view(np.uint8)  # the lowest bits first, whatever the machine's order
    return np.unpackbits(octets, bitorder="little", count=vocabulary).view(np.bool_)


def _penalise_repetition(scores: np.ndarray, penalty: float, prompt: Ids, completion: Ids) -> None:
    """Make tokens that occurred before less likely, in place: CTRL (Keskar et al. 2019, section 4.1).

    The paper divides the logit by the penalty. That would favour a token whose logit is negative, so negative logits
    are multiplied instead, as has become usual. Like everywhere else today, the tokens of the prompt count as seen.
    """
    seen = np.concatenate([_array(prompt), _array(completion)])
    values = scores[seen]
    scores[seen] = np.where(values > 0, values / np.float32(penalty), values * np.float32(penalty))


def _array(ids: Ids) -> np.ndarray:
    return np.asarray(ids, dtype=np.int64)
