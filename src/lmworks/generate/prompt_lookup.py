"""Guesses by looking up: what followed the last few tokens when they came before, in the prompt or in the completion.

Answers that quote their context, code that repeats a name and lists that repeat a form are full of such repetitions,
and a look-up costs nothing (Saxena 2023, "Prompt lookup decoding"; Yang et al. 2023, "Inference with reference").
"""

from collections.abc import Sequence

from lmworks.generate.live_request import LiveRequest

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
