"""The step of the engine: schedule, guess, forward, sample, commit."""

import logging
import time
from bisect import bisect_left, insort
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import accumulate, islice
from operator import eq
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from lmworks.generate.constrained_decoding import Matcher
from lmworks.generate.constraint import ConstraintError
from lmworks.generate.job import Job, Steps
from lmworks.generate.logit_processors import Guessed
from lmworks.generate.module_runner import ModuleRunner
from lmworks.generate.paged_cache import PAGE, CachedSequence, PagedCache, chain
from lmworks.generate.request_state import LookAhead, RequestState
from lmworks.generate.runner import LogitRows, Runner, Work
from lmworks.generate.sampling import alternatives_of, sample, uniform
from lmworks.generate.scheduler import Scheduler
from lmworks.generate.speculative_decoding import Speculator

_log = logging.getLogger(__name__)

NOT_FINITE = "the model's logits are not finite; check its weights, or use weights='float32'"
NOTHING_ALLOWED = "no token is allowed here: the constraint, banned_tokens and logit_bias exclude each other"

_PATIENCE = 0.01  # seconds that a step waits for masks; who has none by then waits by itself
_IDLE = 0.05  # seconds until a step that finds nothing else to do looks for commands again

T = TypeVar("T")


@dataclass(slots=True)
class _StepEntry:
    """One request in a step: its work, and the guesses in it."""

    request: RequestState
    work: Work
    guesses: list[int] = field(default_factory=list)
    ahead: Future[LookAhead] | None = None


class Batcher:
    """Runs the requests, scores and searches in flight on one runner."""

    def __init__(
        self,
        runner: Runner,
        cache: PagedCache,
        slots: int,
        prefill_tokens: int,
        speculator: Speculator | None = None,
    ) -> None:
        self.runner, self.cache, self.speculator = runner, cache, speculator
        self.version = 0  # of the weights: what older ones have computed is not found again
        # name -> number, fingerprint; replaced, never changed, since other threads read it
        self.adapters: Mapping[str, tuple[int, bytes]] = {"": (-1, b"")}
        self.scheduler = Scheduler(cache, slots, prefill_tokens, self._enter, self._leave, self._fail, runner.grid)
        self.jobs: list[Job[Any]] = []  # scores and searches in flight
        self.failed: list[RequestState] = []  # requests that failed in the last step
        self.requests: dict[str, RequestState] = {}  # all that are in flight, by their ids
        self._deadlines: list[tuple[float, str]] = []  # of those in flight that have one, the earliest first
        # Masks are computed next to the steps; those that may take seconds are in nobody's way.
        self._quick = ThreadPoolExecutor(2, thread_name_prefix="lmworks-masks")
        self._slow = ThreadPoolExecutor(1, thread_name_prefix="lmworks-slow-masks")

    @property
    def idle(self) -> bool:
        return not self.requests and not self.jobs

    def submit(self, request: RequestState) -> None:
        """Queue a request; ValueError when its id is in use, or its adapter was unloaded since it was prepared."""
        if request.id in self.requests:
            raise ValueError(f"request id {request.id!r} is in use; ids of unfinished requests must differ")
        self._adapter(request.adapter)
        self.scheduler.submit(request)
        self.requests[request.id] = request
        if request.deadline is not None:
            insort(self._deadlines, (request.deadline_at, request.id))

    def cancel(self, request_id: str) -> bool:
        """End a request before its time and free its pages; False when no such request is in flight."""
        request = self.requests.get(request_id)
        if request is None:
            return False
        self._depart(request)
        request.finish("cancelled")
        return True

    def start(self, steps: Callable[[Job[T]], Steps[T]]) -> Job[T]:
        """Queue the score or search of these steps, of which every `step` runs one."""
        job = Job[T](self.cache, self.runner, self._make_room)
        job.steps = steps(job)
        self.jobs.append(job)
        return job

    def abort(self, job: Job[Any], error: Exception) -> None:
        """End a job without a result; nothing where it has ended."""
        if job in self.jobs:
            self.jobs.remove(job)
            try:
                job.end(doubtful=isinstance(error, FloatingPointError))
            finally:  # whoever waits is not left waiting
                job.future.set_exception(error)

    @torch.inference_mode()
    def step(self) -> None:
        """One forward for each score and search, and one for the requests: a part of the prompts that enter, and a
        token or more for each that runs.

        Nothing when idle. A request whose mask takes long waits by itself. A request that cannot enter, whose
        constraint or guesses raise, whose logits are not finite, or for which no token is allowed, fails by itself, and
        so does a job; the others continue. An exception in the forward of the requests (out of memory) fails all that
        have a slot, and is raised.
        """
        self.failed = []
        while self._deadlines and self._deadlines[0][0] <= time.perf_counter():
            request = self.requests[self._deadlines[0][1]]
            self._depart(request)
            request.finish("deadline")
        for job in tuple(self.jobs):
            self._advance(job)
        try:
            entries = self._entries(self.scheduler.next())
            if entries:
                self._run(entries)
            elif not self.jobs:
                unable = self.scheduler.running or self.scheduler.waiting
                held = [request.ahead for request in unable if request.ahead is not None]
                wait(held, _IDLE, FIRST_COMPLETED)
        except Exception as error:
            for request in list(self.scheduler.running):
                self._fail(request, error)
            raise

    # -----------------------------------------------------------------------------------------------------------------
    # Schedule and guess

    def _entries(self, scheduled: Mapping[RequestState, int]) -> list[_StepEntry]:
        entries = []
        for request, tokens in scheduled.items():
            assert request.sequence is not None
            request.start()
            logits_to_keep = int(tokens == request.uncomputed_tokens)
            entries.append(
                _StepEntry(
                    request, Work(request.sequence, request.next_ids(tokens), logits_to_keep), ahead=request.ahead
                )
            )
        self._look_ahead(entries)
        entries = [entry for entry in entries if not entry.request.done and not entry.request.held]
        # Next to a prompt's chunk guesses are not cheap.
        if self.speculator is not None and all(map(_decodes, entries)):
            unsure = [entry for entry in entries if entry.request.sampling.speculate and not entry.guesses]
            unsure = [e for e in unsure if e.request.constraint is None or not e.request.constraint.slow]
            self._guess(self.speculator, unsure, len(entries))
        return [entry for entry in entries if not entry.request.done]

    def _look_ahead(self, entries: Sequence[_StepEntry]) -> None:
        """Add the text that constraints make certain, which is more than a guess. Who takes long is held."""
        for entry in entries:
            request, matcher = entry.request, entry.request.constraint
            if matcher is None or entry.ahead is not None or not entry.work.logits_to_keep:
                continue
            if matcher.slow and not matcher.ready:
                request.ahead = entry.ahead = self.look(request, [])
            elif self.speculator is not None and request.sampling.speculate and _decodes(entry) and not matcher.slow:
                entry.ahead = self.look(request, None)
        settled([entry.ahead for entry in entries if entry.ahead is not None and not entry.request.held])
        for entry in entries:
            if entry.ahead is not None and not entry.ahead.done():
                entry.request.ahead = entry.ahead
            elif entry.ahead is not None:
                with self._alone(entry.request):
                    guesses, _ = entry.ahead.result()
                    self._extend(entry, guesses if _decodes(entry) else [])

    def look(self, request: RequestState, guesses: Sequence[int] | None) -> Future[LookAhead]:
        """Compute masks next to the steps: the next one, and those after the guesses. None: guess what is certain."""
        matcher = request.constraint
        assert matcher is not None
        return (self._slow if matcher.slow else self._quick).submit(_look, matcher, guesses, _room(request))

    def _guess(self, speculator: Speculator, entries: list[_StepEntry], rows: int) -> None:
        """Add guesses to a step in which everybody decodes. Nothing needs them: where they fail, there are no more."""
        requests = [entry.request for entry in entries]
        try:
            guesses = speculator.guess(requests, [_room(request) for request in requests], rows) if entries else []
        except Exception:
            _log.exception("tokens could not be guessed ahead: speculation is off from now on")
            self.speculator = None
            return
        for entry, ids in zip(entries, guesses, strict=True):
            self._extend(entry, ids)
            entry.ahead = None if ids else entry.ahead

    def _extend(self, entry: _StepEntry, ids: list[int]) -> None:
        room = len(entry.work.sequence.tables[0]) * PAGE - entry.work.sequence.length - 1
        if len(ids) > room:
            if self.cache.available * PAGE < len(ids) + PAGE:  # guesses preempt nobody
                ids = ids[:room]
            else:
                self.cache.reserve(entry.work.sequence, len(ids) + 1)
        if ids:
            entry.guesses = ids
            entry.work = Work(entry.work.sequence, [*entry.work.ids, *ids], 1 + len(ids))

    # -----------------------------------------------------------------------------------------------------------------
    # Forward, sample, commit

    def _run(self, entries: list[_StepEntry]) -> None:
        for entry in entries:  # masks are computed while the model runs
            if entry.request.constraint is not None and entry.work.logits_to_keep and entry.ahead is None:
                entry.ahead = self.look(entry.request, entry.guesses)
        began = time.perf_counter()
        rows, _ = self.forward([entry.work for entry in entries])
        tokens = sum(len(entry.work.ids) for entry in entries)
        if self.speculator is not None and tokens == sum(entry.work.logits_to_keep for entry in entries):
            self.speculator.costs.observe(tokens, time.perf_counter() - began)
        for entry in entries:
            if not entry.work.logits_to_keep:
                self.cache.commit(entry.work.sequence, entry.work.ids)
                self.scheduler.charge(entry.request, len(entry.work.ids))
        choosing = [entry for entry in entries if entry.work.logits_to_keep]
        if choosing:
            self._choose(choosing, rows)

    def _choose(self, entries: list[_StepEntry], rows: LogitRows) -> None:
        """Sample every wanted row; keep guesses as long as they are what was sampled. Whose masks are not there by now
        will have the same rows in a later step."""
        settled([entry.ahead for entry in entries if entry.ahead is not None])
        ready: list[_StepEntry] = []
        row_numbers: list[int] = []
        for entry, end in zip(entries, accumulate(entry.work.logits_to_keep for entry in entries), strict=True):
            if entry.ahead is None or entry.ahead.done():
                ready.append(entry)
                row_numbers += range(end - entry.work.logits_to_keep, end)
            else:
                entry.request.ahead = entry.ahead
        if not ready:
            return
        if len(ready) < len(entries):
            entries, rows = ready, rows.select(row_numbers)
        masks = [mask for entry in entries for mask in self._masks_of(entry)]
        expanded = [(entry, number) for entry in entries for number in range(entry.work.logits_to_keep)]
        completions = [Guessed(entry.request.ids, entry.guesses[:number]) for entry, number in expanded]
        sampled = sample(
            rows,
            [entry.request.sampling for entry, _ in expanded],
            [entry.request.prompt_ids for entry, _ in expanded],
            completions,
            [
                uniform(entry.request.seed, len(ids)) if entry.request.sampling.temperature else 0.0
                for (entry, _), ids in zip(expanded, completions, strict=True)
            ],
            masks,
        )
        alternatives = alternatives_of([entry.request.sampling.alternatives for entry, _ in expanded], rows)
        columns = [values.tolist() for values in (*sampled, rows.log_normaliser.isfinite())]
        chosen = iter(zip(*columns, alternatives, strict=True))
        for entry in entries:
            self._commit(entry, list(islice(chosen, entry.work.logits_to_keep)))

    def _masks_of(self, entry: _StepEntry) -> list[np.ndarray] | list[None]:
        """A mask for each row of an entry; where its constraint has failed, nothing is allowed."""
        if entry.ahead is None:
            return [None] * entry.work.logits_to_keep
        masks = [] if entry.ahead.exception() else entry.ahead.result()[1][: entry.work.logits_to_keep]
        entry.guesses = entry.guesses[: max(0, len(masks) - 1)]  # the others cannot be checked
        return masks + [np.zeros(-(-self.runner.vocabulary // 32), np.uint32)] * (
            entry.work.logits_to_keep - len(masks)
        )

    def _commit(self, entry: _StepEntry, chosen: list[tuple[Any, ...]]) -> None:
        """Take what was sampled for each row of an entry: the fields of `Sampled`, is finite, alternatives."""
        request, right, began = entry.request, 0, len(entry.request.ids)
        request.ahead, sent = None, entry.work.logits_to_keep - 1
        for number, (token, log_probability, drawn, dead, forced, finite, alternatives) in enumerate(chosen):
            if dead:
                failed = entry.ahead.exception() if entry.ahead is not None else None
                error = failed if isinstance(failed, Exception) else ValueError(NOTHING_ALLOWED)
                if not finite:
                    self.runner.clear_pages(self.cache.discard(entry.work.sequence))
                    error = FloatingPointError(NOT_FINITE)
                self._fail(request, error)
                return
            right = number
            with self._alone(request):
                request.append(token, log_probability, drawn, alternatives, forced)
            if request.error is not None:
                return
            if request.done or number >= len(entry.guesses) or entry.guesses[number] != token:
                break
        chosen_ids = request.ids[began:]
        request.proposed_tokens += sent
        request.accepted_tokens += sum(map(eq, entry.guesses, chosen_ids))  # all but the last one were right
        self.scheduler.charge(request, len(entry.work.ids) - sent, len(chosen_ids) - 1)
        if self.speculator is not None:
            self.speculator.observe(request, sent, chosen_ids)
        self.cache.commit(entry.work.sequence, entry.work.ids[: len(entry.work.ids) - sent + right])
        if request.done:
            self._depart(request)

    # -----------------------------------------------------------------------------------------------------------------
    # Enter and leave

    def _enter(self, request: RequestState) -> None:
        """Give a request its cached sequence: what is known of its tokens, or what was moved out."""
        if request.moved is not None and request.sequence is not None:
            self.runner.write_pages(self.cache.occupy(request.sequence), request.moved)
            request.moved = None
        else:
            request.sequence = self.open(request.all_ids, request.adapter, request.source_ids)
            if not request.preempted:
                request.cached_tokens = request.sequence.length

    def _leave(self, request: RequestState) -> None:
        """Take a request's pages, whose content is computed again later. A runner with a grid would round differently
        then, so with one it is moved to host memory and back."""
        assert request.sequence is not None
        if self.runner.grid is not None:
            request.moved = self.runner.read_pages(self.cache.held(request.sequence))
            self.cache.vacate(request.sequence)
        else:
            self.cache.close(request.sequence)
            request.sequence = None

    def open(self, ids: Sequence[int], adapter: str, source_ids: Sequence[int] = ()) -> CachedSequence:
        """A sequence that is to hold these tokens, of a decoder behind those of a source; what is stored of them is in
        it."""
        number, fingerprint = self._adapter(adapter)
        # The prefix cache is that of these weights with this adapter.
        namespace, memory = self.version.to_bytes(8, "little", signed=True) + fingerprint, None
        if source_ids:
            assert isinstance(self.runner, ModuleRunner)
            memory = self.runner.encode(source_ids)  # before pages are held: it may fail
            namespace = chain(namespace, source_ids)  # the decoder's keys and values depend on them
        sequence = self.cache.open(ids, namespace, number)
        sequence.memory = memory
        return sequence

    def _adapter(self, name: str) -> tuple[int, bytes]:
        """Its number and fingerprint; ValueError where it is no longer there."""
        if name not in self.adapters:
            raise ValueError(f"the adapter {name!r} was unloaded before its request could begin")
        return self.adapters[name]

    def _make_room(self, asking: Job[Any]) -> bool:
        """Preempt the request that would be the first to go, or move out the latest of the other jobs; False when
        nobody else holds anything."""
        worst = self.scheduler.worst()
        if worst is not None:
            self.scheduler.preempt(worst)
            return True
        return any(job.move_out() for job in reversed(self.jobs) if job is not asking)

    def _advance(self, job: Job[Any]) -> None:
        """Run the forward that a job waits for, and let it say the next one."""
        try:
            job.move_in()
            answer = None
            if job.works:
                rows, _ = answer = self.forward(job.works, hidden=True)
                if not rows.log_normaliser.isfinite().all():
                    raise FloatingPointError(NOT_FINITE)
                for work in job.works:
                    self.cache.commit(work.sequence, work.ids)
            job.works = job.steps.send(answer)
        except StopIteration as finished:
            self.jobs.remove(job)
            try:
                job.end()
            finally:  # or its caller would wait for ever
                job.future.set_result(finished.value)
        except Exception as error:
            self.abort(job, error)

    def forward(self, works: Sequence[Work], hidden: bool = False) -> tuple[LogitRows, Tensor | None]:
        """The runner's forward; after an error the prefix cache is forgotten."""
        try:
            return self.runner.forward(works, hidden)
        except Exception:
            # An accelerator may report an error several forwards after the one that made it: what these have written
            # is no longer to be trusted, whosever it is.
            self.cache.forget()
            raise

    @contextmanager
    def _alone(self, request: RequestState) -> Iterator[None]:
        """Contain errors: an exception in this block fails this request alone."""
        try:
            yield
        except Exception as error:
            self._fail(request, error)

    def _fail(self, request: RequestState, error: Exception) -> None:
        """End a request without a completion. What the model has computed for it is as good as before."""
        self._depart(request)
        request.fail(error)
        self.failed.append(request)

    def _depart(self, request: RequestState) -> None:
        del self.requests[request.id]
        if request.deadline is not None:
            del self._deadlines[bisect_left(self._deadlines, (request.deadline_at, request.id))]
        self.scheduler.release(request)
        if request.ahead is not None:
            request.ahead.cancel()
        sequence, request.sequence, request.moved = request.sequence, None, None
        if sequence is not None:
            self.cache.close(sequence)
        if self.speculator is not None:
            self.speculator.forget(request)


def _room(request: RequestState) -> int:
    """The number of guesses a request has a use for: the token after them is chosen in any case."""
    return request.limit - len(request.ids) - 1


def _decodes(entry: _StepEntry) -> bool:
    """It runs the last token of a completion that has begun."""
    return len(entry.work.ids) - len(entry.guesses) == 1 and bool(entry.work.logits_to_keep and entry.request.ids)


def _look(matcher: Matcher, guesses: Sequence[int] | None, most: int) -> LookAhead:
    """The guesses, at most so many, as far as they are allowed, with their masks."""
    if guesses is None:
        guesses = []
        with suppress(ConstraintError):  # the text may never come there
            guesses = matcher.proposal()
    ids = list(guesses)[:most]
    masks = matcher.masks(ids)
    return ids[: len(masks) - 1], masks


def settled(futures: Sequence[Future[Any]]) -> bool:
    """Wait for them, but not for long; whether all are done."""
    until = time.monotonic() + _PATIENCE
    for future in futures:
        with suppress(TimeoutError):
            future.exception(max(0.0, until - time.monotonic()))
    return all(future.done() for future in futures)
