"""The local engine: generation, scoring and embedding with one checkpoint, behind `EngineProtocol`."""

import copy
import secrets
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from lmworks.generate import scoring
from lmworks.generate.batching import Batcher
from lmworks.generate.embedding import TextEncoder
from lmworks.generate.live_request import LiveRequest
from lmworks.generate.precision import default_dtype
from lmworks.generate.protocol import Capabilities, Completion, Delta, Request, Role, Score
from lmworks.generate.stopping import StopMatcher
from lmworks.generate.token_text import TokenTexts
from lmworks.model.checkpoint import Checkpoint
from lmworks.model.config import LanguageModelHead, PoolHead
from lmworks.model.transformer import Transformer
from lmworks.tokenizer.streaming import Detokenizer

_CONTEXT_LENGTH = 2048
_NO_LANGUAGE = "the checkpoint has no language model head; load a language model such as smollm2-135m-instruct"
_BOTH_STACKS = "the checkpoint is an encoder–decoder, which the engine does not generate with; use its model directly"
_NO_POOLING = "the checkpoint has no pooling head; load an embedding model such as all-minilm-l6-v2"


class Engine:
    """Runs a checkpoint: a language model generates and scores, an embedding model embeds.

    slots           requests that run at a time; more wait in line.
    context_length  tokens of prompt and completion together. Default: what the model was trained for, at most 2048:
                    (slots + 1) x context_length (a multiple of 64) x `lmworks.model.counting.kv_bytes_per_token` bytes
                    are set aside at once.
    dtype           of the language model; default: bfloat16 where the processor multiplies it, else float32
                    (`precision.default_dtype`). bfloat16 moves a token's ln p by about 0.05 from float32's. In
                    both, what shares a batch moves a completion's ln p by a few 1e-5 at most; in bfloat16, what is
                    scored together moves a score by about 0.03 a token. An embedding model runs in the dtype it was
                    loaded in.
    prefill_tokens  of prompts that enter in one step: how long those that decode may have to wait.

    The checkpoint's own model is never changed: another dtype and `load_weights` work on a copy.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        slots: int = 8,
        context_length: int | None = None,
        dtype: torch.dtype | None = None,
        prefill_tokens: int = 2048,
    ) -> None:
        config = checkpoint.config
        self.checkpoint = checkpoint
        self.policy_version = 0
        self.slots = slots
        self.context_length = context_length or min(config.context_length, _CONTEXT_LENGTH)
        if self.context_length > config.context_length:
            raise ValueError(
                f"context_length {self.context_length} is more than the {config.context_length} positions that "
                f"{checkpoint.source} was trained for"
            )
        self._token_texts = TokenTexts(checkpoint.tokenizer)
        self._encoder = TextEncoder(checkpoint) if isinstance(config.head, PoolHead) else None
        self._batcher: Batcher | None = None
        if isinstance(config.head, LanguageModelHead) and config.encoder is None:
            model = checkpoint.model.eval()
            wanted = dtype or default_dtype(next(model.parameters()).device)
            if wanted != next(model.parameters()).dtype:
                model = _converted(model, wanted)
            self._batcher = Batcher(model, slots, self.context_length, prefill_tokens)

    @property
    def capabilities(self) -> Capabilities:
        language, embed = self._batcher is not None, self._encoder is not None
        config = self.checkpoint.config
        no_language = _BOTH_STACKS if config.encoder and config.decoder else _NO_LANGUAGE
        able = {"generate": language, "score": language, "load_weights": language, "embed": embed}
        return Capabilities(
            **able,
            token_ids=language,
            log_probabilities=language,
            sampled_log_probabilities=language,
            context_length=self.context_length,
            missing={name: _NO_POOLING if name == "embed" else no_language for name in able if not able[name]},
        )

    @property
    def idle(self) -> bool:
        """No request is in flight."""
        return self._batcher is None or self._batcher.idle

    @property
    def running(self) -> int:
        """Requests that have a slot."""
        return 0 if self._batcher is None else self._batcher.running

    @property
    def waiting(self) -> int:
        """Requests in line for a slot."""
        return 0 if self._batcher is None else self._batcher.waiting

    @property
    def cache_usage(self) -> float:
        """The part of the slots' key/value cache that holds tokens of running requests, in [0, 1]."""
        return 0.0 if self._batcher is None else self._batcher.tokens / (self.slots * self.context_length)

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """The completions, in the order of the requests; more requests than slots wait in line.

        Raises ValueError, before any work, when a prompt does not fit (the message names the limit), holds ids outside
        the vocabulary, or when the id of a request is in use; FloatingPointError when the logits of one are not finite.
        """
        lives = [self.prepare(request) for request in requests]
        with self._in_flight(lives):
            while not all(live.done for live in lives):
                self.step()
                _raise_errors(lives)
        return [live.completion(self.policy_version) for live in lives]

    def stream(self, request: Request) -> Iterator[Delta]:
        """The completion piece by piece, errors as in `generate`, those about the request raised by this call.

        Work begins with the first piece that is asked for; closing the iterator cancels the request and frees its slot.
        Streams may be read in turns: each step of one advances all.
        """
        return self._deltas(self.prepare(request))

    def _deltas(self, live: LiveRequest) -> Iterator[Delta]:
        with self._in_flight([live]):
            while not live.done:
                self.step()
                if not live.done and (delta := live.take(self.policy_version)):
                    yield delta
            _raise_errors([live])
            if delta := live.take(self.policy_version):
                yield delta

    @contextmanager
    def _in_flight(self, lives: Sequence[LiveRequest]) -> Iterator[None]:
        """Queue the requests; those that are not done on the way out, for whatever reason, are cancelled."""
        queued: list[LiveRequest] = []
        try:
            for live in lives:
                self.enqueue(live)
                queued.append(live)
            yield
        finally:
            for live in queued:
                if not live.done:
                    self.cancel(live.id)

    def submit(self, request: Request) -> LiveRequest:
        """Queue a request; the following calls of `step` work on it. Errors as in `generate`, before any work.

        Whoever calls this calls `step` until the request is `done`, and looks at its `finish_reason` or `error`.
        """
        live = self.prepare(request)
        self.enqueue(live)
        return live

    def step(self) -> None:
        """One forward for everything in flight: prompts that enter, or one more token for each. Nothing when idle.

        A request whose logits are not finite is `done` with an `error`; the others go on. An exception of the forward
        itself, such as too little memory, fails all running requests and is raised; those in line stay there.
        """
        if self._batcher is not None:
            self._batcher.step()

    def enqueue(self, live: LiveRequest) -> None:
        """Queue what `prepare` made; ValueError when its id is in use."""
        self._language_model().submit(live)

    def cancel(self, request_id: str) -> bool:
        """End a request: it completes as "cancelled", with what it has. False when no such request is in flight."""
        return self._language_model().cancel(request_id)

    def score(self, context_ids: Sequence[Sequence[int]], continuation_ids: Sequence[Sequence[int]]) -> list[Score]:
        """ln p of each continuation given its context, each shared context computed once: see `scoring.score`.

        An empty context is the start of a document (`scoring.document_start`). The limit is the model's context length,
        not the engine's, because nothing is kept.
        """
        return scoring.score(self._language_model().model, context_ids, continuation_ids, *self._scoring_limits())

    def score_in_parts(
        self, context_ids: Sequence[Sequence[int]], continuation_ids: Sequence[Sequence[int]]
    ) -> Generator[None, None, list[Score]]:
        """`score`, with pauses in which `step` may be called, `load_weights` not: see `scoring.score_in_parts`."""
        model = self._language_model().model
        return scoring.score_in_parts(model, context_ids, continuation_ids, *self._scoring_limits())

    def _scoring_limits(self) -> tuple[int, int]:
        return scoring.document_start(self.checkpoint.tokenizer), self.checkpoint.config.context_length

    def embed(self, texts: Sequence[str], role: Role) -> np.ndarray:
        """(n, width) float32, L2-normalised: see `TextEncoder.encode`."""
        self.capabilities.require("embed")
        assert self._encoder is not None
        return self._encoder.encode(texts, role)

    def load_weights(self, state: Mapping[str, Tensor], version: int) -> None:
        """Replace the language model's weights by a `state_dict` of the same shape; completions then carry `version`.

        Raises RuntimeError while requests are in flight, since a completion has one policy version, and ValueError when
        names or shapes differ; in both cases nothing is changed.
        """
        batcher = self._language_model()
        if not batcher.idle:
            raise RuntimeError("weights cannot change while requests are in flight: let them finish, or cancel them")
        _check_state(batcher.model.state_dict(), state)
        if batcher.model is self.checkpoint.model:
            batcher.model = copy.deepcopy(batcher.model)
        batcher.model.load_state_dict(dict(state))
        self.policy_version = version

    def _language_model(self) -> Batcher:
        self.capabilities.require("generate")
        assert self._batcher is not None
        return self._batcher

    def prepare(self, request: Request) -> LiveRequest:
        """Render and check a request, so that whatever is wrong with it is said before any work; its clock starts here.

        Changes nothing, so that any thread may call it at any time.
        """
        submitted = time.perf_counter()
        self.capabilities.require("generate")
        tokenizer, sampling = self.checkpoint.tokenizer, request.sampling
        prompt = request.prompt_ids
        stop_ids = set(tokenizer.eos_ids)
        if request.messages:
            rendered = self.checkpoint.chat.render(request.messages, add_generation_prompt=True)
            prompt, stop_ids = tuple(rendered.ids), {*stop_ids, *rendered.stop_ids}
        room = self.context_length - len(prompt)
        if room < 1:
            raise ValueError(
                f"the prompt has {len(prompt)} tokens, the context of this engine holds {self.context_length} for "
                "prompt and completion: shorten the prompt, or make the engine with a larger context_length (this "
                f"model: up to {self.checkpoint.config.context_length})"
            )
        vocabulary = self.checkpoint.config.embedding.vocabulary
        if not all(0 <= token < vocabulary for token in prompt):
            raise ValueError(f"the prompt holds token ids outside [0, {vocabulary})")
        if not all(token < vocabulary for token in sampling.logit_bias):
            raise ValueError(f"logit_bias holds token ids outside [0, {vocabulary})")
        return LiveRequest(
            id=request.id or secrets.token_hex(8),
            prompt_ids=prompt,
            sampling=sampling,
            seed=secrets.randbits(63) if sampling.seed is None else sampling.seed,
            stop_ids=set() if sampling.ignore_eos else stop_ids,
            limit=min(sampling.max_tokens, room),
            detokenizer=Detokenizer(tokenizer),
            matcher=StopMatcher(sampling.stop),
            token_texts=self._token_texts,
            submitted=submitted,
        )


def _raise_errors(lives: Sequence[LiveRequest]) -> None:
    for live in lives:
        if live.error is not None:
            raise live.error


def _converted(model: Transformer, dtype: torch.dtype) -> Transformer:
    """A copy in another dtype, each tensor converted as it is copied: twice the memory is never in use."""
    tensors: dict[int, Tensor] = {}
    for parameter in model.parameters():
        tensors[id(parameter)] = nn.Parameter(parameter.detach().to(dtype), requires_grad=parameter.requires_grad)
    for buffer in model.buffers():
        tensors[id(buffer)] = buffer.to(dtype) if buffer.is_floating_point() else buffer.clone()
    return copy.deepcopy(model, tensors)  # type: ignore[arg-type] - what is in the memo is taken instead of a copy


def _check_state(own: Mapping[str, Tensor], new: Mapping[str, Tensor]) -> None:
    wrong = sorted(own.keys() ^ new.keys()) or [name for name in own if own[name].shape != new[name].shape]
    if wrong:
        raise ValueError(
            f"the weights do not fit this model; names that are missing, unknown or of other shape: {wrong}"
        )
