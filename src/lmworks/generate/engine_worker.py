"""One thread that owns an engine, for callers in many threads and in an event loop.

An `Engine` is single-threaded. Here a thread of its own steps it while there is work and sleeps while there is none;
everybody else puts commands into its inbox. Requests, scores and searches of all callers share the engine's steps. What
must not mix with a step (vectors, new weights) runs between two of them.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Concatenate, ParamSpec, TypeVar

import numpy as np

from lmworks.config import at_least
from lmworks.generate.engine import Engine
from lmworks.generate.protocol import (
    BeamParameters,
    Capabilities,
    Completion,
    ContrastiveParameters,
    Delta,
    Request,
    Role,
    Score,
)
from lmworks.generate.request_state import RequestState
from lmworks.model.checkpoint import Checkpoint

T = TypeVar("T")
P = ParamSpec("P")
Listener = Callable[[Delta | Exception], None]

_log = logging.getLogger(__name__)


class QueueFullError(RuntimeError):
    """The queue of waiting requests is full; try again later."""


@dataclass(slots=True)
class _Subscription:
    state: RequestState
    listener: Listener
    notified: bool = False


class EngineWorker:
    """Implements `EngineProtocol`, thread-safe and blocking; `submit` is for those who must not block.

    All requests together send at most `deltas_per_second` deltas (None: one at every step): a delta
    of several tokens costs its reader as much as one of a single token, and a fast model makes many.

    At most `max_waiting` requests wait in line for a slot; one more raises `QueueFullError`. The engine belongs to the
    worker until `close`: do not call it as well. `generate`, `stream`, `score`, `embed` and `search` are those of
    `Engine`, as is what `call` calls, and so are their errors; called by a listener they would wait for themselves and
    raise RuntimeError. So does everything after `close`.
    """

    def __init__(self, engine: Engine, max_waiting: int = 64, deltas_per_second: float | None = None) -> None:
        at_least(0, max_waiting=max_waiting)
        if deltas_per_second is not None and not deltas_per_second > 0:
            raise ValueError(f"deltas_per_second must be above 0, or None for no limit, got {deltas_per_second}")
        self._pause = 0.0 if deltas_per_second is None else 1 / deltas_per_second  # seconds, for each request
        self._engine = engine
        self._max_waiting = max_waiting
        self._changed = threading.Condition()  # guards the four below
        self._inbox: deque[Callable[[], None]] = deque()
        self._subscriptions: dict[str, _Subscription] = {}  # from submission until the end
        self._closed = False
        self._deadline = float("inf")
        self._running = 0  # requests with a slot, as of the last step
        self._due = 0.0  # when all requests deliver their new tokens, at once, so that the reader wakes up once
        self._thread = threading.Thread(target=self._run, name="lmworks-engine", daemon=True)
        self._thread.start()

    @property
    def checkpoint(self) -> Checkpoint:
        return self._engine.checkpoint

    @property
    def capabilities(self) -> Capabilities:
        return self._engine.capabilities

    @property
    def running(self) -> int:
        """Requests that have a slot, as of the last step, and scores and searches in flight."""
        return self._running + self._engine.jobs

    @property
    def waiting(self) -> int:
        """Requests without a slot."""
        return max(0, len(self._subscriptions) - self._running)

    @property
    def cache_usage(self) -> float:
        """`Engine.cache_usage`, from any thread."""
        return self._engine.cache_usage

    # -----------------------------------------------------------------------------------------------------------------
    # For everybody

    def submit(self, request: Request, listener: Listener) -> str:
        """Queue a request and return its id at once; it is rendered and checked in the caller's thread.

        `listener` is called on the worker's thread with each `Delta`, at most once a step. The last one carries the
        completion, also when the request was cancelled; an exception in its place ends the request without one. A
        listener must be quick, since all requests wait for it; one that raises is not called again, and its request is
        cancelled.

        Raises ValueError for a request that cannot be served or whose id is in use, `QueueFullError`, and RuntimeError
        after `close`.
        """
        with self._changed:
            self._check_room()  # before the work of rendering
        state = self._engine.prepare(request)
        self._enter(state, listener)
        return state.id

    def cancel(self, request_id: str) -> None:
        """End a request soon: its last delta carries a completion "cancelled". Ids not in flight are ignored."""
        with self._changed:
            subscription = self._subscriptions.get(request_id)
        if subscription is not None:
            self._end(subscription.state)

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """The completions, in the order of the requests, of which as many are in flight as the engine has slots."""
        self._refuse_own_thread()
        waiting = deque(enumerate([self._engine.prepare(request) for request in requests]))
        answers: SimpleQueue[tuple[int, Delta | Exception]] = SimpleQueue()
        in_flight: dict[int, RequestState] = {}
        completions: dict[int, Completion] = {}
        try:
            while waiting or in_flight:
                while waiting and len(in_flight) < self._engine.slots:
                    number, state = waiting[0]
                    try:
                        self._enter(state, lambda answer, number=number: answers.put((number, answer)))
                    except QueueFullError:
                        if not in_flight:
                            raise
                        break  # there is room again when one of these is done
                    in_flight[number] = state
                    waiting.popleft()
                number, answer = answers.get()
                if (completion := _delta(answer).completion) is not None:
                    completions[number] = completion
                    del in_flight[number]
        finally:
            for state in in_flight.values():
                self._end(state)
        return [completions[number] for number in range(len(requests))]

    def stream(self, request: Request) -> Iterator[Delta]:
        """The completion piece by piece; `QueueFullError` comes with the first piece that is asked for."""
        self._refuse_own_thread()
        return self._deltas(self._engine.prepare(request))

    def _deltas(self, state: RequestState) -> Iterator[Delta]:
        answers: SimpleQueue[Delta | Exception] = SimpleQueue()
        self._enter(state, answers.put)
        delta = None
        try:
            while delta is None or delta.completion is None:
                delta = _delta(answers.get())
                yield delta
        finally:
            self._end(state)

    def score(
        self,
        context_ids: Sequence[Sequence[int]],
        continuation_ids: Sequence[Sequence[int]],
        alternatives: int = 0,
        adapter: str = "",
    ) -> list[Score]:
        """`Engine.score`, next to requests; RuntimeError when `close` cuts it off."""
        return self.call(Engine.submit_score, context_ids, continuation_ids, alternatives, adapter).future.result()

    def search(self, request: Request, parameters: BeamParameters | ContrastiveParameters) -> list[Completion]:
        """`Engine.search`, next to requests; rendered and checked in the caller's thread."""
        state = self._engine.prepare(request)
        return self.call(Engine.enqueue_search, state, parameters).future.result()

    def embed(self, texts: Sequence[str], role: Role) -> np.ndarray:
        """`Engine.embed`, between two steps."""
        return self.call(Engine.embed, texts, role)

    def fingerprint(self, version: int | None = None) -> str:
        """`Engine.fingerprint`, from any thread."""
        return self._engine.fingerprint(version)

    @property
    def adapters(self) -> Mapping[str, str]:
        """`Engine.adapters`, from any thread."""
        return self._engine.adapters

    def call(self, method: Callable[Concatenate[Engine, P], T], *arguments: P.args, **options: P.kwargs) -> T:
        """A method of the engine on its own thread, between two steps: its result or exception.

            worker.call(Engine.load_adapter, "name", lora)

        RuntimeError from `Engine.load_weights` and its like while requests, scores or searches are in flight.
        """
        self._refuse_own_thread()
        future: Future[T] = Future()

        def run() -> None:
            try:
                future.set_result(method(self._engine, *arguments, **options))
            except Exception as error:
                future.set_exception(error)

        with self._changed:
            self._check_open()
            self._post(run)
        return future.result()

    def close(self, drain_seconds: float = 0.0) -> None:
        """Take nothing more, let what is in flight finish for so long, cancel the rest, and end the thread."""
        self._refuse_own_thread()
        with self._changed:
            self._closed = True
            self._deadline = min(self._deadline, time.monotonic() + drain_seconds)
            self._changed.notify()
        self._thread.join()

    def _enter(self, state: RequestState, listener: Listener) -> None:
        with self._changed:
            self._check_room()
            if state.id in self._subscriptions:
                raise ValueError(f"request id {state.id!r} is in use; ids of unfinished requests must differ")
            self._subscriptions[state.id] = _Subscription(state, listener)
            self._post(lambda: self._enqueue(state))

    def _end(self, state: RequestState) -> None:
        """Cancel this request unless it is done (another one may have its id by then)."""
        with self._changed:
            if not state.done:
                self._post(lambda: self._cancel(state))

    def _check_room(self) -> None:
        self._check_open()
        if len(self._subscriptions) >= self._engine.slots + self._max_waiting:
            raise QueueFullError(
                f"{len(self._subscriptions)} requests are in flight, and no more may wait: try again later"
            )

    def _check_open(self) -> None:
        if self._closed:
            raise RuntimeError("this engine worker is closed")

    def _refuse_own_thread(self) -> None:
        if threading.current_thread() is self._thread:
            raise RuntimeError("a listener runs on the worker's own thread and must not wait for it")

    def _post(self, command: Callable[[], None]) -> None:
        self._inbox.append(command)
        self._changed.notify()

    # -----------------------------------------------------------------------------------------------------------------
    # On the worker's own thread

    def _run(self) -> None:
        try:
            while (commands := self._next_commands()) is not None:
                for command in commands:
                    command()
                self._step()
                self._deliver()
        except BaseException as error:  # a defect of the worker itself
            self._give_up(error)
            raise

    def _give_up(self, cause: BaseException) -> None:
        """Nobody may be left waiting for a thread that is gone."""
        with self._changed:
            self._closed = True
            subscriptions = list(self._subscriptions.values())
            self._subscriptions.clear()
        for subscription in subscriptions:
            self._notify(subscription, RuntimeError(f"the engine's thread ended: {cause!r}"))
        while self._inbox:  # closed: nothing is added
            self._inbox.popleft()()
        self._engine.abort_jobs(RuntimeError(f"the engine's thread ended: {cause!r}"))

    def _next_commands(self) -> list[Callable[[], None]] | None:
        """Commands to run before the next step, waited for while there is no work; None at the end."""
        with self._changed:
            while not (busy := self._inbox or self._subscriptions or self._engine.jobs) and not self._closed:
                self._changed.wait()
            if not busy:
                return None
            commands = list(self._inbox)
            self._inbox.clear()
            if time.monotonic() >= self._deadline:
                commands += [
                    lambda state=subscription.state: self._cancel(state)
                    for subscription in self._subscriptions.values()
                ]
                cut_off = RuntimeError("this engine worker was closed before the work was done")
                commands.append(lambda: self._engine.abort_jobs(cut_off))
            return commands

    def _step(self) -> None:
        try:
            self._engine.step()
        except Exception:  # the requests that it failed carry it to their listeners
            _log.exception("a step of the engine failed")
        self._running = self._engine.running - self._engine.jobs

    def _enqueue(self, state: RequestState) -> None:
        try:
            self._engine.enqueue(state)
        except Exception as error:  # somebody used the engine next to the worker
            state.fail(error)

    def _cancel(self, state: RequestState) -> None:
        if not state.done:
            self._engine.cancel(state.id)

    def _deliver(self) -> None:
        """Give each listener the tokens of the step, and forget the requests that are done."""
        with self._changed:
            subscriptions = list(self._subscriptions.values())
            for subscription in subscriptions:
                if subscription.state.done:
                    del self._subscriptions[subscription.state.id]
        if all_due := (now := time.monotonic()) >= self._due:
            self._due = now + self._pause * max(1, self._running)
        for subscription in subscriptions:
            if subscription.notified and not all_due and not subscription.state.done:
                continue  # its tokens go into a later delta, together
            answer = subscription.state.error or subscription.state.take(self._engine.policy_version)
            subscription.notified = subscription.notified or answer is not None
            if answer is not None and not self._notify(subscription, answer) and not subscription.state.done:
                self._cancel(subscription.state)
                with self._changed:
                    del self._subscriptions[subscription.state.id]

    def _notify(self, subscription: _Subscription, answer: Delta | Exception) -> bool:
        try:
            subscription.listener(answer)
        except Exception:
            _log.exception("the listener of request %s failed: the request ends here", subscription.state.id)
            return False
        return True


def _delta(answer: Delta | Exception) -> Delta:
    if isinstance(answer, Exception):
        raise answer
    return answer
