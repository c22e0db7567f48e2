"""Continuous batching over one preallocated key/value cache: each step is schedule, forward, sample, commit."""

from collections.abc import Sequence

import torch
from torch import Tensor

from lmworks.generate.live_request import LiveRequest
from lmworks.generate.sampling import most_probable, sample, uniform
from lmworks.generate.scheduler import Scheduler
from lmworks.model.cache import CHUNK, KVCache
from lmworks.model.transformer import Transformer

_NOT_FINITE = "the model's logits are not finite; check its weights, or use dtype=torch.float32"


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

    @property
    def running(self) -> int:
        """Requests that have a slot."""
        return len(self._scheduler.running)

    @property
    def waiting(self) -> int:
        """Requests that have none yet."""
        return len(self._live) - len(self._scheduler.running)

    @property
    def tokens(self) -> int:
        """Tokens of prompt and completion of the requests that have a slot."""
        return sum(self._live[request_id].length for request_id in self._scheduler.running)

    def submit(self, request: LiveRequest) -> None:
        """Queue a request; ValueError when its id is in use."""
        self._scheduler.submit(request.id, len(request.prompt_ids))
        self._live[request.id] = request

    def cancel(self, request_id: str) -> bool:
        """End a request before its time and free its slot; False when no such request is in flight."""
        request = self._live.get(request_id)
        if request is None:
            return False
        self._leave(request)
        request.finish("cancelled")
        return True

    @torch.inference_mode()
    def step(self) -> None:
        """One forward: the prompts of requests that enter, or one more token for each that runs. Nothing when idle.

        A request whose logits are not finite fails with a FloatingPointError of its own; the others go on. An exception
        in the forward itself (out of memory) fails all that have a slot, and is raised.
        """
        work = self._scheduler.next()
        if work is None:
            return
        requests = [self._live[request_id] for request_id in work.slots]
        try:
            logits = (self._prefill if work.kind == "prefill" else self._decode)(requests, list(work.slots.values()))
            self._commit(*self._sound(requests, logits))
        except Exception as error:
            self._fail([self._live[request_id] for request_id in self._scheduler.running], error)
            raise

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

    def _sound(self, requests: list[LiveRequest], logits: Tensor) -> tuple[list[LiveRequest], Tensor]:
        """The requests whose logits are finite, and these; the others fail. (-inf is finite here: an excluded token.)

        A maximum is NaN or infinite exactly if some logit is NaN or +inf, or all are -inf.
        """
        finite = logits.amax(-1).isfinite().tolist()
        if all(finite):
            return requests, logits
        broken = [request for request, sound in zip(requests, finite, strict=True) if not sound]
        self._fail(broken, FloatingPointError(_NOT_FINITE))
        rows = [row for row, sound in enumerate(finite) if sound]
        return [requests[row] for row in rows], logits[rows]

    def _commit(self, requests: list[LiveRequest], logits: Tensor) -> None:
        """Choose a token for each request; the finished ones leave."""
        if not requests:
            return
        sampled = sample(
            logits,
            [request.sampling for request in requests],
            [request.prompt_ids for request in requests],
            [request.ids for request in requests],
            [uniform(request.seed, len(request.ids)) for request in requests],
        )
        chosen = zip(requests, *(values.tolist() for values in sampled), _alternatives(requests, logits), strict=True)
        for request, token, log_probability, sampled_log_probability, alternatives in chosen:
            request.append(token, log_probability, sampled_log_probability, alternatives)
            if request.done:
                self._leave(request)

    def _fail(self, requests: list[LiveRequest], error: Exception) -> None:
        """End requests without a completion, and clear their slots.

        Attention multiplies masked values by zero, and 0 · NaN is NaN: what one left would reach the slot's next user.
        """
        slots = [self._scheduler.running[request.id] for request in requests]
        for request in requests:
            self._leave(request)
            request.fail(error)
        for stored in (*self._cache.keys, *self._cache.values):
            stored[slots] = 0

    def _leave(self, request: LiveRequest) -> None:
        del self._live[request.id]
        self._scheduler.release(request.id)


def _alternatives(requests: list[LiveRequest], logits: Tensor) -> list[list[tuple[int, float]]]:
    """For each request the most probable tokens, as many as it asks for, with their log-probabilities."""
    counts = [request.sampling.alternatives for request in requests]
    if not any(counts):
        return [[] for _ in requests]
    rows = [row for row, count in enumerate(counts) if count]
    ids, values = (found.tolist() for found in most_probable(logits[rows], max(counts)))
    best = {row: list(zip(*pair, strict=True)) for row, *pair in zip(rows, ids, values, strict=True)}
    return [best[row][:count] if count else [] for row, count in enumerate(counts)]
