"""The local engine: generation, scoring and embedding with one checkpoint, behind `EngineProtocol`."""

import secrets
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
from torch import Tensor

from lmworks.adapt.lora import Lora, check_fits
from lmworks.generate import scoring
from lmworks.generate.beam_search import beam_search
from lmworks.generate.constrained_decoding import ConstraintCompiler
from lmworks.generate.contrastive_search import contrastive_search
from lmworks.generate.draft_proposers import LayerSkip, Speculation, build_proposer
from lmworks.generate.engine_step import Batcher
from lmworks.generate.job import Job, Steps
from lmworks.generate.lowering import FormatOf
from lmworks.generate.page_storage import CacheDtype
from lmworks.generate.paged_cache import PAGE, PagedCache
from lmworks.generate.protocol import (
    BeamParameters,
    Capabilities,
    Completion,
    ContextLengthError,
    ContrastiveParameters,
    Delta,
    ParameterError,
    Request,
    Role,
    Score,
)
from lmworks.generate.request_state import RequestState, StopMatcher, TokenTexts
from lmworks.generate.runner_choice import WeightFormat, build_runner
from lmworks.generate.speculative_decoding import Speculator
from lmworks.generate.text_embedding import TextEncoder
from lmworks.model.checkpoint import Checkpoint
from lmworks.model.config import LanguageModelHead, PoolHead
from lmworks.tokenizer.incremental_detokenizer import Detokenizer

T = TypeVar("T")

_CONTEXT_LENGTH = 2048
_NO_CHANGE = Lora({})  # in the place of an adapter that was unloaded
_NO_LANGUAGE = "the checkpoint has no language model head; load a language model such as smollm2-135m-instruct"
_NO_POOLING = "the checkpoint has no pooling head; load an embedding model such as all-minilm-l6-v2"


class Engine:
    """Runs a checkpoint: a language model generates and scores, an embedding model embeds.

    slots           requests that run at a time; more wait in line.
    context_length  tokens of prompt and completion together. Default: what the model was trained for, at most 2048.
    weights         how a language model's weights are held: "float32", "bfloat16", "int8", "int4", or "auto": as the
                    file has them where it is quantised, else bfloat16 where the processor multiplies it, else float32.
                    A function gives each parameter its own: see `runner_choice.build_runner`. An embedding model runs
                    in the dtype it was loaded in.
    cache_dtype     of keys and values: "float32", "bfloat16", "int8"; default: that of the activations.
    cache_tokens    what the cache holds, of all requests together; default: slots x context_length. Where that is less
                    than what runs needs, requests are preempted and continue later. Memory is taken as it is used.
    prefill_tokens  of prompts in one step: how long those that decode may have to wait.
    speculation     guesses the next tokens (`speculative_decoding.py`): "lookup" in prompt and completion,
                    `draft_model(…)`, or `LayerSkip` of the model's own layers; None: off. Used where it pays. With the
                    fused kernels it never changes a token; "auto" looks up with these, and is off for modules, where a
                    check rounds differently.
    lowered         False: run the model's own modules, even where fused kernels know them.
    device          of a language model, as `choose_device` takes it, such as "auto"; default: the checkpoint's.

    The checkpoint's own model is never changed.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        slots: int = 8,
        context_length: int | None = None,
        weights: WeightFormat | FormatOf = "auto",
        cache_dtype: CacheDtype | None = None,
        cache_tokens: int | None = None,
        prefill_tokens: int = 256,
        speculation: Speculation = "auto",
        lowered: bool = True,
        device: str | None = None,
    ) -> None:
        config = checkpoint.config
        self.checkpoint = checkpoint
        self.policy_version = 0
        self._name = secrets.token_hex(8)  # for fingerprints of versions that were not hashed
        self._fingerprints: dict[int, str] = {}  # by policy version; 0 is the checkpoint's own until that is replaced
        self.slots = slots
        self.context_length = context_length or min(config.context_length, _CONTEXT_LENGTH)
        if self.context_length > config.context_length:
            raise ValueError(
                f"context_length {self.context_length} is more than the {config.context_length} positions that "
                f"{checkpoint.source} was trained for"
            )
        self._token_texts = TokenTexts(checkpoint.required_tokenizer)
        self._encoder = TextEncoder(checkpoint) if isinstance(config.head, PoolHead) else None
        self._batcher: Batcher | None = None
        self._loras: list[Lora | None] = []
        if isinstance(config.head, LanguageModelHead):
            cache_tokens = cache_tokens or slots * self.context_length
            if cache_tokens < self.context_length:
                raise ValueError(
                    f"cache_tokens {cache_tokens} is less than context_length {self.context_length}: one request "
                    "must fit"
                )
            pages = -(-cache_tokens // PAGE) + slots
            positions = min(config.context_length, pages * PAGE)  # of scores, which may be longer than requests
            runner = build_runner(checkpoint, weights, pages, cache_dtype, positions, lowered, device)
            cache = PagedCache(runner.windows, pages, runner.copy_page, runner.grid or PAGE)
            self._speculation = speculation
            proposer = build_proposer(speculation, runner, pages)
            speculator = Speculator(proposer) if proposer is not None else None
            self._batcher = Batcher(runner, cache, slots, prefill_tokens, speculator)

    @property
    def capabilities(self) -> Capabilities:
        language, embed = self._batcher is not None, self._encoder is not None
        able = {"generate": language, "score": language, "embed": embed}
        able |= {"score_alternatives": language, "adapters": language}
        return Capabilities(
            **able,
            token_ids=language,
            log_probabilities=language,
            sampled_log_probabilities=language,
            context_length=self.context_length,
            missing={name: _NO_POOLING if name == "embed" else _NO_LANGUAGE for name in able if not able[name]},
        )

    @cached_property
    def constraints(self) -> ConstraintCompiler:
        """Compiles constraints for this engine's tokenizer; made when it is first needed."""
        tokenizer = self.checkpoint.answer_tokenizer
        return ConstraintCompiler(tokenizer, self.checkpoint.config.embedding.vocabulary, tokenizer.eos_ids)

    @property
    def running(self) -> int:
        """Requests that have a slot, scores and searches."""
        return 0 if self._batcher is None else len(self._batcher.scheduler.running) + len(self._batcher.jobs)

    @property
    def jobs(self) -> int:
        """Scores and searches in flight."""
        return 0 if self._batcher is None else len(self._batcher.jobs)

    @property
    def cache_usage(self) -> float:
        """The part of the key/value cache that is held by requests, searches and scores, in [0, 1]."""
        return 0.0 if self._batcher is None else self._batcher.cache.used

    @property
    def batcher(self) -> Batcher:
        """The batcher with its runner, cache, scheduler and speculator; UnsupportedError without a language model."""
        self.capabilities.require("generate")
        assert self._batcher is not None
        return self._batcher

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """The completions, in the order of the requests; more requests than slots wait in line.

        Raises ValueError, before any work, when a prompt does not fit (the message names the limit), holds ids outside
        the vocabulary, or when the id of a request is in use; FloatingPointError when the logits of one are not finite.
        """
        states = [self.prepare(request) for request in requests]
        with self._in_flight(states):
            in_flight = set(states)
            for state in states:  # one after the other: a step looks at none that waits
                while not state.done:
                    self.step()
                    _raise_errors(in_flight.intersection(self.batcher.failed))
        return [state.completion(self.policy_version) for state in states]

    def stream(self, request: Request) -> Iterator[Delta]:
        """The completion piece by piece, errors as in `generate`, those about the request raised by this call.

        Work begins with the first piece that is asked for; closing the iterator cancels the request and frees its slot.
        Streams may be read in turns: each step of one advances all.
        """
        return self._deltas(self.prepare(request))

    def _deltas(self, state: RequestState) -> Iterator[Delta]:
        with self._in_flight([state]):
            while not state.done:
                self.step()
                if not state.done and (delta := state.take(self.policy_version)):
                    yield delta
            _raise_errors([state])
            if delta := state.take(self.policy_version):
                yield delta

    @contextmanager
    def _in_flight(self, states: Sequence[RequestState]) -> Iterator[None]:
        """Queue the requests; those that are not done on the way out, for whatever reason, are cancelled."""
        queued: list[RequestState] = []
        try:
            for state in states:
                self.enqueue(state)
                queued.append(state)
            yield
        finally:
            for state in queued:
                if not state.done:
                    self.cancel(state.id)

    def submit(self, request: Request) -> RequestState:
        """Queue a request; the following calls of `step` work on it. Errors as in `generate`, before any work.

        Call `step` until the request is `done`, then look at its `finish_reason` or `error`.
        """
        state = self.prepare(request)
        self.enqueue(state)
        return state

    def step(self) -> None:
        """One forward for the requests in flight (prompts that enter, or one more token for each), and one for each
        score and search. Nothing when idle.

        A request that fails by itself (it cannot enter, its logits are not finite, its constraint raises) is `done`
        with an `error`, a score or search has it in its future; the others continue. An exception of the requests'
        forward itself, such as too little memory, fails all running ones and is raised; those in line stay there.
        """
        if self._batcher is not None:
            self._batcher.step()

    def enqueue(self, state: RequestState) -> None:
        """Queue what `prepare` made; ValueError when its id is in use."""
        self.batcher.submit(state)

    def cancel(self, request_id: str) -> bool:
        """End a request: it completes as "cancelled", with what it has. False when no such request is in flight."""
        return self.batcher.cancel(request_id)

    def score(
        self,
        context_ids: Sequence[Sequence[int]],
        continuation_ids: Sequence[Sequence[int]],
        alternatives: int = 0,
        adapter: str = "",
    ) -> list[Score]:
        """ln p of each continuation given its context, each shared context computed once: see `scoring.score_pairs`.

        An empty context is the start of a document (`scoring.document_start`). The limit is the model's context length,
        or what the cache holds where that is less.
        """
        return self._result(self.submit_score(context_ids, continuation_ids, alternatives, adapter))

    def submit_score(
        self,
        context_ids: Sequence[Sequence[int]],
        continuation_ids: Sequence[Sequence[int]],
        alternatives: int = 0,
        adapter: str = "",
    ) -> Job[list[Score]]:
        """Queue what `score` asks for; the following calls of `step` work on it."""
        batcher = self.batcher
        contexts = scoring.check_pairs(self.checkpoint, batcher, context_ids, continuation_ids, adapter)
        return batcher.start(
            lambda job: scoring.score_pairs(batcher, job, contexts, continuation_ids, alternatives, adapter)
        )

    def search(self, request: Request, parameters: BeamParameters | ContrastiveParameters) -> list[Completion]:
        """The completions that a search finds, best first: see `beam_search.beam_search` and, for one completion,
        `contrastive_search.contrastive_search`."""
        return self._result(self.enqueue_search(self.prepare(request), parameters))

    def enqueue_search(
        self, state: RequestState, parameters: BeamParameters | ContrastiveParameters
    ) -> Job[list[Completion]]:
        """Queue a search for what `prepare` made; the following calls of `step` work on it."""
        search: Any = beam_search if isinstance(parameters, BeamParameters) else contrastive_search

        def steps(job: Job[list[Completion]]) -> Steps[list[Completion]]:
            completed = yield from search(self.batcher, job, state, parameters)
            return [replace(state.completion(self.policy_version), seed=0) for state in completed]

        return self.batcher.start(steps)

    def _result(self, job: Job[T]) -> T:
        """Step until the score or search is done."""
        try:
            while not job.future.done():
                self.step()
        finally:
            self.batcher.abort(job, RuntimeError("interrupted"))
        return job.future.result()

    def abort_jobs(self, error: Exception) -> None:
        """End all scores and searches with this error."""
        for job in tuple(self._batcher.jobs) if self._batcher is not None else ():
            self.batcher.abort(job, error)

    def embed(self, texts: Sequence[str], role: Role) -> np.ndarray:
        """(n, width) float32, L2-normalised: see `TextEncoder.encode`."""
        self.capabilities.require("embed")
        assert self._encoder is not None
        return self._encoder.encode(texts, role)

    def fingerprint(self, version: int | None = None) -> str:
        """The fingerprint of the checkpoint with the weights of this policy version, by default of the present one.

        KeyError for a version that never ran.
        """
        version = self.policy_version if version is None else version
        if version == 0 and version not in self._fingerprints:
            return self.checkpoint.fingerprint
        return self._fingerprints[version]

    def load_weights(self, state: Mapping[str, Tensor], version: int, fingerprint: str = "") -> None:
        """Replace the language model's weights by a `state_dict` of the same shape; completions then carry `version`.
        What is quantised is quantised again, in the same formats, as it would be in an engine made of these weights.

        `fingerprint` is that of a checkpoint with these weights, where it is known; else they are hashed, which reads
        them once.

        Raises RuntimeError while requests, scores or searches are in flight, since each has one policy version, and
        ValueError when names or shapes differ; in both cases nothing is changed.
        """
        batcher = self._idle_batcher()
        fingerprint = fingerprint or replace(self.checkpoint, weights=state).fingerprint  # first: it may fail
        batcher.runner.load_weights(state)
        self._weights_replaced(version, fingerprint)

    def weights_changed(self, version: int, fingerprint: str = "") -> None:
        """The weights of `checkpoint.model` were changed in place: completions come from these and carry `version`.

        A runner that computes with the model's own tensors copies nothing; one with packed, quantised or converted
        weights of its own makes them again. Nothing that older weights have computed is found again. Without a
        `fingerprint` the version gets "unhashed:…", which is no checkpoint's. Errors as in `load_weights`; between the
        change and this call nothing may be generated.
        """
        runner, model = self._idle_batcher().runner, self.checkpoint.model
        if not runner.shares(model):
            runner.load_weights(model.state_dict())
        if "fingerprint" not in self.checkpoint.__dict__:  # the weights that version 0 had are gone
            self._fingerprints.setdefault(0, f"unhashed:{self._name}:0")
        self._weights_replaced(version, fingerprint or f"unhashed:{self._name}:{version}")

    def _idle_batcher(self) -> Batcher:
        batcher = self.batcher
        if not batcher.idle:
            raise RuntimeError(
                "weights cannot change while requests, scores or searches are in flight: let them finish first"
            )
        return batcher

    def _weights_replaced(self, version: int, fingerprint: str) -> None:
        """Forget what older weights have computed."""
        batcher = self.batcher
        self._fingerprints[version] = fingerprint
        if isinstance(self._speculation, LayerSkip):  # it drafts with the weights that were replaced
            proposer = build_proposer(self._speculation, batcher.runner, batcher.cache.pages)
            batcher.speculator = None if proposer is None else Speculator(proposer)
        batcher.cache.forget()
        batcher.version += 1
        self.policy_version = version

    @property
    def adapters(self) -> Mapping[str, str]:
        """The fingerprints of the adapters that a request may name."""
        return {name: fingerprint.hex() for name, (_, fingerprint) in self.batcher.adapters.items() if name}

    def load_adapter(self, name: str, lora: Lora) -> None:
        """Let requests use an adapter by this name, next to others in the same step.

        ValueError for a name that is in use or empty, and for an adapter of another model.
        """
        batcher = self.batcher
        if not name or name in batcher.adapters:
            raise ValueError(f"an adapter needs a name that is not in use, got {name!r}")
        number = self._loras.index(None) if None in self._loras else len(self._loras)
        check_fits(lora, self.checkpoint.config)
        loras = [*self._loras[:number], lora, *self._loras[number + 1 :]]
        self._use_adapters(loras, {**batcher.adapters, name: (number, bytes.fromhex(lora.fingerprint))})

    def unload_adapter(self, name: str) -> None:
        """Forget an adapter; KeyError for a name there is none of, RuntimeError while a request in flight uses it, or
        any score or search is in flight."""
        batcher = self.batcher
        if batcher.jobs:
            raise RuntimeError("adapters cannot change while scores or searches are in flight: let them finish first")
        if not name:
            raise KeyError(name)
        number, _ = batcher.adapters[name]
        if any(request.adapter == name for request in batcher.requests.values()):
            raise RuntimeError(f"adapter {name!r} is in use: let its requests finish, or cancel them")
        loras = [None if n == number else lora for n, lora in enumerate(self._loras)]
        self._use_adapters(loras, {loaded: pair for loaded, pair in batcher.adapters.items() if loaded != name})

    def _use_adapters(self, loras: list[Lora | None], by_name: Mapping[str, tuple[int, bytes]]) -> None:
        self.batcher.runner.set_adapters([lora or _NO_CHANGE for lora in loras])
        self._loras, self.batcher.adapters = loras, by_name

    def prepare(self, request: Request) -> RequestState:
        """Render and check a request, so that whatever is wrong with it is said before any work; its clock starts here.
        Changes nothing, so that any thread may call it at any time.

        ContextLengthError for a prompt that does not fit; ValueError for ids outside the vocabulary and for an adapter
        that is not loaded; ConstraintError for a constraint that cannot be honoured.
        """
        submitted, checkpoint, adapters = time.perf_counter(), self.checkpoint, self.batcher.adapters
        tokenizer, sampling = checkpoint.required_tokenizer, request.sampling
        prompt, source = request.prompt_ids or tuple(tokenizer.encode(request.text)), ()
        stop_ids = set(tokenizer.eos_ids)
        if request.messages:
            rendered = checkpoint.chat.render(request.messages, True, request.tools)
            prompt, stop_ids = tuple(rendered.ids), {*stop_ids, *rendered.stop_ids}
        if request.adapter not in adapters:
            raise ValueError(f"no adapter {request.adapter!r} is loaded; there is {sorted(adapters)[1:]}")
        if checkpoint.config.encoder is not None:
            source, prompt = prompt, (_decoder_start(checkpoint),)
        room = self.context_length - max(len(prompt), len(source))
        if room < 1:
            raise ContextLengthError(
                f"the prompt has {max(len(prompt), len(source))} tokens, this model's maximum context length is "
                f"{self.context_length} for prompt and completion: shorten it, or set a larger context_length (up to "
                f"{checkpoint.config.context_length})"
            )
        vocabulary = checkpoint.config.embedding.vocabulary
        named = {"prompt": (*prompt, *source)}
        named |= {name: getattr(sampling, name) for name in ("logit_bias", "banned_tokens", "forced_tokens")}
        for name, tokens in named.items():
            if not all(0 <= token < vocabulary for token in tokens):
                raise ParameterError(name, f"{name} holds token ids outside [0, {vocabulary})")
        constraint = None if sampling.constraint is None else self.constraints.compile(sampling.constraint).start()
        return RequestState(
            id=request.id or secrets.token_hex(8),
            prompt_ids=prompt,
            source_ids=source,
            sampling=sampling,
            seed=secrets.randbits(63) if sampling.seed is None else sampling.seed,
            stop_ids=set() if sampling.ignore_eos and constraint is None else stop_ids,
            limit=min(sampling.max_tokens, self.context_length - len(prompt) if source else room),
            detokenizer=Detokenizer(tokenizer if constraint is None else checkpoint.answer_tokenizer),
            matcher=StopMatcher(sampling.stop),
            token_texts=self._token_texts,
            adapter=request.adapter,
            priority=request.priority,
            client=request.client,
            deadline=request.deadline,
            constraint=constraint,
            submitted=submitted,
        )


def _raise_errors(states: Iterable[RequestState]) -> None:
    for state in states:
        if state.error is not None:
            raise state.error


def _decoder_start(checkpoint: Checkpoint) -> int:
    """The first token of an encoder–decoder's decoder: as config.json says, else padding (T5), else BOS."""
    published, tokenizer = checkpoint.published or {}, checkpoint.required_tokenizer
    stated = checkpoint.generation.get("decoder_start_token_id", published.get("decoder_start_token_id"))
    for token in (stated, tokenizer.pad_id, tokenizer.bos_id):
        if token is not None:
            return token
    raise ValueError("nothing says what the decoder begins with: give the tokenizer a padding or BOS token")
