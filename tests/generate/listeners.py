"""Listeners for the tests of the engine's worker."""

import threading

from lmworks.generate.protocol import Completion, Delta


class Listener:
    """Keeps what it is told, and knows when it was told the end."""

    def __init__(self) -> None:
        self.answers: list[Delta | Exception] = []
        self._ended = threading.Event()

    def __call__(self, answer: Delta | Exception) -> None:
        assert not self._ended.is_set(), "nothing comes after the end"
        self.answers.append(answer)
        if isinstance(answer, Exception) or answer.completion is not None:
            self._ended.set()

    def end(self) -> Completion | Exception:
        assert self._ended.wait(60), "no end within a minute"
        last = self.answers[-1]
        if isinstance(last, Exception):
            return last
        assert last.completion is not None
        return last.completion

    def completion(self) -> Completion:
        completion = self.end()
        assert isinstance(completion, Completion), completion
        assert "".join(answer.text for answer in self.answers if isinstance(answer, Delta)) == completion.text
        tokens = [token for answer in self.answers if isinstance(answer, Delta) for token in answer.tokens]
        assert tuple(tokens) == completion.tokens
        return completion


class Gate(Listener):
    """Holds the worker's thread from its first delta on until it is opened, so that a test decides what comes then."""

    def __init__(self) -> None:
        super().__init__()
        self.reached, self.opened = threading.Event(), threading.Event()

    def __call__(self, answer: Delta | Exception) -> None:
        self.reached.set()
        assert self.opened.wait(60)
        super().__call__(answer)
