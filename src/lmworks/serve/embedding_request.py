"""Texts into vectors behind an event loop: what clients ask to be embedded, and the questions of chats for the log."""

import asyncio
import logging
import secrets
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from lmworks.generate.protocol import ContextLengthError, Role
from lmworks.generate.text_embedding import TextEncoder
from lmworks.serve.events import DeadlineError, FailedError
from lmworks.serve.interaction_record import Recorder, embedding_interaction
from lmworks.serve.thread_offload import WorkQueue

_LOGGER = logging.getLogger(__name__)


class QueryEncoder:
    """Embeds the question of each chat for the log, on a thread of its own, while a language model answers it."""

    def __init__(self, encoder: TextEncoder) -> None:
        self._encoder = encoder
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="query")
        self.fingerprint = encoder.fingerprint

    def submit(self, question: str) -> Future[tuple[float, ...]]:
        """The vector of a question, cut where the encoder's context ends; an empty one, and a warning, if it fails."""
        return self._thread.submit(self._encode, question)

    def _encode(self, question: str) -> tuple[float, ...]:
        try:
            return tuple(self._encoder.encode([question], "query")[0].tolist())
        except Exception as error:  # the answer is worth more than its place in a drift report
            _LOGGER.warning("a question could not be embedded for the log", exc_info=error)
            return ()

    def close(self) -> None:
        """Release the thread; what waits is still embedded, since an interaction waits for it."""
        self._thread.shutdown(wait=True)


async def embed(
    model: str,
    encoder: TextEncoder,
    texts: Sequence[str],
    role: Role,
    queue: WorkQueue,
    recorder: Recorder,
) -> tuple[np.ndarray, int]:
    """Embed what a client sent, and log it once, however it ends: (texts, width) float32 and the number of tokens.

    Raises ContextLengthError, FailedError, and as `WorkQueue.run`.
    """
    identifier, began = secrets.token_hex(8), time.time()
    encoding = queue.run(_encode, encoder, list(texts), role)
    error, cancelled, tokens = "", False, 0
    try:
        vectors, tokens = await encoding
        return vectors, tokens
    except DeadlineError:
        error, cancelled = "deadline_exceeded", True
        raise
    except ContextLengthError as refusal:
        error = type(refusal).__name__
        raise
    except asyncio.CancelledError:
        error, cancelled = recorder.cancel_reason, True
        raise
    except Exception as failure:
        error = type(failure).__name__
        raise FailedError("the texts could not be embedded") from failure
    finally:
        interaction = embedding_interaction(
            texts,
            identifier,
            began,
            model=model,
            fingerprint=encoder.fingerprint,
            tokens=tokens,
            error=error,
            cancelled=cancelled,
        )
        await recorder.commit(interaction)


def _encode(encoder: TextEncoder, texts: list[str], role: Role) -> tuple[np.ndarray, int]:
    tokens = sum(encoder.count_uncut(texts, role))
    return encoder.encode(texts, role), tokens
