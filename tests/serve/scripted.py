"""A model that says what a test wants: the worker of a served language model, with another answer in its place."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from lmworks.generate.protocol import Completion, Delta, Request, Timings, Token


@contextmanager
def scripted(running, pieces: Sequence[str], model: str = "tiny", reason: str = "stop") -> Iterator[list[Request]]:
    """While it is open, every request is answered by these pieces, each a delta with one token; yields the requests."""
    worker = running.service.models.language(model)
    requests: list[Request] = []

    def submit(request: Request, listener) -> str:
        worker._engine.prepare(request)  # what is wrong with it is found as ever
        requests.append(request)
        threading.Thread(target=_speak, args=(request, listener, pieces, reason)).start()
        return request.id

    worker.submit = submit
    try:
        yield requests
    finally:
        del worker.submit


def _speak(request: Request, listener, pieces: Sequence[str], reason: str) -> None:
    # The first ids of a vocabulary are special tokens, which are no part of the text.
    tokens = tuple(Token(100 + number, piece, -0.5) for number, piece in enumerate(pieces))
    for piece, token in zip(pieces, tokens, strict=True):
        listener(Delta(piece, tokens=(token,)))
    completion = Completion(
        id=request.id,
        text="".join(pieces),
        ids=tuple(range(len(pieces))),
        log_probabilities=(-0.5,) * len(pieces),
        sampled_log_probabilities=(-0.5,) * len(pieces),
        finish_reason=reason,  # type: ignore[arg-type]
        policy_version=0,
        prompt_tokens=7,
        completion_tokens=len(pieces),
        seed=1,
        timings=Timings(0.0, 0.0, 0.0),
        tokens=tokens,
    )
    listener(Delta("", completion))
