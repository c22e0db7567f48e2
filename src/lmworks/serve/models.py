"""The models that requests can name: those that are loaded, the assistant, and the routers to them."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

from lmworks.artefact import hash_json
from lmworks.generate.cross_encoder import CrossEncoder
from lmworks.generate.engine_worker import EngineWorker
from lmworks.generate.protocol import ParameterError
from lmworks.generate.text_embedding import TextEncoder
from lmworks.serve.events import NotReadyError, UnknownModelError
from lmworks.serve.grounding import Grounding
from lmworks.serve.interaction_record import Turn
from lmworks.serve.live_routers import LiveRouters
from lmworks.serve.served_models import ASSISTANT, CHATS, LoadedModels, ServedModel
from lmworks.serve.thread_offload import WorkQueue

State = Literal["starting", "ready", "failed", "stopping"]


class Models:
    """All of them in order, none before they are loaded, and one by its name.

    `encoding` is the line of texts that are embedded, `state` that of the server and what failed. Every look-up raises
    NotReadyError unless the state is "ready", and UnknownModelError, which names what there is, for another name and
    for a model of another kind.
    """

    def __init__(
        self, workspace: Path, grounding: Grounding, encoding: WorkQueue, state: Callable[[], tuple[State, str]]
    ) -> None:
        self.loaded = LoadedModels({}, {})
        self.routers = LiveRouters(workspace)
        self._grounding, self._encoding, self._state = grounding, encoding, state
        self._created = int(time.time())

    def __iter__(self) -> Iterator[ServedModel]:
        return self.described() if self._state()[0] in ("ready", "stopping") else iter(())

    def described(self) -> Iterator[ServedModel]:
        """Those that are loaded by now, with the fingerprints of the weights that they have now."""
        if (system := self._grounding.grounded) is not None:
            yield ServedModel(ASSISTANT, "assistant", system.system.fingerprint, None, self._created)
        for name, worker in self.loaded.languages.items():
            length = worker.capabilities.context_length
            yield ServedModel(name, "language", worker.fingerprint(), length, self._created)
        for name, base in self.loaded.adapters.items():
            worker = self.loaded.languages[base]
            digest = hash_json([worker.fingerprint(), worker.adapters[name]])
            yield ServedModel(name, "language", digest, worker.capabilities.context_length, self._created)
        for name, encoder in self.loaded.encoders.items():
            yield ServedModel(name, "embedding", encoder.fingerprint, encoder.max_length, self._created)
        for name, head in self.loaded.cross_encoders.items():
            kind = "reranker" if head.labels == 1 else "verifier"
            yield ServedModel(name, kind, head.fingerprint, head.max_length, self._created)
        for name, router in self.routers.by_name.items():
            yield ServedModel(name, "router", hash_json(router), None, self._created)

    def named(self, name: str) -> ServedModel:
        """The model of this name."""
        state, failure = self._state()
        if state != "ready":
            reasons = {"starting": "the models are being loaded", "stopping": "the server is shutting down"}
            raise NotReadyError(reasons.get(state, f"the models could not be loaded: {failure}"))
        for model in self:
            if model.name == name:
                return model
        raise UnknownModelError(f"no model {name!r} is served; there is {', '.join(m.name for m in self)}")

    def language(self, name: str) -> EngineWorker:
        """The language model of this name, the one that an adapter of this name changes, or a router's fallback."""
        self.named(name)
        name = self.routers.fallback(name)
        if self.named(name).kind != "language":
            raise UnknownModelError(f"{name!r} does not complete text; {', '.join(self.loaded.languages)} does")
        return self.loaded.languages[self.loaded.adapters.get(name, name)]

    def adapter(self, name: str) -> str:
        """The `adapter` of an engine's request for this model: the name itself if it is one, else ""."""
        return name if name in self.loaded.adapters else ""

    def encoder(self, name: str) -> TextEncoder:
        """The embedding model of this name."""
        if self.named(name).kind != "embedding":
            able = ", ".join(self.loaded.encoders) or "no model that is served"
            raise UnknownModelError(f"{name!r} does not embed; {able} does")
        return self.loaded.encoders[name]

    def cross_encoder(self, name: str) -> CrossEncoder:
        """The reranker or verifier of this name."""
        if self.named(name).kind not in ("reranker", "verifier"):
            raise UnknownModelError(f"{name!r} reads no pairs of texts")
        return self.loaded.cross_encoders[name]

    def check(self, turn: Turn) -> None:
        """Raise for what is wrong with a turn and can be told at once: the model, its kind, what it cannot do."""
        kind = self.named(turn.model).kind
        if kind not in CHATS:
            raise UnknownModelError(f"{turn.model!r} is a model of the kind {kind}: it does not complete text")
        last = turn.messages[-1] if turn.messages and turn.messages[-1].role == "user" else None
        if kind == "router" and last is None:
            raise ParameterError("prompt", f"{turn.model} routes questions: the last message must be the user's")
        if kind == "assistant":
            if last is None or not last.content.strip():
                message = f"{ASSISTANT} answers a question: the last message must be the user's, and not empty"
                raise ParameterError("prompt", message)
            if turn.n != 1 or turn.sampling.alternatives:
                raise ValueError(f"{ASSISTANT} gives one answer and no token probabilities: n must be 1, logprobs off")

    def occupancy(self, name: str) -> tuple[int, int, float]:
        """Requests that run, requests that wait, and the share of the key/value cache in use, of one model."""
        name = self.loaded.adapters.get(name, name)
        if name in self.loaded.languages:
            worker = self.loaded.languages[name]
            return worker.running, worker.waiting, worker.cache_usage
        if name in self.routers.by_name:
            return 0, 0, 0.0
        waiting = self._encoding.waiting
        if name == ASSISTANT:
            waiting = self._grounding.grounded.waiting if self._grounding.grounded is not None else 0
        return min(waiting, 1), max(0, waiting - 1), 0.0

    def contexts(self) -> Iterator[str]:
        """A line for each language model: the tokens of its context, of those that it could have."""
        for name, worker in self.loaded.languages.items():
            length, most = worker.capabilities.context_length, worker.checkpoint.config.context_length
            yield f"{name}: a context of {length:,} tokens of {most:,} (serve.context_length)"

    def forget(self) -> None:
        """Let go of all models, since something that is not closed may still know this."""
        self.loaded = LoadedModels({}, {})
        self.routers = LiveRouters(self.routers.workspace)
