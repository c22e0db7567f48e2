"""Routers on what is served: the model and the prompt of each request, and the second model of a cascade."""

import asyncio
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from pathlib import Path

from lmworks.prompt.few_shot import Encode, remembered
from lmworks.prompt.filled_prompt import token_counter
from lmworks.prompt.prompt_store import PROMPTS, PromptStore
from lmworks.prompt.router import ROUTERS, Decision, Router, read_router, routed_prompt
from lmworks.records import Message, question_of
from lmworks.serve.embedding_request import QueryEncoder
from lmworks.serve.interaction_record import Turn
from lmworks.serve.served_models import LoadedModels


@dataclass(slots=True)
class LiveRouters:
    """The routers of a workspace by the names under which they are served."""

    workspace: Path
    by_name: dict[str, Router] = field(default_factory=dict)
    loaded: LoadedModels = field(default_factory=lambda: LoadedModels({}, {}))
    encode: Encode | None = None

    def load(self, loaded: LoadedModels, reserved: Collection[str], encoder: str) -> None:
        """Read them. ValueError for a name that is taken, a target that is not served, and one whose prompt has other
        slots than a message."""
        self.loaded = loaded
        if text_encoder := next(iter(loaded.encoders.values()), None):
            self.encode = remembered(lambda texts: text_encoder.encode(texts, "query"))
        for path in sorted((self.workspace / ROUTERS).glob("*.toml")):
            router = read_router(path, encoder)
            if router.name in {*reserved, *self.by_name}:
                raise ValueError(f"{path}: a model is served as {router.name}: name the router differently")
            for name, target in router.targets.items():
                if target.model not in {*loaded.languages, *loaded.adapters}:
                    served = ", ".join(loaded.languages)
                    raise ValueError(f"{path}: the target {name} is {target.model}, which is not served: {served}")
            self.by_name[router.name] = router
            for name in router.targets:  # a prompt that cannot be routed to is refused now, not at the first question
                self.routed(Turn(router.name, (Message("user", "?"),)), Decision(name, ""))

    def fallback(self, name: str) -> str:
        """The model of a router's fallback, or the name itself."""
        router = self.by_name.get(name)
        return name if router is None else router.targets[router.fallback].model

    async def decide(self, turn: Turn, encoder: QueryEncoder | None) -> Decision:
        """The target of a request; several completions are made by the fallback of a cascade."""
        router = self.by_name[turn.model]
        learned = router.learned
        if learned is not None and learned.kind == "cascade" and turn.n > 1:
            return Decision(router.fallback, "fallback: a cascade makes one completion at a time")
        embedding: tuple[float, ...] = ()
        if learned is not None and learned.kind == "query" and encoder is not None:
            embedding = await asyncio.wrap_future(encoder.submit(question_of(turn.messages)))
        return router.decide(turn.messages, embedding)

    def routed(self, turn: Turn, decision: Decision) -> Turn:
        """The turn as its target is asked. The request's own sampling stands, but for the format of the prompt."""
        router = self.by_name[turn.model]
        target = router.targets[decision.target]
        stated = {"router": router.name, "target": decision.target, "reason": decision.reason}
        stated |= {} if decision.probability is None else {"probability": decision.probability}
        asked = replace(turn, model=target.model, route=turn.model, decision=stated)
        if not target.prompt:
            return asked
        prompt = PromptStore(self.workspace / PROMPTS).live(target.prompt)
        worker = self.loaded.languages[self.loaded.adapters.get(target.model, target.model)]
        count = token_counter(worker.checkpoint)
        filled = routed_prompt(prompt, turn.messages, count=count, encode=self.encode)
        constraint = turn.sampling.constraint or filled.request().sampling.constraint
        sampling = replace(turn.sampling, constraint=constraint)
        return replace(
            asked, messages=filled.messages, prompt=filled.hash, prompt_parts=filled.spans, sampling=sampling
        )
