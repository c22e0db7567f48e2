"""Continuous batching over one preallocated key/value cache: each step is schedule, forward, sample, commit."""

from collections.abc import Sequence

import torch
from torch import Tensor

from lmworks.generate.live_request import LiveRequest
from lmworks.generate.sampling import sample, uniform
from lmworks.generate.scheduler import Scheduler
from lmworks.model.cache import CHUNK, KVCache
from lmworks.model.transformer import Transformer


class Batcher:
    """Runs the requests in flight on one model.

    `slots` requests of up to `context_length` tokens run at a time. The prompts that enter in one step, each in a
    forward of its own, have at most `prefill_tokens` tokens (or are one prompt): so long the others wait.
    """

    def __init__(self, model: Transformer, slots: int, context_length: int, prefill_tokens: int) -> None:
        parameter = next(model.parameters())
        self.model = model
        self.device = parameter.device
        whole_chunks = -(-context_length // CHUNK) * CHUNK
        # one slot more, for the empty row beside a request that runs alone
        self._cache = KVCache(model.config, slots + 1, whole_chunks, parameter.dtype, parameter.device)
        self._scheduler = Scheduler(slots, prefill_tokens)
        self._live: dict[str, LiveRequest] = {}

    @property
    def idle(self) -> bool:
        return not self._live

    def submit(self, request: LiveRequest) -> None:
        """Queue a request; ValueError when its id is in use."""
        self._scheduler.submit(request.id, len(request.prompt_ids))
        self._live[request.id] = request

    def cancel(self, request_id: str) -> bool:
        """End a request before its time and free its slot; False when no such request is in flight."""
        request = self._live.pop(request_id, None)
        if request is None:
            return False
        self._scheduler.release(request_id)
        request.finish("cancelled")
        return True

    @torch.inference_mode()
    def step(self) -> None:
        """One forward: the prompts of requests that enter, or one more token for each that runs. Nothing when idle."""
        work = self._scheduler.next()
        if work is None:
            return
        requests = [self._live[request_id] for request_id in work.slots]
        logits = (self._prefill if work.kind == "prefill" else self._decode)(requests, list(work.slots.values()))
        self._commit(requests, logits)

    def _prefill(self, requests: list[LiveRequest], slots: list[int]) -> Tensor:
        """Logits (batch, vocabulary) float32 after each prompt.

        One forward for each prompt: a prompt of usual length fills the machine, nothing is wasted on padding, and the
        kernels chosen for its shape, and so its rounding, do not depend on who enters beside it.
        """
        rows = []
        for request, slot in zip(requests, slots, strict=True):
            request.start()
            rows.append(self._forward([slot], [request.prompt_ids], [range(len(request.prompt_ids))]))
        return torch.cat(rows)

    def _decode(self, requests: list[LiveRequest], slots: list[int]) -> Tensor:
        """Logits (batch, vocabulary) float32 after the last token of each request, which is not in the cache yet.

        A request that runs alone gets an empty row beside it: the kernels for a single row round differently, so a
        request would notice when it is left alone. Most of a step is reading the weights: the row costs it a tenth.
        """
        ids = [request.ids[-1:] for request in requests]
        positions = [[request.length - 1] for request in requests]
        if len(requests) == 1:
            slots, ids, positions = [*slots, slots[0] + 1], [*ids, [0]], [*positions, [-1]]
        return self._forward(slots, ids, positions)[: len(requests)]

    def _forward(self, slots: list[int], ids: Sequence[Sequence[int]], positions: Sequence[Sequence[int]]) -> Tensor:
        """Run new tokens, as many for each row; logits (batch, vocabulary) float32 after the last of each."""
        slots_, ids_, positions_ = (torch.tensor(values, device=self.device) for values in (slots, ids, positions))
        hidden = self.model.hidden(ids_, cache=self._cache.view(slots_, positions_))  # (batch, length, width)
        return self.model.logits(hidden[:, -1]).float()

    def _commit(self, requests: list[LiveRequest], logits: Tensor) -> None:
        """Choose a token for each request; the finished ones leave. FloatingPointError for logits that are NaN."""
        if logits.isnan().any():
            raise FloatingPointError("the model's logits are not finite; check its weights, or use dtype=torch.float32")
        sampled = sample(
            logits,
            [request.sampling for request in requests],
            [request.seen for request in requests],
            [uniform(request.seed, len(request.ids)) for request in requests],
        )
        for request, *token in zip(requests, *(values.tolist() for values in sampled), strict=True):
            request.append(*token)
            if request.finish_reason is not None:
                del self._live[request.id]
                self._scheduler.release(request.id)
