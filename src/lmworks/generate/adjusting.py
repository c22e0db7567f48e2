"""What changes a row's logits before anything is drawn: forced tokens, masks, bans, bias, penalties.

Everything here touches few tokens of a row, except for the masks, which come packed. The tokens of all rows are put
together first and each transformation is one indexed operation, so that a step does no Python work for each token.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from lmworks.generate.protocol import SamplingParameters

Ids = Sequence[int] | np.ndarray
"""Token ids. An `array("q")` or an int64 array is read as it is; a list of n is converted, some 40 ns for each id."""


def adjusts(parameter: SamplingParameters, completion: Ids, mask: np.ndarray | None) -> bool:
    """Whether the row's logits have to change at all."""
    return bool(
        mask is not None
        or parameter.banned_tokens
        or parameter.logit_bias
        or parameter.repetition_penalty != 1
        or len(completion) < len(parameter.forced_tokens)
        or (len(completion) and (parameter.frequency_penalty or parameter.presence_penalty))
    )


def adjust(
    logits: Tensor,
    parameters: Sequence[SamplingParameters],
    prompts: Sequence[Ids],
    completions: Sequence[Ids],
    masks: Sequence[np.ndarray | None],
) -> Tensor:
    """Change the logits (rows, vocabulary) float32 of each row in place, in the order that `SamplingParameters` gives.

    What must not be chosen becomes -inf. IndexError for a token that the vocabulary does not have, ValueError for a
    mask of another length than the vocabulary's.
    """
    _force(logits, parameters, completions)
    _mask(logits, masks)
    _ban(logits, parameters)
    _add_bias(logits, parameters)
    _penalise_repetition(logits, parameters, prompts, completions)
    _penalise_occurrences(logits, parameters, completions)
    return logits


def allowed_tokens(masks: np.ndarray, vocabulary: int) -> np.ndarray:
    """Unpack masks (rows, words) uint32 into (rows, vocabulary) bool: bit i of word w is token 32 · w + i."""
    words = -(-vocabulary // 32)
    if masks.shape[1:] != (words,):
        raise ValueError(f"a mask of {vocabulary} tokens has {words} words of 32 bits, got shape {masks.shape[1:]}")
    octets = masks.astype("<u4", copy=False).view(np.uint8)  # the lowest bits first, whatever the machine's order
    return np.unpackbits(octets, axis=1, bitorder="little", count=vocabulary).view(np.bool_)


def _force(logits: Tensor, parameters: Sequence[SamplingParameters], completions: Sequence[Ids]) -> None:
    """Leave only the token that `forced_tokens` has at this place, where it has one."""
    forced = [
        (row, (parameter.forced_tokens[len(completion)],))
        for row, (parameter, completion) in enumerate(zip(parameters, completions, strict=True))
        if len(completion) < len(parameter.forced_tokens)
    ]
    if forced:
        places = _places(forced, logits.device)
        kept = logits[places]
        logits[places[0]] = -torch.inf
        logits[places] = kept


def _mask(logits: Tensor, masks: Sequence[np.ndarray | None]) -> None:
    """Exclude what a packed mask does not allow."""
    given = [(row, mask) for row, mask in enumerate(masks) if mask is not None]
    if given:
        allowed = torch.from_numpy(allowed_tokens(np.stack([mask for _, mask in given]), logits.shape[1]))
        for (row, _), tokens in zip(given, allowed.to(logits.device), strict=True):
            logits[row].masked_fill_(~tokens, -torch.inf)


def _ban(logits: Tensor, parameters: Sequence[SamplingParameters]) -> None:
    banned = [(row, p.banned_tokens) for row, p in enumerate(parameters) if p.banned_tokens]
    if banned:
        logits[_places(banned, logits.device)] = -torch.inf


def _add_bias(logits: Tensor, parameters: Sequence[SamplingParameters]) -> None:
    biased = [(row, p.logit_bias) for row, p in enumerate(parameters) if p.logit_bias]
    if biased:
        places = _places([(row, tuple(bias)) for row, bias in biased], logits.device)
        logits[places] += _floats((value for _, bias in biased for value in bias.values()), logits.device)


def _penalise_repetition(
    logits: Tensor, parameters: Sequence[SamplingParameters], prompts: Sequence[Ids], completions: Sequence[Ids]
) -> None:
    """Make tokens that occurred before less likely: CTRL (Keskar et al. 2019, section 4.1).

    The paper divides the logit by the penalty. That would favour a token whose logit is negative, so negative logits
    are multiplied instead, as has become usual. Like everywhere else today, the tokens of the prompt count as seen. A
    token that occurs more than once is written more than once, always with the same value.
    """
    rows = [row for row, p in enumerate(parameters) if p.repetition_penalty != 1]
    seen = [(row, np.concatenate([_array(prompts[row]), _array(completions[row])])) for row in rows]
    if seen:
        places = _places(seen, logits.device)
        penalties = np.repeat([parameters[row].repetition_penalty for row in rows], [len(ids) for _, ids in seen])
        penalty = torch.from_numpy(penalties.astype(np.float32)).to(logits.device)
        values = logits[places]
        logits[places] = torch.where(values > 0, values / penalty, values * penalty)


def _penalise_occurrences(logits: Tensor, parameters: Sequence[SamplingParameters], completions: Sequence[Ids]) -> None:
    """Subtract the frequency penalty for each occurrence in the completion, the presence penalty once."""
    seen, penalties = [], []
    for row, (parameter, completion) in enumerate(zip(parameters, completions, strict=True)):
        frequency, presence = parameter.frequency_penalty, parameter.presence_penalty
        if len(completion) and (frequency or presence):
            ids, counts = np.unique(_array(completion), return_counts=True)
            seen.append((row, ids))
            penalties.append(counts * frequency + presence)
    if seen:
        penalty = np.concatenate(penalties).astype(np.float32)
        logits[_places(seen, logits.device)] -= torch.from_numpy(penalty).to(logits.device)


def _array(ids: Ids) -> np.ndarray:
    return np.asarray(ids, dtype=np.int64)


def _places(tokens: Sequence[tuple[int, Ids]], device: torch.device) -> tuple[Tensor, Tensor]:
    """The index of (row, its tokens) pairs into logits (rows, vocabulary), which checks both of its parts."""
    arrays = [_array(ids) for _, ids in tokens]
    rows = np.repeat([row for row, _ in tokens], [len(ids) for ids in arrays])
    return torch.from_numpy(rows).to(device), torch.from_numpy(np.concatenate(arrays)).to(device)


def _floats(values: Iterable[float], device: torch.device) -> Tensor:
    return torch.tensor(list(values), dtype=torch.float32, device=device)
