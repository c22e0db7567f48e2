"""The grounded system behind an event loop: one thread answers, one reads the index, requests wait in line."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import lmworks
from lmworks.generate.engine_worker import EngineWorker
from lmworks.ground.phase_timer import Listener
from lmworks.records import Answer, Interaction
from lmworks.retrieve.index import Index
from lmworks.serve.interaction_record import Turn
from lmworks.system import System

T = TypeVar("T")


class Grounding:
    """Owns a `System` and a second handle on its index, each on the one thread that may touch it.

    The database of the index belongs to the thread that opened it, so answering and reading have a thread each; a page
    that reads the index does not wait for the questions before it.
    """

    def __init__(self, workspace: Path) -> None:
        self._workspace = workspace
        self._answering = ThreadPoolExecutor(1, thread_name_prefix="answer")
        self._reading = ThreadPoolExecutor(1, thread_name_prefix="read")
        self.waiting = 0  # questions that are being answered or wait for it
        self.seconds = 1.0  # that an answer took, smoothed: how long a refused client should wait
        self._lock = threading.Lock()  # of the two numbers
        self.system: System
        self.index: Index

    def open(self) -> System:
        """Open the system on its thread; blocks until that is done. Errors as of `lmworks.open`."""
        self.system = self._answering.submit(lmworks.open, self._workspace).result()
        finder = self.system.answerer.finder
        folder, fingerprint = finder.index.folder, finder.encoder.fingerprint
        self.index = self._reading.submit(Index.open, folder, fingerprint).result()
        return self.system

    def share(self, worker: EngineWorker) -> None:
        """Use this worker where the answerer needs a language model, instead of loading it a second time."""
        self.system.answerer.finder.engine = worker

    def ask(self, turn: Turn, identifier: str, began: float, listener: Listener) -> Future[tuple[Answer, Interaction]]:
        """Answer the last user message of a turn; the listener hears each phase begin, on the answering thread."""
        question = turn.messages[-1].content
        submitted = time.perf_counter()

        def work() -> tuple[Answer, Interaction]:
            started = time.perf_counter()
            result = self.system.respond(
                question,
                identifier=identifier,
                began=began,
                listener=listener,
                queued=started - submitted,
                conversation=turn.conversation,
                parent=turn.parent,
                unit=turn.unit,
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
        for threads in (self._answering, self._reading):
            threads.shutdown(wait=True, cancel_futures=True)
