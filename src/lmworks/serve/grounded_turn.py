"""A turn that the grounded system answers, as events; logged once, however it ends."""

import asyncio
import time
from collections.abc import AsyncGenerator
from concurrent.futures import Future
from dataclasses import replace

from lmworks.records import Answer, Interaction
from lmworks.serve.config import ServeConfig
from lmworks.serve.events import BusyError, DeadlineError, Event, FailedError, Finished, Piece, Progress
from lmworks.serve.grounded_service import Grounding
from lmworks.serve.inbox import Inbox
from lmworks.serve.interaction_record import Recorder, Turn, of_failure

Answering = Future[tuple[Answer, Interaction]]


async def answer(
    turn: Turn, identifier: str, grounding: Grounding, recorder: Recorder, config: ServeConfig
) -> AsyncGenerator[Event, None]:
    """Phases as they begin, then the answer sentence by sentence.

    An answer is decided as a whole, so its text comes when it is done. Closing the iterator takes a question out of the
    line; one that is being answered is answered to its end and logged as cancelled.
    """
    if grounding.waiting > config.max_waiting:
        raise BusyError(grounding.waiting * grounding.seconds)
    began = time.time()
    inbox: Inbox[Progress | Answering] = Inbox(config.deadline_seconds)
    listener = inbox.listener(0)
    answering = grounding.ask(turn, identifier, began, lambda name: listener(Progress(name)))
    answering.add_done_callback(listener)
    open_, error = True, ""
    try:
        while open_:
            _, item = await inbox.next()
            if isinstance(item, Progress):
                yield item
                continue
            open_ = False
            answer, interaction = await _result(item, turn, identifier, began, recorder)
            await recorder.commit(interaction)
            for line in answer.text.splitlines(keepends=True):
                yield Piece(0, line)
            yield Finished(0, interaction, answer=answer)
    except DeadlineError:
        error = "deadline_exceeded"
        raise
    finally:
        inbox.close()
        if open_:
            recorder.later(_settle(answering, turn, identifier, began, recorder, error or recorder.cut_off))


async def _result(
    answering: Answering, turn: Turn, identifier: str, began: float, recorder: Recorder
) -> tuple[Answer, Interaction]:
    """The answer; a failure is logged and raised as FailedError."""
    try:
        return answering.result()
    except Exception as failure:
        name = type(failure).__name__
        await recorder.commit(of_failure(turn, identifier, began, name))
        raise FailedError(f"the question could not be answered ({name})") from failure


async def _settle(
    answering: Answering, turn: Turn, identifier: str, began: float, recorder: Recorder, error: str
) -> None:
    """Log a question whose client is gone: without an answer when it had not begun, else with the one it gets."""
    if answering.cancel():
        await recorder.commit(of_failure(turn, identifier, began, error, cancelled=True))
        return
    try:
        _, interaction = await asyncio.wrap_future(answering)
    except Exception as failure:
        await recorder.commit(of_failure(turn, identifier, began, type(failure).__name__))
        return
    await recorder.commit(replace(interaction, finish_reason="cancelled", error=error))
