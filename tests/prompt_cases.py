"""An engine whose answers are a function of the messages, for tests of prompts."""

from collections.abc import Callable, Sequence

from lmworks.generate.protocol import Capabilities, Completion, Request, Timings
from lmworks.records import Message


class Answering:
    """Answers by `answer(messages)`; `asked` counts the requests. Its name stands for its weights."""

    capabilities = Capabilities(True, False, False, False, False, False, 4096)

    def __init__(self, answer: Callable[[Sequence[Message]], str], fingerprint: str = "answering") -> None:
        self.answer, self.fingerprint, self.asked = answer, fingerprint, 0

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        self.asked += len(requests)
        return [self._completion(self.answer(one.messages)) for one in requests]

    def _completion(self, text: str) -> Completion:
        size = len(text.split())
        return Completion("", text, (0,) * size, (-0.1,) * size, None, "stop", 0, 1, size, 0, Timings(0.0, 0.0, 0.0))
