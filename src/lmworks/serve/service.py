"""Everything behind the HTTP border: models, grounded system and log, for an event loop that waits for no model.

A request becomes a stream of events. The last event of each choice is `Finished`, and it comes only after the
interaction is committed to the log: an answer that a client knows to be complete is there, also after a kill. Whatever
else happens (the client leaves, the deadline passes, the model fails) is logged too, once.
"""

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from lmworks.config import to_mapping
from lmworks.generate.protocol import Role
from lmworks.monitor.log import Reader
from lmworks.records import Feedback, Interaction
from lmworks.retrieve.index import Index
from lmworks.serve.completion_turn import completion_events
from lmworks.serve.config import PROMPTS, ServeConfig
from lmworks.serve.embedding_request import QueryEncoder, embed
from lmworks.serve.events import Event, Finished, NotReadyError
from lmworks.serve.grounded_turn import grounded_events
from lmworks.serve.grounding import Grounding
from lmworks.serve.interaction_record import HeldRecorder, Recorder, Turn
from lmworks.serve.live_experiments import LiveExperiments
from lmworks.serve.models import Models, State
from lmworks.serve.remaining_stages import RemainingStages
from lmworks.serve.served_models import ASSISTANT, load_models, served_names
from lmworks.serve.thread_offload import WorkQueue
from lmworks.workspace import Current, open_log, read_current

T = TypeVar("T")
DEFAULTS = ServeConfig()


class Service:
    """Serves what was built in a workspace, or the language and embedding models in `models` (name -> path) alone.

    Made at once, without loading anything: FileNotFoundError when nothing that can be served is built in the workspace,
    ValueError for models whose names clash. `load` opens everything; until it is done every request raises
    NotReadyError.
    """

    def __init__(self, workspace: Path, config: ServeConfig = DEFAULTS, models: dict[str, str] | None = None) -> None:
        self.workspace = workspace
        self.config = config
        self.started = time.time()  # seconds since the epoch
        self.state: State = "starting"
        self.failure = ""
        current = read_current(workspace) if models is None else None
        self._paths = served_names(current.models, current.names) if current else dict(models or {})
        if not self._paths:
            raise FileNotFoundError(
                f"{workspace} has no model to serve; `lmworks up --docs {workspace}` builds answers from its documents"
            )
        if current:
            current.writing.api_key()  # one that is not set is an error before the log is made
        self.remaining: RemainingStages | None = None  # what makes the stages that are not made yet
        # A workspace's log has its policy, also when other models than its own are served from it.
        self.log = open_log(workspace)
        self.recorder = Recorder(self.log)
        self._threads = ThreadPoolExecutor(4, thread_name_prefix="serve")
        self._compiling = ThreadPoolExecutor(4, thread_name_prefix="compile")
        self._encoding = WorkQueue("encode", config.max_waiting, config.deadline_seconds)
        self.scoring = WorkQueue("score", config.max_waiting + PROMPTS, config.deadline_seconds)
        self.grounding = Grounding(workspace, current)
        self.models = Models(workspace, self.grounding, self._encoding, lambda: (self.state, self.failure))
        self.experiments = LiveExperiments(self.log, workspace, self._threads, config.deadline_seconds)
        self.query_encoder: QueryEncoder | None = None
        self._active = 0  # requests that are not answered yet

    @property
    def current(self) -> Current | None:
        """The build of the workspace; None where other models than its own are served."""
        return self.grounding.current

    @property
    def observers(self) -> list[Callable[[Interaction], None]]:
        """Functions that are called with each interaction once it is committed."""
        return self.recorder.observers

    # -----------------------------------------------------------------------------------------------------------------
    # Life

    def load(self) -> None:
        """Load the models and open the system. What goes wrong is raised, and kept in `failure` (state "failed")."""
        try:
            opening = self._threads.submit(self.grounding.open)
            loaded = self.models.loaded = load_models(self._paths, self.config)
            opening.result()
            languages = loaded.languages
            self.grounding.share({path: languages[n] for n, path in self._paths.items() if n in languages})
            index = self.grounding.grounded.index.encoder_fingerprint if self.grounding.grounded else ""
            encoders = list(loaded.encoders.values())
            if encoders and self.config.query_embeddings:
                # The embedder of the index, else the first that is served, so that vectors in the log can be compared.
                same = (encoder for encoder in encoders if encoder.fingerprint == index)
                self.query_encoder = QueryEncoder(next(same, encoders[0]))
            fingerprint = self.query_encoder.fingerprint if self.query_encoder else ""
            self.models.routers.load(loaded, {ASSISTANT, *self._paths, *loaded.adapters}, fingerprint)
            list(self.models.described())  # hashes the weights now, not at the first request
        except BaseException as error:
            self.state, self.failure = "failed", str(error) or type(error).__name__
            raise
        if self.state == "starting":
            self.state = "ready"

    async def drain(self, abandon: Callable[[], None] = lambda: None) -> None:
        """Take nothing new and wait for what runs, at most `drain_seconds`; then cancel the rest and log it.

        `abandon` is called in between: it ends the requests whose clients do not even read.
        """
        self.state = "stopping"
        await self._settled(self.config.drain_seconds)
        self.recorder.cancel_reason = "server_stopped"
        abandon()
        await asyncio.sleep(0)
        for worker in self.models.loaded.languages.values():
            await asyncio.to_thread(worker.close)
        await self._settled(5.0)

    async def _settled(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (self._active or self.recorder.busy) and time.monotonic() < until:
            await asyncio.sleep(0.02)

    def close(self) -> None:
        """Release threads, models and the log; what was recorded is committed first."""
        self.state = "stopping"
        for worker in self.models.loaded.languages.values():
            worker.close()
        self._encoding.close()
        self.scoring.close()
        if self.query_encoder is not None:
            self.query_encoder.close()
        for threads in (self._threads, self._compiling):
            threads.shutdown(wait=True, cancel_futures=True)
        self.grounding.close()
        self.experiments.close()
        self.log.close()
        self.models.forget()  # web frameworks cache the functions of an app, which know this service, beyond the app
        self.query_encoder = None

    # -----------------------------------------------------------------------------------------------------------------
    # What there is

    async def read_index(self, function: Callable[[Index], T]) -> T:
        """Run a function over the index, off the event loop; NotReadyError when there is none, or not yet."""
        grounded = self.grounding.grounded
        if grounded is None or self.state == "starting":
            raise NotReadyError(self.failure or "no documents are indexed here, or the index is still being opened")
        return await asyncio.wrap_future(grounded.read(function))

    async def read_log(self, function: Callable[[Reader], T]) -> T:
        """Run a function over the log's reader, off the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, self.log.reader)

    async def feedback(self, feedback: Feedback) -> None:
        """Attach feedback or a note to an interaction; returns once it is committed. KeyError for an unknown one."""
        await asyncio.wrap_future(self.log.attach(feedback))

    async def outcome(self, name: str, value: float, interaction: str, unit: str = "", at: float | None = None) -> bool:
        """Keep an outcome; False where it was there already. Errors as of `LiveExperiments.outcome`."""
        outcome = await asyncio.to_thread(self.experiments.outcome, name, value, interaction, unit, at)
        return bool(await asyncio.wrap_future(self.log.append("outcomes", [to_mapping(outcome)])))

    # -----------------------------------------------------------------------------------------------------------------
    # Requests

    async def chat(self, turn: Turn) -> AsyncGenerator[Event, None]:
        """The events of a turn. Closing the iterator cancels what is unfinished.

        Raises, before the first event, ValueError, UnknownModelError, NotReadyError or BusyError; later DeadlineError
        or FailedError.
        """
        self.models.check(turn)
        if turn.model in self.models.routers.by_name:
            events = self._routed(turn)
        else:
            events = self._in_experiment(turn)
        async with aclosing(events) as source:
            async for event in source:
                yield event

    async def _routed(self, turn: Turn) -> AsyncGenerator[Event, None]:
        """The events of the target that a router chose. The first target of a cascade answers in its shadow; where it
        is not confident enough, its interaction is logged as tried, and the other one answers."""
        routers, identifier = self.models.routers, turn.id or secrets.token_hex(8)
        turn, router = replace(turn, id=identifier), routers.by_name[turn.model]
        decision = await routers.decide(turn, self.query_encoder)
        routed = routers.routed(turn, decision)
        if decision.reason.startswith("cascade"):
            recorder = HeldRecorder(self.recorder)
            with self.active_request():
                events = [event async for event in self._completion(routed, identifier, recorder)]
            assert recorder.held is not None
            then = router.confident(recorder.held.token_log_probabilities)
            if then.target == decision.target:
                interaction = replace(recorder.held, decision=routers.routed(turn, then).decision)
                await self.recorder.commit(interaction)
                for event in events:
                    yield replace(event, interaction=interaction) if isinstance(event, Finished) else event
                return
            await self.recorder.commit(replace(recorder.held, id=f"{identifier}-tried", conversation="", unit=""))
            routed = routers.routed(turn, then)
        async with aclosing(self.chat(routed)) as events:
            async for event in events:
                yield event

    async def _in_experiment(self, turn: Turn) -> AsyncGenerator[Event, None]:
        """The events of a turn as the arm of its unit answers it, if it is in an experiment."""
        assigned, shadow = await self.experiments.assigned(turn, self.models.check)
        versions = self.experiments.versions
        if assigned.version not in ("", *versions):  # its experiment has ended since
            assigned, shadow = turn, None
        identifier = assigned.id or secrets.token_hex(8)
        if assigned.model == ASSISTANT and self.grounding.grounded is not None:
            self.grounding.follow(self._threads)
            grounded = versions[assigned.version] if assigned.version else self.grounding.grounded
            events = grounded_events(assigned, identifier, grounded, self.recorder, self.config)
        else:
            events = self._completion(assigned, identifier, self.recorder)
        with self.active_request():
            async with aclosing(events) as source:
                async for event in source:
                    yield event
        if assigned is not turn:
            self.experiments.guard(assigned.experiment)
        if shadow is not None and (self._active > self.config.slots // 2 or self.state != "ready"):
            self.experiments.skipped += 1  # the server has enough to do
        elif shadow is not None:
            self.recorder.in_background(self.experiments.answer_in_shadow(shadow, self.chat(shadow)))

    def _completion(
        self, turn: Turn, identifier: str, recorder: Recorder | HeldRecorder
    ) -> AsyncGenerator[Event, None]:
        """The events of a turn that a language model completes."""
        return completion_events(
            turn,
            identifier,
            self.models.language(turn.model),
            recorder,
            self.config.deadline_seconds,
            self._compiling,
            self.models.adapter(turn.model),
            self.query_encoder,
        )

    @contextmanager
    def active_request(self) -> Iterator[None]:
        """Count a request as active for the block: `drain` waits for it."""
        self._active += 1
        try:
            yield
        finally:
            self._active -= 1

    async def embed(self, model: str, texts: Sequence[str], role: Role = "query") -> tuple[np.ndarray, int]:
        """(texts, width) float32 of length 1, and the number of tokens that were read. Errors as in `chat`."""
        encoder = self.models.encoder(model)
        with self.active_request():
            return await embed(model, encoder, texts, role, self._encoding, self.recorder)
