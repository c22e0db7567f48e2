"""A turn that the grounded system answers, as a stream of events; logged once, however it ends."""

import asyncio
import logging
import threading
import time
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import lmworks
from lmworks.generate.protocol import ContextLengthError
from lmworks.ground.follow_up import REACH
from lmworks.ground.phase_timer import Listener
from lmworks.records import Answer, Interaction
from lmworks.retrieve.index import Index
from lmworks.serve.config import ServeConfig
from lmworks.serve.events import BusyError, DeadlineError, Event, FailedError, Finished, Piece, Progress
from lmworks.serve.interaction_record import Recorder, Turn, failure_interaction
from lmworks.serve.thread_offload import DeadlineQueue
from lmworks.system import System

T = TypeVar("T")
_Answering = Future[tuple[Answer, Interaction]]
_LOGGER = logging.getLogger(__name__)


class GroundedSystem:
    """A `System` and a second handle on its index, each on the one thread that may touch it; questions wait in line.

    The database of an index belongs to the thread that opened it. With a thread for answering and one for reading, a
    page that reads the index does not wait for the questions before it. A system that nothing refers to any more
    answers the questions in its line, and then its threads end.
    """

    def __init__(self, workspace: Path, version: str = "") -> None:
        self._workspace = workspace
        self._version = (version,) if version else ()  # of `lmworks.open`; else what is live
        self._answering = ThreadPoolExecutor(1, thread_name_prefix="answer")
        self._reading = ThreadPoolExecutor(1, thread_name_prefix="read")
        self.waiting = 0  # questions that are being answered or wait for it
        self.seconds = 1.0  # that an answer took, smoothed: how long a refused client should wait
        self._lock = threading.Lock()  # of the two numbers
        self.system: System
        self.index: Index

    def open(self) -> System:
        """Open the system on its thread; blocks until that is done. Errors as of `lmworks.open`."""
        self.system = self._answering.submit(lmworks.open, self._workspace, *self._version).result()
        finder = self.system.answerer.finder
        folder, fingerprint = finder.index.folder, finder.encoder.fingerprint
        self.index = self._reading.submit(Index.open, folder, fingerprint).result()
        return self.system

    def ask(self, turn: Turn, identifier: str, began: float, listener: Listener, say: Listener) -> _Answering:
        """Answer the last user message of a turn, read with those before it.

        The listener hears each phase begin, and `say` what is written and verified, on the answering thread.
        """
        *earlier, question = [message.content for message in turn.messages if message.role == "user"]
        submitted = time.perf_counter()

        def work() -> tuple[Answer, Interaction]:
            started = time.perf_counter()
            result = self.system.respond(
                question,
                identifier=identifier,
                began=began,
                listener=listener,
                say=say,
                queued=started - submitted,
                earlier=earlier[-REACH:],
                conversation=turn.conversation,
                parent=turn.parent,
                unit=turn.unit,
                experiment=turn.experiment,
                arm=turn.arm,
                settings=turn.answering,
            )
            with self._lock:
                self.seconds += 0.2 * (time.perf_counter() - started - self.seconds)
            return result

        with self._lock:
            self.waiting += 1
        answering = self._answering.submit(work)
        answering.add_done_callback(self._leave)
        return answering

    def _leave(self, _: object) -> None:
        with self._lock:
            self.waiting -= 1

    def read(self, function: Callable[[Index], T]) -> Future[T]:
        """Run a function over the index, on the reading thread."""
        return self._reading.submit(lambda: function(self.index))

    def close(self) -> None:
        """End the threads now; the questions in line are cancelled."""
        for threads in (self._answering, self._reading):
            threads.shutdown(wait=True, cancel_futures=True)


async def grounded_events(
    turn: Turn, identifier: str, grounded: GroundedSystem, recorder: Recorder, config: ServeConfig
) -> AsyncGenerator[Event, None]:
    """Phases as they begin, then the answer sentence by sentence.

    An answer in quotes is decided as a whole, so its text comes when it is done; what a language model writes comes as
    it is verified. Closing the iterator takes a question out of the
    line; one that is being answered is answered to its end and logged as cancelled.
    """
    if grounded.waiting > config.max_waiting:
        raise BusyError(grounded.waiting * grounded.seconds)
    began = time.time()
    queue: DeadlineQueue[Progress | Piece | _Answering] = DeadlineQueue(config.deadline_seconds)
    listener = queue.listener(0)
    answering = grounded.ask(
        turn, identifier, began, lambda name: listener(Progress(name)), lambda text: listener(Piece(0, text))
    )
    answering.add_done_callback(listener)
    open_, error, sent = True, "", ""
    try:
        while open_:
            _, item = await queue.next()
            if isinstance(item, Progress | Piece):
                sent += item.text if isinstance(item, Piece) else ""
                yield item
                continue
            open_ = False
            answer, interaction = await _result(item, turn, identifier, began, recorder)
            await recorder.commit(interaction)
            for line in answer.text.removeprefix(sent).splitlines(keepends=True):
                yield Piece(0, line)
            yield Finished(0, interaction, answer=answer)
    except DeadlineError:
        error = "deadline_exceeded"
        raise
    finally:
        queue.close()
        if open_:
            recorder.in_background(
                _settle(answering, turn, identifier, began, recorder, error or recorder.cancel_reason)
            )


async def _result(
    answering: _Answering, turn: Turn, identifier: str, began: float, recorder: Recorder
) -> tuple[Answer, Interaction]:
    """The answer; a failure is logged and raised as FailedError, ContextLengthError as it is."""
    try:
        answer, interaction = answering.result()
    except Exception as failure:
        name = type(failure).__name__
        await recorder.commit(failure_interaction(turn, identifier, began, name))
        if isinstance(failure, ContextLengthError):
            raise
        raise FailedError("the question could not be answered") from failure
    if answer.failure:
        _LOGGER.warning("the model that writes failed at %s: %s", answer.id, answer.failure)
    return answer, interaction


async def _settle(
    answering: _Answering, turn: Turn, identifier: str, began: float, recorder: Recorder, error: str
) -> None:
    """Log a question whose client is gone: without an answer when it had not begun, else with the one it gets."""
    if answering.cancel():
        await recorder.commit(failure_interaction(turn, identifier, began, error, cancelled=True))
        return
    try:
        _, interaction = await asyncio.wrap_future(answering)
    except Exception as failure:
        await recorder.commit(failure_interaction(turn, identifier, began, type(failure).__name__))
        return
    await recorder.commit(replace(interaction, finish_reason="cancelled", error=error))
