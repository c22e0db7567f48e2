"""Beam search and contrastive search as their definitions read: every step runs the whole text, nothing is kept."""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from lmworks.generate.protocol import BeamParameters

Found = tuple[tuple[int, ...], float]  # ids and score
Logits = Callable[[Sequence[Sequence[int]]], Tensor]  # completions so far -> (completions, vocabulary)


def decoder_logits(model, prompt: Sequence[int]) -> Logits:
    return lambda texts: model(torch.tensor([[*prompt, *text] for text in texts]))[:, -1]


def encoder_decoder_logits(model, source: Sequence[int], start: int) -> Logits:
    return lambda texts: model(torch.tensor([source] * len(texts)), torch.tensor([[start, *text] for text in texts]))[
        :, -1
    ]


@torch.inference_mode()
def beam_search(
    logits: Logits, limit: int, stop_ids: Collection[int], bias: Mapping[int, float], parameters: BeamParameters
) -> list[Found]:
    """The completions of all groups, best first. `bias` is added to the log-probabilities."""
    width, penalty = parameters.beams // parameters.groups, parameters.length_penalty
    open_groups: list[list[tuple[tuple[int, ...], float, float]]] = [[((), 0.0, 0.0)]] * parameters.groups
    finished: list[list[Found]] = [[] for _ in open_groups]
    for length in range(1, limit + 1):
        taken = Counter[int]()
        for number, beams in enumerate(open_groups):
            if not beams:
                continue
            values = logits([ids for ids, _, _ in beams]).log_softmax(-1).tolist()
            followers = [
                ((*ids, token), total + value + bias.get(token, 0.0),
                 steered + value + bias.get(token, 0.0) - parameters.diversity_penalty * taken[token])
                for (ids, total, steered), row in zip(beams, values, strict=True)
                for token, value in enumerate(row)
            ]  # fmt: skip
            followers.sort(key=lambda follower: -follower[2])
            ended = [f for f in followers[:width] if f[0][-1] in stop_ids or length == limit]
            running = [f for f in followers if f[0][-1] not in stop_ids and length < limit][:width]
            taken.update(ids[-1] for ids, _, _ in (*ended, *running))
            both = finished[number] + [(ids, total / length**penalty) for ids, total, _ in ended]
            finished[number] = sorted(both, key=lambda found: -found[1])[:width]
            if running and len(finished[number]) == width:
                reach = limit if parameters.stopping == "bound" and penalty > 0 else length
                hope = max(total for _, total, _ in running) / reach**penalty
                if parameters.stopping == "first" or hope <= finished[number][-1][1]:
                    running = []
            open_groups[number] = running
    return sorted((found for group in finished for found in group), key=lambda found: -found[1])


@torch.inference_mode()
def contrastive_search(
    logits: Logits, states: Callable[[Sequence[int]], Tensor], limit: int, candidates: int, penalty: float
) -> list[int]:
    """`states` of a completion are those of prompt and completion, (tokens, width)."""
    ids: list[int] = []
    for _ in range(limit):
        probabilities, tokens = logits([ids])[0].softmax(-1).topk(candidates)
        scores = []
        for probability, token in zip(probabilities.tolist(), tokens.tolist(), strict=True):
            *context, last = states([*ids, token])
            likeness = F.cosine_similarity(last[None], torch.stack(context)).max().item()
            scores.append((1 - penalty) * probability - penalty * likeness)
        ids.append(int(tokens[scores.index(max(scores))]))
    return ids
