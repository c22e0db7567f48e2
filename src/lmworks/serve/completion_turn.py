"""A turn that a language model completes, as events; every choice is logged once, however it ends."""

import asyncio
import time
from collections.abc import AsyncGenerator
from concurrent.futures import Executor
from dataclasses import dataclass, replace

from lmworks.generate.engine_worker import EngineWorker, QueueFullError
from lmworks.generate.protocol import Completion, Delta, Request
from lmworks.records import Interaction
from lmworks.serve.events import BusyError, DeadlineError, Event, FailedError, Finished, Piece
from lmworks.serve.inbox import Inbox
from lmworks.serve.interaction_record import Recorder, Turn, choice_id, of_completion, of_failure
from lmworks.serve.thread_offload import aside, characters

_WAIT_SECONDS = 2.0  # that a request occupies a slot, roughly: only for telling a refused client when to come back


@dataclass(frozen=True, slots=True)
class _Job:
    turn: Turn
    identifier: str
    worker: EngineWorker
    recorder: Recorder
    began: float
    inbox: Inbox[Delta | Exception]
    adapter: str
    compiling: Executor


async def complete(
    turn: Turn,
    identifier: str,
    worker: EngineWorker,
    recorder: Recorder,
    deadline_seconds: float,
    compiling: Executor,
    adapter: str = "",
) -> AsyncGenerator[Event, None]:
    """The events of all choices as they come; closing the iterator cancels those that are unfinished.

    Constraints are compiled on the threads of `compiling`.
    """
    if adapter:
        turn = replace(turn, lineage={**turn.lineage, f"adapter:{adapter}": worker.adapters[adapter]})
    job = _Job(turn, identifier, worker, recorder, time.time(), Inbox(deadline_seconds), adapter, compiling)
    submissions: dict[int, asyncio.Task[str]] = {}  # of the choices that are not logged yet
    error = ""
    try:
        for choice in range(turn.n):
            submissions[choice] = asyncio.create_task(_queue(job, choice))
            await asyncio.shield(submissions[choice])
        while submissions:
            choice, item = await job.inbox.next()
            if isinstance(item, Exception):
                del submissions[choice]
                error = type(item).__name__
                await recorder.commit(of_failure(turn, choice_id(identifier, choice), job.began, error))
                raise FailedError(f"the model failed on this request ({error})") from item
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
        job.inbox.close()
        if submissions:
            recorder.later(_settle(job, submissions, error or recorder.cut_off))


async def _queue(job: _Job, choice: int) -> str:
    """A constraint may take seconds to compile; on threads of their own, such requests are in nobody else's way."""
    if job.turn.sampling.constraint is None:
        return await aside(_length(job.turn), _submit, job, choice)
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
        return job.worker.submit(request, job.inbox.listener(choice))
    except QueueFullError as error:
        slots = max(1, job.worker.running)
        raise BusyError(_WAIT_SECONDS * (1 + job.worker.waiting / slots)) from error


def _length(turn: Turn) -> int:
    return len(turn.prompt_ids) + characters(turn.messages, turn.tools)


async def _commit(job: _Job, choice: int, completion: Completion, error: str = "") -> Interaction:
    identifier = choice_id(job.identifier, choice)
    length = _length(job.turn) + len(completion.text)
    fingerprint = job.worker.fingerprint(completion.policy_version)
    interaction = await aside(
        length, of_completion, job.turn, identifier, job.began, completion, job.worker.checkpoint, fingerprint, error
    )
    await job.recorder.write(interaction)
    return interaction


async def _settle(job: _Job, submissions: dict[int, asyncio.Task[str]], error: str) -> None:
    """Cancel what is unfinished, and log what was made of it. A choice that was refused leaves no trace."""
    waiting: set[int] = set()
    for choice, submission in submissions.items():
        try:
            job.worker.cancel(await submission)
            waiting.add(choice)
        except Exception:  # it was refused, so there is nothing to cancel
            continue
    while waiting:
        choice, item = await job.inbox.next_whenever()
        if isinstance(item, Exception):
            waiting.discard(choice)
            identifier = choice_id(job.identifier, choice)
            await job.recorder.commit(of_failure(job.turn, identifier, job.began, type(item).__name__))
        elif item.completion is not None and choice in waiting:
            waiting.discard(choice)
            cut = item.completion.finish_reason == "cancelled"
            await _commit(job, choice, item.completion, error if cut else "")
