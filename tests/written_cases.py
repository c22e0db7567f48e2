"""A language model that says what it is told to, and a verifier that compares words."""

import re
from collections.abc import Iterator, Sequence

import numpy as np

from lmworks.generate.protocol import Delta, Request, UnsupportedError
from lmworks.ground.config import WritingConfig
from lmworks.ground.written_answer import Writer


class Scripted:
    """An endpoint that takes no constraint and says what it is told to for each request, in small pieces, or fails."""

    def __init__(self, *texts: str | Exception) -> None:
        self.texts, self.asked = list(texts), list[Request]()

    def stream(self, request: Request) -> Iterator[Delta]:
        if request.sampling.constraint is not None:
            raise UnsupportedError("no constraints here")
        self.asked.append(request)
        text = self.texts.pop(0)
        if isinstance(text, Exception):
            raise text
        return iter([Delta(text[start : start + 3]) for start in range(0, len(text), 3)])


def entails(pairs: Sequence[tuple[str, str]]) -> np.ndarray:
    """A verifier for which a premise entails exactly the words that it holds."""
    words = [[set(re.findall(r"\w+", text.lower())) for text in pair] for pair in pairs]
    return np.array([[1.0, 0.0, 0.0] if said <= held else [0.0, 1.0, 0.0] for held, said in words]).reshape(-1, 3)


def answering(question: str, texts: Sequence[str]) -> np.ndarray:
    """A reranker for which what is about hunting answers nothing."""
    return np.array([-9.0 if "hunt" in text else 9.0 for text in texts])


def scripted_writer(engine, **config) -> Writer:
    return Writer(WritingConfig(**config), lambda: engine, entails, answering, "f" * 64)  # type: ignore[arg-type]
