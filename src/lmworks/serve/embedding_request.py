"""Texts into vectors behind an event loop; a request is logged once, however it ends."""

import asyncio
import secrets
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from lmworks.generate.protocol import Role
from lmworks.generate.text_embedding import TextEncoder
from lmworks.serve.events import DeadlineError, FailedError
from lmworks.serve.interaction_record import Recorder, of_embedding


class Encoding:
    """One thread that encodes; `waiting` counts the requests that it works on or that wait for it."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="encode")
        self._lock = threading.Lock()
        self.waiting = 0

    def submit(self, encoder: TextEncoder, texts: list[str], role: Role) -> Future[tuple[np.ndarray, int]]:
        """The vectors, and the number of tokens read."""
        with self._lock:
            self.waiting += 1
        future = self._thread.submit(_encode, encoder, texts, role)
        future.add_done_callback(self._leave)
        return future

    def _leave(self, _: object) -> None:
        with self._lock:
            self.waiting -= 1

    def close(self) -> None:
        self._thread.shutdown(wait=True, cancel_futures=True)


async def embed(
    model: str,
    encoder: TextEncoder,
    texts: Sequence[str],
    role: Role,
    encoding: Encoding,
    recorder: Recorder,
    deadline_seconds: float,
) -> tuple[np.ndarray, int]:
    """(texts, width) float32 and the number of tokens; DeadlineError, FailedError.

    What was begun is not interrupted.
    """
    identifier, began = secrets.token_hex(8), time.time()
    future = encoding.submit(encoder, list(texts), role)
    error, cancelled, tokens = "", False, 0
    try:
        async with asyncio.timeout(deadline_seconds):
            vectors, tokens = await asyncio.shield(asyncio.wrap_future(future))
        return vectors, tokens
    except TimeoutError:
        error, cancelled = "deadline_exceeded", True
        raise DeadlineError(f"not finished within {deadline_seconds:g} s") from None
    except asyncio.CancelledError:
        error, cancelled = recorder.cut_off, True
        raise
    except Exception as failure:
        error = type(failure).__name__
        raise FailedError(f"the texts could not be embedded ({error})") from failure
    finally:
        future.cancel()  # when it has not begun
        interaction = of_embedding(
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
    tokens = sum(min(len(ids), encoder.max_length) for ids in encoder.tokenizer.encode_batch(texts, special=True))
    return encoder.encode(texts, role), tokens
