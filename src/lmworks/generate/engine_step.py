"""The step of the engine: schedule, guess, forward, sample, commit."""

import time
from bisect import bisect_left, insort
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import accumulate, islice
from operator import eq
from typing import Any, Literal, TypeVar

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

NOT_FINITE = "the model's logits are not finite; check its weights, or use weights='float32'"
NOTHING_ALLOWED = "no token is allowed here: the constraint, banned_tokens and logit_bias exclude each other"

_PATIENCE = 0.01  # seconds that a step waits for masks; who has none by then waits by itself
_IDLE = 0.05  # seconds until a step that finds nothing else to do looks for commands again

T = TypeVar("T")
Preemption = Literal["recompute", "move"]


@dataclass(slots=True)
class _Part:
    """One request in a step: its work, and the guesses in it."""

    request: RequestState
    work: Work
    guesses: list[int] = field(default_factory=list)
    ahead: Future[LookAhead] | None = None


class Batcher:
    """Runs the requests, scores and searches in flight on one runner.

    preemption   what becomes of the pages of a request that has to make room: computed again later, or moved to host
                 memory and back. A runner with a grid rounds differently when it computes again, so it moves.
    """

    def __init__(
        self,
        runner: Runner,
        cache: PagedCache,
        slots: int,
        prefill_tokens: int,
        speculator: Speculator | None = None,
        preemption: Preemption | None = None,
    ) -> None:
        self.runner, self.cache, self.speculator = runner, cache, speculator
        self.preemption: Preemption = preemption or ("recompute" if runner.grid is None else "move")
        self.version = 0  # of the weights: what older ones have computed is not found again
        # name -> number, fingerprint; replaced, never changed, since other threads read it
        self.adapters: Mapping[str, tuple[int, bytes]] = {"": (-1, b"")}
        self.scheduler = Scheduler(cache, slots, prefill_tokens, self._enter, self._leave, self._fail, runner.grid)
        self.jobs: list[Job[Any]] = []  # scores and searches in flight
        self.failed: list[RequestState] = []  # requests that failed in the last step
        self._live: dict[str, RequestState] = {}
        self._deadlines: list[tuple[float, str]] = []  # of those in flight that have one, the earliest first
        # Masks are computed next to the steps; those that may take seconds are in nobody's way.
        self._quick = ThreadPoolExecutor(2, thread_name_prefix="lmworks-masks")
        self._slow = ThreadPoolExecutor(1, thread_name_prefix="lmworks-slow-masks")

    @property
    def idle(self) -> bool:
        return not self._live and not self.jobs

    @property
    def requests(self) -> Sequence[RequestState]:
        """All that are in flight."""
        return tuple(self._live.values())

    def submit(self, request: RequestState) -> None:
        """Queue a request; ValueError when its id is in use, or its adapter was unloaded since it was prepared."""
        if request.id in self._live:
            raise ValueError(f"request id {request.id!r} is in use; ids of unfinished requests must differ")
        self._adapter(request.adapter)
        self.scheduler.submit(request)
        self._live[request.id] = request
        if request.deadline is not None:
            insort(self._deadlines, (request.deadline_at, request.id))

    def cancel(self, request_id: str) -> bool:
        """End a request before its time and free its pages; False when no such request is in flight."""
        request = self._live.get(request_id)
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
            job.end(doubtful=isinstance(error, FloatingPointError))
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
        self._expire()
        for job in tuple(self.jobs):
            self._advance(job)
        try:
            parts = self._parts(self.scheduler.next())
            if parts:
                self._run(parts)
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

    def _expire(self) -> None:
        now = time.perf_counter()
        while self._deadlines and self._deadlines[0][0] <= now:
            request = self._live[self._deadlines[0][1]]
            self._depart(request)
            request.finish("deadline")

    def _parts(self, scheduled: Mapping[RequestState, int]) -> list[_Part]:
        parts = []
        for request, tokens in scheduled.items():
            assert request.sequence is not None
            request.start()
            wanted = int(tokens == request.uncomputed_tokens)
            parts.append(_Part(request, Work(request.sequence, request.next_ids(tokens), wanted), ahead=request.ahead))
        self._look_ahead(parts)
        parts = [part for part in parts if not part.request.done and not part.request.held]
        if self.speculator is not None and all(map(_decodes, parts)):  # next to a prompt's chunk guesses are not cheap
            unsure = [part for part in parts if part.request.sampling.speculate and not part.guesses]
            unsure = [part for part in unsure if part.request.constraint is None or not part.request.constraint.slow]
            self._guess(self.speculator, unsure, len(parts))
        return [part for part in parts if not part.request.done]

    def _look_ahead(self, parts: Sequence[_Part]) -> None:
        """Add the text that constraints make certain, which is more than a guess. Who takes long is held."""
        for part in parts:
            request, matcher = part.request, part.request.constraint
            if matcher is None or part.ahead is not None or not part.work.wanted:
                continue
            if matcher.slow and not matcher.ready:
                request.ahead = part.ahead = self.look(request, [])
            elif self.speculator is not None and request.sampling.speculate and _decodes(part) and not matcher.slow:
                part.ahead = self.look(request, None)
        settled([part.ahead for part in parts if part.ahead is not None and not part.request.held])
        for part in parts:
            if part.ahead is not None and not part.ahead.done():
                part.request.ahead = part.ahead
            elif part.ahead is not None:
                with self._alone(part.request):
                    guesses, _ = part.ahead.result()
                    self._extend(part, guesses if _decodes(part) else [])

    def look(self, request: RequestState, guesses: Sequence[int] | None) -> Future[LookAhead]:
        """Compute masks next to the steps: the next one, and those after the guesses. None: guess what is certain."""
        matcher = request.constraint
        assert matcher is not None
        return (self._slow if matcher.slow else self._quick).submit(_look, matcher, guesses, _room(request))

    def _guess(self, speculator: Speculator, parts: list[_Part], rows: int) -> None:
        """Add guesses to a step in which everybody decodes."""
        requests = [part.request for part in parts]
        guesses = speculator.guess(requests, [_room(request) for request in requests], rows) if parts else []
        for part, ids in zip(parts, guesses, strict=True):
            with self._alone(part.request):
                if isinstance(ids, Exception):
                    raise ids
                self._extend(part, ids)
                part.ahead = None if ids else part.ahead

    def _extend(self, part: _Part, ids: list[int]) -> None:
        if not all(0 <= token < self.runner.vocabulary for token in ids):
            raise ValueError(f"the guesses {ids} hold token ids outside [0, {self.runner.vocabulary})")
        room = len(part.work.sequence.tables[0]) * PAGE - part.work.sequence.length - 1
        if len(ids) > room:
            if self.cache.available * PAGE < len(ids) + PAGE:  # guesses preempt nobody
                ids = ids[:room]
            else:
                self.cache.reserve(part.work.sequence, len(ids) + 1)
        if ids:
            part.guesses = ids
            part.work = Work(part.work.sequence, [*part.work.ids, *ids], 1 + len(ids))

    # -----------------------------------------------------------------------------------------------------------------
    # Forward, sample, commit

    def _run(self, parts: list[_Part]) -> None:
        self._begin_masks(parts)
        began = time.perf_counter()
        rows, _ = self.forward([part.work for part in parts])
        tokens = sum(len(part.work.ids) for part in parts)
        if self.speculator is not None and tokens == sum(part.work.wanted for part in parts):
            self.speculator.costs.observe(tokens, time.perf_counter() - began)
        for part in parts:
            if not part.work.wanted:
                self.cache.commit(part.work.sequence, part.work.ids)
                self.scheduler.charge(part.request, len(part.work.ids))
        choosing = [part for part in parts if part.work.wanted]
        if choosing:
            self._choose(choosing, rows)

    def _begin_masks(self, parts: list[_Part]) -> None:
        """Masks are computed while the model runs."""
        for part in parts:
            if part.request.constraint is not None and part.work.wanted and part.ahead is None:
                part.ahead = self.look(part.request, part.guesses)

    def _choose(self, parts: list[_Part], rows: LogitRows) -> None:
        """Sample every wanted row; keep guesses as long as they are what was sampled. Whose masks are not there by now
        will have the same rows in a later step."""
        settled([part.ahead for part in parts if part.ahead is not None])
        ready: list[_Part] = []
        row_numbers: list[int] = []
        for part, end in zip(parts, accumulate(part.work.wanted for part in parts), strict=True):
            if part.ahead is None or part.ahead.done():
                ready.append(part)
                row_numbers += range(end - part.work.wanted, end)
            else:
                part.request.ahead = part.ahead
        if not ready:
            return
        if len(ready) < len(parts):
            parts, rows = ready, rows.select(row_numbers)
        masks = [mask for part in parts for mask in self._masks_of(part)]
        expanded = [(part, number) for part in parts for number in range(part.work.wanted)]
        completions = [Guessed(part.request.ids, part.guesses[:number]) for part, number in expanded]
        sampled = sample(
            rows,
            [part.request.sampling for part, _ in expanded],
            [part.request.prompt_ids for part, _ in expanded],
            completions,
            [
                uniform(part.request.seed, len(ids)) if part.request.sampling.temperature else 0.0
                for (part, _), ids in zip(expanded, completions, strict=True)
            ],
            masks,
        )
        alternatives = alternatives_of([part.request.sampling.alternatives for part, _ in expanded], rows)
        columns = [values.tolist() for values in (*sampled, rows.log_normaliser.isfinite())]
        chosen = iter(zip(*columns, alternatives, strict=True))
        for part in parts:
            self._commit(part, list(islice(chosen, part.work.wanted)))

    def _masks_of(self, part: _Part) -> list[np.ndarray] | list[None]:
        """A mask for each row of a part; where its constraint has failed, nothing is allowed."""
        if part.ahead is None:
            return [None] * part.work.wanted
        masks = [] if part.ahead.exception() else part.ahead.result()[1][: part.work.wanted]
        part.guesses = part.guesses[: max(0, len(masks) - 1)]  # the others cannot be checked
        return masks + [np.zeros(-(-self.runner.vocabulary // 32), np.uint32)] * (part.work.wanted - len(masks))

    def _commit(self, part: _Part, chosen: list[tuple[Any, ...]]) -> None:
        """Take what was sampled for each row of a part: the fields of `Sampled`, is finite, alternatives."""
        request, right, began = part.request, 0, len(part.request.ids)
        request.ahead, sent = None, part.work.wanted - 1
        for number, (token, log_probability, drawn, dead, forced, finite, alternatives) in enumerate(chosen):
            if dead:
                failed = part.ahead.exception() if part.ahead is not None else None
                error = failed if isinstance(failed, Exception) else ValueError(NOTHING_ALLOWED)
                if not finite:
                    self.runner.clear_pages(self.cache.discard(part.work.sequence))
                    error = FloatingPointError(NOT_FINITE)
                self._fail(request, error)
                return
            right = number
            with self._alone(request):
                request.append(token, log_probability, drawn, alternatives, forced)
            if request.error is not None:
                return
            if request.done or number >= len(part.guesses) or part.guesses[number] != token:
                break
        chosen_ids = request.ids[began:]
        request.proposed_tokens += sent
        request.accepted_tokens += sum(map(eq, part.guesses, chosen_ids))  # all but the last one were right
        self.scheduler.charge(request, len(part.work.ids) - sent, len(chosen_ids) - 1)
        if self.speculator is not None:
            self.speculator.observe(request, sent, chosen_ids)
        self.cache.commit(part.work.sequence, part.work.ids[: len(part.work.ids) - sent + right])
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
        """Take a request's pages, of which it may need the content later."""
        assert request.sequence is not None
        if self.preemption == "move":
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
            job.works = job.steps.send(self._compute(job.works) if job.works else None)
        except StopIteration as finished:
            self.jobs.remove(job)
            job.end()
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

    def _compute(self, works: Sequence[Work]) -> tuple[LogitRows, Tensor | None]:
        """A forward of one job; its tokens are stored. FloatingPointError for logits that are not finite."""
        rows, states = self.forward(works, hidden=True)
        if not rows.log_normaliser.isfinite().all():
            raise FloatingPointError(NOT_FINITE)
        for work in works:
            self.cache.commit(work.sequence, work.ids)
        return rows, states

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
        del self._live[request.id]
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


def _decodes(part: _Part) -> bool:
    """It runs the last token of a completion that has begun."""
    return len(part.work.ids) - len(part.guesses) == 1 and bool(part.work.wanted and part.request.ids)


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
