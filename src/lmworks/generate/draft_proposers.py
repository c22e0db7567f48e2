"""Which proposer an engine guesses with."""

from collections.abc import Sequence
from typing import Literal

from lmworks.generate.draft_model import DraftModel, LayerSkip, skip_layers
from lmworks.generate.fused_runner import FusedRunner
from lmworks.generate.paged_cache import PAGE
from lmworks.generate.request_state import LiveRequest
from lmworks.generate.runner import Runner
from lmworks.generate.speculative_decoding import Proposer

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
        """What followed the longest n-gram that ends the text when it last came before."""
        for n in range(min(_LONGEST, len(self.text)), _SHORTEST - 1, -1):
            end = self._ends.get(tuple(self.text[-n:]))
            if end is not None:
                return self.text[end : end + most]
        return []


class PromptLookup:
    """A `Proposer` without a model."""

    seconds = 0.0

    def __init__(self) -> None:
        self._indices: dict[str, _Index] = {}

    def propose(self, requests: Sequence[LiveRequest], most: Sequence[int]) -> list[list[int]]:
        return [self._propose(request, limit) for request, limit in zip(requests, most, strict=True)]

    def _propose(self, request: LiveRequest, most: int) -> list[int]:
        if most < 1:
            return []
        index = self._indices.get(request.id)
        if index is None:
            index = self._indices[request.id] = _Index()
            index.extend([*request.source_ids, *request.prompt_ids])
        seen = len(index.text) - len(request.source_ids) - len(request.prompt_ids)
        index.extend(request.ids[seen:])
        return index.continuation(most)

    def forget(self, request: LiveRequest) -> None:
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
        skipping = FusedRunner(skip_layers(runner.program, speculation.kept), runner.windows)
        return DraftModel(skipping, pages, pages * PAGE)
    if isinstance(speculation, DraftModel) and speculation.runner.vocabulary != runner.vocabulary:
        raise ValueError(
            f"the draft model has {speculation.runner.vocabulary} tokens, the model {runner.vocabulary}: they must "
            "share a tokenizer"
        )
    return speculation
