"""Everything behind the HTTP border: models, grounded system and log, for an event loop that waits for no model.

A request becomes a stream of events. The last event of each choice is `Finished`, and it comes only after the
interaction is committed to the log: an answer that a client knows to be complete is there, also after a kill. Whatever
else happens (the client leaves, the deadline passes, the model fails) is logged too, once.
"""

import asyncio
import logging
import math
import secrets
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, contextmanager
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np

from lmworks.artefact import hash_json
from lmworks.config import to_mapping
from lmworks.generate.cross_encoder import CrossEncoder
from lmworks.generate.engine_worker import EngineWorker
from lmworks.generate.protocol import Role
from lmworks.generate.text_embedding import TextEncoder
from lmworks.monitor.log import Reader
from lmworks.records import Feedback, Interaction
from lmworks.retrieve.index import Index
from lmworks.serve.completion_turn import completion_events
from lmworks.serve.config import PROMPTS, ServeConfig
from lmworks.serve.embedding_request import QueryEncoder, embed
from lmworks.serve.events import Event, NotReadyError, UnknownModelError
from lmworks.serve.grounded_turn import GroundedSystem, grounded_events
from lmworks.serve.interaction_record import HeldRecorder, Recorder, Turn
from lmworks.serve.live_experiments import LiveExperiments
from lmworks.serve.live_routers import LiveRouters, routed_events
from lmworks.serve.remaining_stages import RemainingStages
from lmworks.serve.served_models import ASSISTANT, CHATS, LoadedModels, ServedModel, load_models, served_names
from lmworks.serve.thread_offload import WorkQueue
from lmworks.stages import ANSWERER
from lmworks.system import System
from lmworks.versions import is_gated
from lmworks.workspace import Current, open_log, read_current

T = TypeVar("T")
State = Literal["starting", "ready", "failed", "stopping"]
DEFAULTS = ServeConfig()
_LOGGER = logging.getLogger(__name__)
_FOLLOW_SECONDS = 1.0  # after which a question asks again which version is live


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
        self.current: Current | None = read_current(workspace) if models is None else None
        self.remaining: RemainingStages | None = None  # what makes the stages that are not made yet
        self._paths = served_names(self.current.models, self.current.names) if self.current else dict(models or {})
        if not self._paths:
            raise FileNotFoundError(
                f"{workspace} has no model to serve; `lmworks up --docs {workspace}` builds answers from its documents"
            )
        self._loaded = LoadedModels({}, {})
        self._grounded: GroundedSystem | None = None
        # A workspace's log has its policy, also when other models than its own are served from it.
        self.log = open_log(workspace)
        self.recorder = Recorder(self.log)
        self._threads = ThreadPoolExecutor(4, thread_name_prefix="serve")
        self.routers = LiveRouters(workspace)
        self.experiments = LiveExperiments(self.log, workspace, self._threads, config.deadline_seconds)
        self._compiling = ThreadPoolExecutor(4, thread_name_prefix="compile")
        self._encoding = WorkQueue("encode", config.max_waiting, config.deadline_seconds)
        self.scoring = WorkQueue("score", config.max_waiting + PROMPTS, config.deadline_seconds)
        self.query_encoder: QueryEncoder | None = None
        self._active = 0  # requests that are not answered yet
        self._followed = 0.0  # when it was last looked which version is live; infinite while one is opened

    @property
    def observers(self) -> list[Callable[[Interaction], None]]:
        """Functions that are called with each interaction once it is committed."""
        return self.recorder.observers

    # -----------------------------------------------------------------------------------------------------------------
    # Life

    def load(self) -> None:
        """Load the models and open the system. What goes wrong is raised, and kept in `failure` (state "failed")."""
        try:
            if self.current and ANSWERER in self.current.uses.values():
                self._grounded = GroundedSystem(self.workspace)
            opening = self._threads.submit(self._grounded.open) if self._grounded else None
            self._loaded = load_models(self._paths, self.config)
            if opening:
                self._share_engines(opening.result())
            self.query_encoder = self._make_query_encoder()
            fingerprint = self.query_encoder.fingerprint if self.query_encoder else ""
            self.routers.load(self._loaded, {ASSISTANT, *self._paths, *self._loaded.adapters}, fingerprint)
            self._served()  # hashes the weights now, not at the first request
        except BaseException as error:
            self.state, self.failure = "failed", str(error) or type(error).__name__
            raise
        if self.state == "starting":
            self.state = "ready"

    @property
    def writes(self) -> bool:
        """Whether a language model writes the assistant's answers."""
        return self._grounded is not None and self._grounded.system.answerer.writer is not None

    def take_up(self) -> None:
        """Show what was made of the workspace since, unless it was built of something else meanwhile."""
        now, before = read_current(self.workspace), self.current
        if before is not None and before.stages.items() <= now.stages.items():
            self.current = now
            if self._grounded is not None:
                self._grounded.system.take_up(now)

    def _follow(self) -> None:
        """Answer by the version that was promoted or rolled back to since, once it is open; the one before answers
        what it was asked, and goes with its last question. A failure leaves what is served as it is."""
        try:
            now, before = read_current(self.workspace), self._grounded
            if self.current is None or before is None or now.version == self.current.version:
                return
            system = GroundedSystem(self.workspace)
            self._share_engines(system.open())
            self._grounded, self.current = system, now
            _LOGGER.warning("version %s is served from now on", now.version)
        except Exception as error:
            _LOGGER.warning("the version that is live cannot be opened: %s", error)
        finally:
            self._followed = time.monotonic()

    def _share_engines(self, system: System) -> None:
        """Let the models that are served write, expand and rerank for the system, too."""
        languages = self._loaded.languages
        system.answerer.finder.engines |= {path: languages[n] for n, path in self._paths.items() if n in languages}

    def _make_query_encoder(self) -> QueryEncoder | None:
        """The embedder of the index, else the first that is served, so that vectors in the log can be compared."""
        encoders = list(self._loaded.encoders.values())
        if not encoders or not self.config.query_embeddings:
            return None
        fingerprint = self._grounded.index.encoder_fingerprint if self._grounded else ""
        return QueryEncoder(next((one for one in encoders if one.fingerprint == fingerprint), encoders[0]))

    async def drain(self, abandon: Callable[[], None] = lambda: None) -> None:
        """Take nothing new and wait for what runs, at most `drain_seconds`; then cancel the rest and log it.

        `abandon` is called in between: it ends the requests whose clients do not even read.
        """
        self.state = "stopping"
        await self._settled(self.config.drain_seconds)
        self.recorder.cancel_reason = "server_stopped"
        abandon()
        await asyncio.sleep(0)
        for worker in self._loaded.languages.values():
            await asyncio.to_thread(worker.close)
        await self._settled(5.0)

    async def _settled(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (self._active or self.recorder.busy) and time.monotonic() < until:
            await asyncio.sleep(0.02)

    def close(self) -> None:
        """Release threads, models and the log; what was recorded is committed first."""
        self.state = "stopping"
        for worker in self._loaded.languages.values():
            worker.close()
        if self._grounded is not None:
            self._grounded.close()
        self.experiments.close()
        self._encoding.close()
        self.scoring.close()
        if self.query_encoder is not None:
            self.query_encoder.close()
        for threads in (self._threads, self._compiling):
            threads.shutdown(wait=True, cancel_futures=True)
        self.log.close()
        # Web frameworks cache the functions of an app, which know this service, beyond the app.
        self._loaded, self.routers = LoadedModels({}, {}), LiveRouters(self.workspace)
        self._grounded = self.query_encoder = None

    @property
    def models(self) -> tuple[ServedModel, ...]:
        """The models that are served, with the fingerprints of the weights that they have now."""
        return self._served() if self.state in ("ready", "stopping") else ()

    def _served(self) -> tuple[ServedModel, ...]:
        created = int(self.started)
        served: list[ServedModel] = []
        if self._grounded is not None:
            served.append(ServedModel(ASSISTANT, "assistant", self._grounded.system.fingerprint, None, created))
        for name, worker in self._loaded.languages.items():
            length = worker.capabilities.context_length
            served.append(ServedModel(name, "language", worker.fingerprint(), length, created))
        for name, base in self._loaded.adapters.items():
            worker = self._loaded.languages[base]
            digest = hash_json([worker.fingerprint(), worker.adapters[name]])
            served.append(ServedModel(name, "language", digest, worker.capabilities.context_length, created))
        for name, encoder in self._loaded.encoders.items():
            served.append(ServedModel(name, "embedding", encoder.fingerprint, encoder.max_length, created))
        for name, head in self._loaded.cross_encoders.items():
            kind = "reranker" if head.labels == 1 else "verifier"
            served.append(ServedModel(name, kind, head.fingerprint, head.max_length, created))
        for name in self.routers.by_name:
            served.append(ServedModel(name, "router", self.routers.fingerprint(name), None, created))
        return tuple(served)

    # -----------------------------------------------------------------------------------------------------------------
    # What there is

    def served(self, name: str) -> ServedModel:
        """The model of this name; UnknownModelError names what there is, NotReadyError before loading is done."""
        if self.state != "ready":
            reasons = {"starting": "the models are being loaded", "stopping": "the server is shutting down"}
            raise NotReadyError(reasons.get(self.state, f"the models could not be loaded: {self.failure}"))
        for model in self.models:
            if model.name == name:
                return model
        raise UnknownModelError(f"no model {name!r} is served; there is {', '.join(m.name for m in self.models)}")

    def language(self, name: str) -> EngineWorker:
        """The language model of this name, the one that an adapter of this name changes, or a router's fallback;
        UnknownModelError also for a model of another kind."""
        self.served(name)
        name = self.routers.fallback(name)
        if self.served(name).kind != "language":
            raise UnknownModelError(f"{name!r} does not complete text; {', '.join(self._loaded.languages)} does")
        return self._loaded.languages[self._loaded.adapters.get(name, name)]

    def contexts(self) -> Iterator[str]:
        """A line for each language model: the tokens of its context, of those that it could have."""
        for name, worker in self._loaded.languages.items():
            length, most = worker.capabilities.context_length, worker.checkpoint.config.context_length
            yield f"{name}: a context of {length:,} tokens of {most:,} (serve.context_length)"

    def adapter(self, name: str) -> str:
        """The `adapter` of an engine's request for this model: the name itself if it is one, else ""."""
        return name if name in self._loaded.adapters else ""

    def encoder(self, name: str) -> TextEncoder:
        """The embedding model of this name; UnknownModelError also for a model of another kind."""
        if self.served(name).kind != "embedding":
            able = ", ".join(self._loaded.encoders) or "no model that is served"
            raise UnknownModelError(f"{name!r} does not embed; {able} does")
        return self._loaded.encoders[name]

    def cross_encoder(self, name: str) -> CrossEncoder:
        """The reranker or verifier of this name; UnknownModelError also for a model of another kind."""
        if self.served(name).kind not in ("reranker", "verifier"):
            raise UnknownModelError(f"{name!r} reads no pairs of texts")
        return self._loaded.cross_encoders[name]

    def occupancy(self, name: str) -> tuple[int, int, float]:
        """Requests that run, requests that wait, and the share of the key/value cache in use, of one model."""
        name = self._loaded.adapters.get(name, name)
        if name in self._loaded.languages:
            worker = self._loaded.languages[name]
            return worker.running, worker.waiting, worker.cache_usage
        if name in self.routers.by_name:
            return 0, 0, 0.0
        waiting = self._encoding.waiting
        if name == ASSISTANT:
            waiting = self._grounded.waiting if self._grounded is not None else 0
        return min(waiting, 1), max(0, waiting - 1), 0.0

    async def read_index(self, function: Callable[[Index], T]) -> T:
        """Run a function over the index, off the event loop; NotReadyError when there is none, or not yet."""
        if self._grounded is None or self.state == "starting":
            raise NotReadyError(self.failure or "no documents are indexed here, or the index is still being opened")
        return await asyncio.wrap_future(self._grounded.read(function))

    async def read_log(self, function: Callable[[Reader], T]) -> T:
        """Run a function over the log's reader, off the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, self.log.reader)

    async def feedback(self, feedback: Feedback) -> None:
        """Attach feedback or a note to an interaction; returns once it is committed. KeyError for an unknown one."""
        await asyncio.wrap_future(self.log.attach(feedback))

    async def outcome(self, name: str, value: float, interaction: str, unit: str = "", at: float | None = None) -> bool:
        """Keep an outcome; False where it was there already. Errors as of `LiveExperiments.outcome`."""
        made = await asyncio.to_thread(self.experiments.outcome, name, value, interaction, unit, at)
        return bool(await asyncio.wrap_future(self.log.append("outcomes", [to_mapping(made)])))

    # -----------------------------------------------------------------------------------------------------------------
    # Requests

    def check(self, turn: Turn) -> None:
        """Raise for what is wrong with a turn and can be told at once: the model, its kind, what it cannot do."""
        kind = self.served(turn.model).kind
        if kind not in CHATS:
            raise UnknownModelError(f"{turn.model!r} is a model of the kind {kind}: it does not complete text")
        last = turn.messages[-1] if turn.messages and turn.messages[-1].role == "user" else None
        if kind == "router" and last is None:
            raise ValueError(f"{turn.model} routes questions: the last message must be the user's")
        if kind == "assistant":
            if last is None or not last.content.strip():
                raise ValueError(f"{ASSISTANT} answers a question: the last message must be the user's, and not empty")
            if turn.n != 1 or turn.sampling.alternatives:
                raise ValueError(f"{ASSISTANT} gives one answer and no token probabilities: n must be 1, logprobs off")

    async def chat(self, turn: Turn) -> AsyncGenerator[Event, None]:
        """The events of a turn. Closing the iterator cancels what is unfinished.

        Raises, before the first event, ValueError, UnknownModelError, NotReadyError or BusyError; later DeadlineError
        or FailedError.
        """
        self.check(turn)
        if turn.model in self.routers.by_name:
            async with aclosing(routed_events(self, turn)) as routed:
                async for event in routed:
                    yield event
            return
        asked, turn, unseen = turn, *await self._in_arm(turn)
        versions = self.experiments.versions
        if turn.version not in ("", *versions):  # its experiment has ended since
            turn, unseen = asked, None
        identifier = turn.id or secrets.token_hex(8)
        if turn.model == ASSISTANT and self._grounded is not None:
            if time.monotonic() - self._followed > _FOLLOW_SECONDS and is_gated(self.workspace):
                self._followed = math.inf
                self._threads.submit(self._follow)
            system = versions[turn.version] if turn.version else self._grounded
            events = grounded_events(turn, identifier, system, self.recorder, self.config)
        else:
            events = self.completion(turn, identifier, self.recorder)
        with self.active_request():
            async with aclosing(events) as source:
                async for event in source:
                    yield event
        if asked is not turn:
            self.experiments.guard(turn.experiment)
        if unseen is not None:
            self._answer_unseen(unseen)

    def completion(self, turn: Turn, identifier: str, recorder: Recorder | HeldRecorder) -> AsyncGenerator[Event, None]:
        """The events of a turn that a language model completes."""
        return completion_events(
            turn,
            identifier,
            self.language(turn.model),
            recorder,
            self.config.deadline_seconds,
            self._compiling,
            self.adapter(turn.model),
            self.query_encoder,
        )

    async def _in_arm(self, turn: Turn) -> tuple[Turn, Turn | None]:
        """The turn as the arm of its unit answers it, and as another does unseen; as it is where an arm cannot."""
        given = turn
        try:
            given, unseen = await self.experiments.arm_of(turn)
            for one in (given, unseen):
                if one is not None and one is not turn:
                    self.check(one)
            return given, unseen
        except (UnknownModelError, ValueError) as error:
            self.experiments.cannot_serve(given, error)
            return turn, None

    def _answer_unseen(self, turn: Turn) -> None:
        """Let an arm answer that nobody sees, in the background, unless the server has enough to do."""

        async def drain() -> None:
            try:
                async for _ in self.chat(turn):
                    pass
            except Exception as error:  # it is in the log, and nobody waits for it
                _LOGGER.warning("the arm %s of %s did not answer unseen: %s", turn.arm, turn.experiment, error)

        if self._active > self.config.slots // 2 or self.state != "ready":
            self.experiments.skipped += 1
        else:
            self.recorder.in_background(drain())

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
        encoder = self.encoder(model)
        with self.active_request():
            return await embed(model, encoder, texts, role, self._encoding, self.recorder)
