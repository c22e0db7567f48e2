"""A turn that a language model completes, as a stream of events; each choice is logged once, however it ends."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator
from concurrent.futures import Executor
from dataclasses import dataclass, replace

from lmworks.generate.engine_worker import EngineWorker, QueueFullError
from lmworks.generate.protocol import Completion, Delta, Request
from lmworks.records import QUERY_ENCODER, Interaction, question_of
from lmworks.serve.embedding_request import QueryEncoder
from lmworks.serve.events import BusyError, DeadlineError, Event, FailedError, Finished, Piece
from lmworks.serve.interaction_record import (
    HeldRecorder,
    Recorder,
    Turn,
    choice_id,
    completion_interaction,
    failure_interaction,
)
from lmworks.serve.thread_offload import DeadlineQueue, run_off_loop, text_length

_LOGGER = logging.getLogger(__name__)
_EMBEDDING_SECONDS = 5.0  # that a finished answer waits for the vector of its question
_SLOT_SECONDS = 2.0  # that a request occupies a slot, roughly: a refused client is told to come back after it


@dataclass(slots=True)
class _Job:
    turn: Turn
    identifier: str
    worker: EngineWorker
    recorder: Recorder | HeldRecorder
    began: float
    queue: DeadlineQueue[Delta | Exception]
    adapter: str
    compiling: Executor
    query_embedding: asyncio.Future[tuple[float, ...]] | None = None


async def completion_events(
    turn: Turn,
    identifier: str,
    worker: EngineWorker,
    recorder: Recorder | HeldRecorder,
    deadline_seconds: float,
    compiling: Executor,
    adapter: str = "",
    query_encoder: QueryEncoder | None = None,
) -> AsyncGenerator[Event, None]:
    """The events of all choices as they come; closing the iterator cancels those that are unfinished.

    Constraints are compiled on the threads of `compiling`. With `query_encoder`, the question of a chat is embedded
    while it is answered, and its vector is committed with the interaction, unless that takes long.
    """
    if adapter:
        turn = replace(turn, lineage={**turn.lineage, f"adapter:{adapter}": worker.adapters[adapter]})
    question = question_of(turn.messages) if query_encoder else ""
    if query_encoder and question:
        turn = replace(turn, lineage={**turn.lineage, QUERY_ENCODER: query_encoder.fingerprint})
    job = _Job(turn, identifier, worker, recorder, time.time(), DeadlineQueue(deadline_seconds), adapter, compiling)
    submissions: dict[int, asyncio.Task[str]] = {}  # of the choices that are not logged yet
    error = ""
    try:
        for choice in range(turn.n):
            submissions[choice] = asyncio.create_task(_submit_off_loop(job, choice))
            await asyncio.shield(submissions[choice])
            if query_encoder and question and not choice:  # a request that is refused costs no embedding
                job.query_embedding = asyncio.wrap_future(query_encoder.submit(question))
        while submissions:
            choice, item = await job.queue.next()
            if isinstance(item, Exception):
                del submissions[choice]
                error = type(item).__name__
                await recorder.finish(_commit_failure(job, choice, error))
                raise FailedError("the model failed on this request") from item
            if item.text or item.tokens:
                yield Piece(choice, item.text, item.tokens)
            if item.completion is not None:
                del submissions[choice]
                interaction = await recorder.finish(_commit(job, choice, item.completion))
                yield Finished(choice, interaction, completion=item.completion)
    except DeadlineError:
        error = "deadline_exceeded"
        raise
    except BusyError:  # there was room for some of the choices, not for all of them
        error = "queue_full"
        raise
    finally:
        job.queue.close()
        if submissions:
            recorder.in_background(_settle(job, submissions, error or recorder.cancel_reason))


async def _submit_off_loop(job: _Job, choice: int) -> str:
    """Queue one choice; a constraint, which may take seconds to compile, on a thread that nobody else waits for."""
    if job.turn.sampling.constraint is None:
        return await run_off_loop(_length(job.turn), _submit, job, choice)
    return await asyncio.get_running_loop().run_in_executor(job.compiling, _submit, job, choice)


def _submit(job: _Job, choice: int) -> str:
    """Queue one choice; its seed is the request's plus its number. ValueError or BusyError at once."""
    sampling = job.turn.sampling
    if sampling.seed is not None and choice:
        sampling = replace(sampling, seed=(sampling.seed + choice) % 2**64)
    request = Request(
        prompt_ids=job.turn.prompt_ids,
        messages=job.turn.messages,
        tools=job.turn.tools,
        sampling=sampling,
        id=choice_id(job.identifier, choice),
        priority=job.turn.priority,
        client=job.turn.client,
        adapter=job.adapter,
    )
    try:
        return job.worker.submit(request, job.queue.listener(choice))
    except QueueFullError as error:
        slots = max(1, job.worker.running)
        raise BusyError(_SLOT_SECONDS * (1 + job.worker.waiting / slots)) from error


def _length(turn: Turn) -> int:
    return len(turn.prompt_ids) + text_length(turn.messages, turn.tools)


async def _commit(job: _Job, choice: int, completion: Completion, error: str = "") -> Interaction:
    identifier = choice_id(job.identifier, choice)
    length = _length(job.turn) + len(completion.text)
    interaction = await run_off_loop(
        length,
        completion_interaction,
        job.turn,
        identifier,
        job.began,
        completion,
        job.worker.checkpoint,
        job.worker.fingerprint(completion.policy_version),
        error,
    )
    interaction = await _with_query_embedding(job, interaction)
    await job.recorder.write(interaction)
    return interaction


async def _commit_failure(job: _Job, choice: int, error: str) -> None:
    failure = failure_interaction(job.turn, choice_id(job.identifier, choice), job.began, error)
    await job.recorder.write(await _with_query_embedding(job, failure))


async def _with_query_embedding(job: _Job, interaction: Interaction) -> Interaction:
    """The interaction with the vector of its question. An embedder that is too slow holds no answer up for longer."""
    embedding = job.query_embedding
    if embedding is None:
        return interaction
    done, _ = await asyncio.wait({embedding}, timeout=_EMBEDDING_SECONDS)
    if done:
        return replace(interaction, query_embedding=embedding.result())
    embedding.cancel()  # where it has not begun: else more and more would wait for it
    job.query_embedding = None  # nor does the next choice wait
    _LOGGER.warning("a question was not embedded for the log within %g s of its answer", _EMBEDDING_SECONDS)
    return interaction


async def _settle(job: _Job, submissions: dict[int, asyncio.Task[str]], error: str) -> None:
    """Cancel what is unfinished, and log what was made of it. A choice that was refused leaves no trace."""
    waiting: set[int] = set()
    for choice, submission in submissions.items():
        try:
            job.worker.cancel(await submission)
            waiting.add(choice)
        except Exception:  # it was refused: there is nothing to cancel
            continue
    while waiting:
        choice, item = await job.queue.next_after_deadline()
        if isinstance(item, Exception):
            waiting.discard(choice)
            await _commit_failure(job, choice, type(item).__name__)
        elif item.completion is not None and choice in waiting:
            waiting.discard(choice)
            cut = item.completion.finish_reason == "cancelled"
            await _commit(job, choice, item.completion, error if cut else "")
