"""Proposers for speculative decoding: a draft model, some of the model's own layers, or a look-up in the prompt.

A draft model reads what the request has and continues it (Leviathan et al. 2023; Chen et al. 2023). Without one, a
model can draft for itself with a part of its layers, at no memory but a cache (Zhang et al. 2024, "Draft & verify").
The draft chooses with the same draws as the model will, so that where the two distributions are alike the choices are.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch

from lmworks.generate.fused_runner import FusedRunner
from lmworks.generate.logit_processors import Guessed
from lmworks.generate.paged_cache import PAGE, CachedSequence, OutOfPagesError, PagedCache
from lmworks.generate.request_state import RequestState
from lmworks.generate.runner import Runner, Work
from lmworks.generate.runner_choice import WeightFormat, build_runner
from lmworks.generate.sampling import sample, uniform
from lmworks.generate.speculative_decoding import Proposer
from lmworks.kernels.program import Program
from lmworks.model.checkpoint import Checkpoint

_WEIGHT = 0.2  # of the last measurement


@dataclass(frozen=True, slots=True)
class LayerSkip:
    """Draft with these layers of the model itself, by their numbers."""

    layers: tuple[int, ...]


class DraftModel:
    """A `Proposer` that runs a model of its own, with a cache of its own.

    The vocabularies must be the same; ValueError otherwise comes from `Engine`. A request for which the draft's cache
    has no room, or that is longer than the `positions` of its runner, gets no guesses.
    """

    def __init__(self, runner: Runner, pages: int, positions: int) -> None:
        self.runner = runner
        self._positions = positions
        self.seconds = 0.0
        self._cache = PagedCache(runner.windows, pages, runner.copy_page, share=False)
        self._sequences: dict[str, CachedSequence] = {}
        self._agreed: dict[str, int] = {}  # tokens of each that are the request's and no guesses

    def propose(self, requests: Sequence[RequestState], most: Sequence[int]) -> list[list[int]]:
        guesses: list[list[int]] = [[] for _ in requests]
        began, forwards = time.perf_counter(), 0
        while True:
            wanting = [n for n, limit in enumerate(most) if len(guesses[n]) < limit]
            works = {n: work for n in wanting if (work := self._work(requests[n], guesses[n])) is not None}
            if not works:
                break
            forwards += 1
            rows, _ = self.runner.forward(list(works.values()))
            for work in works.values():
                self._cache.commit(work.sequence, work.ids)
            asked = [requests[n] for n in works]
            completions = [Guessed(requests[n].ids, guesses[n]) for n in works]
            chosen = sample(
                rows,
                [request.sampling for request in asked],
                [request.prompt_ids for request in asked],
                completions,
                [uniform(request.seed, len(ids)) for request, ids in zip(asked, completions, strict=True)],
                [None] * len(asked),
            )
            for n, token in zip(works, chosen.ids.tolist(), strict=True):
                guesses[n].append(token)
            most = [limit if n in works else 0 for n, limit in enumerate(most)]
        if forwards:
            measured = (time.perf_counter() - began) / forwards
            self.seconds += (_WEIGHT if self.seconds else 1.0) * (measured - self.seconds)
        return guesses

    def forget(self, request: RequestState) -> None:
        self._agreed.pop(request.id, None)
        sequence = self._sequences.pop(request.id, None)
        if sequence is not None:
            self._cache.close(sequence)

    def _work(self, request: RequestState, guesses: Sequence[int]) -> Work | None:
        """The tokens of the request and its guesses that the draft has not read yet; None without room."""
        length, start = request.length + len(guesses), min(self._agreed.get(request.id, 0), request.length - 1)
        if length > self._positions:
            return None
        sequence = self._sequences.get(request.id)
        if sequence is None:
            sequence = self._sequences[request.id] = self._cache.open([])
        text = [*request.ids_between(start, request.length), *guesses]
        known = sequence.ids[start:]
        agreed = next((n for n, (a, b) in enumerate(zip(known, text, strict=False)) if a != b), len(known))
        self._cache.truncate(sequence, min(start + agreed, length - 1))
        if sequence.length < start:  # a window gave back what it would see
            text, start = [*request.ids_between(0, start), *text], 0
        self._agreed[request.id] = min(sequence.length, request.length)
        try:
            self._cache.reserve(sequence, length - sequence.length)
        except OutOfPagesError:
            return None
        return Work(sequence, text[sequence.length - start :], 1)


def draft_model(
    checkpoint: Checkpoint, slots: int = 8, context_length: int = 2048, weights: WeightFormat = "auto"
) -> DraftModel:
    """A proposer from a small checkpoint with the vocabulary of the large one, for texts of up to `context_length`
    tokens, or what it was trained for where that is less."""
    positions = min(context_length, checkpoint.config.context_length)
    pages = slots * -(-positions // PAGE) + slots
    return DraftModel(build_runner(checkpoint, weights, pages, None, positions), pages, positions)


def skip_layers(program: Program, indices: Sequence[int], prefix: Sequence[int] = ()) -> Program:
    """A program of some of the layers, in order, which shares all weights and has pages of its own, those of a prefix
    as they are.

    ValueError for numbers that are no layers, or that do not rise.
    """
    if list(indices) != sorted(set(indices)) or not indices or not 0 <= indices[0] <= indices[-1] < len(program.layers):
        raise ValueError(f"the layers that are kept must be rising numbers below {len(program.layers)}, got {indices}")
    layers = []
    for layer in (program.layers[number] for number in indices):
        data = torch.zeros_like(layer.pages.data)
        data[list(prefix)] = layer.pages.data[list(prefix)]
        layers.append(replace(layer, pages=replace(layer.pages, data=data)))
    return replace(program, layers=tuple(layers))


_LONGEST, _SHORTEST = 4, 2  # tokens that must agree before a guess; the longest agreement is the best guide


class _Index:
    """For every n-gram of a text, where its latest occurrence ends."""

    def __init__(self) -> None:
        self.text: list[int] = []
        self._ends: dict[tuple[int, ...], int] = {}
        self._indexed = 0

    def extend(self, ids: Sequence[int]) -> None:
        """Append tokens. The n-grams at the very end are indexed with the next ones: they would find themselves."""
        self.text.extend(ids)
        for end in range(max(self._indexed + 1, _SHORTEST), len(self.text)):
            for n in range(_SHORTEST, min(_LONGEST, end) + 1):
                self._ends[tuple(self.text[end - n : end])] = end
        self._indexed = len(self.text) - 1

    def continuation(self, most: int) -> list[int]:
        """The tokens that followed the latest earlier occurrence of the longest n-gram that ends the text."""
        for n in range(min(_LONGEST, len(self.text)), _SHORTEST - 1, -1):
            end = self._ends.get(tuple(self.text[-n:]))
            if end is not None:
                return self.text[end : end + most]
        return []


class PromptLookup:
    """Prompt lookup: guess what followed the same n-gram earlier in prompt and completion. No model, no cost."""

    seconds = 0.0

    def __init__(self) -> None:
        self._indices: dict[str, _Index] = {}

    def propose(self, requests: Sequence[RequestState], most: Sequence[int]) -> list[list[int]]:
        return [self._propose(request, limit) for request, limit in zip(requests, most, strict=True)]

    def _propose(self, request: RequestState, most: int) -> list[int]:
        if most < 1:
            return []
        index = self._indices.get(request.id)
        if index is None:
            index = self._indices[request.id] = _Index()
            index.extend([*request.source_ids, *request.prompt_ids])
        seen = len(index.text) - len(request.source_ids) - len(request.prompt_ids)
        index.extend(request.ids[seen:])
        return index.continuation(most)

    def forget(self, request: RequestState) -> None:
        self._indices.pop(request.id, None)


Speculation = Proposer | LayerSkip | Literal["auto", "lookup"] | None


def build_proposer(speculation: Speculation, runner: Runner, pages: int) -> Proposer | None:
    """The proposer for a runner, with `pages` for a cache of its own; ValueError where it cannot guess for it.

    "auto" looks up where a token's logits do not depend on how many are checked at once. Elsewhere a check would round
    differently from a single step, and two almost equally probable tokens could change places.
    """
    if speculation == "auto":
        return PromptLookup() if runner.grid is None else None
    if speculation == "lookup":
        return PromptLookup()
    if isinstance(speculation, str):
        raise ValueError(f'speculation is "auto", "lookup", a Proposer, LayerSkip or None, got {speculation!r}')
    if isinstance(speculation, LayerSkip):
        if not isinstance(runner, FusedRunner):
            raise ValueError("LayerSkip needs a model that the fused kernels run; use a draft model")
        skipped = skip_layers(runner.program, speculation.layers, runner.prefix)
        skipping = FusedRunner(skipped, runner.windows, prefix=runner.prefix)
        return DraftModel(skipping, pages, pages * PAGE)
    if isinstance(speculation, DraftModel) and speculation.runner.vocabulary != runner.vocabulary:
        raise ValueError(
            f"the draft model has {speculation.runner.vocabulary} tokens, the model {runner.vocabulary}: they must "
            "share a tokenizer"
        )
    return speculation
