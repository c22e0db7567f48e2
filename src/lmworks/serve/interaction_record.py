"""The interaction of a served request: what the log keeps of it, and its commit from the event loop."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from lmworks.artefact import hash_json
from lmworks.config import at_least, to_mapping
from lmworks.generate.protocol import Completion, SamplingParameters
from lmworks.model.checkpoint import Checkpoint
from lmworks.monitor.log import Log, LogFullError
from lmworks.records import Interaction, Message, PromptSpan
from lmworks.serve.thread_offload import run_off_loop, text_length
from lmworks.tokenizer.tool_calls import Tool

T = TypeVar("T")

_OF_TURN = (  # fields that an interaction takes from its turn as they are
    *("messages", "tools", "lineage", "conversation", "parent", "unit", "experiment", "arm"),
    *("prompt", "prompt_parts", "decision"),
)
_RETRY_SECONDS = 0.02  # between two tries when the log's queue is full


@dataclass(frozen=True, slots=True)
class Turn:
    """One request, whoever made it: `messages`, or the `prompt_ids` of a text completion; `n` completions of it.

    `tools` are functions that the model may call. `priority` and `client` are those of the engine's `Request`.

    `id` will be that of its (first) interaction; an empty one is replaced by a fresh one. `conversation`, `parent` (the
    turn before), `unit` (who sees the same arm of an experiment) and `lineage` (hashes of what else took part, by name)
    are for the log.
    """

    model: str
    messages: tuple[Message, ...] = ()
    prompt_ids: tuple[int, ...] = ()
    tools: tuple[Tool, ...] = ()
    sampling: SamplingParameters = field(default_factory=SamplingParameters)
    n: int = 1
    priority: int = 0
    client: str = ""
    conversation: str = ""
    parent: str | None = None
    unit: str = ""
    lineage: Mapping[str, str] = field(default_factory=dict)
    id: str = ""
    # Set by an experiment: its name, the arm, the model that was asked for where another answers, the version of the
    # system that does, and what is set of how it answers.
    experiment: str = ""
    arm: str = ""
    route: str = ""
    version: str = ""
    answering: Mapping[str, Any] = field(default_factory=dict)
    # Set by a router, or by who fills a prompt: its hash, its parts in `messages`, and the router's choice.
    prompt: str = ""
    prompt_parts: tuple[PromptSpan, ...] = ()
    decision: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if bool(self.messages) == bool(self.prompt_ids):
            raise ValueError("a request needs either messages or a prompt, and they must not be empty")
        at_least(1, n=self.n)


def choice_id(identifier: str, choice: int) -> str:
    """The id of the interaction of one choice of a request."""
    return identifier if choice == 0 else f"{identifier}-{choice}"


def completion_interaction(
    turn: Turn,
    identifier: str,
    began: float,
    completion: Completion,
    checkpoint: Checkpoint,
    fingerprint: str,
    error: str = "",
) -> Interaction:
    """A finished, or cancelled, completion of a language model; `identifier` is that of its choice.

    `fingerprint` is that of the weights that made it, which need not be those that `checkpoint` was loaded with.
    """
    if turn.messages:
        rendered = checkpoint.chat.render(turn.messages, add_generation_prompt=True, tools=turn.tools).text
    else:
        rendered = checkpoint.required_tokenizer.decode(list(turn.prompt_ids), skip_special=False)
    system = [message.content for message in turn.messages if message.role == "system"]
    template = checkpoint.chat.template.source if turn.messages else ""
    return replace(
        _interaction(turn, identifier, began, error),
        messages=turn.messages or (Message("user", rendered),),
        response=completion.text,
        rendered_prompt=rendered,
        prompt_ids=completion.prompt_ids or (),
        token_ids=completion.ids or (),
        token_log_probabilities=completion.log_probabilities or (),
        finish_reason=completion.finish_reason,
        timings=_phases(completion),
        input_tokens=completion.prompt_tokens,
        output_tokens=completion.completion_tokens,
        model=fingerprint,
        prompt=turn.prompt or hash_json([template, system]),
        lineage={f"model:{turn.model}": fingerprint, **turn.lineage},
        seed=completion.seed,
    )


def failure_interaction(
    turn: Turn, identifier: str, began: float, error: str, *, cancelled: bool = False
) -> Interaction:
    """A request that ended without a completion; `error` names the kind of failure, never a text from outside."""
    reason = "cancelled" if cancelled else "error"
    return replace(_interaction(turn, identifier, began, error), prompt_ids=turn.prompt_ids, finish_reason=reason)


def _interaction(turn: Turn, identifier: str, began: float, error: str) -> Interaction:
    """The fields that are known of a turn without its completion."""
    return Interaction(
        id=identifier,
        time=began,
        response="",
        operation="chat" if turn.messages else "text_completion",
        parameters=to_mapping(turn.sampling),
        error=error,
        timings={"total": time.time() - began},
        route=turn.route or turn.model,
        seed=turn.sampling.seed,
        **{name: getattr(turn, name) for name in _OF_TURN},
    )


def embedding_interaction(
    texts: Sequence[str],
    identifier: str,
    began: float,
    *,
    model: str,
    fingerprint: str,
    tokens: int = 0,
    error: str = "",
    cancelled: bool = False,
) -> Interaction:
    """Texts that were embedded, or were to be; the vectors are not kept, since the same encoder makes them again."""
    seconds = time.time() - began
    return Interaction(
        id=identifier,
        time=began,
        messages=tuple(Message("user", text) for text in texts),
        response="",
        operation="embeddings",
        finish_reason="cancelled" if cancelled else "error" if error else "stop",
        error=error,
        timings={"embed": seconds, "total": seconds},
        input_tokens=tokens,
        model=fingerprint,
        lineage={f"model:{model}": fingerprint},
        route=model,
    )


def _phases(completion: Completion) -> dict[str, float]:
    """Queued, prefill, decode and total, in seconds; a cancelled request may not have reached all of them."""
    timings = completion.timings
    if timings.queued is None:
        return {"queued": timings.total, "total": timings.total}
    if timings.first_token is None:
        return {"queued": timings.queued, "prefill": timings.total - timings.queued, "total": timings.total}
    return {
        "queued": timings.queued,
        "prefill": timings.first_token - timings.queued,
        "decode": timings.total - timings.first_token,
        "total": timings.total,
    }


class Recorder:
    """Commits interactions from the event loop; a commit that was begun is finished, also when its request is gone."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self.observers: list[Callable[[Interaction], None]] = []
        self.cancel_reason = "client_left"  # of requests that end early; "server_stopped" once the server does
        self._tasks: set[asyncio.Task[Any]] = set()

    @property
    def busy(self) -> bool:
        """True while something is still to be committed."""
        return bool(self._tasks)

    async def commit(self, interaction: Interaction) -> None:
        """Returns once the interaction is committed; errors of the log are raised."""
        await self.finish(self.write(interaction))

    async def finish(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine to its end, also when the request that waits here is cancelled."""
        return await asyncio.shield(self.in_background(work))

    def in_background(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Begin a coroutine that must be finished although its request is gone."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def write(self, interaction: Interaction) -> None:
        """`commit` for a coroutine that `finish` or `in_background` runs."""
        while True:
            try:
                committed = await run_off_loop(
                    _length(interaction), self.log.record, interaction
                )  # redaction reads all texts
                break
            except LogFullError:  # back-pressure: the answer waits until the disk has caught up
                await asyncio.sleep(_RETRY_SECONDS)
        await asyncio.wrap_future(committed)
        for observer in self.observers:
            observer(interaction)


@dataclass(slots=True)
class HeldRecorder:
    """A recorder that holds an interaction back until it is known whether it is the answer; what failed is logged."""

    recorder: Recorder
    held: Interaction | None = None

    @property
    def cancel_reason(self) -> str:
        return self.recorder.cancel_reason

    def in_background(self, work: Any) -> Any:
        return self.recorder.in_background(work)

    async def finish(self, work: Any) -> Any:
        return await self.recorder.finish(work)

    async def write(self, interaction: Interaction) -> None:
        if interaction.error or interaction.finish_reason == "cancelled":
            await self.recorder.write(interaction)
        else:
            self.held = interaction


def _length(interaction: Interaction) -> int:
    """Characters and numbers that are to be read and written."""
    texts = [evidence.text for evidence in (*interaction.retrieved, *interaction.verdicts)]
    texts += interaction.rendered_prompt, interaction.response, str(interaction.parameters)
    numbers = len(interaction.prompt_ids) + len(interaction.token_ids) + len(interaction.query_embedding)
    return numbers + text_length(interaction.messages, interaction.tools) + sum(map(len, texts))
