"""The events that answer a request, and the errors that end it."""

from dataclasses import dataclass

from lmworks.generate.protocol import Completion, Token
from lmworks.records import Answer, Interaction


class BusyError(RuntimeError):
    """Too many requests wait; `retry_after` is the number of seconds after which to try again."""

    def __init__(self, retry_after: float) -> None:
        self.retry_after = max(1, round(retry_after))
        super().__init__(f"too many requests are waiting; try again in {self.retry_after} s")


class NotReadyError(RuntimeError):
    """The models are still being loaded, could not be loaded, or the server is shutting down."""


class UnknownModelError(LookupError):
    """No model of the kind that is needed is served under this name."""


class DeadlineError(TimeoutError):
    """The request was not finished in time, and was ended."""


class FailedError(RuntimeError):
    """The model failed on this request; the cause is chained."""


@dataclass(frozen=True, slots=True)
class Progress:
    """A phase of a grounded answer begins: "search", "measure", "decide", "write", "verify"."""

    name: str


@dataclass(frozen=True, slots=True)
class Piece:
    """Text that was added to a choice, with its tokens where a language model wrote it."""

    choice: int
    text: str
    tokens: tuple[Token, ...] = ()


@dataclass(frozen=True, slots=True)
class Finished:
    """A choice is complete, and its interaction is committed to the log."""

    choice: int
    interaction: Interaction
    answer: Answer | None = None
    completion: Completion | None = None


Event = Progress | Piece | Finished
